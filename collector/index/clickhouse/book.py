"""The experiments that the index knows, and the numbers that stand for them. Synchronous."""

from collections.abc import Sequence
from dataclasses import replace

from collector.index.clickhouse.make import rewritten
from collector.index.clickhouse.store import ClickhouseStore, KnownExperiment, number_for
from collector.index.rows.gathered import Gathered, TraceKey
from collector.model.experiment import ExperimentReference
from collector.spans.labels import NO_LABELS

# what is stored was cut already
UNCUT = 1_000_000


class ExperimentBook:
    """Looks experiments up as they were when it was made, and notes what is new of them."""

    def __init__(self, store: ClickhouseStore) -> None:
        self._store = store
        self._known = {each.number: each for each in store.experiments()}

    def unnamed(self) -> list[ExperimentReference]:
        """Experiments of which only one of id and name is known."""
        return [
            ExperimentReference(id=each.id, name=each.name)
            for each in self._known.values()
            if each.id is None or each.name is None
        ]

    def number_of(self, experiment: ExperimentReference) -> int:
        """The number that stands for an experiment; what is new of it is noted."""
        # a name alone is the experiment that had it last; one that got its id by now is that experiment
        by_name = self._named(experiment.name)
        if experiment.id is None:
            return by_name.number if by_name else self._new(experiment)
        by_id = next((each for each in self._known.values() if each.id == experiment.id), None)
        if by_id is None and by_name is not None and by_name.id is None:
            self._note(replace(by_name, id=experiment.id))
            return by_name.number
        number = by_id.number if by_id else self._new(experiment)
        if experiment.name is not None:
            if self._known[number].name != experiment.name:
                self._note(replace(self._known[number], name=experiment.name))
            self._join(number, experiment.name)
        return number

    def _named(self, name: str | None) -> KnownExperiment | None:
        found = [each for each in self._known.values() if name is not None and each.name == name]
        return min(found, key=lambda each: (each.id is None, -each.version), default=None)

    def _new(self, experiment: ExperimentReference) -> int:
        new = KnownExperiment(
            number=number_for(experiment), id=experiment.id, name=experiment.name, version=0
        )
        self._note(new)
        return new.number

    def _note(self, experiment: KnownExperiment) -> None:
        self._store.note(experiment)
        self._known[experiment.number] = experiment

    def _join(self, number: int, name: str) -> None:
        """What came under the name alone is the same experiment's; a trace in both becomes one."""
        alone = next((each for each in self._known.values() if each.name == name and each.id is None), None)
        if alone is None:
            return
        self._store.move_changes(alone.number, number)
        while keys := self._store.traces_of(alone.number):
            self._move(keys, number)
        while labelled := self._store.labelled_in(alone.number):
            self._move_labels(labelled, number)
        self._store.move_scores(alone.number, number)
        self._store.note(alone, is_gone=True)
        del self._known[alone.number]

    def _move(self, keys: Sequence[TraceKey], number: int) -> None:
        there = [(number, trace_id) for _, trace_id in keys]
        stored = self._store.stored([*keys, *there])
        moved = {key: stored.pop(key) for key in keys}
        whole = {new: _together(stored.get(new), moved[old]) for old, new in zip(keys, there, strict=True)}
        self._store.put(rewritten(whole, preview_characters=UNCUT).rows)
        self._store.take_out(moved)

    def _move_labels(self, keys: Sequence[TraceKey], number: int) -> None:
        stored = self._store.stored(keys)
        self._store.put_labels({(number, id): stored[then, id].labels for then, id in keys})
        self._store.put_labels(dict.fromkeys(keys, NO_LABELS))


def _together(there: Gathered | None, moved: Gathered) -> Gathered:
    """A trace of two numbers as one. A new row counts from the version of what is there."""
    if there is None or not there.spans:
        version = there.version if there else 0
        return replace(moved, version=version)
    return replace(
        there,
        spans=[*there.spans, *moved.spans],
        run_id=there.run_id or moved.run_id,
        labels=moved.labels if there.labels == NO_LABELS else there.labels,
    )
