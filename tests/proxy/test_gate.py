"""The decision, row by row of the catalog: own ids pass, another's and unknown ones don't."""

import json
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest

from proxy.ask import Passage
from proxy.catalog import Action, load_catalog
from proxy.errors import Refusal
from proxy.locations import ObjectKind
from proxy.policy import Client, RuleText, build_policy
from tests.proxy.worlds import build, requests_of, rows
from tests.support.gate import ALICE, A, B, Directory, ask, limited, send, world

ROWS = rows()
LABELS = [f"{method} {operation.route}" for method, operation in ROWS]


@pytest.mark.parametrize(("method", "operation"), ROWS, ids=LABELS)
async def test_own_ids_pass_and_anothers_do_not_wherever_they_stand(method: str, operation: Any) -> None:
    for built in requests_of(method, operation, A, B):
        if built.reaches is None:
            await ask(built)
            continue
        if built.reaches.role == "all":
            continue  # narrowed: a test of its own
        with pytest.raises(Refusal) as caught:
            passage = await ask(built)
            raise AssertionError(f"{built.label} passed: {passage}")
        assert caught.value.status in (403, 404), built.label
        assert B.name not in caught.value.message or built.reaches.role in ("name", "named"), built.label


BODIES = [(m, o) for m, o in ROWS if any(at.place == "body" for at in o.reach.locations)]


@pytest.mark.parametrize(("method", "operation"), BODIES, ids=[f"{m} {o.route}" for m, o in BODIES])
async def test_the_other_spelling_of_a_field_opens_nothing(method: str, operation: Any) -> None:
    await ask(build(method, operation, A, camel=True))
    for at in operation.reach.locations:
        if at.place == "body" and at.role != "all":
            with pytest.raises(Refusal):
                await ask(build(method, operation, A, other=B, at=at, camel=True))


@pytest.mark.parametrize(("method", "operation"), ROWS, ids=LABELS)
async def test_an_id_that_is_nowhere_is_answered_like_anothers(method: str, operation: Any) -> None:
    nowhere = world("c", "13")
    for at in operation.reach.locations:
        if at.role in ("new", "all", "name"):
            continue
        said = []
        for other in (B, nowhere):
            with pytest.raises(Refusal) as caught:
                await ask(build(method, operation, A, other=other, at=at))
            text = caught.value.message
            for part in (
                other.experiment,
                other.name,
                other.model_name,
                other.value(at),
                *other.ids.values(),
            ):
                text = text.replace(part, "…")
            said.append((caught.value.status, text))
        assert said[0] == said[1], f"{method} {operation.route}: the answers tell which of them exists"


@pytest.mark.parametrize(("method", "operation"), ROWS, ids=LABELS)
async def test_a_request_without_any_id_is_denied(method: str, operation: Any) -> None:
    if any(at.role in ("all", "fill") or at.place == "path" for at in operation.reach.locations):
        return
    body = None if method == "GET" else {}
    with pytest.raises(Refusal) as caught:
        await send(method, operation.route, body)
    assert caught.value.status in (403, 404)


async def test_each_row_says_how_it_is_scoped() -> None:
    catalog = load_catalog()
    operations = [*catalog.exact.values(), *(op for found in catalog.patterns.values() for _, op in found)]
    for operation in operations:
        reach = operation.reach
        assert sum((reach.free, reach.server, reach.graphql, bool(reach.locations))) == 1, operation
        if reach.free:
            assert operation.resource in ("server", "ui")


async def test_what_is_of_the_whole_server_needs_a_rule_without_experiments() -> None:
    policy = limited(RuleText(allow=("*:*",), experiments=("team-a/*",)))
    for method, path in [
        ("GET", "/api/2.0/mlflow/registered-models/search"),
        ("POST", "/api/2.0/mlflow/model-versions/create"),
        ("POST", "/api/2.0/mlflow/webhooks"),
        ("GET", "/ajax-api/3.0/mlflow/scorers/online-configs"),
        ("POST", "/ajax-api/3.0/jobs/"),
    ]:
        with pytest.raises(Refusal) as caught:
            await send(method, path, None if method == "GET" else {}, policy=policy)
        assert caught.value.status == 403
    await send("GET", "/version", policy=policy)
    await send("GET", "/static-files/main.js", policy=policy)


class TestLists:
    async def test_a_list_of_experiments_is_cut_down_to_those_of_the_client(self) -> None:
        passage = await send(
            "POST", "/api/2.0/mlflow/runs/search", {"experiment_ids": ["11", "12"], "filter": "metrics.m > 1"}
        )
        assert json.loads(passage.body or b"") == {"experiment_ids": ["11"], "filter": "metrics.m > 1"}

    async def test_one_that_is_all_own_is_sent_byte_for_byte(self) -> None:
        body = b'{ "experimentIds" : ["11"] }'
        passage = await send("POST", "/api/2.0/mlflow/runs/search", body)
        assert passage.body == body

    async def test_places_of_traces_are_cut_down_too(self) -> None:
        places = [
            {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": id}} for id in ("12", "11")
        ]
        passage = await send("POST", "/api/3.0/mlflow/traces/search", {"locations": places, "filter": "x"})
        assert json.loads(passage.body or b"") == {"locations": [places[1]], "filter": "x"}

    async def test_a_place_that_is_no_experiment_is_refused(self) -> None:
        places = [
            {"mlflow_experiment": {"experiment_id": "12"}},
            {"mlflow_experiment": {"experiment_id": "11"}},
            {"inference_table": {"full_table_name": "t"}},
        ]
        with pytest.raises(Refusal) as caught:
            await send("POST", "/api/3.0/mlflow/traces/search", {"locations": places})
        assert caught.value.status == 400

    async def test_a_table_beside_an_own_experiment_is_refused(self) -> None:
        places = [
            {"mlflow_experiment": {"experiment_id": "11"}},
            {"inference_table": {"full_table_name": "t"}},
        ]
        with pytest.raises(Refusal):
            await send("POST", "/api/3.0/mlflow/traces/search", {"locations": places})

    async def test_the_list_of_experiments_is_narrowed_by_a_clause_in_front(self) -> None:
        passage = await send("POST", "/api/2.0/mlflow/experiments/search", {"filter": "name LIKE 'x%'"})
        assert json.loads(passage.body or b"")["filter"] == "experiment_id IN ('11') AND name LIKE 'x%'"
        passage = await send("GET", "/ajax-api/2.0/mlflow/experiments/search?max_results=5")
        assert passage.query == b"max_results=5&filter=experiment_id+IN+%28%2711%27%29"

    async def test_an_answer_is_filtered_as_well(self) -> None:
        passage = await send("POST", "/api/2.0/mlflow/experiments/search", {})
        assert passage.answer is not None
        answer = {"experiments": [{"experiment_id": "11", "name": "a"}, {"experiment_id": "12", "name": "b"}]}
        assert json.loads(passage.answer(json.dumps(answer).encode())) == {
            "experiments": [{"experiment_id": "11", "name": "a"}]
        }

    async def test_datasets_are_searched_in_own_experiments_where_none_is_named(self) -> None:
        passage = await send("GET", "/api/3.0/mlflow/datasets/search?max_results=5")
        assert passage.query == b"max_results=5&experiment_ids=11"
        passage = await send("POST", "/api/3.0/mlflow/datasets/search", {})
        assert json.loads(passage.body or b"") == {"experiment_ids": ["11"]}

    async def test_a_dataset_does_not_tell_of_other_experiments(self) -> None:
        passage = await send("GET", f"/api/3.0/mlflow/datasets/{A.ids[ObjectKind.DATASET]}")
        assert passage.answer is not None
        said = json.dumps({"dataset": {"experiment_ids": ["11", "12"]}}).encode()
        assert json.loads(passage.answer(said)) == {"dataset": {"experiment_ids": ["11"]}}

    async def test_who_sees_nothing_finds_nothing(self) -> None:
        policy = limited(RuleText(preset="standard", experiments=("nobody",)))
        passage = await send("POST", "/api/2.0/mlflow/experiments/search", {}, policy=policy)
        assert json.loads(passage.body or b"")["filter"] == "experiment_id IN ('-1')"


class TestTraces:
    START = "/api/3.0/mlflow/traces"

    def body(self, trace_id: str, experiment: str = "11", **info: Any) -> dict[str, Any]:
        location = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": experiment}}
        return {"trace": {"trace_info": {"trace_id": trace_id, "trace_location": location, **info}}}

    async def test_a_new_trace_may_be_started_in_an_own_experiment(self) -> None:
        await send("POST", self.START, self.body("tr-" + "9" * 32))

    async def test_anothers_trace_is_not_moved_here(self) -> None:
        with pytest.raises(Refusal, match="trace") as caught:
            await send("POST", self.START, self.body(B.ids[ObjectKind.TRACE]))
        assert caught.value.status == 403

    async def test_a_trace_is_not_linked_to_anothers_run(self) -> None:
        metadata = {"mlflow.sourceRun": B.ids[ObjectKind.RUN]}
        with pytest.raises(Refusal):
            await send("POST", self.START, self.body("tr-" + "9" * 32, trace_metadata=metadata))

    async def test_one_foreign_id_among_own_ones_is_enough(self) -> None:
        ids = [A.ids[ObjectKind.TRACE], B.ids[ObjectKind.TRACE]]
        with pytest.raises(Refusal):
            await send("POST", "/api/3.0/mlflow/traces/batchGetInfos", {"trace_ids": ids})
        with pytest.raises(Refusal):
            await send("GET", f"/api/3.0/mlflow/traces/batchGet?trace_ids={ids[0]}&trace_ids={ids[1]}")

    @pytest.mark.parametrize("tag", ["mlflow.artifactLocation", "mlflow.trace.archiveLocation"])
    @pytest.mark.parametrize("prefix", ["/api", "/ajax-api"])
    async def test_a_tag_that_says_where_files_lie_is_not_set(self, tag: str, prefix: str) -> None:
        body = {"key": tag, "value": "mlflow-artifacts:/12/traces/x/artifacts"}
        for policy in (limited(), build_policy(roles={}, clients={"alice": ["standard"]})):
            client = replace(ALICE, roles=policy.roles_of("alice"))
            with pytest.raises(Refusal, match="where files lie"):
                path = f"{prefix}/3.0/mlflow/traces/{A.ids[ObjectKind.TRACE]}/tags"
                await send("PATCH", path, body, policy=policy, client=client)


class TestValues:
    STANDARD = build_policy(roles={}, clients={"alice": ["standard"]}, artifact_roots=["s3://ours/mlflow"])
    CLIENT = Client(name="alice", roles=("standard",))

    async def create(self, **body: str) -> Passage:
        document = {"name": "e", **body}
        return await send(
            "POST", "/api/2.0/mlflow/experiments/create", document, policy=self.STANDARD, client=self.CLIENT
        )

    async def version(self, source: str) -> Passage:
        document = {"name": "m", "source": source}
        return await send(
            "POST",
            "/api/2.0/mlflow/model-versions/create",
            document,
            policy=self.STANDARD,
            client=self.CLIENT,
        )

    async def test_files_may_lie_in_listed_storage_only(self) -> None:
        await self.create()
        await self.create(artifact_location="s3://ours/mlflow/team")
        for location in ("s3://ours/mlflow-2", "s3://theirs", "mlflow-artifacts:/0", "file:///etc", "/etc"):
            with pytest.raises(Refusal, match="where files lie") as caught:
                await self.create(artifact_location=location)
            assert caught.value.status == 403

    async def test_a_source_is_mlflows_own_or_in_listed_storage(self) -> None:
        for source in (
            "runs:/r/model",
            "models:/m-1",
            "mlflow-artifacts:/1/r/artifacts/m",
            "s3://ours/mlflow/x",
        ):
            await self.version(source)
        for source in ("file:///etc/passwd", "/etc", "s3://theirs/x", "http://metadata/", "dbfs:/x"):
            with pytest.raises(Refusal, match="where files lie"):
                await self.version(source)

    @pytest.mark.parametrize(
        "source",
        [
            "mlflow-artifacts:/1/../2",
            "runs:/r/../../x",
            "mlflow-artifacts:/1/%2e%2e/2",
            "models:/m-1?x=..",
            "mlflow-artifacts:/1#/../2",
            "runs:/r/a\\..\\b",
            "mlflow-artifacts:/1;/x",
            "s3://ours/mlflow/../../x",
        ],
    )
    async def test_an_address_that_leads_astray_is_400(self, source: str) -> None:
        with pytest.raises(Refusal) as caught:
            await self.version(source)
        assert caught.value.status == 400

    async def test_who_may_say_where_files_lie_may(self) -> None:
        policy = build_policy(
            roles={"ops": [RuleText(preset="standard"), RuleText(allow=("artifact-locations:admin",))]},
            clients={"alice": ["ops"]},
        )
        client = Client(name="alice", roles=("ops",))
        body = {"name": "e", "artifact_location": "s3://anywhere"}
        await send("POST", "/api/2.0/mlflow/experiments/create", body, policy=policy, client=client)

    async def test_a_model_version_does_not_open_anothers_files(self) -> None:
        path = "/api/2.0/mlflow/model-versions/create"
        for source in (
            f"runs:/{B.ids[ObjectKind.RUN]}/model",
            f"models:/{B.ids[ObjectKind.MODEL]}",
            "mlflow-artifacts:/12/b-run/artifacts/m",
            "mlflow-artifacts:/12",
            "s3://somewhere",
        ):
            with pytest.raises(Refusal):
                await send("POST", path, {"name": "mine", "source": source})
        await send("POST", path, {"name": "mine", "source": "mlflow-artifacts:/11/a-run/artifacts/m"})
        await send("POST", path, {"name": "a prompt", "source": "dummy-source"})


async def test_a_rule_by_id_asks_mlflow_for_no_name() -> None:
    directory = Directory()
    policy = limited(RuleText(allow=("experiments:*",), experiments=("11",)))
    await send("GET", "/api/2.0/mlflow/experiments/get?experiment_id=11", policy=policy, directory=directory)
    assert directory.asked == 0


async def test_what_no_row_knows_is_denied_to_a_client_that_may_do_everything() -> None:
    with pytest.raises(Refusal, match="not a route") as caught:
        await send("POST", "/api/9.0/mlflow/new", {}, policy=limited(RuleText(allow=("*:*",))))
    assert caught.value.status == 403


@pytest.mark.parametrize("value", ["no id", "abc", "9" * 5000, ""])
async def test_an_id_that_mlflow_cannot_read_is_its_own_to_refuse_where_nothing_hangs_on_it(
    value: str,
) -> None:
    policy = build_policy(roles={}, clients={"alice": ["standard"]})
    client = Client(name="alice", roles=("standard",))
    path = "/api/2.0/mlflow/experiments/get"
    await send("GET", f"{path}?experiment_id={quote(value)}", policy=policy, client=client)


@pytest.mark.parametrize("body", [{"experiment_id": 11}, {"experimentId": [1]}, {"experiment_id": "../1"}])
async def test_a_wrong_id_is_refused_with_the_name_of_its_parameter(body: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match="^Invalid value .* for parameter 'experiment_id' supplied: ") as caught:
        await send("POST", "/api/2.0/mlflow/experiments/delete", body)
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


class TestObserve:
    POLICY = build_policy(roles={}, clients={"alice": ["read-only"]}, mode="observe")
    CLIENT = Client(name="alice", roles=("read-only",))

    async def test_what_would_be_denied_passes_and_is_told(self) -> None:
        path = "/api/2.0/mlflow/runs/delete"
        passage = await send("POST", path, {"run_id": "x"}, policy=self.POLICY, client=self.CLIENT)
        assert "may not delete runs" in passage.observed

    @pytest.mark.parametrize(
        "target",
        ["/ajax-api/3.0/mlflow/assistant/config", "/no/such/route", "/ajax-api/2.0/mlflow/gateway-proxy"],
    )
    async def test_what_even_open_denies_stays_denied(self, target: str) -> None:
        with pytest.raises(Refusal):
            await send("GET", target, policy=self.POLICY, client=self.CLIENT)

    async def test_a_malformed_request_is_refused_all_the_same(self) -> None:
        with pytest.raises(Refusal):
            target = "/api/2.0/mlflow/experiments/get?experiment_id=011"
            await send("GET", target, policy=self.POLICY, client=self.CLIENT)


async def test_renaming_stays_within_the_names_of_the_client() -> None:
    path = "/api/2.0/mlflow/experiments/update"
    await send("POST", path, {"experiment_id": "11", "new_name": "team-a/two"})
    with pytest.raises(Refusal):
        await send("POST", path, {"experiment_id": "11", "new_name": "team-b/two"})


async def test_a_name_that_is_not_the_clients_is_told_to_be_nowhere() -> None:
    path = "/api/2.0/mlflow/experiments/get-by-name?experiment_name="
    for name in ("team-b%2Fone", "nowhere"):
        with pytest.raises(Refusal) as caught:
            await send("GET", path + name)
        assert (caught.value.status, caught.value.error_code) == (404, "RESOURCE_DOES_NOT_EXIST")
    await send("GET", path + "team-a%2Fnew", directory=Directory())


async def test_a_denied_id_is_denied_by_its_name_too() -> None:
    policy = limited(RuleText(preset="standard"), RuleText(deny=("experiments:*",), experiments=("12",)))
    path = "/api/2.0/mlflow/experiments/get-by-name?experiment_name="
    with pytest.raises(Refusal) as caught:
        await send("GET", path + "team-b%2Fone", policy=policy)
    assert caught.value.status == 404
    await send("GET", path + "team-a%2Fone", policy=policy)
    await send("GET", path + "not-there-yet", policy=policy)


def test_every_action_is_in_the_table() -> None:
    assert {operation.action for _, operation in ROWS} >= {Action.READ, Action.WRITE, Action.DELETE}
