"""A question to traces/search as a value, or the reason why it isn't read. Pure.

The rows tell the ids of a page. MLflow is asked for these ids in the same form and order, so that what it
says of them is its own: names, previews, assessments, and whether a page that is full has a token.

Source: SearchTracesV3 and SearchTraces,
https://github.com/mlflow/mlflow/blob/master/mlflow/protos/service.proto.
"""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl

from collector.mirror.conditions import FIELDS, SearchCondition, read_conditions
from collector.mirror.question import NotAnswered, PassOnReason, experiment_id_of, read_object, text_of

DEFAULT_RESULTS = 100
MAX_RESULTS = 500
# the older form asks in the address of a GET, which has to stay short
MAX_RESULTS_V2 = 200
MAX_OFFSET = 10**9
MAX_PARAMETERS = 200
_FIELDS_V3 = frozenset({"locations", "filter", "max_results", "order_by", "page_token"})
_FIELDS_V2 = _FIELDS_V3 - {"locations"} | {"experiment_ids"}
_LISTS_V2 = frozenset({"experiment_ids", "order_by"})
_NUMBER = re.compile(r"[1-9][0-9]{0,2}", re.ASCII)
# both MLflow's own (tr-...), and those of other clients; nothing that a filter takes for more than a text
_TRACE_ID = re.compile(r"[A-Za-z0-9_.:-]{1,50}", re.ASCII)
_ORDER = re.compile(
    rf"(?:trace\.|attributes?\.)?(?P<field>{'|'.join(FIELDS)}|request_id)"
    r"(?: (?P<direction>ASC|DESC|asc|desc))?"
)
# MLflow 3.17 can't order by the end
_NO_ORDER = frozenset({"end_ms"})


class SearchForm(StrEnum):
    """How it is asked: in a JSON body, or in the parameters of a GET."""

    V3 = "v3"
    V2 = "v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOrder:
    """One key of the order: a column of the rows."""

    column: str
    ascending: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchQuestion:
    """One page: `limit` traces behind the first `offset`, in this order; `asked_order` as MLflow reads it.

    `types_are_certain`: it was proven of the spans' types (span_types.py).
    """

    form: SearchForm
    experiment_ids: Sequence[int]
    conditions: Sequence[SearchCondition]
    order: Sequence[SearchOrder] = ()
    asked_order: Sequence[str] = ()
    limit: int = DEFAULT_RESULTS
    offset: int = 0
    types_are_certain: bool = False

    @property
    def needs_types(self) -> bool:
        """Whether it is about types of spans."""
        return any((each.table, each.column) == ("spans", "type") for each in self.conditions)

    @property
    def about_spans(self) -> Sequence[SearchCondition]:
        """The conditions that one span must fulfil."""
        return [each for each in self.conditions if each.table == "spans"]


def search_from_json(document: Mapping[str, Any]) -> SearchQuestion:
    """A question from what `asdict` makes of it."""
    conditions = [SearchCondition(**each) for each in document["conditions"]]
    order = [SearchOrder(**each) for each in document["order"]]
    form = SearchForm(document["form"])
    return SearchQuestion(**{**document, "form": form, "conditions": conditions, "order": order})


def read_search(form: SearchForm, asked: bytes) -> SearchQuestion:
    """The question in a body (V3) or in a query (V2). Raises NotAnswered for all that isn't plain."""
    try:
        fields = _body(asked) if form is SearchForm.V3 else _query(asked)
        question = _question(form, fields)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise NotAnswered(PassOnReason.UNREADABLE) from None
    if not question.about_spans:
        raise NotAnswered(PassOnReason.QUICK)
    return question


def _body(asked: bytes) -> dict[str, Any]:
    """Raises ValueError, KeyError, TypeError."""
    document = read_object(asked)
    if not _FIELDS_V3.issuperset(document):
        raise ValueError("an unknown field")
    ids = [_location(each) for each in document.pop("locations")]
    return {**document, "experiment_ids": ids}


def _location(value: Any) -> str:
    kind = value.get("type", "MLFLOW_EXPERIMENT")
    if kind != "MLFLOW_EXPERIMENT" or not {"type", "mlflow_experiment"}.issuperset(value):
        raise ValueError("no experiment")
    place = value["mlflow_experiment"]
    if set(place) != {"experiment_id"}:
        raise ValueError("no experiment")
    return text_of(place["experiment_id"])


def _query(asked: bytes) -> dict[str, Any]:
    """Raises ValueError."""
    pairs = parse_qsl(
        asked.decode("ascii"),
        keep_blank_values=True,
        strict_parsing=True,
        errors="strict",
        max_num_fields=MAX_PARAMETERS,
    )
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in _LISTS_V2:
            found.setdefault(name, []).append(value)
        elif name in found or name not in _FIELDS_V2:
            raise ValueError("a parameter that is there twice, or unknown")
        else:
            found[name] = _number(value) if name == "max_results" else value
    return found


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ValueError("no number of results")
    return int(text)


def _question(form: SearchForm, fields: Mapping[str, Any]) -> SearchQuestion:
    """Raises ValueError, KeyError, TypeError."""
    limit, orders = fields.get("max_results", DEFAULT_RESULTS), fields.get("order_by", [])
    conditions = read_conditions(text_of(fields.get("filter", "")))
    most = MAX_RESULTS if form is SearchForm.V3 else MAX_RESULTS_V2
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= most:
        raise ValueError("not a number of results that is answered here")
    if conditions is None or not isinstance(orders, list) or not fields["experiment_ids"]:
        raise ValueError("no plain filter, or no list")
    return SearchQuestion(
        form=form,
        experiment_ids=sorted({experiment_id_of(each) for each in fields["experiment_ids"]}),
        conditions=conditions,
        order=_order(orders),
        asked_order=orders,
        limit=limit,
        offset=_offset(text_of(fields.get("page_token", ""))),
    )


def _order(asked: Sequence[Any]) -> Sequence[SearchOrder]:
    """The whole order: MLflow adds what makes it definite. Raises ValueError."""
    found = [_key(text_of(each)) for each in asked]
    columns = [each.column for each in found]
    if len(set(columns)) != len(columns) or _NO_ORDER.intersection(columns):
        raise ValueError("no order that is answered here")
    last = [
        SearchOrder(column="timestamp_ms", ascending=False),
        SearchOrder(column="trace_id", ascending=True),
    ]
    return found + [each for each in last if each.column not in columns]


def _key(text: str) -> SearchOrder:
    found = _ORDER.fullmatch(text)
    if found is None:
        raise ValueError("no plain order")
    column = FIELDS.get(found["field"], "trace_id")
    return SearchOrder(column=column, ascending=(found["direction"] or "asc").lower() == "asc")


def page_token(offset: int) -> str:
    """MLflow's token of the page behind so many traces."""
    return base64.b64encode(json.dumps({"offset": offset}).encode()).decode()


def _offset(token: str) -> int:
    """The opposite, for MLflow's own spelling only. Raises ValueError."""
    if not token:
        return 0
    offset = json.loads(base64.b64decode(token, validate=True))["offset"]
    if not isinstance(offset, int) or not 0 < offset < MAX_OFFSET or page_token(offset) != token:
        raise ValueError("no token of MLflow's")
    return offset


def question_for(question: SearchQuestion, rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """What MLflow is asked in its place: a body (V3), or parameters (V2), for one page of these traces.

    `rows` as PAGE of search_sql.py. Raises NotAnswered for ids that can't be asked for.
    """
    trace_ids, times = [row[0] for row in rows], [row[1] for row in rows]
    if not all(map(_TRACE_ID.fullmatch, trace_ids)) or min(times) < 0:
        raise NotAnswered(PassOnReason.UNREADABLE)
    listed = ", ".join(f"'{id}'" for id in trace_ids)
    # without their time SQLite looks for the ids among all traces of the experiment
    between = f"attributes.timestamp_ms >= {min(times)} AND attributes.timestamp_ms <= {max(times)}"
    ids = [str(id) for id in question.experiment_ids]
    asked = {
        "filter": f"{between} AND attributes.request_id IN ({listed})",
        "max_results": question.limit,
        "order_by": list(question.asked_order),
    }
    if question.form is SearchForm.V2:
        return {"experiment_ids": ids, **asked}
    locations = [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": id}} for id in ids]
    return {"locations": locations, **asked}
