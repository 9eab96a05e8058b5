"""What the proxy answers itself, in MLflow's error form. Pure.

    {"error_code": "PERMISSION_DENIED", "message": "..."}

MLflow's client prints `CODE: message`; it repeats 408, 429 and every 5xx for minutes, so a decision is never
one of those.
"""

import json
from dataclasses import dataclass
from typing import Any

MAX_SHOWN = 80


@dataclass(eq=False, kw_only=True)  # not frozen: context managers set the traceback of what passes them
class Refusal(Exception):
    """An answer of our own instead of MLflow's. `rule`: what of the policy says so, where it does.

    `challenge`: the client is asked who it is (RFC 9110, section 11.6.1); `methods`: those that the path has.
    """

    status: int
    error_code: str
    message: str
    rule: str = ""
    challenge: bool = False
    methods: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.message

    @property
    def body(self) -> bytes:
        return json.dumps({"error_code": self.error_code, "message": self.message}).encode()


def bad_request(message: str) -> Refusal:
    return Refusal(status=400, error_code="BAD_REQUEST", message=message)


def invalid(message: str) -> Refusal:
    """A parameter, path or body that can't be right, under the code that MLflow gives it."""
    return Refusal(status=400, error_code="INVALID_PARAMETER_VALUE", message=message)


def invalid_value(name: str, value: Any, why: str) -> Refusal:
    """A wrong value of a parameter, in MLflow's words (`mlflow.utils.validation.invalid_value`)."""
    shown = json.dumps(value, sort_keys=True, separators=(",", ":"))
    if len(shown) > MAX_SHOWN:
        shown = shown[:MAX_SHOWN] + "..."
    return invalid(f"Invalid value {shown} for parameter '{name[:MAX_SHOWN]}' supplied: {why}")


def wrong_type(name: str, value: Any) -> Refusal:
    """A value of another type than the parameter's, in MLflow's words."""
    hint = f" Hint: Value was of type '{type(value).__name__}'."
    return invalid_value(
        name, value, f"{hint} See the API docs for more information about request parameters."
    )


def wrong_method(method: str, methods: tuple[str, ...]) -> Refusal:
    """RFC 9110, section 15.5.6."""
    message = f"{method} is not allowed here, only {', '.join(methods)}"
    return Refusal(status=405, error_code="BAD_REQUEST", message=message, methods=methods)


def denied(message: str, rule: str = "") -> Refusal:
    return Refusal(status=403, error_code="PERMISSION_DENIED", message=message, rule=rule)


def unauthenticated(message: str) -> Refusal:
    return Refusal(status=401, error_code="UNAUTHENTICATED", message=message, challenge=True)


def not_found(message: str, rule: str = "") -> Refusal:
    return Refusal(status=404, error_code="RESOURCE_DOES_NOT_EXIST", message=message, rule=rule)


def too_large(message: str) -> Refusal:
    return Refusal(status=413, error_code="BAD_REQUEST", message=message)


def unreachable(message: str) -> Refusal:
    return Refusal(status=502, error_code="TEMPORARILY_UNAVAILABLE", message=message)


def timed_out(message: str) -> Refusal:
    return Refusal(status=504, error_code="DEADLINE_EXCEEDED", message=message)
