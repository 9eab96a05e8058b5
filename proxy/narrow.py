"""Lists cut down to what a client may see, before MLflow is asked, so that its paging stays right. Pure.

MLflow's filters know only AND and refuse comments, so a clause put in front can't be got rid of.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlencode

from proxy.errors import invalid
from proxy.locations import camel, find, get
from proxy.reading import Query, write_json

# no experiment of MLflow has it; a list narrowed to nothing must find nothing
NONE_ID = "-1"


def narrow_query(query: Query, name: str, allowed: Collection[str], fill: Collection[str] | None) -> bytes:
    """The query with only `allowed` experiments in the list `name`; `fill` if it names none."""
    kept = [value for value in query.get(name, ()) if value in allowed] or list(fill or ())
    return urlencode({**query, name: kept}, doseq=True).encode()


def narrow_body(
    document: Mapping[str, Any], keys: tuple[str, ...], allowed: Collection[str], fill: Collection[str] | None
) -> bytes:
    """The body with only `allowed` experiments in the list at `keys`, whose first key ends with []."""
    name = keys[0].removesuffix("[]")
    kept = [each for each in get(document, name) or () if all(id in allowed for id in find(each, keys[1:]))]
    return write_json({**_without(document, name), name: kept or list(fill or ())})


def check_entries(document: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    """Raises Refusal (400) for an entry of the list that is no experiment: a table of another kind."""
    name = keys[0].removesuffix("[]")
    for each in get(document, name) or ():
        if not any(find(each, keys[1:])):
            raise invalid(f"an entry of {name} names no experiment")


def narrow_filter(text: str, visible: Collection[str]) -> str:
    """The filter of experiments/search, for these experiments only."""
    ids = ", ".join(f"'{id}'" for id in sorted(visible, key=int)) or f"'{NONE_ID}'"
    clause = f"experiment_id IN ({ids})"
    return f"{clause} AND {text}" if text.strip() else clause


def filter_query(query: Query, visible: Collection[str]) -> bytes:
    """The query of experiments/search, narrowed."""
    text = next(iter(query.get("filter", ())), "")
    return urlencode({**query, "filter": [narrow_filter(text, visible)]}, doseq=True).encode()


def filter_body(document: Mapping[str, Any], visible: Collection[str]) -> bytes:
    """The body of experiments/search, narrowed."""
    text = next(find(document, ("filter",)), "")
    return write_json({**_without(document, "filter"), "filter": narrow_filter(text, visible)})


def hide_experiments(body: bytes, visible: Collection[str]) -> bytes:
    """An answer without the experiments that the client may not see: ids in lists, and whole experiments."""
    return json.dumps(_hidden(json.loads(body), visible)).encode()


def _hidden(value: Any, visible: Collection[str]) -> Any:
    if isinstance(value, list):
        return [_hidden(each, visible) for each in value]
    if not isinstance(value, dict):
        return value
    shown = {key: _hidden(each, visible) for key, each in value.items()}
    for key in ("experiment_ids", "experimentIds"):
        if isinstance(ids := shown.get(key), list):
            shown[key] = [id for id in ids if str(id) in visible]
    if isinstance(found := shown.get("experiments"), list):
        shown["experiments"] = [
            each for each in found if isinstance(each, dict) and str(each.get("experiment_id")) in visible
        ]
    return shown


def _without(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in (name, camel(name))}
