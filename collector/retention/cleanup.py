"""The rules, carried out: what would go (plan), and what goes (run).

for each experiment -> for each of its rules -> oldest traces first -> protected? -> batch -> cleaner.py
"""

import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from collector.model.experiment import ExperimentReference
from collector.retention.cleaner import Cleaned, Cleaner
from collector.retention.rules import (
    Protected,
    RetainedTrace,
    applies_to,
    cutoff_unix_ms,
    matches,
    protection,
    size_of,
)
from collector.settings import RetentionSettings

# a batch is larger where it takes long to find out what is linked
LINKED_SECONDS = 1.0
MOST_BATCHES = 20
MAX_LISTED = 1000
# in the batch that tells whether MLflow's file can be read
PROVING_TRACES = 10
# traces of which a plan reads the spans, to estimate the size of all
SAMPLED = 20


@dataclass(slots=True, kw_only=True)
class RuleReport:
    """What a rule does in one experiment. `kept` says why traces that it selects stay, and how many.

    `unsized` traces are those of which MLflow doesn't say how large they are; a plan estimates their bytes.
    """

    rule: str
    action: str
    experiment_id: str
    experiment_name: str
    traces: int = 0
    spans: int = 0
    bytes: int = 0
    unsized: int = 0
    oldest_unix_ms: int | None = None
    newest_unix_ms: int | None = None
    kept: Counter[str] = field(default_factory=Counter)
    trace_ids: list[str] = field(default_factory=list)
    sample: list[RetainedTrace] = field(default_factory=list)

    def add(self, trace: RetainedTrace, *, listed: int) -> None:
        """A trace that would go."""
        self.traces += 1
        self.bytes += trace.size_bytes
        if not trace.size_bytes:
            self.unsized += 1
            # ids are random: the smallest ones are a fair sample
            self.sample = sorted([*self.sample, trace], key=lambda each: each.id)[:SAMPLED]
        self._span_time(trace)
        if len(self.trace_ids) < listed:
            self.trace_ids.append(trace.trace_id)

    def cleaned(self, cleaned: Cleaned) -> None:
        """A batch is done with."""
        self.traces += cleaned.traces
        self.spans += cleaned.spans
        self.bytes += cleaned.bytes
        self.kept.update(cleaned.kept)

    def _span_time(self, trace: RetainedTrace) -> None:
        if self.oldest_unix_ms is None:
            self.oldest_unix_ms = trace.started_unix_ms
        self.newest_unix_ms = trace.started_unix_ms

    def to_json(self) -> dict[str, Any]:
        """As the API has it."""
        document = asdict(replace(self, sample=[])) | {"kept": dict(self.kept)}
        del document["sample"]
        return document


@dataclass(slots=True, kw_only=True)
class Cleanup:
    """The rules over the traces of one MLflow server."""

    rules: Sequence[RetentionSettings]
    cleaner: Cleaner
    now_unix_ns: Callable[[], int]
    _protected: Protected | None = None

    async def plan(self, *, listed: int = 0) -> list[RuleReport]:
        """What each rule would do now, with the first `listed` ids. Raises CleanupTrouble."""
        reports: list[RuleReport] = []
        for experiment, rules in await self._experiments():
            claimed: set[str] = set()
            earlier: Counter[str] = Counter()
            for number, rule in enumerate(rules):
                report = _report(rule, experiment)
                selected = self._selected(experiment, rule, less=earlier[rule.name], but=claimed)
                async for trace, why in selected:
                    if why is not None:
                        report.kept[why] += 1
                        continue
                    claimed.add(trace.id)
                    earlier.update(each.name for each in rules[number + 1 :] if matches(trace, each))
                    report.add(trace, listed=min(listed, MAX_LISTED))
                await self._estimate(report)
                reports.append(report)
        return reports

    async def _estimate(self, report: RuleReport) -> None:
        """Add the bytes of traces whose size MLflow doesn't say, by those of a few."""
        if report.sample:
            sizes = await self._sizes(report.sample)
            report.bytes += round(sum(sizes) / max(1, len(sizes)) * report.unsized)

    async def _sizes(self, traces: Sequence[RetainedTrace]) -> list[int]:
        return [size_of(each) async for some in self.cleaner.store.whole(traces) for each in some]

    async def run(self, *, progress: Callable[[Sequence[RuleReport]], None]) -> list[RuleReport]:
        """Carry the rules out; `progress` hears of each batch. Raises CleanupTrouble, IndexAway."""
        await self.cleaner.settle()
        reports: list[RuleReport] = []
        for experiment, rules in await self._experiments():
            for rule in rules:
                reports.append(_report(rule, experiment))
                async for batch in self._batches(experiment, rule, reports[-1]):
                    assert experiment.id is not None
                    reports[-1].cleaned(await self.cleaner.clean(experiment.id, rule, batch))
                    progress(reports)
        return reports

    async def _batches(
        self, experiment: ExperimentReference, rule: RetentionSettings, report: RuleReport
    ) -> AsyncIterator[list[RetainedTrace]]:
        batch: list[RetainedTrace] = []
        async for trace, why in self._selected(experiment, rule):
            if why is not None:
                report.kept[why] += 1
                continue
            batch.append(trace)
            if len(batch) >= self._batch_traces():
                yield batch
                batch = []
        if batch:
            yield batch

    def _batch_traces(self) -> int:
        """How many traces to delete together: more where it takes long to find out what is linked."""
        settings, store = self.cleaner.settings, self.cleaner.store
        if store.is_proving:
            return min(PROVING_TRACES, settings.batch_traces)
        longer = math.ceil(store.linked_seconds / LINKED_SECONDS)
        return settings.batch_traces * min(MOST_BATCHES, max(1, longer))

    async def _selected(
        self,
        experiment: ExperimentReference,
        rule: RetentionSettings,
        *,
        less: int = 0,
        but: Collection[str] = (),
    ) -> AsyncIterator[tuple[RetainedTrace, str | None]]:
        """The traces that the rule selects, oldest first, and why each has to stay (None: it need not).

        Without those in `but`, of which it matches `less`.
        """
        assert experiment.id is not None
        now = self.now_unix_ns()
        cutoff = 0 if rule.older_than_seconds is None else cutoff_unix_ms(rule, now)
        excess = 0
        if rule.max_traces is not None:
            count = await self.cleaner.store.count(experiment.id, rule, now_unix_ms=now // 1_000_000)
            excess = max(0, count - less - rule.max_traces)
        before = now // 1_000_000 if excess else cutoff
        seen = 0
        pages = self.cleaner.store.oldest_first(experiment.id, rule, before_unix_ms=before)
        async for page in pages:
            fresh = await self.cleaner.restored_lately(page)
            for trace in page:
                if trace.id in but or not matches(trace, rule):
                    continue
                seen += 1
                if trace.started_unix_ms >= cutoff and seen > excess:
                    return
                yield trace, "restored" if trace.trace_id in fresh else await self._kept_by(trace, rule)

    async def _kept_by(self, trace: RetainedTrace, rule: RetentionSettings) -> str | None:
        return protection(trace, await self._all_protected(), rule, keep_tag=self.cleaner.settings.keep_tag)

    async def _all_protected(self) -> Protected:
        """What the rules must leave, as it was when first asked; each batch asks for its own traces anew."""
        if self._protected is None:
            self._protected = await self.cleaner.store.protected(
                [str(each.id) for each, _ in await self._experiments()],
                runs=any("run" not in rule.even_if for rule in self.rules),
                datasets=any("dataset" not in rule.even_if for rule in self.rules),
            )
        return self._protected

    async def _experiments(self) -> list[tuple[ExperimentReference, list[RetentionSettings]]]:
        """Those that rules name, with their rules."""
        found = [
            (experiment, [rule for rule in self.rules if applies_to(rule, experiment)])
            for experiment in await self.cleaner.store.experiments()
        ]
        return [(experiment, rules) for experiment, rules in found if rules]

    def forget(self) -> None:
        """Ask anew what is protected, and whose the file is."""
        self._protected = None
        self.cleaner.store.forget()


def _report(rule: RetentionSettings, experiment: ExperimentReference) -> RuleReport:
    return RuleReport(
        rule=rule.name,
        action=rule.action,
        experiment_id=experiment.id or "",
        experiment_name=experiment.name or "",
    )
