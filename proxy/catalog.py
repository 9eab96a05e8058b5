"""MLflow's routes as data: (method, path) -> resource and action. Pure but for reading its own table once.

`mlflow_routes.tsv` has a row a route: resource, action (read, write, delete, admin, spend), method, path,
prefixes (`-` none, `api`, `ajax-api`, `both`), scope (where ids travel: locations.py). A contract test
walks the installed MLflow's routes and fails for one that no row knows. POSTs that only read, GETs that
write and POSTs that delete are why the method alone says nothing: `read` changes nothing in MLflow's tables
and files; `delete` takes away what has a name or an id (a run, a tag, an alias, a link, a queue's item);
`spend` makes MLflow's host call a model. Writes by design: overwriting a value, aborting an upload that isn't
finished, cancelling a job. A test compares MLflow's tables before and after each read.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files

from proxy.locations import Reach, read_reach

TABLE = "mlflow_routes.tsv"
PREFIXES = {"-": ("",), "api": ("/api",), "ajax-api": ("/ajax-api",), "both": ("/api", "/ajax-api")}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
# a part of a path: one segment, `:path` any number of them, `:name` one that doesn't begin with @, which
# marks an organization in the Skill Registry's paths
PARAMETER = re.compile(r"\{(\w+)(:path|:name)?\}")
PARTS = {None: "[^/]+", ":path": ".+", ":name": "[^/@][^/]*"}


class Action(StrEnum):
    """What an operation does to its resource; SPEND: MLflow's host calls a model for it, at its own cost."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    ADMIN = "admin"
    SPEND = "spend"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What a request asks MLflow for. `route` is the row's path, `unknown` if there is none.

    `row` names the row whatever the prefix, as `GET /2.0/mlflow/runs/get`; `reach` says what it touches.
    """

    resource: str
    action: Action
    route: str
    row: str = ""
    reach: Reach = Reach(server=True)

    def parameters(self, path: str) -> dict[str, str]:
        """The values of the route's parameters in a path that it was matched with."""
        found = _compile(self.route).fullmatch(path)
        return found.groupdict() if found else {}


UNKNOWN = Operation(resource="unknown", action=Action.ADMIN, route="unknown")


@dataclass(frozen=True, slots=True)
class Catalog:
    """The table, ready to be asked."""

    exact: dict[tuple[str, str], Operation]
    patterns: dict[str, tuple[tuple[re.Pattern[str], Operation], ...]]

    def classify(self, method: str, path: str) -> Operation:
        """The operation of a request whose path is decoded; UNKNOWN if no row knows it.

        HEAD is the GET of the same path. An exact path wins over one with parameters, and of those the
        first row that fits, longest literal text first.
        """
        asked = "GET" if method == "HEAD" else method
        found = self.exact.get((asked, path))
        if found is not None:
            return found
        for pattern, operation in self.patterns.get(asked, ()):
            if pattern.fullmatch(path):
                return operation
        return UNKNOWN

    def methods(self, path: str) -> tuple[str, ...]:
        """The methods that rows know this decoded path with, HEAD beside GET; empty if no row knows it."""
        return tuple(method for method in METHODS if self.classify(method, path) is not UNKNOWN)


@cache
def load_catalog() -> Catalog:
    """The catalog of the MLflow version that this release knows."""
    return build_catalog(_rows())


def build_catalog(rows: Iterable[tuple[str, str, Operation]]) -> Catalog:
    """A catalog of (method, path, operation)."""
    exact: dict[tuple[str, str], Operation] = {}
    patterns: dict[str, list[tuple[str, Operation]]] = {}
    for method, path, operation in rows:
        if PARAMETER.search(path):
            patterns.setdefault(method, []).append((path, operation))
        else:
            exact[method, path] = operation
    return Catalog(
        exact,
        {
            method: tuple((_compile(path), operation) for path, operation in sorted(found, key=_by_literal))
            for method, found in patterns.items()
        },
    )


def _rows() -> Iterator[tuple[str, str, Operation]]:
    lines = files("proxy").joinpath(TABLE).read_text(encoding="utf-8").splitlines()
    for line in lines[1:]:
        resource, action, method, path, prefixes, scope = line.split("\t")
        reach = read_reach(scope)
        for prefix in PREFIXES[prefixes]:
            full = prefix + path
            operation = Operation(
                resource=resource, action=Action(action), route=full, row=f"{method} {path}", reach=reach
            )
            yield method, full, operation


def _by_literal(row: tuple[str, Operation]) -> int:
    return -len(PARAMETER.sub("", row[0]))


@cache
def _compile(path: str) -> re.Pattern[str]:
    parts = []
    position = 0
    for parameter in PARAMETER.finditer(path):
        parts.append(re.escape(path[position : parameter.start()]))
        parts.append(f"(?P<{parameter[1]}>{PARTS[parameter[2]]})")
        position = parameter.end()
    return re.compile("".join((*parts, re.escape(path[position:]))))
