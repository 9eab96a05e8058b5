"""What a request asks: its parameters, read and checked. Pure but for the clock, which comes in."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from collector.model.durations import parse_duration
from collector.model.parameters import BadParameter

MAX_VALUE_CHARACTERS = 1000
MAX_VALUES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The parameters of one request, by name, and what the client may see.

    `experiments` are the ids of the experiments that it is limited to; None: all.
    """

    parameters: Mapping[str, Sequence[str]]
    now_unix_ns: int
    experiments: frozenset[str] | None = None

    def all(self, name: str) -> Sequence[str]:
        """Every value of a parameter. Raises BadParameter: too many, or too long."""
        values = self.parameters.get(name, ())
        if len(values) > MAX_VALUES or any(len(value) > MAX_VALUE_CHARACTERS for value in values):
            allowed = f"up to {MAX_VALUES} values of {MAX_VALUE_CHARACTERS} characters are allowed"
            raise BadParameter(name, len(values), allowed)
        return values

    def one(self, name: str) -> str | None:
        """The only value of a parameter. Raises BadParameter: there are several."""
        values = self.all(name)
        if len(values) > 1:
            raise BadParameter(name, list(values), "give it once")
        return values[0] if values else None

    def choice(self, name: str, allowed: Sequence[str], default: str) -> str:
        """One of `allowed`. Raises BadParameter."""
        value = self.one(name)
        if value is not None and value not in allowed:
            raise BadParameter(name, value[:80], f"must be one of {', '.join(allowed)}")
        return value if value is not None else default

    def whole(self, name: str, *, default: int, low: int, high: int) -> int:
        """A whole number. Raises BadParameter."""
        text = self.one(name)
        if text is None:
            return default
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise BadParameter(name, text[:80], f"must be a whole number from {low} to {high}")
        return int(text)

    def number(self, name: str) -> float | None:
        """A number that isn't negative. Raises BadParameter."""
        text = self.one(name)
        if text is None:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < 0:
            raise BadParameter(name, text[:80], "must be a number, 0 or more")
        return value

    def time(self, name: str) -> int | None:
        """A moment in nanoseconds since 1970. Raises BadParameter."""
        text = self.one(name)
        return None if text is None else moment(text, name, self.now_unix_ns)

    def known(self, allowed: Sequence[str]) -> None:
        """Raises BadParameter where a parameter is none of these: a typo must not widen the question."""
        for name in self.parameters:
            if name not in allowed:
                raise BadParameter(name, name, f"no such parameter; there are {', '.join(sorted(allowed))}")


def moment(text: str, name: str, now_unix_ns: int) -> int:
    """A moment in nanoseconds since 1970, from how long ago (-90m), ISO 8601, or a count since 1970.

    A count is of seconds, milliseconds, microseconds or nanoseconds, as its size tells. Raises BadParameter.
    """
    if text == "now":
        return now_unix_ns
    if text.startswith("-") and (ago := parse_duration(text[1:])) is not None:
        return now_unix_ns - int(ago * 1_000_000_000)
    if re.fullmatch(r"[0-9]{1,19}", text):
        count = int(text)
        return next((count * scale for scale in (10**9, 10**6, 10**3) if count * scale < 10**19), count)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise BadParameter(
            name, text[:80], "must be how long ago (-1h, -30m, -7d), ISO 8601, or a time since 1970"
        ) from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return int(found.timestamp() * 1_000_000) * 1000


def seconds(text: str, name: str) -> int:
    """A length of time in seconds, from 300, 5m, 1h, 1d. Raises BadParameter."""
    found = parse_duration(f"{text}s" if text.isascii() and text.isdigit() else text)
    if not found or found != int(found):
        raise BadParameter(name, text[:80], "must be a length of time, as 60, 5m, 1h, 1d")
    return int(found)
