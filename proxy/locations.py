"""Where a request carries ids, as data: the catalog's `scope` column. Pure.

    -                                  nothing of an experiment: static files, versions
    server                             belongs to the whole server: only a rule without experiments grants it
    graphql                            the ids are inside a GraphQL document (graphql.py)
    [role:]place.key[.key…] …          ids in the path, the query or the JSON body

    place   path, query, body
    key     `run_ids[]` is a list; `trace_metadata<mlflow.sourceRun>` is the entry of a map, or of a list of
            {"key", "value"}; the last key's name says what it is the id of
    role    (none)   an id that must exist and be the caller's
            new      an id that may be new; if it isn't, it must be the caller's
            narrow   a list of experiments, cut down to the caller's
            fill     the same, and the caller's are put in where none is named
            all      a filter over every experiment, narrowed to the caller's
            name     the name that an experiment gets
            named    the name that an experiment has
            version  a registered model's name, whose version's files are meant
            source   an address of files that become readable

MLflow's protobuf parser takes a field in snake_case and in lowerCamelCase; so does `find`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from proxy.errors import invalid, wrong_type

KEYED = re.compile(r"([a-z_]+)<([^>]+)>")


class ObjectKind(StrEnum):
    """What an id is the id of."""

    EXPERIMENT = "experiment"
    RUN = "run"
    TRACE = "trace"
    MODEL = "logged model"
    DATASET = "dataset"
    ISSUE = "issue"
    SCHEMA = "label schema"
    QUEUE = "review queue"
    JOB = "prompt optimization job"
    ITEM = "review item"
    ARTIFACT = "artifact"
    TEXT = "text"


KINDS: Mapping[str, ObjectKind] = {
    "experiment_id": ObjectKind.EXPERIMENT,
    "experiment_ids": ObjectKind.EXPERIMENT,
    "run_id": ObjectKind.RUN,
    "run_ids": ObjectKind.RUN,
    "run_uuid": ObjectKind.RUN,
    "source_run_id": ObjectKind.RUN,
    "mlflow.sourceRun": ObjectKind.RUN,
    "trace_id": ObjectKind.TRACE,
    "trace_ids": ObjectKind.TRACE,
    "request_id": ObjectKind.TRACE,
    "request_ids": ObjectKind.TRACE,
    "model_id": ObjectKind.MODEL,
    "dataset_id": ObjectKind.DATASET,
    "issue_id": ObjectKind.ISSUE,
    "schema_id": ObjectKind.SCHEMA,
    "schema_ids": ObjectKind.SCHEMA,
    "queue_id": ObjectKind.QUEUE,
    "job_id": ObjectKind.JOB,
    "item_id": ObjectKind.ITEM,
    "item_ids": ObjectKind.ITEM,
    "artifact_path": ObjectKind.ARTIFACT,
    "path": ObjectKind.ARTIFACT,
}
ROLES = ("id", "new", "narrow", "fill", "all", "name", "named", "version", "source")


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """One place of ids."""

    role: str
    place: str
    keys: tuple[str, ...]
    kind: ObjectKind

    @property
    def name(self) -> str:
        """As a message names it."""
        return self.keys[-1].removesuffix("[]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """The parsed column: `free` for `-`, `server`, `graphql`, or locations."""

    free: bool = False
    server: bool = False
    graphql: bool = False
    locations: tuple[Location, ...] = ()


def read_reach(text: str) -> Reach:
    """The column's value. Raises ValueError for one that isn't in its grammar."""
    match text:
        case "-":
            return Reach(free=True)
        case "server":
            return Reach(server=True)
        case "graphql":
            return Reach(graphql=True)
    return Reach(locations=tuple(_location(word) for word in text.split()))


def _location(word: str) -> Location:
    role, colon, rest = word.partition(":")
    if not colon:
        role, rest = "id", word
    place, _, path = rest.partition(".")
    keys = tuple(re.findall(r"[a-z_]+(?:\[\]|<[^>]+>)?", path))
    if role not in ROLES or place not in ("path", "query", "body") or ".".join(keys) != path:
        raise ValueError(f"{word!r} is not a location")
    keyed = KEYED.fullmatch(keys[-1])
    last = keyed[2] if keyed else keys[-1].removesuffix("[]")
    text = role in ("all", "name", "named", "version", "source")
    return Location(role=role, place=place, keys=keys, kind=ObjectKind.TEXT if text else KINDS[last])


def find(document: Any, keys: tuple[str, ...]) -> Iterator[str]:
    """The texts at `keys` in a JSON document, in order. Raises Refusal (400) for what isn't a text there."""
    return _find(document, keys, inside="")


def _find(document: Any, keys: tuple[str, ...], *, inside: str) -> Iterator[str]:
    """As `find`; `inside` names what `document` is the value of."""
    if not keys:
        if document is None or document == "":  # protobuf's word for absent
            return
        if not isinstance(document, str):
            raise wrong_type(inside, document)
        yield document
        return
    key, rest = keys[0], keys[1:]
    if keyed := KEYED.fullmatch(key):
        for value in _entries(get(document, keyed[1], inside=inside), keyed[2]):
            yield from _find(value, rest, inside=keyed[2])
        return
    name = key.removesuffix("[]")
    value = get(document, name, inside=inside)
    if not key.endswith("[]"):
        yield from _find(value, rest, inside=name)
        return
    if value is not None and not isinstance(value, list):
        raise wrong_type(name, value)
    if not rest and not all(each is None or isinstance(each, str) for each in value or ()):
        raise wrong_type(name, value)  # MLflow names the list too
    for each in value or ():
        yield from _find(each, rest, inside=name)


def get(document: Any, key: str, *, inside: str = "") -> Any:
    """The value of `key` in either spelling; None if it isn't there. Raises Refusal (400).

    `inside`: what `document` is the value of, for the message.
    """
    if document is None:
        return None
    if not isinstance(document, dict):
        raise wrong_type(inside, document) if inside else invalid("the body must be a JSON object")
    other = camel(key)
    if other != key and key in document and other in document:
        raise invalid(f"{key} and {other} are the same field; send one")
    return document.get(key, document.get(other))


def _entries(values: Any, name: str) -> Iterator[Any]:
    """The values of `name` in a map, or in a list of {"key": …, "value": …}; all, if it is there twice."""
    if isinstance(values, dict):
        if name in values:
            yield values[name]
    elif isinstance(values, list):
        for pair in values:
            if isinstance(pair, dict) and pair.get("key") == name:
                yield pair.get("value")


def camel(key: str) -> str:
    """`run_id` as protobuf's JSON form writes it: `runId`."""
    first, *rest = key.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)
