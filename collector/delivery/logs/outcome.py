"""What has become of a window's records: in MLflow, dropped, refused, or waiting for their trace."""

import time
from collections import defaultdict
from collections.abc import Sequence

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from collector.delivery.group import Request
from collector.delivery.logs.sorting import SortedRecord, by_entry, export_of, trace_ids_of
from collector.delivery.logs.work import CONSUMER, LogWindow, PlacedScore
from collector.delivery.settle import RefusedRequest, Settled
from collector.model.batch import Draft, Entry, FollowUp, Route, Signal, is_waiting
from collector.spans.score_facts import placed_record

NO_TRACE = "no_trace"
# more than these take turns: the first must not keep the others from being looked at
MAX_WAITING_ENTRIES = 500


async def settled_of(work: LogWindow, entries: Sequence[Entry]) -> Settled | None:
    """What becomes of the window: what waits too long is refused, what waits goes to its lane."""
    expired = await _expired(work)
    refused = [*work.refused, *((item, NO_TRACE, _too_late(work, why)) for item, why in expired)]
    over = {item for item, _ in expired}
    waiting = [item for item, _ in work.waiting if item not in over]
    if is_waiting(work.lane) and not refused and not work.counts and len(entries) < MAX_WAITING_ENTRIES:
        return None
    return Settled(
        delivered_spans=work.counts["assessment"] + work.counts["joined"],
        refusals=tuple(_refusals(refused)),
        follow_ups=(*_follow_ups(waiting, work.route), *_told(work)),
        counts=work.counts,
    )


async def _expired(work: LogWindow) -> list[tuple[SortedRecord, str]]:
    """What has waited too long: also all spans are delivered that came in that time."""
    wait_ns = int(work.target.settings.log_wait_seconds * 1e9)
    now_ns = time.time_ns()
    over = [(item, why) for item, why in work.waiting if item.entry.received_unix_ns + wait_ns <= now_ns]
    if not over:
        return []
    oldest = (await work.target.spans.state()).oldest_received_unix_ns
    return [
        (item, why) for item, why in over if oldest is None or oldest > item.entry.received_unix_ns + wait_ns
    ]


def _too_late(work: LogWindow, why: str) -> str:
    return f"{why} within {work.target.settings.log_wait_seconds:g} seconds (delivery.log_wait_seconds)"


def _refusals(refused: Sequence[tuple[SortedRecord, str, str]]) -> list[RefusedRequest]:
    groups: defaultdict[tuple[str, str], list[SortedRecord]] = defaultdict(list)
    for item, reason, message in refused:
        groups[reason, message].append(item)
    return [
        RefusedRequest(request=_request(held, entry), reason=reason, message=message)
        for (reason, message), items in groups.items()
        for entry, held in by_entry(items)
    ]


def _request(items: Sequence[SortedRecord], entry: Entry) -> Request:
    return Request(
        payload=export_of(items),
        span_count=len(items),
        trace_ids=trace_ids_of(items),
        received_unix_ns=entry.received_unix_ns,
        client=entry.client,
    )


def _follow_ups(waiting: Sequence[SortedRecord], route: Route) -> list[FollowUp]:
    lane = route.lane_of(Signal.LOGS, waiting=True)
    return [
        FollowUp(
            consumer=CONSUMER,
            draft=Draft(
                lane=lane,
                payload=export_of(items),
                span_count=len(items),
                trace_ids=trace_ids_of(items),
                client=entry.client,
            ),
            received_unix_ns=entry.received_unix_ns,
        )
        for entry, items in by_entry(waiting)
    ]


def _told(work: LogWindow) -> list[FollowUp]:
    """What MLflow's answers have placed, for the consumer that reads these records and can't place them."""
    if work.target.scores_to is None:
        return []
    return [_told_of(each, work.route, consumer=work.target.scores_to) for each in work.placed]


def _told_of(placed: PlacedScore, route: Route, *, consumer: str) -> FollowUp:
    export, place = ExportLogsServiceRequest(), placed.place
    record = placed_record(placed.score, trace_id=place.trace_id, span_id=place.span_id)
    export.resource_logs.add().scope_logs.add().log_records.append(record)
    return FollowUp(
        consumer=consumer,
        draft=Draft(
            lane=Route(experiment_id=placed.experiment_id, workspace=route.workspace).lane_of(Signal.LOGS),
            payload=export.SerializeToString(),
            span_count=1,
            trace_ids=frozenset({bytes.fromhex(place.trace_id)}),
            client=placed.item.entry.client,
        ),
        received_unix_ns=placed.item.entry.received_unix_ns,
    )
