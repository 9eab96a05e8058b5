"""Which experiments and runs MLflow has, remembered for a while.

The receivers ask `exists`, which waits a moment at the most and says yes while MLflow can't be asked: a
well-formed route is accepted and resolved later. Delivery asks `resolve`, which wants to know.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from cachetools import TLRUCache

from collector.mlflow.client import Mlflow, MlflowAnswer, MlflowTimeout, MlflowUnreachable
from collector.mlflow.rest import MlflowApi
from collector.model.batch import Route

KNOWN_SECONDS = 60.0
UNKNOWN_SECONDS = 3.0
UNREACHABLE_SECONDS = 2.0
MAX_REMEMBERED = 10_000

# MLflow's considered no to a question. A 404 or 400 without one of these is somebody else's (a proxy in
# between, another server under the address) or its database's trouble (BAD_REQUEST), and no verdict.
NO_CODES = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "FEATURE_DISABLED"})
# the columns of ids hold 64 bits in SQLite, where MLflow answers 500 to a larger one, and 32 bits elsewhere,
# where it answers 400 BAD_REQUEST
MAX_ID = 2**63 - 1
MAX_COLUMN_ID = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """MLflow has the experiment, and the run if one is asked for."""

    experiment_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NoSuchExperiment:
    """MLflow answered: it has no active experiment of this id or name (or refuses to make it).

    `deleted`: it has one in its trash, so that no other of this name can be made.
    """

    message: str
    deleted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CannotAsk:
    """No usable answer; ask again later. `timed_out`: there was none within the time that is set."""

    message: str
    retry_after_seconds: float | None = None
    timed_out: bool = False


Resolution = Resolved | NoSuchExperiment | CannotAsk


@dataclass(slots=True)
class _Question:
    """What is being asked about one experiment. All who wait for their turn meanwhile share the answer."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    answer: Resolution | None = None


class Experiments:
    """The directory of one MLflow server."""

    def __init__(
        self,
        mlflow: Mlflow,
        *,
        create: bool,
        lookup_timeout_seconds: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mlflow = mlflow
        self._create = create
        self._timeout_seconds = lookup_timeout_seconds
        self._now = now
        self._known: TLRUCache[Route, Resolution] = TLRUCache(MAX_REMEMBERED, _forget_at, timer=now)
        self._runs: TLRUCache[tuple[str | None, str], str | None] = TLRUCache(
            MAX_REMEMBERED, _forget_at, timer=now
        )
        self._questions: dict[Route, _Question] = {}
        self._unreachable_until = 0.0

    async def exists(self, route: Route) -> bool:
        """Whether spans with this route can be accepted: no only if MLflow has said no."""
        if route.experiment_name is not None and self._create:
            return True  # made on the way out
        key = _key(route)
        remembered = self._known.get(key)
        if remembered is not None:
            return not isinstance(remembered, NoSuchExperiment)
        if self._now() < self._unreachable_until:
            return True
        try:
            async with asyncio.timeout(self._timeout_seconds):
                answer = await self.resolve(route)
        except TimeoutError:
            answer = CannotAsk(message="MLflow is slow")
        if isinstance(answer, CannotAsk):
            self._unreachable_until = self._now() + UNREACHABLE_SECONDS
        return not isinstance(answer, NoSuchExperiment)

    async def resolve(self, route: Route) -> Resolution:
        """The experiment's id, from memory or from MLflow; made there if that is allowed."""
        key = _key(route)
        question = self._questions.setdefault(key, _Question())
        try:
            async with question.turn:
                answer = question.answer or self._known.get(key)
                if answer is None:
                    answer = question.answer = await self._ask(key)
                    if not isinstance(answer, CannotAsk):
                        self._known[key] = answer
                return answer
        finally:
            if self._questions.get(key) is question and not question.turn.locked():
                del self._questions[key]

    def forget(self, route: Route) -> None:
        """MLflow has contradicted what is remembered."""
        self._known.pop(_key(route), None)

    async def run_experiment(self, route: Route) -> str | None | CannotAsk:
        """The experiment of the run that `route` names; None: MLflow has no such run."""
        assert route.run_id is not None
        key = (route.workspace, route.run_id)
        with suppress(KeyError):
            return self._runs[key]
        try:
            answer = await self._api(route).run(route.run_id)
        except MlflowUnreachable as error:
            return cannot_ask(error)
        run = answer.json().get("run") if answer.status == 200 else None
        if run is None and not _is_no(answer):
            return _cannot(answer)
        found = None if run is None else str(run["info"]["experiment_id"])
        self._runs[key] = found
        return found

    async def _ask(self, key: Route) -> Resolution:
        try:
            if key.experiment_id is not None:
                return await self._ask_by_id(key, key.experiment_id)
            return await self._ask_by_name(key)
        except MlflowUnreachable as error:
            return cannot_ask(error)

    async def _ask_by_id(self, key: Route, id: str) -> Resolution:
        if int(id) > MAX_ID:
            return NoSuchExperiment(message=f"{id} is larger than any experiment id")
        answer = await self._api(key).experiment(id)
        if int(id) > MAX_COLUMN_ID and answer.json().get("error_code") == "BAD_REQUEST":
            return NoSuchExperiment(message=answer.error)
        return _read(answer)

    async def _ask_by_name(self, key: Route) -> Resolution:
        api, name = self._api(key), key.experiment_name or ""
        found = _read(await api.experiment_named(name))
        if not isinstance(found, NoSuchExperiment) or not self._create or found.deleted:
            return found
        made = await api.create_experiment(name)
        if made.status == 200 and "experiment_id" in made.json():
            return Resolved(experiment_id=str(made.json()["experiment_id"]))
        if made.json().get("error_code") == "RESOURCE_ALREADY_EXISTS":  # somebody was faster
            return _read(await api.experiment_named(name))
        return _refusal(made)

    def _api(self, route: Route) -> MlflowApi:
        return MlflowApi(connection=self._mlflow, workspace=route.workspace)


def cannot_ask(error: MlflowUnreachable) -> CannotAsk:
    """What it means that no answer came."""
    return CannotAsk(message=str(error), timed_out=isinstance(error, MlflowTimeout))


def _key(route: Route) -> Route:
    if route.run_id is None:
        return route
    return Route(
        experiment_id=route.experiment_id,
        experiment_name=route.experiment_name,
        workspace=route.workspace,
    )


def _read(answer: MlflowAnswer) -> Resolution:
    experiment = answer.json().get("experiment")
    if answer.status != 200 or not isinstance(experiment, dict) or "experiment_id" not in experiment:
        return _refusal(answer)
    if experiment.get("lifecycle_stage") == "deleted":
        message = f"experiment {experiment.get('name')!r} is deleted in MLflow"
        return NoSuchExperiment(message=message, deleted=True)
    return Resolved(experiment_id=str(experiment["experiment_id"]))


def _refusal(answer: MlflowAnswer) -> Resolution:
    return NoSuchExperiment(message=answer.error) if _is_no(answer) else _cannot(answer)


def _is_no(answer: MlflowAnswer) -> bool:
    return answer.status >= 400 and answer.json().get("error_code") in NO_CODES


def _cannot(answer: MlflowAnswer) -> CannotAsk:
    return CannotAsk(message=f"MLflow answered {answer.status} to a look-up: {answer.error}")


def _forget_at(key: object, answer: Resolution | str | None, now: float) -> float:
    """What MLflow has is remembered for longer than what it lacks."""
    return now + (KNOWN_SECONDS if isinstance(answer, Resolved | str) else UNKNOWN_SECONDS)
