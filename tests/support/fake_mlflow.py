"""MLflow's delivery side as a small real server whose faults can be switched while it runs."""

import asyncio
import base64
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.otlp import all_spans

Assess = Callable[[dict[str, Any]], web.StreamResponse | None]
Lookup = Callable[[web.Request], web.StreamResponse | None]
Fault = Callable[[web.Request, list[Span]], web.StreamResponse | None]


def error(status: int, text: str = "fault", **headers: str) -> web.Response:
    return web.json_response({"detail": text}, status=status, headers=headers)


def mlflow_error(status: int, code: str, message: str = "fault") -> web.Response:
    return web.json_response({"error_code": code, "message": message}, status=status)


@dataclass
class FakeMlflow:
    """Stores spans by (trace, span); `fault` may answer a delivery instead, `delay_seconds` comes first."""

    stored: dict[tuple[bytes, bytes], str] = field(default_factory=dict)
    requests: list[tuple[str, list[Span], dict[str, str]]] = field(default_factory=list)
    experiments: dict[str, str] = field(default_factory=lambda: {"0": "Default", "1": "one", "2": "two"})
    runs: set[str] = field(default_factory=set)
    fault: Fault | None = None
    lookup: Lookup | None = None
    lookups: list[tuple[str, dict[str, str], dict[str, str]]] = field(default_factory=list)
    delay_seconds: float = 0.0
    delay_of: Callable[[str], float] = lambda experiment_id: 0.0
    delay_of_spans: Callable[[list[Span]], float] = lambda spans: 0.0
    arrivals: list[tuple[bytes, str]] = field(default_factory=list)
    loses: set[bytes] = field(default_factory=set)
    homes: dict[bytes, str] = field(default_factory=dict)
    assessments: list[tuple[bytes, dict[str, Any]]] = field(default_factory=list)
    # traces of sessions, oldest first
    sessions: dict[bytes, str] = field(default_factory=dict)
    # may answer a write of an assessment instead, before or after it is stored
    refusal: Assess | None = None
    lost_answer: Assess | None = None
    slow_answers: list[float] = field(default_factory=list)
    # writes of assessments that came, and what they wait for before they are stored
    assessing: int = 0
    may_assess: asyncio.Event | None = None
    most_at_once: int = 0
    _at_once: int = 0

    @property
    def names(self) -> set[str]:
        return set(self.stored.values())

    def app(self) -> web.Application:
        app = web.Application(client_max_size=2**30, middlewares=[self.before_lookups])
        api = "/api/2.0/mlflow"
        app.router.add_get("/version", self.version)
        app.router.add_post("/v1/traces", self.traces)
        app.router.add_get(f"{api}/experiments/get", self.experiment)
        app.router.add_get(f"{api}/experiments/get-by-name", self.experiment)
        app.router.add_post(f"{api}/experiments/create", self.create)
        app.router.add_get(f"{api}/runs/get", self.run)
        app.router.add_get("/api/3.0/mlflow/traces/batchGet", self.batch_get)
        app.router.add_post("/api/3.0/mlflow/traces/batchGetInfos", self.batch_get_infos)
        app.router.add_post("/api/3.0/mlflow/traces/search", self.search)
        app.router.add_post("/api/3.0/mlflow/traces/{trace_id}/assessments", self.assess)
        return app

    @web.middleware
    async def before_lookups(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """What experiments, runs and read-backs are asked for; `lookup` may answer instead."""
        if request.path.startswith("/api/"):
            headers = {name.lower(): value for name, value in request.headers.items()}
            self.lookups.append((request.path, dict(request.query), headers))
            if self.lookup and (answer := self.lookup(request)):
                return answer
        return await handler(request)

    async def version(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="3.17.2")

    async def traces(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip" and body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        spans = all_spans(ExportTraceServiceRequest.FromString(body))
        experiment_id = request.headers["x-mlflow-experiment-id"]
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((experiment_id, spans, headers))
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            delay = self.delay_seconds + self.delay_of(experiment_id) + self.delay_of_spans(spans)
            await asyncio.sleep(delay)
            if self.fault and (answer := self.fault(request, spans)):
                return answer
        finally:
            self._at_once -= 1
        if experiment_id not in self.experiments:
            return mlflow_error(404, "RESOURCE_DOES_NOT_EXIST")
        self.store(spans, experiment_id)
        return web.Response(body=b"", content_type="application/x-protobuf")

    def store(self, spans: list[Span], experiment_id: str) -> None:
        """As MLflow does: a trace stays in the experiment that had it first, whoever sends more of it."""
        for span in spans:
            if span.span_id in self.loses:
                self.loses.discard(span.span_id)
                continue
            self.homes.setdefault(span.trace_id, experiment_id)
            self.stored[span.trace_id, span.span_id] = span.name
            self.arrivals.append((span.trace_id, span.name))

    async def experiment(self, request: web.Request) -> web.StreamResponse:
        id = request.query.get("experiment_id")
        name = request.query.get("experiment_name")
        for known_id, known_name in self.experiments.items():
            if id == known_id or name == known_name:
                stage = "deleted" if known_name.startswith("deleted") else "active"
                found = {"experiment_id": known_id, "name": known_name, "lifecycle_stage": stage}
                return web.json_response({"experiment": found})
        return mlflow_error(404, "RESOURCE_DOES_NOT_EXIST", "no such experiment")

    async def create(self, request: web.Request) -> web.StreamResponse:
        name = (await request.json())["name"]
        if name in self.experiments.values():
            return mlflow_error(400, "RESOURCE_ALREADY_EXISTS")
        id = str(len(self.experiments) + 10)
        self.experiments[id] = name
        return web.json_response({"experiment_id": id})

    async def run(self, request: web.Request) -> web.StreamResponse:
        if request.query["run_id"] in self.runs:
            return web.json_response(
                {"run": {"info": {"run_id": request.query["run_id"], "experiment_id": "1"}}}
            )
        return mlflow_error(404, "RESOURCE_DOES_NOT_EXIST")

    async def batch_get_infos(self, request: web.Request) -> web.StreamResponse:
        asked = [bytes.fromhex(id.removeprefix("tr-")) for id in (await request.json())["trace_ids"]]
        infos = [self.info(id) for id in asked if id in self.homes]
        return web.json_response({"trace_infos": infos} if infos else {})

    def info(self, id: bytes) -> dict[str, Any]:
        return {
            "trace_id": f"tr-{id.hex()}",
            "trace_location": {"mlflow_experiment": {"experiment_id": self.homes[id]}},
            "assessments": [each for found, each in self.assessments if found == id],
        }

    async def search(self, request: web.Request) -> web.StreamResponse:
        """A page of the traces of the session in the filter, newest first."""
        asked = await request.json()
        session = asked["filter"].split("'")[1]
        ids = [id for id, of in reversed(self.sessions.items()) if of == session and id in self.homes]
        start = int(asked.get("page_token", 0))
        end = start + asked["max_results"]
        more = {"next_page_token": str(end)} if end < len(ids) else {}
        return web.json_response({"traces": [self.info(id) for id in ids[start:end]]} | more)

    async def assess(self, request: web.Request) -> web.StreamResponse:
        """As often as it is asked to."""
        trace_id = bytes.fromhex(request.match_info["trace_id"].removeprefix("tr-"))
        assessment: dict[str, Any] = (await request.json())["assessment"]
        self.assessing += 1
        if self.may_assess:
            await self.may_assess.wait()
        if self.refusal and (answer := self.refusal(assessment)):
            return answer
        if trace_id not in self.homes:
            return mlflow_error(404, "RESOURCE_DOES_NOT_EXIST", "no such trace")
        self.assessments.append((trace_id, assessment))
        if self.slow_answers:
            await asyncio.sleep(self.slow_answers.pop())
        if self.lost_answer and (answer := self.lost_answer(assessment)):
            return answer
        return web.json_response({"assessment": assessment})

    async def batch_get(self, request: web.Request) -> web.StreamResponse:
        def encode(id: bytes) -> str:
            return base64.b64encode(id).decode()

        asked = [bytes.fromhex(text.removeprefix("tr-")) for text in request.query.getall("trace_ids")]
        traces = [
            {
                "spans": [
                    {"trace_id": encode(trace_id), "span_id": encode(span_id)}
                    for trace_id, span_id in self.stored
                    if trace_id == wanted
                ]
            }
            for wanted in asked
        ]
        return web.json_response({"traces": traces})


@asynccontextmanager
async def running(fake: FakeMlflow, port: int) -> AsyncIterator[str]:
    """Serve the fake on `port` until the block ends; then the port is closed."""
    runner = web.AppRunner(fake.app(), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()
