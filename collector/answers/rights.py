"""What the door has found out about a request's rights, in its scope. Pure."""

from starlette.requests import Request

# the client may not see what waits in the journal
DELIVERED_ONLY = "sidespan.delivered_only"
# ids of the experiments whose traces the client may see; None or nothing: all
EXPERIMENTS = "sidespan.experiments"


def visible(request: Request) -> list[str] | None:
    """The ids of the experiments that the client may see; None: all."""
    allowed: frozenset[str] | None = request.scope.get(EXPERIMENTS)
    return None if allowed is None else sorted(allowed)
