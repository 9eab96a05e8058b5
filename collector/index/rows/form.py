"""What follows from the form of a trace: its spans, how they stand in its tree, which have counts. Pure.

The traces of a service have few forms: its agents take the same steps again and again, with other ids, times,
numbers and texts. What a row says beside those is worked out once for all traces of a form.

    trace_rows = what follows from the form + what each trace and span says itself
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from operator import attrgetter, itemgetter
from typing import Any

from collector.index.rows.columns import FACT_COLUMNS, SPAN_COLUMNS, Column
from collector.index.rows.records import FormOfTrace, SpanOfForm
from collector.index.sql.columns import SEPARATOR
from collector.spans.totals import Counted, count, owning_agents, tokens_of, total
from collector.spans.tree import Tree
from collector.spans.values import SpanFacts

Row = tuple[Any, ...]
MAX_LISTED = 20
# which of a span's sums of tokens is counted: of its own call, or over the run below it
OWN, RUN = "own", "run"
MAX_REMEMBERED, MAX_REMEMBERED_SPANS, MAX_REMEMBERED_CHARACTERS = 1024, 64, 10_000
# facts that follow from no form, beside counts of tokens
OWN_FACTS = frozenset(
    {
        *("start_unix_ns", "duration_ns", "trace_name", "session", "conversation", "user"),
        *("cost_usd", "time_to_first_token_seconds"),
    }
)
_FORM_FACTS = tuple(
    column.fact for column in FACT_COLUMNS if column.fact not in OWN_FACTS and "." not in column.fact
)
_form_facts = attrgetter(*_FORM_FACTS)
_agent, _prompt_name = map(attrgetter, ("agent", "prompt_name"))


def values_of(record: type, columns: Sequence[Column]) -> Callable[[Any], Row]:
    """What gives the values of a record in the order of its table's columns.

    Raises TypeError where the record doesn't hold these columns and no others.
    """
    names = [column.name for column in columns]
    if set(names) != set(record.__annotations__):
        raise TypeError(f"{record.__name__} differs from its table: {names}")
    return itemgetter(*names)


_OF_FORM = frozenset(SpanOfForm.__annotations__)
_of_form = values_of(SpanOfForm, [column for column in SPAN_COLUMNS if column.name in _OF_FORM])
# the columns of `spans` in two parts: what follows from the form, and what doesn't
REPEATED_COLUMNS = tuple(
    column for column in SPAN_COLUMNS if column.fact in _FORM_FACTS or column.name in _OF_FORM
)
OWN_COLUMNS = tuple(column for column in SPAN_COLUMNS if column not in REPEATED_COLUMNS)
in_order: Callable[[Row], Row] = itemgetter(*map((*OWN_COLUMNS, *REPEATED_COLUMNS).index, SPAN_COLUMNS))
"""The values of OWN_COLUMNS and REPEATED_COLUMNS as a row of `spans`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceForm:
    """What traces of a form have in common: `using` names positions in the tree, `spans` are in its order."""

    using: Counted
    trace: FormOfTrace
    spans: Sequence[Row]


_remembered: dict[tuple[Any, ...], TraceForm] = {}


def form_of(tree: Tree) -> TraceForm:
    """The form of a trace with at least one span."""
    said = tuple(map(_form_facts, tree.spans))
    # with these, everything that the functions below look at
    stands = (tuple(tree.parents), tree.root_count, tree.missing_parents)
    key = (said, stands, tuple(map(_known, tree.spans)))
    found = _remembered.get(key)
    if found is None:
        found = _form(tree, said)
        if _is_small(said):
            if len(_remembered) >= MAX_REMEMBERED:
                _remembered.clear()
            _remembered[key] = found
    return found


def _is_small(said: Sequence[Row]) -> bool:
    if len(said) > MAX_REMEMBERED_SPANS:
        return False
    texts = (len(each) for each in chain.from_iterable(said) if isinstance(each, str))
    return sum(texts) <= MAX_REMEMBERED_CHARACTERS


def _known(span: SpanFacts) -> tuple[bool, bool, bool]:
    """Whether there are tokens of its own, tokens of the run below it, and a cost."""
    own, run = span.tokens, span.aggregated_tokens
    has_cost = span.cost_usd is not None
    return (False, False, has_cost) if own is run else (own.known, run.known, has_cost)


def _form(tree: Tree, said: Sequence[Row]) -> TraceForm:
    using = count(tree)
    return TraceForm(using=using, trace=_of_trace(tree, using), spans=_of_spans(tree, using, said))


def _of_trace(tree: Tree, using: Counted) -> FormOfTrace:
    spans, whole = tree.spans, total(tree, using)
    calls = [spans[position] for position in using.calls]
    return {
        "status": whole.status.value,
        "complete": tree.root_count > 0,
        "missing_parents": tree.missing_parents,
        "service": whole.service,
        "service_version": whole.service_version,
        "environment": whole.environment,
        "agent": whole.agent,
        "workflow": whole.workflow,
        "span_count": len(spans),
        "model_calls": whole.model_call_count,
        "tool_calls": len(using.tools),
        "error_spans": whole.error_span_count,
        "recovered_retries": whole.recovered_retry_count,
        "truncated_calls": sum([span.is_truncated for span in calls]),
        "cost_source": "mixed" if whole.cost.source is None else whole.cost.source.value,
        "unpriced_model_calls": whole.cost.unpriced_model_calls,
        "agents": listing(map(_agent, spans)) or listing(owning_agents(tree)),
        "models": listing([span.called_model for span in calls]),
        "response_models": listing([span.answering_model for span in calls]),
        "providers": listing([span.provider for span in calls]),
        "tools": listing([spans[position].tool for position in using.tools]),
        "prompts": listing([span.prompt_version or span.prompt_name for span in spans]),
        "prompt_names": listing(map(_prompt_name, spans)),
    }


def _of_spans(tree: Tree, using: Counted, said: Sequence[Row]) -> Sequence[Row]:
    """The REPEATED_COLUMNS of each span."""
    calls, tools = frozenset(using.calls), frozenset(using.tools)
    tokens, costs = frozenset(using.tokens), frozenset(using.costs)
    agents = owning_agents(tree)
    rows = []
    for position, (span, facts) in enumerate(zip(tree.spans, said, strict=True)):
        of_form: SpanOfForm = {
            "recovered_retry": span.is_recovered_retry if span.is_error else False,
            "model_call": position in calls,
            "tool_call": position in tools,
            "counts_tokens": (OWN if tokens_of(span) is span.tokens else RUN) if position in tokens else None,
            "counts_cost": position in costs,
            "owning_agent": agents[position],
        }
        rows.append((*facts, *_of_form(of_form)))
    return rows


def listing(values: Iterable[str | None]) -> str | None:
    """Each value once, the first MAX_LISTED of them."""
    found = dict.fromkeys(filter(None, values))
    if not found:
        return None
    return f"{SEPARATOR}{SEPARATOR.join(islice(found, MAX_LISTED))}{SEPARATOR}"
