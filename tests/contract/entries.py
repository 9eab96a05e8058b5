"""Drafts and what becomes of them, as the suite of the log writes them."""

from collector.journal import Journal
from collector.model.batch import Draft, Parked, Route

MIB = 1024 * 1024
LANE = Route(experiment_id="1").lane
OTHER = Route(experiment_name="öther", run_id="r").lane
T1, T2 = b"1" * 16, b"2" * 16


def draft(payload: bytes = b"x", *, lane: str = LANE, trace_id: bytes = T1, client: str = "") -> Draft:
    return Draft(lane=lane, payload=payload, span_count=1, trace_ids=frozenset({trace_id}), client=client)


def parked(payload: bytes = b"bad", lane: str = LANE) -> Parked:
    return Parked(
        lane=lane,
        payload=payload,
        span_count=2,
        trace_ids=frozenset({T2}),
        reason="poison",
        message="MLflow answered 500",
        received_unix_ns=7,
        client="team",
    )


async def read_all(journal: Journal, lane: str = LANE) -> list[bytes]:
    return [entry.payload for entry in await journal.consumer("delivery").read(lane, limit_bytes=MIB)]
