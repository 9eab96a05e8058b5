"""Lengths of time as people write them. Pure."""

import re

UNITS_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smhdw])", re.ASCII)


def parse_duration(text: str) -> float | None:
    """The seconds of `90s`, `30m`, `1.5h`, `7d` or `2w`; None if `text` is none of these."""
    found = _DURATION.fullmatch(text)
    return None if found is None else float(found[1]) * UNITS_SECONDS[found[2]]
