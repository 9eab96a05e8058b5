"""What a client may see of an answer. Pure."""

from dataclasses import dataclass

# resources of a run that a client may read or not, beside the run itself
RUN_RESOURCES = frozenset({"traces", "artifacts"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRights:
    """What one client may see. The default is everything: for callers that have no clients to tell apart.

    `experiments`: the ids of the experiments whose traces it may see; None: all. `pending`: it may see
    spans that wait in the journal. `run_resources`: what it may read of a run beside the run itself.
    `identified`: False for a probe without credentials, which gets no reasons: they name addresses and files.
    """

    experiments: frozenset[str] | None = None
    pending: bool = True
    run_resources: frozenset[str] = RUN_RESOURCES
    identified: bool = True

    @property
    def experiment_ids(self) -> list[str] | None:
        """`experiments` as JSON has them: sorted; None: all."""
        return None if self.experiments is None else sorted(self.experiments)


EVERYTHING = ReadRights()
NOTHING = ReadRights(experiments=frozenset(), pending=False, run_resources=frozenset(), identified=False)
