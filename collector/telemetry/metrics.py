"""The metrics of the service, one table. Counted a batch at a time; labels come from closed sets."""

from collections import Counter as Tally
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from collector.model.batch import Receipt, Signal

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Metrics:
    """Every metric of one service, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        counter, gauge, histogram = self._counter, self._gauge, self._histogram
        self.spans_accepted = counter("spans_accepted", "Spans on disk and acknowledged.")
        self.spans_rejected = counter("spans_rejected", "Spans refused in a partial success.", "reason")
        self.logs_accepted = counter("log_records_accepted", "Log records on disk and acknowledged.")
        self.logs_rejected = counter(
            "log_records_rejected", "Log records refused in a partial success.", "reason"
        )
        self.requests_refused = counter("requests_refused", "Exports refused completely.", "reason")
        self.signals_dropped = counter("signals_dropped", "Requests with metrics, dropped.", "signal")
        self.spans_delivered = counter("spans_delivered", "Spans that MLflow has accepted.")
        self.spans_dead_lettered = counter("spans_dead_lettered", "Spans that became dead letters.", "reason")
        self.logs_delivered = counter(
            "log_records_delivered",
            "Log records that are done: written as an assessment, joined onto their span, or dropped.",
            "outcome",
        )
        self.logs_dead_lettered = counter(
            "log_records_dead_lettered", "Log records that became dead letters.", "reason"
        )
        self.pending_logs = gauge(
            "journal_pending_log_records",
            "Accepted log records not yet processed, or waiting for their trace.",
        )
        self.delivery_requests = counter("delivery_requests", "Requests to MLflow.", "outcome")
        self.delivery = histogram("delivery_seconds", "Time of one delivery request to MLflow.")
        self._add_other_backends()
        self.unknown_runs = counter("unknown_runs", "Windows delivered without a link to their unknown run.")
        self.processed = counter(
            "processor_spans", "Outcomes of processors, counted in spans.", "processor", "outcome"
        )
        self.spans_missing = counter("spans_missing", "Spans answered with 200 that MLflow does not return.")
        self.indexed_spans = counter("indexed_spans", "Spans that the index has stored, repeats included.")
        self.index_skipped = counter("index_skipped_entries", "Entries that the index could not read.")
        self.index_failed = counter(
            "index_failed_spans", "Spans indexed with name and times only, because of a bug."
        )
        self.index_lag = gauge("index_lag_seconds", "Age of the oldest entry that is not in the index yet.")
        self.index_lacking = gauge(
            "index_lacking_traces", "Traces that came to MLflow without Sidespan and are not in the index."
        )
        self.commit = histogram("journal_commit_seconds", "Time of one commit to disk.")
        self.journal_skipped = counter(
            "journal_skipped",
            "Spans and log records deleted before a follower (the index, another backend) had read them,"
            " because the journal was half full.",
            "consumer",
        )
        self.journal_bytes = gauge("journal_bytes", "Size of the journal on disk.")
        self.pending_spans = gauge("journal_pending_spans", "Accepted spans not yet delivered.")
        lag = "Entries on Kafka that a group has not passed, at the most."
        self.log_lag = gauge("log_lag_entries", lag, "group", "partition")
        self.oldest_pending = gauge("journal_oldest_pending_seconds", "Age of the oldest undelivered span.")
        self.dead_letters = gauge("dead_letters", "Dead letters that wait to be retried or dropped.")
        self.sampled_traces = counter("sampled_traces", "Traces decided by sampling.", "decision", "reason")
        self.sampling_open_traces = gauge("sampling_open_traces", "Traces that wait for a sampling decision.")
        self._add_requests(counter, histogram)
        self._add_alerts(counter, gauge, histogram)

    def _add_requests(self, counter: Callable[..., Counter], histogram: Callable[..., Histogram]) -> None:
        self.proxy_requests = counter(
            "proxy_requests", "Requests to the proxy.", "resource", "action", "decision"
        )
        self.proxy_upstream = histogram("proxy_upstream_seconds", "Time of one proxied request.")
        self.proxy_questions = counter(
            "proxy_questions",
            "Questions that the index may answer for MLflow: `index`, or the reason why MLflow was asked.",
            "answer",
        )
        self.retention_traces = counter(
            "retention_traces", "Traces that a [[retention]] rule deleted in MLflow.", "rule", "action"
        )
        self.tool_calls = counter("mcp_tool_calls", "Calls of tools by agents over HTTP.", "tool", "outcome")

    def _add_alerts(
        self,
        counter: Callable[..., Counter],
        gauge: Callable[..., Gauge],
        histogram: Callable[..., Histogram],
    ) -> None:
        self.alert_groups = gauge("alert_groups", "Groups beyond an alert's threshold.", "alert", "state")
        self.alerts_failing = gauge("alerts_failing", "Alerts that can't be evaluated.")
        self.alert_evaluations = counter("alert_evaluations", "Evaluations of alerts.", "outcome")
        self.alert_query = histogram("alert_query_seconds", "Time of one query for alerts to the index.")
        self.alert_notifications = counter(
            "alert_notifications", "Attempts to send a notification of an alert.", "channel", "outcome"
        )
        self.alert_pending = gauge("alert_pending_notifications", "Notifications not yet sent.", "channel")
        self.alert_dead_letters = gauge(
            "alert_dead_letters", "Notifications that could not be sent.", "channel"
        )

    def _add_other_backends(self) -> None:
        self.forwarded = self._counter(
            "forwarded",
            "Spans and log records that are done with for another backend: delivered, rejected by it in a"
            " partial success, or withheld by its filter, processors or sampling.",
            "target",
            "outcome",
        )
        self.forward_dead_lettered = self._counter(
            "forward_dead_lettered",
            "Spans and log records that became dead letters of another backend.",
            *("target", "reason"),
        )
        self.forward_requests = self._counter(
            "forward_requests", "Requests to another backend.", "target", "outcome"
        )
        self.forward = self._histogram("forward_seconds", "Time of one request to another backend.", "target")
        self.forward_pending = self._gauge(
            "forward_pending", "Accepted spans and log records that wait for another backend.", "target"
        )
        self.forward_oldest_pending = self._gauge(
            "forward_oldest_pending_seconds", "Age of the oldest that waits for another backend.", "target"
        )
        self.forward_dead_letters = self._gauge(
            "forward_dead_letters", "Dead letters of another backend that wait.", "target"
        )

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(f"sidespan_{name}", help, labels, registry=self.registry)

    def _gauge(self, name: str, help: str, *labels: str) -> Gauge:
        return Gauge(f"sidespan_{name}", help, labels, registry=self.registry)

    def _histogram(self, name: str, help: str, *labels: str) -> Histogram:
        return Histogram(f"sidespan_{name}", help, labels, registry=self.registry, buckets=SECONDS)

    def count_skipped(self, consumer: str, spans: int) -> None:
        """Count what a follower of the journal has missed."""
        self.journal_skipped.labels(consumer=consumer).inc(spans)

    def count_processed(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Count what was done on the way out, by (processor, outcome)."""
        for (processor, outcome), count in counts.items():
            self.processed.labels(processor=processor, outcome=outcome).inc(count)

    def count_tool_call(self, tool: str, outcome: str) -> None:
        """Count what became of one call of a tool."""
        self.tool_calls.labels(tool=tool, outcome=outcome).inc()

    def count_receipt(self, receipt: Receipt) -> None:
        """Count what became of one export."""
        is_traces = receipt.signal is Signal.TRACES
        (self.spans_accepted if is_traces else self.logs_accepted).inc(receipt.accepted_spans)
        if receipt.rejections:
            rejected = self.spans_rejected if is_traces else self.logs_rejected
            for reason, count in Tally(r.reason.value for r in receipt.rejections).items():
                rejected.labels(reason=reason).inc(count)
