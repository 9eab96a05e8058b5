"""ClickHouse's errors, sorted by what the caller must do. Pure.

Source: https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp
"""

from collector.index.protocol import BatchRefused, IndexFailure, IndexUnreachable, QueryTimedOut

# TIMEOUT_EXCEEDED, TOO_SLOW, MEMORY_LIMIT_EXCEEDED: a narrower question may pass
_TOO_MUCH = frozenset({159, 160, 241})
# what a text, a number or a whole row can be that no table takes, whenever it is sent
_OF_THE_DATA = frozenset({6, 26, 27, 33, 38, 41, 53, 69, 70, 72, 117, 131, 321, 349, 376, 441, 467})
# sockets, Keeper and replicas that are away, too many queries or parts: later it may work
_AWAY = frozenset({202, 203, 209, 210, 225, 242, 252, 279, 285, 286, 319, 425, 999})


def error_of(error: Exception) -> Exception:
    """What an error of the client means: IndexUnreachable, QueryTimedOut, BatchRefused or IndexFailure."""
    code = getattr(error, "code", None)
    said = str(error).strip().splitlines()[0][:500] if str(error).strip() else type(error).__name__
    if code is None or code in _AWAY:
        return IndexUnreachable(f"ClickHouse does not answer: {said}")
    if code in _TOO_MUCH:
        message = "it takes too much time or memory; ask for less time (since), or for fewer groups"
        return QueryTimedOut("since", None, message)
    if code in _OF_THE_DATA:
        return BatchRefused(said)
    return IndexFailure(f"ClickHouse refuses: {said}")
