"""Alerts over a real index in a test's own process, and channels that remember what they got."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from collector.alerts.evaluator import Evaluator
from collector.alerts.notices import Notice
from collector.alerts.store import AlertStore, open_store
from collector.answers.encoding import EncodedJson, encode_json
from collector.answers.rights import ReadRights
from collector.index.duckdb.store import Store
from collector.index.protocol import IndexQuery, QueryKind
from collector.index.queries.asked import Asked
from collector.index.sql import answers
from collector.settings.alerts import AlertingSettings, AlertSettings, WebhookSettings
from collector.telemetry.metrics import Metrics
from tests.support.indexed import NOW_NS, tables_of

SECOND = 10**9
WEBHOOK = WebhookSettings(type="webhook", url="http://127.0.0.1:9/")


def alert(**given: Any) -> AlertSettings:
    """An alert with short forms of what most tests don't care about."""
    defaults = {"name": "slow", "metric": "count", "window_seconds": 60, "delay_seconds": 0}
    bound = {} if "below" in given else {"above": 10}
    return AlertSettings.model_validate(defaults | bound | given)


@dataclass
class IndexedAnswers:
    """An index as `ManyTraces`; `failing` is raised instead of an answer."""

    index: Store | None
    asked: list[Mapping[str, Sequence[str]]] = field(default_factory=list)
    failing: Exception | None = None
    answer: Mapping[str, Any] | None = None

    async def ask(
        self, kind: QueryKind, parameters: Mapping[str, Sequence[str]], *, rights: ReadRights
    ) -> EncodedJson:
        self.asked.append(parameters)
        if self.failing is not None:
            raise self.failing
        if self.answer is not None:
            return encode_json({"traces": []} if kind is QueryKind.TRACES else self.answer)
        assert self.index is not None
        asked = Asked(parameters=parameters, now_unix_ns=NOW_NS, experiments=rights.experiments)
        query = IndexQuery(kind=kind, parameters=parameters)
        return encode_json(answers.answer(tables_of(self.index), query, asked, Path()))


def counted(value: float | None, sample: int | None = None) -> dict[str, Any]:
    """An answer to an alert without groups on the metric `count`."""
    count = value if sample is None else sample
    return {"by": [], "total": {"count": count} if sample is None else {"error_rate": value, "count": count}}


@dataclass
class Clock:
    """A time that a test moves."""

    now_ns: int = NOW_NS

    def __call__(self) -> int:
        return self.now_ns

    def pass_seconds(self, seconds: float) -> None:
        self.now_ns += round(seconds * SECOND)


def store_in(folder: Path, *, max_pending: int = 1000, max_dead_letters: int = 1000) -> AlertStore:
    folder.mkdir(exist_ok=True, parents=True)
    return open_store(folder, needed=True, max_pending=max_pending, max_dead_letters=max_dead_letters)


def evaluator_over(
    store: AlertStore,
    many_traces: Any,
    *alerts: AlertSettings,
    clock: Callable[[], int],
    lag_seconds: float | None = 0.0,
    **settings: Any,
) -> Evaluator:
    """An evaluator with one channel, `ops`, unless the settings name others."""
    found = Evaluator(
        alerts={each.name: each for each in alerts},
        settings=AlertingSettings(**{"channels": {"ops": WEBHOOK}} | settings),
        many_traces=many_traces,
        lag_seconds=lambda: lag_seconds,
        store=store,
        metrics=Metrics(),
        clock=clock,
        tell=lambda: None,
    )
    found.recall()
    return found


def waiting(store: AlertStore, channel: str = "ops") -> list[Notice]:
    """What the outbox holds for a channel, taken out of it."""
    found = []
    while (pending := store.first(channel)) is not None:
        found.append(pending.notice)
        store.sent(pending.sequence)
    return found


@dataclass
class Inbox:
    """A receiver of webhooks; `statuses` are its next answers, 200 when there are no more."""

    requests: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    headers: Mapping[str, str] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def app(self) -> Starlette:
        routes = [Route("/{path:path}", self._take, methods=["POST"])]
        return Starlette(routes=routes)

    async def _take(self, request: Request) -> Response:
        self.requests.append(({**request.headers, ":path": request.url.path}, await request.body()))
        self.news.set()
        status = self.statuses.pop(0) if self.statuses else 200
        return PlainTextResponse("said so", status_code=status, headers=dict(self.headers))

    def documents(self) -> list[Any]:
        return [json.loads(body) for _, body in self.requests]

    async def wait_for(self, count: int) -> None:
        async with asyncio.timeout(60):
            while len(self.requests) < count:
                self.news.clear()
                await self.news.wait()
