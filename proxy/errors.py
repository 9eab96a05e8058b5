"""What the proxy answers itself, in MLflow's error form. Pure.

    {"error_code": "PERMISSION_DENIED", "message": "..."}

MLflow's client prints `CODE: message`; it repeats 408, 429 and every 5xx for minutes, so a decision is never
one of those.
"""

import json
from dataclasses import dataclass


@dataclass(eq=False, kw_only=True)  # not frozen: context managers set the traceback of what passes them
class Refusal(Exception):
    """An answer of our own instead of MLflow's. `rule`: what of the policy says so, where it does.

    `challenge`: the client is asked who it is (RFC 9110, section 11.6.1).
    """

    status: int
    error_code: str
    message: str
    rule: str = ""
    challenge: bool = False

    def __str__(self) -> str:
        return self.message

    @property
    def body(self) -> bytes:
        return json.dumps({"error_code": self.error_code, "message": self.message}).encode()


def bad_request(message: str) -> Refusal:
    return Refusal(status=400, error_code="BAD_REQUEST", message=message)


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
