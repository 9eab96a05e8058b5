"""Our own routes as an ASGI app, without the guard in front (guard.py)."""

from collections.abc import Awaitable, Callable, Iterable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from collector.answers.opening import Answers
from collector.api import page
from collector.api.errors import HANDLERS
from collector.api.own_route import Handler, OwnRoute
from collector.api.own_routes import OWN_ROUTES, by_precedence


def own_app(answers: Answers, routes: Iterable[OwnRoute] = OWN_ROUTES) -> Starlette:
    """The app that answers `routes`."""
    page.load()
    app = Starlette(routes=starlette_routes(answers, routes), exception_handlers=dict(HANDLERS))
    app.router.redirect_slashes = False
    return app


def starlette_routes(answers: Answers, routes: Iterable[OwnRoute] = OWN_ROUTES) -> list[Route]:
    """The routes as Starlette has them, in the order in which the policy matches them too."""
    return [
        Route(row.path, _endpoint(row.handler, answers), methods=[row.method])
        for row in sorted(routes, key=by_precedence)
    ]


def _endpoint(handler: Handler, answers: Answers) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return await handler(request, answers)

    return endpoint
