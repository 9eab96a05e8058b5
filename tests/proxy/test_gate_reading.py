"""The gate: bodies, GraphQL, and what it reads of them."""

from typing import Any

import pytest

from proxy.ask import Ask, Passage
from proxy.catalog import load_catalog
from proxy.errors import Refusal
from proxy.gate import Gate
from proxy.policy import Client, RuleText, build_policy
from tests.support.gate import Directory, limited, send


class TestReadings:
    """What can be read in two ways is 400, before anything is decided."""

    @pytest.mark.parametrize(
        "query",
        [
            "experiment_id=011",
            "experiment_id=%2B11",
            "experiment_id=1_1",
            "experiment_id=%D9%A1",
            "experiment_id=+11",
            "experiment_id=11&experiment_id=12",
            "experiment_id=11&experimentId=12",
            "experiment_id=-1",
            "experiment_id=11%00",
            "experiment_id=99999999999999999999",
        ],
    )
    async def test_of_a_query(self, query: str) -> None:
        with pytest.raises(Refusal) as caught:
            await send("GET", f"/api/2.0/mlflow/experiments/get?{query}")
        assert caught.value.status == 400

    @pytest.mark.parametrize(
        "body",
        [
            b'{"experiment_id": "11", "experiment_id": "12"}',
            b'{"experiment_id": "11", "experimentId": "12"}',
            b'{"experiment_id": "011"}',
            b'{"experiment_id": 11}',
            b'{"experiment_id": ["11"]}',
            b"[]",
            b'"{}"',
            b"{",
            '{"experiment_id": "11"}'.encode("utf-16"),
            b'{"experiment_id": "11", "x": NaN}',
            b"\xff",
            b'{"experiment_id": "\\u0661\\u0661"}',
            b'{"experiment_id": {"a": 1}}',
            b"[" * 100_000,
        ],
    )
    async def test_of_a_body(self, body: bytes) -> None:
        with pytest.raises(Refusal) as caught:
            await send("POST", "/api/2.0/mlflow/experiments/delete", body)
        assert caught.value.status == 400

    @pytest.mark.parametrize(
        "type_", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16", ""]
    )
    async def test_of_a_media_type(self, type_: str) -> None:
        with pytest.raises(Refusal) as caught:
            await send("POST", "/api/2.0/mlflow/runs/delete", {"run_id": "a-run"}, content_type=type_)
        assert caught.value.status == 415

    async def test_of_a_packed_body(self) -> None:
        with pytest.raises(Refusal) as caught:
            await send("POST", "/api/2.0/mlflow/runs/delete", {"run_id": "a-run"}, content_encoding="gzip")
        assert caught.value.status == 415

    async def test_both_names_of_a_run_must_be_own(self) -> None:
        path = "/api/2.0/mlflow/runs/log-metric"
        await send("POST", path, {"run_id": "a-run", "run_uuid": "a-run"})
        with pytest.raises(Refusal):
            await send("POST", path, {"run_id": "a-run", "run_uuid": "b-run"})
        with pytest.raises(Refusal):
            await send("GET", "/api/2.0/mlflow/runs/get?run_id=a-run&run_uuid=b-run")

    async def test_a_query_beside_a_body_is_refused(self) -> None:
        with pytest.raises(Refusal) as caught:
            await send("POST", "/api/2.0/mlflow/runs/delete?run_id=b-run", {"run_id": "a-run"})
        assert caught.value.status == 400

    async def test_another_workspace_is_refused(self) -> None:
        with pytest.raises(Refusal, match="workspace"):
            await send("GET", "/api/2.0/mlflow/experiments/get?experiment_id=11", workspace="other")


class TestGraphql:
    async def query(self, text: str, **variables: Any) -> Passage:
        return await send("POST", "/graphql", {"query": text, "variables": variables})

    async def test_fields_of_own_objects_pass(self) -> None:
        await self.query('query { mlflowGetRun(input: {runId: "a-run"}) { run { info { runName } } } }')
        await self.query(
            "query q($d: I!) { mlflowGetExperiment(input: $d) { experiment { name } } }",
            d={"experimentId": "11"},
        )
        await self.query('{ test(inputString: "x") { output } }')

    @pytest.mark.parametrize(
        ("text", "variables"),
        [
            ('{ mlflowGetRun(input: {runId: "b-run"}) { run { info { runName } } } }', {}),
            ('{ mlflowGetRun(input: {runUuid: "b-run"}) { run { info { runName } } } }', {}),
            ('{ mlflowGetRun(input: {run_id: "b-run"}) { apiError { code } } }', {}),
            ('query q($r: String = "b-run") { mlflowGetRun(input: {runId: $r}) { apiError { code } } }', {}),
            ("query q($i: I) { mlflowGetRun(input: $i) { apiError { code } } }", {"i": {"runId": "b-run"}}),
            (
                '{ a: mlflowGetRun(input: {runId: "a-run"}) { apiError { code } } '
                'b: mlflowGetRun(input: {runId: "b-run"}) { apiError { code } } }',
                {},
            ),
            ('{ ... on Query { mlflowGetRun(input: {runId: "b-run"}) { apiError { code } } } }', {}),
            (
                '{ ...f } fragment f on Query { mlflowGetRun(input: {runId: "b-run"}) { x } }',
                {},
            ),
            (
                'mutation { mlflowSearchRuns(input: {experimentIds: ["11", "12"]}) { nextPageToken } }',
                {},
            ),
            ("{ mlflowSearchRuns(input: {}) { runs { info { runId } } } }", {}),
            ('{ mlflowGetMetricHistoryBulkInterval(input: {runIds: ["b-run"]}) { metrics { key } } }', {}),
            ('{ mlflowListArtifacts(input: {runId: "b-run"}) { rootUri } }', {}),
            ('{ mlflowGetExperiment(input: {experimentId: "12"}) { experiment { name } } }', {}),
        ],
    )
    async def test_fields_of_anothers_do_not(self, text: str, variables: dict[str, Any]) -> None:
        with pytest.raises(Refusal) as caught:
            await self.query(text, **variables)
        assert caught.value.status == 403

    @pytest.mark.parametrize(
        "text",
        [
            "{ mlflowDeleteEverything { ok } }",
            "query a { test { output } } query b { test { output } }",
            "{",
            "",
            "{ ...f } fragment f on Query { ...f }",
            "{ test { output " + "{ a " * 40 + "}" * 40 + "} }",
            "{ " + " ".join(f"a{n}: test {{ output }}" for n in range(50)) + " }",
            "{ " + "a " * 100_000 + "}",
        ],
    )
    async def test_what_is_not_known_or_too_large_is_400(self, text: str) -> None:
        with pytest.raises(Refusal) as caught:
            await self.query(text)
        assert caught.value.status == 400

    async def test_it_is_no_way_round_a_denial(self) -> None:
        policy = build_policy(
            roles={"r": [RuleText(preset="standard"), RuleText(deny=("runs:read",))]},
            clients={"alice": ["r"]},
        )
        text = '{ mlflowGetRun(input: {runId: "a-run"}) { run { info { runName } } } }'
        client = Client(name="alice", roles=("r",))
        with pytest.raises(Refusal, match="runs"):
            await send("POST", "/graphql", {"query": text}, policy=policy, client=client)

    async def test_the_registry_needs_a_rule_without_experiments(self) -> None:
        policy = limited(RuleText(allow=("*:*",), experiments=("team-a/*",)))
        text = "{ mlflowSearchModelVersions(input: {}) { modelVersions { name } } }"
        with pytest.raises(Refusal, match="model-versions"):
            await send("POST", "/graphql", {"query": text}, policy=policy)


async def test_a_settled_decision_asks_nothing_and_reads_nothing() -> None:
    directory = Directory()
    policy = build_policy(roles={}, clients={"alice": ["standard"]})

    async def unread() -> bytes:
        raise AssertionError("the body was read")

    request = Ask(
        client=Client(name="alice", roles=("standard",)),
        operation=load_catalog().classify("POST", "/api/2.0/mlflow/runs/log-batch"),
        method="POST",
        path="/api/2.0/mlflow/runs/log-batch",
        read_body=unread,
    )
    await Gate(policy, directory).judge(request)
    assert directory.asked == 0


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("GET", "/api/2.0/mlflow/experiments/get?experiment_id=01&experiment_id=2", None),
        ("POST", "/api/2.0/mlflow/experiments/create", b'{"artifact_location": 9.0}'),
        ("POST", "/api/2.0/mlflow/experiments/create", b'{"artifact_location": "file:///etc"}'),
        ("POST", "/api/2.0/mlflow/runs/delete", b"{"),
        ("POST", "/graphql", b'{"query": "{ noSuchField { x } }"}'),
    ],
)
async def test_of_a_client_that_may_do_everything_nothing_is_read(
    method: str, target: str, body: bytes | None
) -> None:
    directory = Directory()
    passage = await send(method, target, body, policy=limited(RuleText(allow=("*:*",))), directory=directory)
    assert (passage.query, passage.body, passage.answer, directory.asked) == (None, None, None, 0)
