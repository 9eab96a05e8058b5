"""The role `route`: what brings others' topics into the log."""

from typing import TYPE_CHECKING

from collector.journal import Journal
from collector.model.batch import Receipt
from collector.receivers.foreign import foreign_drafts
from collector.receivers.opening import rules_of
from collector.receivers.prepare import Prepared
from collector.settings import Settings
from collector.telemetry.metrics import Metrics

if TYPE_CHECKING:  # its client is an extra
    from collector.journal.kafka.foreign import ForeignTopics


def router_of(settings: Settings, journal: Journal, metrics: Metrics) -> "ForeignTopics | None":
    """It, if the settings name such topics."""
    if not settings.kafka.foreign_topics:
        return None
    from collector.journal.kafka.client import KafkaConnection
    from collector.journal.kafka.foreign import ForeignTopics

    def count(prepared: Prepared) -> None:
        spans = sum(draft.span_count for _, draft in prepared.drafts)
        metrics.count_receipt(Receipt(accepted_spans=spans, rejections=tuple(prepared.rejections)))

    return ForeignTopics(
        KafkaConnection(settings.log_place, settings.kafka),
        prepare=foreign_drafts(rules_of(settings), count=count),
        refusing=lambda: journal.log.refusing,
    )
