"""Two clients, two experiments, one MLflow: nobody reads, writes or learns of what is the other's.

Every operation of the catalog that carries an id is tried with the other's id in each of its places, against
a real MLflow behind the real service; afterwards the database and the files are what they were.
"""

import asyncio
import base64
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from mcp.shared.exceptions import MCPError

from proxy.locations import ObjectKind
from tests.proxy.populate import V2, V3, call, populate
from tests.proxy.worlds import World, requests_of, rows
from tests.support.grpc_calls import TRACES
from tests.support.mcp_client import connected
from tests.support.mlflow_server import MlflowServer
from tests.support.otlp import export
from tests.support.ports import free_port
from tests.support.proxied import tokens_for
from tests.support.sidespan import Sidespan
from tests.system.test_live import Follower

pytestmark = pytest.mark.slow

HTTP_STATUS_OF = {"INVALID_ARGUMENT": 400, "UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403, "NOT_FOUND": 404}

POLICY = """
[auth]
mode = "clients"

[policy.clients]
anna = ["team-a"]
bert = ["team-b"]
root = ["standard"]
reader = ["read-only"]

[[policy.roles.team-a]]
preset = "open"
experiments = ["team-a/*"]

[[policy.roles.team-b]]
preset = "open"
experiments = ["team-b/*"]
"""


@dataclass
class House:
    """The service with two tenants. `marker` is in no text but its owner's."""

    sidespan: Sidespan
    server: MlflowServer
    tokens: dict[str, str]
    worlds: dict[str, World]

    def send(
        self, client: str, method: str, target: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes]:
        kind = {"content-type": "application/json"} if body is not None else {}
        request = urllib.request.Request(
            self.sidespan.url + target,
            data=body,
            method=method,
            headers=kind | {"authorization": f"Bearer {self.tokens[client]}"} | headers,
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def call(self, client: str, body: bytes, **metadata: str) -> tuple[int, bytes]:
        """An export over gRPC: HTTP's status for its code, and its answer or message."""
        given = {"authorization": f"Bearer {self.tokens[client]}"} | metadata
        with grpc.insecure_channel(f"127.0.0.1:{self.sidespan.grpc_port}") as channel:
            try:
                return 200, channel.unary_unary(TRACES)(body, metadata=tuple(given.items()), timeout=30)
            except grpc.RpcError as error:
                return HTTP_STATUS_OF[error.code().name], error.details().encode()

    def state(self) -> dict[str, str]:
        return self.server.state()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, mlflow_server: MlflowServer) -> Iterator[House]:
    home: Path = tmp_path_factory.mktemp("isolation")
    config = home / "sidespan.toml"
    config.write_text(POLICY)
    tokens = tokens_for(home / "data" / "tokens.json", "anna", "bert", "reader", "root")
    sidespan = Sidespan(home / "data", mlflow_server.url)
    sidespan.arguments = ("--config", str(config))
    sidespan.environment = {"SIDESPAN_MCP__FEEDBACK": "true"}
    sidespan.grpc_port = free_port()
    sidespan.start()
    try:
        suffix = os.urandom(4).hex()
        worlds = {
            "anna": populate(mlflow_server, "a", f"xanthosoma{suffix}"),
            "bert": populate(mlflow_server, "b", f"yellowhammer{suffix}"),
        }
        yield House(sidespan, mlflow_server, tokens, worlds)
    finally:
        sidespan.stop()


OTHER = {"anna": "bert", "bert": "anna"}


@pytest.mark.parametrize("client", ["anna", "bert"])
@pytest.mark.timeout(300)
def test_no_operation_reaches_what_is_the_others(house: House, client: str) -> None:
    own, other = house.worlds[client], house.worlds[OTHER[client]]
    before = house.state()
    tried, wrong = 0, []
    for method, operation in rows():
        for built in requests_of(method, operation, own, other):
            if built.reaches is None:
                continue
            tried += 1
            status, answer = house.send(client, built.method, built.target, built.body)
            narrowed = built.reaches.role == "all" and status == 200
            if not narrowed and status not in (400, 403, 404):
                wrong.append((built.label, status, answer[:200]))
            # a denial repeats what was asked for, a name or an id; nothing else of the other's
            asked = {other.name, other.model_name, other.value(built.reaches)}
            asked.add(other.value(built.reaches).rpartition("/")[2])
            said = answer.decode("utf-8", "replace")
            for text in asked:
                said = said.replace(text, "")
            if other.marker in said:
                wrong.append((built.label, "names the other's", answer[:300]))
    assert wrong == []
    assert tried > 300
    changed = {name for name, value in house.state().items() if before.get(name) != value}
    assert changed == set()


@pytest.mark.parametrize("client", ["anna", "bert"])
@pytest.mark.timeout(300)
def test_every_read_of_what_is_own_passes(house: House, client: str) -> None:
    own = house.worlds[client]
    denied = []
    for method, operation in rows():
        if operation.action.value != "read" or operation.row == "GET /model-versions/get-artifact":
            continue
        if "prompt-optimization" in operation.route and "{job_id}" in operation.route:
            continue  # such a job needs MLflow's job runner
        built = next(requests_of(method, operation, own, own))
        status, answer = house.send(client, built.method, built.target, built.body)
        if status in (401, 403) or b"may not" in answer:
            denied.append((built.label, status, answer[:200]))
    assert denied == []


@pytest.mark.parametrize("client", ["anna", "bert"])
def test_lists_hold_what_is_own_and_nothing_else(house: House, client: str) -> None:
    own, other = house.worlds[client], house.worlds[OTHER[client]]
    both = [own.experiment, other.experiment]
    places = [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": id}} for id in both]
    lists: list[tuple[str, str, Any]] = [
        ("GET", f"{V2}/experiments/search?max_results=1000", None),
        ("POST", f"{V2}/experiments/search", {"max_results": 1000, "view_type": "ALL"}),
        ("POST", "/ajax-api/2.0/mlflow/experiments/search", {"max_results": 1000, "order_by": ["name DESC"]}),
        ("POST", f"{V2}/runs/search", {"experiment_ids": both}),
        ("POST", f"{V3}/traces/search", {"locations": places}),
        ("GET", f"{V2}/traces?experiment_ids={both[0]}&experiment_ids={both[1]}", None),
        ("POST", f"{V2}/logged-models/search", {"experiment_ids": both}),
        ("POST", f"{V3}/datasets/search", {}),
        ("POST", f"{V3}/datasets/search", {"experiment_ids": both}),
        ("POST", "/ajax-api/2.0/mlflow/experiments/search-datasets", {"experiment_ids": both}),
    ]
    for method, target, body in lists:
        content = None if body is None else json.dumps(body).encode()
        status, answer = house.send(client, method, target, content)
        assert status == 200, (target, answer)
        if "search-datasets" not in target and "2.0/mlflow/traces" not in target:
            assert own.marker.encode() in answer, (target, answer[:300])
        assert other.marker.encode() not in answer, target
        assert b'"experiment_id": "0"' not in answer, "the default experiment is nobody's"


def test_pages_of_a_narrowed_list_are_full(house: House) -> None:
    """The narrowing comes before the query: no page has holes, and the token leads to the next."""
    names = {f"team-a/page {n}" for n in range(7)}
    for name in names:
        for client, named in (("anna", name), ("bert", name.replace("team-a", "team-b"))):
            body = json.dumps({"name": named}).encode()
            assert house.send(client, "POST", f"{V2}/experiments/create", body)[0] == 200
    seen: list[str] = []
    token = ""
    while True:
        body = {"max_results": 3, "filter": "name LIKE '%page%'"} | ({"page_token": token} if token else {})
        status, answer = house.send("anna", "POST", f"{V2}/experiments/search", json.dumps(body).encode())
        assert status == 200, answer
        document = json.loads(answer)
        seen += [each["name"] for each in document["experiments"]]
        token = document.get("next_page_token", "")
        if not token:
            break
        assert len(document["experiments"]) == 3
    assert sorted(seen) == sorted(names)


@pytest.mark.parametrize("door", ["http", "grpc"], scope="class")
class TestTracesByOtlp:
    @pytest.fixture(autouse=True)
    def _through(self, door: str) -> None:
        self.door = door

    def post(self, house: House, client: str, body: bytes, **headers: str) -> tuple[int, bytes]:
        if self.door == "grpc":
            return house.call(client, body, **headers)
        kind = {"content-type": "application/x-protobuf"}
        return house.send(client, "POST", "/v1/traces", body, **kind | headers)

    def spans(self, house: House, trace_id: str) -> Any:
        return call(house.server.url, "GET", f"{V3}/traces/get?trace_id={trace_id}&allow_partial=true")

    def letters(self, house: House) -> list[dict[str, Any]]:
        _, answer = house.send("root", "GET", "/-/dead-letters?limit=1000")
        found: list[dict[str, Any]] = json.loads(answer)["dead_letters"]
        return found

    def delivered(self, house: House) -> None:
        house.sidespan.token = house.tokens["root"]
        house.sidespan.wait_delivered(120)

    def test_a_client_exports_into_its_own_experiment(self, house: House) -> None:
        own = house.worlds["anna"]
        otlp = export(spans=2)
        before = self.letters(house)
        for headers in (
            {"x-mlflow-experiment-id": own.experiment},
            {"x-mlflow-experiment-name": own.name.replace("/", "%2F")},
            {"x-mlflow-experiment-id": own.experiment, "x-mlflow-run-id": own.ids[ObjectKind.RUN]},
        ):
            status, answer = self.post(house, "anna", otlp.SerializeToString(), **headers)
            assert status == 200, answer
        self.delivered(house)
        assert self.letters(house) == before
        trace = otlp.resource_spans[0].scope_spans[0].spans[0].trace_id.hex()
        assert len(self.spans(house, f"tr-{trace}")["trace"]["spans"]) == 2

    @pytest.mark.parametrize("how", ["id", "name", "attribute", "default"])
    def test_not_into_anothers(self, house: House, how: str) -> None:
        other = house.worlds["bert"]
        otlp = export(spans=1)
        headers = {}
        match how:
            case "id":
                headers["x-mlflow-experiment-id"] = other.experiment
            case "name":
                headers["x-mlflow-experiment-name"] = other.name.replace("/", "%2F")
            case "attribute":
                pair = otlp.resource_spans[0].resource.attributes.add(key="mlflow.experiment.id")
                pair.value.string_value = other.experiment
        status, answer = self.post(house, "anna", otlp.SerializeToString(), **headers)
        assert status == 403, answer
        assert b"may not send traces" in answer

    @pytest.mark.parametrize("prefix", ["known", "moved"])
    def test_a_known_trace_id_of_the_other_opens_nothing(self, house: House, prefix: str) -> None:
        own, other = house.worlds["anna"], house.worlds["bert"]
        trace_id = other.ids[ObjectKind.TRACE]
        before = self.spans(house, trace_id)
        otlp = export(spans=2)
        victim = before["trace"]["spans"][0]
        for span in otlp.resource_spans[0].scope_spans[0].spans:
            span.trace_id = bytes.fromhex(trace_id.removeprefix("tr-"))
            span.span_id = base64.b64decode(victim["span_id"])
            span.name = f"written over by {prefix}"
        status, _ = self.post(
            house, "anna", otlp.SerializeToString(), **{"x-mlflow-experiment-id": own.experiment}
        )
        assert status == 200, "it is accepted, for MLflow may be away; it is refused on the way out"
        self.delivered(house)
        assert self.spans(house, trace_id) == before
        mine = [
            letter for letter in self.letters(house) if trace_id.removeprefix("tr-") in letter["trace_ids"]
        ]
        assert {(letter["client"], letter["reason"]) for letter in mine} == {("anna", "foreign_trace")}

    def test_the_others_run_gets_no_link(self, house: House) -> None:
        own, other = house.worlds["anna"], house.worlds["bert"]
        otlp = export(spans=1)
        headers = {"x-mlflow-experiment-id": own.experiment, "x-mlflow-run-id": other.ids[ObjectKind.RUN]}
        self.post(house, "anna", otlp.SerializeToString(), **headers)
        self.delivered(house)
        trace = otlp.resource_spans[0].scope_spans[0].spans[0].trace_id.hex()
        (letter,) = [letter for letter in self.letters(house) if trace in letter["trace_ids"]]
        assert letter["reason"] == "unknown_run"
        found = call(
            house.server.url,
            "POST",
            f"{V3}/traces/search",
            {
                "locations": [
                    {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": id}}
                    for id in (own.experiment, other.experiment)
                ],
                "filter": f"attributes.run_id = '{other.ids[ObjectKind.RUN]}'",
            },
        )
        assert found.get("traces", []) == []

    def test_no_tag_says_where_files_lie(self, house: House) -> None:
        own = house.worlds["anna"]
        otlp = export(spans=1)
        elsewhere = f"mlflow-artifacts:/{house.worlds['bert'].experiment}/traces/x/artifacts"
        span = otlp.resource_spans[0].scope_spans[0].spans[0]
        for tag, value in (("mlflow.artifactLocation", elsewhere), ("mlflow.note", "kept")):
            span.attributes.add(key=f"mlflow.traceTag.{tag}").value.string_value = value
        headers = {"x-mlflow-experiment-id": own.experiment}
        assert self.post(house, "anna", otlp.SerializeToString(), **headers)[0] == 200
        self.delivered(house)
        trace = call(house.server.url, "GET", f"{V3}/traces/tr-{span.trace_id.hex()}")
        tags = trace["trace"]["trace_info"]["tags"]
        assert tags["mlflow.note"] == "kept"
        assert elsewhere not in tags.values()


class TestOwnPaths:
    def test_a_trace_is_summarised_for_its_owner_only(self, house: House) -> None:
        for client in ("anna", "bert"):
            own, other = (
                house.worlds[client].ids[ObjectKind.TRACE],
                house.worlds[OTHER[client]].ids[ObjectKind.TRACE],
            )
            nobodys = f"/spans/{'f' * 16}"
            assert house.send(client, "GET", f"/-/traces/{own}{nobodys}")[0] == 404
            assert house.send(client, "GET", f"/-/traces/{other}{nobodys}")[0] == 403
            for end in ("", "/content", "/conversation", "/explanation"):
                assert house.send(client, "GET", f"/-/traces/{own}{end}")[0] == 200
                for spelled in (other, other.removeprefix("tr-"), other.removeprefix("tr-").upper()):
                    status, answer = house.send(client, "GET", f"/-/traces/{spelled}{end}")
                    assert status == 403
                    assert house.worlds[OTHER[client]].marker.encode() not in answer

    def test_a_trace_that_waits_in_the_journal_has_an_owner_too(self, house: House) -> None:
        otlp = export(spans=1)
        trace = otlp.resource_spans[0].scope_spans[0].spans[0].trace_id.hex()
        headers = {"x-mlflow-experiment-id": house.worlds["anna"].experiment}
        kind = {"content-type": "application/x-protobuf"}
        house.send("anna", "POST", "/v1/traces", otlp.SerializeToString(), **kind | headers)
        assert house.send("anna", "GET", f"/-/traces/{trace}")[0] == 200
        assert house.send("bert", "GET", f"/-/traces/{trace}")[0] == 403

    def test_an_alert_is_tried_out_over_the_clients_own_experiments(self, house: House) -> None:
        kind = {"content-type": "application/x-protobuf"}
        for client in ("anna", "bert"):
            world, otlp = house.worlds[client], export(spans=1)
            service = otlp.resource_spans[0].resource.attributes.add(key="service.name")
            service.value.string_value = world.marker
            headers = kind | {"x-mlflow-experiment-id": world.experiment}
            assert house.send(client, "POST", "/v1/traces", otlp.SerializeToString(), **headers)[0] == 200
        alert = {"name": "any", "metric": "count", "by": ["service"], "above": 0, "window_seconds": 86_400}
        asked = json.dumps(
            {"alert": alert | {"every_seconds": 1, "delay_seconds": 0}, "since": "-5s"}
        ).encode()
        deadline = time.monotonic() + 60
        for client in ("anna", "bert"):
            answer = b""
            while house.worlds[client].marker.encode() not in answer:
                assert time.monotonic() < deadline, answer
                status, answer = house.send(client, "POST", "/-/alerts/test", asked)
                assert status in (200, 503), answer  # the index may still be starting
            assert house.worlds[OTHER[client]].marker.encode() not in answer

    def test_a_client_follows_the_traces_of_its_own_experiments(self, house: House) -> None:
        kind = {"content-type": "application/x-protobuf"}
        service, trace_ids = house.sidespan, {}
        deadline = time.monotonic() + 60
        while house.send("root", "GET", "/-/index")[0] != 200:  # it may still be starting
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with ExitStack() as stack:
            readers = {
                client: stack.enter_context(Follower(service, token=house.tokens[client]))
                for client in ("anna", "bert", "root")
            }
            for client in ("anna", "bert"):
                otlp = export(spans=1)
                trace_ids[client] = otlp.resource_spans[0].scope_spans[0].spans[0].trace_id.hex()
                headers = kind | {"x-mlflow-experiment-id": house.worlds[client].experiment}
                assert house.send(client, "POST", "/v1/traces", otlp.SerializeToString(), **headers)[0] == 200
            readers["root"].wait(2)
            for client in ("anna", "bert"):
                readers[client].wait(1)
        assert set(readers["root"].trace_ids) >= set(trace_ids.values())
        for client in ("anna", "bert"):
            assert trace_ids[client] in readers[client].trace_ids
            assert trace_ids[OTHER[client]] not in readers[client].trace_ids
            assert readers[client].missed == []
            newest = readers[OTHER[client]].events[0].id
            with Follower(service, last_event_id=newest, token=house.tokens[client]) as again:
                again.wait(1)
                assert trace_ids[OTHER[client]] not in again.trace_ids
        nothing = {"trace_id": trace_ids["bert"]}
        with Follower(service, nothing, readers["bert"].events[0].id, house.tokens["anna"]) as curious:
            assert curious.told == [] and curious.missed == []

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/-/dead-letters"), ("GET", "/-/dead-letters/1"), ("GET", "/-/metrics"),
            ("POST", "/-/dead-letters/retry"), ("POST", "/-/dead-letters/drop"), ("POST", "/-/replay"),
            ("GET", "/-/alerts"), ("POST", "/-/alerts/snooze"), ("GET", "/-/retention"),
            ("GET", "/-/retention/plan"), ("POST", "/-/retention/run"), ("POST", "/-/archive/restore"),
        ],
    )  # fmt: skip
    def test_what_is_of_the_whole_service_is_not_for_the_limited(
        self, house: House, method: str, path: str
    ) -> None:
        body = b'{"ids": [1]}' if method == "POST" else None
        status, answer = house.send("anna", method, path, body)
        assert status == 403, answer
        assert "may not" in json.loads(answer)["error"]["message"]


@pytest.mark.parametrize("client", ["anna", "bert"])
class TestAgents:
    """The same over the Model Context Protocol: a tool sees what its client sees."""

    async def test_no_tool_reaches_what_is_the_others(self, house: House, client: str) -> None:
        other = house.worlds[OTHER[client]]
        house.sidespan.token = house.tokens["root"]
        await asyncio.to_thread(house.sidespan.wait_delivered, 120)  # what other tests have sent
        before = house.state()
        async with connected(house.sidespan, token=house.tokens[client]) as agent:
            for name, arguments in _questions(other):
                result = await agent.call_tool(name, arguments)
                said = result.model_dump_json()
                for text in (other.name, *other.ids.values()):  # what was asked for may be repeated
                    said = said.replace(text, "")
                assert other.marker not in said, (name, said[:300])
                narrowed = "experiment_id" not in arguments and "experiment_name" not in arguments
                if not result.is_error and not narrowed:
                    assert not _rows(result.structured_content), name
                if name in ("get_trace", "explain_trace", "get_run", "list_runs", "record_feedback"):
                    assert result.is_error, name
            for uri in (
                f"sidespan://traces/{other.ids[ObjectKind.TRACE]}",
                f"sidespan://runs/{other.ids[ObjectKind.RUN]}",
            ):
                with pytest.raises(MCPError) as raised:
                    await agent.read_resource(uri)
                assert other.marker not in str(raised.value)
            assert other.marker not in (await agent.list_resources()).model_dump_json()
        assert house.state() == before

    async def test_every_tool_reaches_what_is_own(self, house: House, client: str) -> None:
        own = house.worlds[client]
        async with connected(house.sidespan, token=house.tokens[client]) as agent:
            for name, arguments in _questions(own):
                if name in ("get_session", "record_feedback"):
                    continue
                result = await agent.call_tool(name, arguments)
                assert not result.is_error, (name, result.content)
            runs = await agent.call_tool("list_runs", {"experiment_id": own.experiment})
            assert own.ids[ObjectKind.RUN] in runs.model_dump_json()

    async def test_what_an_agent_exports_is_its_own_clients_to_ask(self, house: House, client: str) -> None:
        otlp = export(spans=2)
        span = otlp.resource_spans[0].scope_spans[0].spans[0]
        span.name = f"secret of {client}"
        headers = {"x-mlflow-experiment-id": house.worlds[client].experiment}
        kind = {"content-type": "application/x-protobuf"}
        house.send(client, "POST", "/v1/traces", otlp.SerializeToString(), **kind | headers)
        trace_id = span.trace_id.hex()
        for asking in (client, OTHER[client]):
            async with connected(house.sidespan, token=house.tokens[asking]) as agent:
                for name in ("get_trace", "explain_trace"):
                    given = {"trace_id": trace_id} | ({"content": True} if name == "get_trace" else {})
                    result = await agent.call_tool(name, given)
                    assert result.is_error is (asking != client)
                    assert (span.name in result.model_dump_json()) is (asking == client)

    async def test_without_credentials_nothing_is_answered(self, house: House, client: str) -> None:
        status, answer = house.send(client, "POST", "/-/mcp", b"{}", authorization="Bearer wrong")
        assert status == 401, answer


async def test_a_client_that_only_reads_records_no_feedback(house: House) -> None:
    """Whatever the tool's hints say and the client does with them: the policy decides."""
    trace_id = house.worlds["anna"].ids[ObjectKind.TRACE]
    await asyncio.to_thread(house.sidespan.wait_delivered, 120)  # what other tests have sent
    before = house.state()
    async with connected(house.sidespan, token=house.tokens["reader"]) as agent:
        read = await agent.call_tool("get_trace", {"trace_id": trace_id})
        assert not read.is_error, read.content
        given = {"trace_id": trace_id, "name": "correct", "value": True}
        result = await agent.call_tool("record_feedback", given)
    assert result.is_error
    said = result.model_dump_json()
    assert "403" in said and "may not" in said, said
    assert house.state() == before
    metrics = house.send("root", "GET", "/-/metrics")[1].decode()
    assert 'sidespan_mcp_tool_calls_total{outcome="refused",tool="record_feedback"}' in metrics
    assert 'sidespan_mcp_tool_calls_total{outcome="answered",tool="get_trace"}' in metrics


def _questions(world: World) -> list[tuple[str, dict[str, Any]]]:
    """Each tool, asked about a world by its ids and by its name, and without either."""
    trace_id, run_id = world.ids[ObjectKind.TRACE], world.ids[ObjectKind.RUN]
    return [
        *((name, {"experiment_id": world.experiment}) for name in LISTING),
        *((name, {"experiment_name": world.name}) for name in LISTING),
        *((name, {}) for name in LISTING if name != "list_runs"),
        ("compare", {"a": {"experiment_id": world.experiment}, "b": {"experiment_name": world.name}}),
        ("get_session", {"session": "conversation-1"}),
        ("get_trace", {"trace_id": trace_id, "content": True}),
        ("explain_trace", {"trace_id": trace_id}),
        ("get_run", {"run_id": run_id}),
        ("get_health", {}),
        ("record_feedback", {"trace_id": trace_id, "name": "correct", "value": True}),
    ]


LISTING = ("search_traces", "list_errors", "get_statistics", "list_sessions", "list_facets", "list_runs")


def _rows(answer: Any) -> list[Any]:
    """What lists of an answer hold."""
    lists = [each for each in answer["telemetry"].values() if isinstance(each, list)]
    return [row for each in lists for row in each if isinstance(row, dict)]


def test_denials_and_writes_are_in_the_audit_log(house: House) -> None:
    own, other = house.worlds["anna"], house.worlds["bert"]
    house.send("anna", "GET", f"{V2}/runs/get?run_id={other.ids[ObjectKind.RUN]}")
    body = json.dumps({"run_id": own.ids[ObjectKind.RUN], "key": "t", "value": "secret value"}).encode()
    house.send("anna", "POST", f"{V2}/runs/set-tag", body)
    file = house.sidespan.data_dir / "logs" / "audit.jsonl"
    deadline = time.monotonic() + 60
    writes: list[dict[str, Any]] = []
    while not writes and time.monotonic() < deadline:
        time.sleep(0.02)  # a line is written when its answer has ended
        text = file.read_text()
        lines = [line for line in map(json.loads, text.splitlines()) if line["client"] == "anna"]
        writes = [line for line in lines if line["path"].endswith("set-tag") and line["status"] == 200]
    (write,) = writes
    denial = next(line for line in reversed(lines) if line["path"].endswith("runs/get"))
    assert (denial["resource"], denial["action"], denial["status"]) == ("runs", "read", 403)
    assert (write["action"], write["decision"], write["experiments"]) == (
        "write",
        "allowed",
        [own.experiment],
    )
    assert write["rule"].startswith("policy.roles.team-a[0]")
    assert "secret value" not in text, "bodies are content"
