"""How long to wait before the next try. Pure."""

MAX_EXPONENT = 16


def delay_seconds(
    attempt: int,
    *,
    initial_seconds: float,
    max_seconds: float,
    jitter: float,
    at_least_seconds: float | None = None,
) -> float:
    """The pause after the `attempt`-th failure in a row (1, 2, …).

    Doubles from `initial_seconds` to `max_seconds`; `jitter` in [0, 1) takes up to half of it off, so that
    many senders don't come back together. The server's wish (`at_least_seconds`) holds up to ten times
    `max_seconds`: a wrong clock there must not stop us for a day.

    >>> delay_seconds(1, initial_seconds=0.5, max_seconds=30, jitter=0)
    0.5
    >>> delay_seconds(9, initial_seconds=0.5, max_seconds=30, jitter=0.5)
    22.5
    >>> delay_seconds(1, initial_seconds=0.5, max_seconds=30, jitter=0, at_least_seconds=7)
    7
    """
    exponent = min(max(attempt, 1) - 1, MAX_EXPONENT)
    ours: float = min(max_seconds, initial_seconds * 2**exponent) * (1 - jitter / 2)
    if at_least_seconds is None:
        return ours
    return max(ours, min(at_least_seconds, 10 * max_seconds))
