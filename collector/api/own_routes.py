"""The one table of our own routes, and what is made from it.

Each module holds the rows of its handlers; whatever else is known of a path is read from here: the operation
that the policy judges, whether probes may ask it, whether the index answers it, its part of the document.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from collector.answers.errors import AnswerUnavailable
from collector.answers.opening import Answers
from collector.api import alerts, index, live, logs_api, mcp, operations, page, retention, runs, traces
from collector.api.openapi import openapi_document
from collector.api.own_route import OwnRoute
from collector.settings import Role
from proxy.catalog import PARAMETER, build_catalog

PREFIX = "/-/"


async def _openapi(_: Request, __: Answers) -> Response:
    return JSONResponse(own_document())


OPENAPI_ROUTE = OwnRoute(
    method="GET",
    path="/-/openapi.json",
    permission="sidespan:read",
    handler=_openapi,
    summary="Get this API reference as an OpenAPI document",
)
OWN_ROUTES: tuple[OwnRoute, ...] = (
    *operations.ROUTES,
    *traces.ROUTES,
    *index.ROUTES,
    *live.ROUTES,
    *alerts.ROUTES,
    *retention.ROUTES,
    *runs.ROUTES,
    *logs_api.ROUTES,
    *mcp.ROUTES,
    *page.ROUTES,
    OPENAPI_ROUTE,
)
OWN_OPERATIONS = build_catalog((row.method, row.operation.route, row.operation) for row in OWN_ROUTES)
PUBLIC_PATHS = frozenset(row.path for row in OWN_ROUTES if row.is_public)
# the operations (Operation.row) that the index answers
FROM_INDEX = frozenset(row.operation.row for row in OWN_ROUTES if row.from_index)
_OUTSIDE_THE_PREFIX = frozenset(
    (row.method, row.path) for row in OWN_ROUTES if not row.path.startswith(PREFIX)
)
METHODS = frozenset(row.method for row in OWN_ROUTES)


def routes_of(roles: Collection[Role]) -> tuple[OwnRoute, ...]:
    """All of them; those that other processes answer say which."""
    return tuple(
        row if row.role is None or row.role in roles else replace(row, handler=partial(_elsewhere, row.role))
        for row in OWN_ROUTES
    )


async def _elsewhere(role: Role, request: Request, _: Answers) -> Response:
    raise AnswerUnavailable(
        "roles", request.url.path, f"this process does not answer it: ask one that runs with the role {role}"
    )


def is_own(method: str, path: str) -> bool:
    """Whether a request is for us rather than for MLflow: all of `/-/`, and the rows outside of it."""
    return path.startswith(PREFIX) or (method, path) in _OUTSIDE_THE_PREFIX


def by_precedence(row: OwnRoute) -> tuple[bool, int]:
    """The order in which paths are matched, the same as the operations': without parameters first, then by
    the length of the literal text."""
    return bool(PARAMETER.search(row.operation.route)), -len(PARAMETER.sub("", row.operation.route))


@cache
def own_document() -> Mapping[str, Any]:
    """The OpenAPI document of all of them."""
    return openapi_document(OWN_ROUTES)
