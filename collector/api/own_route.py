"""One of our own routes: everything that is said of it, in one place.

own_routes.py joins the rows of all modules; from them come the Starlette routes (app.py), the operations that
the policy judges (own_routes.py, admission.py) and the OpenAPI document (openapi.py).
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from collector.answers.opening import Answers
from collector.settings import Role
from proxy.catalog import Action, Operation
from proxy.locations import read_reach

CONVERTOR = re.compile(r":(int|path)}")

Handler = Callable[[Request, Answers], Awaitable[Response]]
"""Reads parameters, asks for an answer, renders it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter in the path or the query, as the OpenAPI document shows it."""

    name: str
    description: str
    place: str = "query"
    required: bool = False
    repeated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnRoute:
    """A row of the table of own routes.

    method, path    as Starlette has them: `{id}`, `{id:int}`, `{session:path}`
    permission      `resource:action`, as policies name it
    reach           what it touches, as in the catalog of MLflow's routes (proxy/locations.py): `-`, `server`,
                    or where the ids are that the policy looks at
    handler         what answers it
    summary …       its part of the OpenAPI document; a POST without `body` takes any JSON object, which
                    `body_description` describes; without `answer` it answers any JSON object, or `media_type`
    is_public       it is answered to probes without credentials too
    from_index      the index answers it, for the experiments that the client may see
    role            which processes answer it; None: all
    """

    method: str
    path: str
    permission: str
    reach: str = "-"
    handler: Handler
    summary: str
    parameters: tuple[Parameter, ...] = ()
    body: type[BaseModel] | None = None
    body_description: str = ""
    answer: type[BaseModel] | None = None
    media_type: str = "application/json"
    is_public: bool = False
    from_index: bool = False
    role: Role | None = Role.QUERY

    @property
    def operation(self) -> Operation:
        """What the policy judges."""
        resource, _, action = self.permission.partition(":")
        path = self.path.replace(":int}", "}")
        return Operation(
            resource=resource,
            action=Action(action),
            route=path,
            row=f"{self.method} {path}",
            reach=read_reach(self.reach),
        )

    @property
    def documented_path(self) -> str:
        """The path as OpenAPI writes it."""
        return CONVERTOR.sub("}", self.path)
