"""The path under which we are published, taken off."""

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send


def under(root_path: str, app: ASGIApp) -> ASGIApp:
    """`app`, with the path under which we are published taken off; requests without it come from a proxy that
    has done so."""
    prefix = root_path.encode()

    async def rooted(scope: Scope, receive: Receive, send: Send) -> None:
        raw: bytes = scope.get("raw_path") or b""
        if raw == prefix and scope["type"] == "http":  # the UI's addresses are relative to a folder
            await RedirectResponse(f"{root_path}/", status_code=308)(scope, receive, send)
            return
        if raw.startswith(prefix + b"/"):
            scope = {**scope, "raw_path": raw[len(prefix) :], "path": scope["path"][len(root_path) :]}
        await app(scope, receive, send)

    return rooted if root_path else app
