"""Which part a request is for."""

from starlette.types import ASGIApp, Receive, Scope, Send

from collector.api.in_process import WHOLE_APP
from collector.api.own_routes import is_own
from collector.receivers.http import PATHS, is_astray


def dispatch(receiver: ASGIApp, own: ASGIApp, proxy: ASGIApp) -> ASGIApp:
    """OTLP paths to the receiver, our own routes to `own`, everything else to the proxy."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope[WHOLE_APP] = app
        await _part(scope, receiver, own, proxy)(scope, receive, send)

    return app


def _part(scope: Scope, receiver: ASGIApp, own: ASGIApp, proxy: ASGIApp) -> ASGIApp:
    if scope["type"] != "http":
        return proxy
    path = scope["path"]
    if path in PATHS:
        return receiver
    if is_own(scope["method"], path):
        return own
    return receiver if is_astray(scope) else proxy
