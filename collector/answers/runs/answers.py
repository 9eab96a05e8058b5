"""Answers on runs, with the client's rights. The gate has looked at the runs' experiments already."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from collector.answers.rights import ReadRights
from collector.answers.runs.compare import compare
from collector.answers.runs.models import Comparison, RunDetail, RunPage
from collector.answers.runs.source import RunSource, Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAnswers:
    """Runs of the MLflow behind us. Each verb raises NoSuchRun, MlflowTrouble."""

    source: RunSource

    async def page(
        self,
        *,
        experiment_ids: Sequence[str],
        experiment_name: str | None = None,
        filter_string: str = "",
        order_by: Sequence[str] = (),
        limit: int = 100,
        page_token: str | None = None,
    ) -> RunPage:
        """A page of the runs of experiments, by their ids, or by the name of one."""
        if experiment_name is not None:
            experiment_ids = [await self.source.experiment_id(experiment_name)]
        return await self.source.runs(
            experiment_ids,
            filter_string=filter_string,
            order_by=order_by,
            limit=limit,
            page_token=page_token,
        )

    async def one(self, run_id: str, wanted: Wanted, *, rights: ReadRights) -> RunDetail:
        """A run with as much as is wanted and the client may read."""
        allowed = replace(
            wanted,
            artifacts=wanted.artifacts and "artifacts" in rights.run_resources,
            traces=wanted.traces and "traces" in rights.run_resources,
        )
        return await self.source.run(run_id, allowed)

    async def compare(self, run_ids: Sequence[str]) -> Comparison:
        """Runs side by side, in this order."""
        return compare(await asyncio.gather(*(self.source.plain(id) for id in run_ids)))
