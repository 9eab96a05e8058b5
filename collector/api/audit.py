"""The audit log's line about a request to one of our own doors."""

from starlette.types import Scope

from proxy.catalog import Operation
from proxy.headers import peer_of
from proxy.logs import Line
from proxy.policy import Client


def audit_line(
    scope: Scope,
    client: Client,
    operation: Operation,
    *,
    status: int,
    rule: str = "",
    message: str = "",
) -> Line:
    """What became of the request. A `message` says why it was refused; without one it was allowed."""
    return Line(
        client=client.name,
        source=client.source,
        peer=peer_of(scope.get("client")),
        method=scope["method"],
        path=scope["path"][:1024],
        resource=operation.resource,
        action=operation.action.value,
        experiments=(),
        decision=_refused(status) if message else "allowed",
        rule=rule,
        status=status,
        request_bytes=0,
        answer_bytes=0,
        seconds=0.0,
        message=message,
    )


def _refused(status: int) -> str:
    """The access log's word for a refusal with this status."""
    if status >= 500:
        return "failed"
    return {400: "refused", 401: "unauthenticated"}.get(status, "denied")
