"""What an operation needs, and the words of its denial. Pure."""

from collections.abc import Collection

from proxy.ask import Ask
from proxy.catalog import UNKNOWN, Action, Operation
from proxy.errors import Refusal, denied
from proxy.presets import PRESETS


def denial(ask: Ask, rule: str, what: str = "", operation: Operation | None = None) -> Refusal:
    """The denial of an operation, in the words that MLflow's client prints."""
    operation = operation or ask.operation
    if ask.operation is UNKNOWN:
        return denied(
            f"{ask.method} {ask.path[:200]} is not a route that this version of Sidespan knows, "
            "and what isn't known is denied",
            "unknown route",
        )
    about = f" on {what}, or it doesn't exist" if what else ""
    return denied(
        f"client {ask.client.name!r} may not {_wish(operation)}{about} ({rule})",
        rule,
    )


def _wish(operation: Operation) -> str:
    if operation.action is Action.SPEND:
        return f"make MLflow's host call a model: {operation.resource}:spend"
    return f"{operation.action.value} {operation.resource}"


def list_parameters(operation: Operation) -> Collection[str]:
    """The parameters of the query that may be there several times."""
    return {at.name for at in operation.reach.locations if at.place == "query" and at.keys[-1].endswith("[]")}


def has_location(operation: Operation, place: str) -> bool:
    """Whether the operation has ids in this place: path, query or body."""
    return any(at.place == place for at in operation.reach.locations)


def location_names(operation: Operation) -> str:
    """The parameters that may say what the operation is about."""
    return " or ".join(dict.fromkeys(at.name for at in operation.reach.locations))


def could_be_open(refusal: Refusal, operation: Operation) -> bool:
    """Whether `observe` lets it pass: a denial, and not of what even the preset `open` denies."""
    is_denial = refusal.status in (403, 404) and operation is not UNKNOWN
    return is_denial and operation.action in PRESETS["open"].get(operation.resource, frozenset())
