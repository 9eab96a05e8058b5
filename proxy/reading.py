"""The one reading of a query and of a JSON body, or none. Pure.

MLflow reads the first of two query parameters in one part and the last in another, the last of two JSON
keys, bodies in UTF-16, and the same field in two spellings. Where a decision hangs on it, a request that
can be read in two ways is refused with 400.
"""

import json
import re
from collections.abc import Collection
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from proxy.errors import Refusal, invalid, invalid_value
from proxy.locations import KINDS, ObjectKind, camel

MAX_PARAMETERS = 1000
MAX_DEPTH = 64
# MLflow reads ids with int(), which takes "00", "+1", "1_0" and other scripts' digits
CANONICAL_ID = re.compile(r"(0|[1-9][0-9]{0,18})\Z", re.ASCII)
# what MLflow's ids are made of; nothing that a path or a filter could take for more than a name
PLAIN_ID = re.compile(r"[A-Za-z0-9_.:-]{1,250}\Z", re.ASCII)
PLAIN_CHARACTERS = "up to 250 letters, digits and _ . : -"
# parameters that are lists, beside those that end with _ids
LISTS = frozenset({"order_by", "stages", "ids"})
JSON_TYPES = frozenset(
    {"application/json", "application/json; charset=utf-8", "application/json;charset=utf-8"}
)

Query = dict[str, list[str]]


def read_query(query: bytes, *, lists: Collection[str] = ()) -> Query:
    """The parameters, decoded once. `lists`: those that may be there more than once on this route.

    Raises Refusal (400) for one that is repeated, in two spellings, or not UTF-8, and for an experiment id
    that MLflow reads in another form than the canonical one; what it can't read is its own to refuse.
    """
    if not query:
        return {}
    try:
        pairs = _pairs(query)
    except ValueError:
        raise invalid(f"the query is not UTF-8, or has over {MAX_PARAMETERS} parameters") from None
    found: Query = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    for name, values in found.items():
        if len(values) > 1 and not (name in lists or name in LISTS or name.endswith("_ids")):
            raise invalid(f"the parameter {name[:80]!r} is there {len(values)} times; send it once")
        if (other := camel(name)) != name and other in found:
            raise invalid(f"{name[:80]!r} and {other[:80]!r} are the same parameter; send one")
        if KINDS.get(name) is ObjectKind.EXPERIMENT:
            for value in values:
                _check_readings(name, value)
    return found


def _pairs(query: bytes) -> list[tuple[str, str]]:
    text = query.decode("ascii")
    if "%" not in text and "+" not in text and query.count(b"&") < MAX_PARAMETERS:
        parts = [part.partition("=") for part in text.split("&") if part]  # parse_qsl, ten times as fast
        return [(name, value) for name, _, value in parts]
    unquote_to_bytes(query).decode("utf-8")
    return parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)


def _check_readings(name: str, value: str) -> None:
    try:
        int(value)
    except ValueError:
        return
    check_id(ObjectKind.EXPERIMENT, value, name)


def check_id(kind: ObjectKind, value: str, name: str) -> str:
    """`value` of the parameter `name`, if it is an id in the one form that has one reading.

    Raises Refusal (400).
    """
    form = CANONICAL_ID if kind is ObjectKind.EXPERIMENT else PLAIN_ID
    if not form.match(value):
        what = "digits without leading zero or sign" if kind is ObjectKind.EXPERIMENT else PLAIN_CHARACTERS
        raise invalid_value(name, value, f"{kind.value} ids are {what}")
    return value


def read_json(body: bytes, content_type: str | None, content_encoding: str | None) -> dict[str, Any]:
    """The body as one JSON object; an empty body is an empty object.

    Raises Refusal (400, 415): another media type or encoding, not UTF-8, a key that is repeated, NaN.
    """
    if content_encoding not in (None, "", "identity"):
        raise _unsupported(f"Content-Encoding {content_encoding[:40]!r}; send the JSON as it is")
    if not body:
        return {}
    if content_type is None or content_type.strip().lower() not in JSON_TYPES:
        raise _unsupported(f"Content-Type {(content_type or '')[:80]!r}; send application/json")
    try:
        document = json.loads(body.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise invalid("the body is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise invalid(f"the body is not JSON: {str(error)[:200]}") from None
    if not isinstance(document, dict):
        raise invalid("the body must be a JSON object")
    return document


def write_json(document: Any) -> bytes:
    """The one spelling of a document that was changed."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:80]!r} is repeated")
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _unsupported(what: str) -> Refusal:
    return Refusal(status=415, error_code="BAD_REQUEST", message=f"{what} is not accepted here")
