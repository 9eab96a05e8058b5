"""What the proxy answers itself, in MLflow's error form. Pure.

    {"error_code": "PERMISSION_DENIED", "message": "..."}

MLflow's client prints `CODE: message`; it repeats 408, 429 and every 5xx for minutes, so a decision is never
one of those.
"""

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal(Exception):
    """An answer of our own instead of MLflow's."""

    status: int
    error_code: str
    message: str

    @property
    def body(self) -> bytes:
        return json.dumps({"error_code": self.error_code, "message": self.message}).encode()


def bad_request(message: str) -> Refusal:
    return Refusal(status=400, error_code="BAD_REQUEST", message=message)


def denied(message: str) -> Refusal:
    return Refusal(status=403, error_code="PERMISSION_DENIED", message=message)


def unreachable(message: str) -> Refusal:
    return Refusal(status=502, error_code="TEMPORARILY_UNAVAILABLE", message=message)


def timed_out(message: str) -> Refusal:
    return Refusal(status=504, error_code="DEADLINE_EXCEEDED", message=message)
