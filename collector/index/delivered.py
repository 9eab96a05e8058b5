"""What has been delivered by now, asked before MLflow is: scores that it lacks were deleted there."""

import re
import time
from collections.abc import Iterable, Sequence

from collector.index.protocol import Delivered
from collector.journal import Consumer

# an entry's time is taken a little before it can be read
MARGIN_NS = 1_000_000_000
_TRACE_ID = re.compile("tr-([0-9a-f]{32})")


async def delivered(consumers: Sequence[Consumer], trace_ids: Iterable[str]) -> Delivered:
    """All that came until now, but for those traces (MLflow's ids) of which a consumer awaits something."""
    now_ns = time.time_ns()
    found = (_TRACE_ID.fullmatch(trace_id) for trace_id in trace_ids)
    ids = frozenset(bytes.fromhex(each[1]) for each in found if each)
    awaited = [await consumer.awaiting(ids) for consumer in consumers]
    but = frozenset(trace_id.hex() for trace_id in frozenset[bytes]().union(*awaited))
    return Delivered(before_unix_ns=now_ns - MARGIN_NS, but=but)
