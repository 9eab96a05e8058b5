"""What belongs to one client, and the requests that reach for it: one for each place of ids."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from proxy.catalog import Operation, load_catalog
from proxy.locations import Location, ObjectKind


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The objects of one experiment; `marker` is in every name and value of it."""

    marker: str
    experiment: str
    name: str
    ids: Mapping[ObjectKind, str] = field(default_factory=dict)
    model_name: str = ""

    def value(self, at: Location) -> str:
        """What stands for this world at a location."""
        match at.role:
            case "name" | "named":
                return self.name
            case "version":
                return self.model_name
            case "source":
                return f"runs:/{self.ids[ObjectKind.RUN]}/model"
            case "all":
                return f"name = '{self.name}'"
            case _:
                return self.experiment if at.kind is ObjectKind.EXPERIMENT else self.ids[at.kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A request for one row. `reaches`: the location that holds the other world's id, or None."""

    row: str
    operation: Operation
    method: str
    target: str
    body: bytes | None
    reaches: Location | None

    @property
    def label(self) -> str:
        at = "nothing" if self.reaches is None else f"{self.reaches.place}.{'.'.join(self.reaches.keys)}"
        return f"{self.method} {self.operation.route} [{at}]"


def rows() -> list[tuple[str, Operation]]:
    """(method, operation) of each row that carries ids, in both prefixes."""
    catalog = load_catalog()
    found = [(method, operation) for (method, _), operation in catalog.exact.items()]
    for method, patterns in catalog.patterns.items():
        found += [(method, operation) for _, operation in patterns]
    return [(method, operation) for method, operation in found if operation.reach.locations]


def requests_of(method: str, operation: Operation, own: World, other: World) -> Iterator[Built]:
    """The row's request with own ids only, then one for each location with the other world's id there."""
    yield build(method, operation, own)
    for at in operation.reach.locations:
        yield build(method, operation, own, other=other, at=at)


def build(
    method: str,
    operation: Operation,
    own: World,
    *,
    other: World | None = None,
    at: Location | None = None,
    camel: bool = False,
) -> Built:
    """A request whose ids are `own`'s, but at `at` `other`'s."""
    path, query, body = operation.route, [], {}
    for place in operation.reach.locations:
        # two words for one thing: only the one that is tried
        if place.name == "run_uuid" and place is not at and len(operation.reach.locations) > 1:
            continue
        if at is not None and at.name == "run_uuid" and place.name == "run_id" and place.place == at.place:
            continue
        world = other if other is not None and place is at else own
        value = world.value(place)
        match place.place:
            case "path":
                path = _fill(path, place.keys[0], value)
            case "query":
                query.append((place.name, value))
            case _:
                _put(body, place.keys, value, camel=camel)
    if operation.reach.locations[0].role == "version":
        query.append(("version", "1"))
    path = path.replace("{tag_key}", "k").replace("{key}", "k").replace("{assessment_id}", "a-1")
    target = path + ("?" + urlencode(query) if query else "")
    content = (
        json.dumps(body).encode()
        if method != "GET" and not operation.route.endswith("upload-artifact")
        else None
    )
    if operation.resource.startswith("artifacts") and method == "PUT":
        content = b"written by the other"
    return Built(
        row=operation.row, operation=operation, method=method, target=target, body=content, reaches=at
    )


def _fill(path: str, name: str, value: str) -> str:
    if "/traces/{artifact_path:path}" in path:
        experiment, _, rest = value.partition("/")
        return path.replace("{experiment}", experiment).replace("{artifact_path:path}", quote(rest))
    return path.replace(f"{{{name}:path}}", quote(value)).replace(f"{{{name}}}", value)


def _put(document: dict[str, Any], keys: tuple[str, ...], value: str, *, camel: bool) -> None:
    current: Any = document
    for key in keys[:-1]:
        name = _spelled(key.removesuffix("[]"), camel)
        if key.endswith("[]"):
            current = current.setdefault(name, [{}])[0]
        else:
            current = current.setdefault(name, {})
    last = keys[-1]
    if "<" in last:
        name, entry = last.removesuffix(">").split("<")
        if name.endswith("metadata") and len(keys) > 1:
            current.setdefault(_spelled(name, camel), {})[entry] = value
        else:
            current.setdefault(_spelled(name, camel), []).append({"key": entry, "value": value})
    elif last.endswith("[]"):
        current.setdefault(_spelled(last.removesuffix("[]"), camel), []).append(value)
    else:
        current[_spelled(last, camel)] = value


def _spelled(key: str, camel: bool) -> str:
    first, *rest = key.split("_")
    return first + "".join(part.title() for part in rest) if camel else key
