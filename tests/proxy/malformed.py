"""Malformed requests for every place of ids in the catalog, and wrong methods for every route."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from proxy.catalog import PARAMETER, UNKNOWN, Catalog, Operation, load_catalog
from proxy.locations import KEYED, Location, ObjectKind
from tests.proxy.worlds import rows

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

# what stands where an id belongs; a query and a path hold texts only
TEXTS = {
    "empty": "",
    "no_id": "no such thing",
    # no experiment has this number, padded or not
    "padded": "0099999999",
    "too_long": "9" * 2000,
    "climbs": "../../etc/passwd",
    "climbs_inside": "a/../b",
    "markup": "<b>'\"",
    "not_ascii": "٣ü",
}
VALUES: dict[str, Any] = TEXTS | {
    "number": 31,
    "fraction": 9.5,
    "truth": True,
    "null": None,
    "list": ["1", "2"],
    "object": {"a": 1},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """One request that no client of MLflow would send. `parameter`: the field of the body that is wrong."""

    label: str
    method: str
    target: str
    body: bytes | None = None
    parameter: str = ""


def malformed_ids() -> Iterator[Malformed]:
    """Each place of ids of each row with each wrong value, everything else left out."""
    for method, operation in _rows_once():
        for at in operation.reach.locations:
            for what, value in (VALUES if at.place == "body" else TEXTS).items():
                if at.place == "path" and not (value and plain_segment(value)):
                    continue
                if at.kind is ObjectKind.ARTIFACT and what == "too_long":
                    continue  # no file can have such a name: MLflow fails, and breaks the connection off
                yield _with(method, operation, at, what, value)


def malformed_bodies() -> Iterator[Malformed]:
    """Each row that reads a body, with what is no JSON object."""
    bodies = {"no_json": b"{", "a_list": b"[1]", "a_text": b'"x"', "nan": b'{"x": NaN}', "nothing": b"{}"}
    for method, operation in _rows_once():
        if method in ("POST", "PATCH") and any(at.place == "body" for at in operation.reach.locations):
            for what, body in bodies.items():
                label = f"{method} {operation.route} [{what}]"
                yield Malformed(label=label, method=method, target=sample(operation.route), body=body)


def wrong_methods() -> Iterator[Malformed]:
    """Each path of the catalog with the methods that no row has for it."""
    catalog = load_catalog()
    for path in sorted(paths(catalog)):
        target = sample(path)
        for method in METHODS:
            if catalog.classify(method, target) is UNKNOWN:
                yield Malformed(label=f"{method} {path}", method=method, target=target)


def _rows_once() -> list[tuple[str, Operation]]:
    """Each row that carries ids, under one of its prefixes: they are the same for MLflow and for us."""
    return list({operation.row: (method, operation) for method, operation in rows()}.values())


def paths(catalog: Catalog) -> set[str]:
    """The paths of all rows, with their parameters."""
    found = {path for _, path in catalog.exact}
    return found | {op.route for patterns in catalog.patterns.values() for _, op in patterns}


def sample(path: str) -> str:
    """A path with something in the place of each parameter."""
    return PARAMETER.sub("x1", path)


def plain_segment(value: Any) -> bool:
    """Whether a text is one segment of a path, without escapes; the rest is refused as ambiguous."""
    return isinstance(value, str) and quote(value, safe="") == value


def _with(method: str, operation: Operation, at: Location, what: str, value: Any) -> Malformed:
    label = f"{method} {operation.route} [{at.place}.{'.'.join(at.keys)} {what}]"
    path = operation.route
    if at.place == "path":
        path = PARAMETER.sub(lambda found: value if found[1] == at.keys[0] else found[0], path)
    target = sample(path)
    if at.place == "query":
        return Malformed(label=label, method=method, target=f"{target}?{urlencode({at.name: value})}")
    if method == "GET":
        return Malformed(label=label, method=method, target=target)
    document = _put({}, at.keys, value) if at.place == "body" else {}
    return Malformed(
        label=label,
        method=method,
        target=target,
        body=json.dumps(document).encode(),
        parameter=at.name if at.place == "body" else "",
    )


def _put(document: dict[str, Any], keys: tuple[str, ...], value: Any) -> dict[str, Any]:
    """`value` at `keys`: as the entry of a list where the last key is one."""
    key, rest = keys[0], keys[1:]
    name = key.removesuffix("[]")
    if keyed := KEYED.fullmatch(key):
        return {keyed[1]: [{"key": keyed[2], "value": value}]}
    inner = _put({}, rest, value) if rest else value
    return document | {name: [inner] if key.endswith("[]") else inner}
