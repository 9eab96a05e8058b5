"""The gate: what calls a model, and files."""

import json
from typing import Any

import pytest

from proxy.errors import Refusal
from proxy.lookup import LocatedExperiment
from proxy.policy import Client, PolicyExperiment, RuleText, build_policy
from tests.support.gate import A, Directory, limited, send


def judge(**said: str) -> str:
    """A scorer that an LLM judges with, as MLflow writes one."""
    return json.dumps({"name": "s", "instructions_judge_pydantic_data": said})


SCHEDULE = "mlflow.issueDetection.schedule"
EXPERIMENTS, SCORERS = "/api/2.0/mlflow/experiments", "/api/3.0/mlflow/scorers"


class TestSpending:
    """Values that make MLflow's host call a model."""

    ROWS = (
        pytest.param(
            f"{EXPERIMENTS}/set-experiment-tag", {"key": "note", "value": "x"}, False, id="a_tag_passes"
        ),
        pytest.param(
            f"{EXPERIMENTS}/set-experiment-tag",
            {"key": SCHEDULE, "value": "{}"},
            True,
            id="a_schedule_spends",
        ),
        pytest.param(
            f"{EXPERIMENTS}/set-experiment-tag", {"key": f"{SCHEDULE}State"}, True, id="its_state_spends"
        ),
        pytest.param(
            f"{EXPERIMENTS}/set-experiment-tag", {"key": SCHEDULE.upper()}, True, id="in_any_case_it_spends"
        ),
        pytest.param(
            f"{EXPERIMENTS}/create",
            {"name": "team-a/new", "tags": [{"key": "note", "value": "x"}]},
            False,
            id="a_new_experiment_passes",
        ),
        pytest.param(
            f"{EXPERIMENTS}/create",
            {"name": "team-a/new", "tags": [{"key": "a"}, {"key": SCHEDULE, "value": "{}"}]},
            True,
            id="a_new_experiment_with_a_schedule_spends",
        ),
        pytest.param(
            f"{SCORERS}/register",
            {"serialized_scorer": judge(model="openai:/gpt", instructions="is the payment gateway: down?")},
            False,
            id="a_scorer_that_its_caller_runs_passes",
        ),
        pytest.param(
            f"{SCORERS}/register",
            {"serialized_scorer": judge(model="gateway:/team")},
            True,
            id="a_scorer_of_the_gateway_spends",
        ),
        pytest.param(
            f"{SCORERS}/register",
            {"serializedScorer": judge(model=" GATE\tWAY:/team")},
            True,
            id="in_any_spelling_it_spends",
        ),
        pytest.param(
            f"{SCORERS}/register",
            {"serialized_scorer": judge(model="gateway:/a").replace("gateway", "\\u0067ateway")},
            True,
            id="behind_escapes_it_spends",
        ),
        pytest.param(
            f"{SCORERS}/register",
            {"serialized_scorer": '{"a": {"model": "gateway:/a"}, "a": {"model": "openai:/a"}}'},
            True,
            id="behind_a_key_that_is_there_twice_it_spends",
        ),
        pytest.param(
            f"{SCORERS}/register",
            {"serialized_scorer": json.dumps({"ensemble_scorer_data": {"scorers": [{"call_source": "x"}]}})},
            True,
            id="code_of_its_own_spends",
        ),
        pytest.param(
            f"{SCORERS}/register",
            {"serialized_scorer": "[" * 100_000},
            True,
            id="too_deep_to_read_spends",
        ),
        pytest.param(f"{SCORERS}/register", {"serialized_scorer": "no json"}, False, id="no_json_is_mlflows"),
    )

    @pytest.mark.parametrize(("path", "body", "spends"), ROWS)
    @pytest.mark.parametrize("preset", ["open", "standard"])
    async def test_such_a_value_needs_spend(
        self, path: str, body: dict[str, Any], spends: bool, preset: str
    ) -> None:
        client = Client(name="alice", roles=(preset,))
        policy = build_policy(roles={}, clients={})
        request = {"experiment_id": "11", **body}
        if not spends:
            await send("POST", path, request, policy=policy, client=client)
            return
        with pytest.raises(Refusal, match=r"may not make MLflow's host call a model: \w+:spend") as caught:
            await send("POST", path, request, policy=policy, client=client)
        assert caught.value.status == 403
        observing = build_policy(roles={}, clients={}, mode="observe")
        with pytest.raises(Refusal):
            await send("POST", path, request, policy=observing, client=client)
        trusted = Client(name="alice", roles=("open-trusted",))
        await send("POST", path, request, policy=policy, client=trusted)

    @pytest.mark.parametrize(("path", "body", "spends"), [row for row in ROWS if row.values[2]])
    async def test_spend_in_one_experiment_is_for_that_one(
        self, path: str, body: dict[str, Any], spends: bool
    ) -> None:
        everywhere = RuleText(preset="open")
        own = limited(everywhere, RuleText(allow=("*:spend",), experiments=("team-a/*",)))
        others = limited(everywhere, RuleText(allow=("*:spend",), experiments=("team-b/*",)))
        request = {"experiment_id": "11", **body}
        assert await send("POST", path, request, policy=own)
        with pytest.raises(Refusal, match="call a model"):
            await send("POST", path, request, policy=others)

    async def test_spend_alone_lets_nobody_write(self) -> None:
        policy = limited(RuleText(allow=("*:spend",)))
        for path, body in (
            (f"{EXPERIMENTS}/set-experiment-tag", {"key": SCHEDULE, "value": "{}"}),
            (f"{SCORERS}/register", {"serialized_scorer": judge(model="gateway:/team")}),
        ):
            with pytest.raises(Refusal, match="may not write"):
                await send("POST", path, {"experiment_id": "11", **body}, policy=policy)


class TestArtifacts:
    BASE = "/api/2.0/mlflow-artifacts/artifacts"

    async def test_the_longest_location_owns_a_path(self) -> None:
        directory = Directory()
        inside = PolicyExperiment(id="14", name="team-b/inside")
        directory.places["14"] = LocatedExperiment(experiment=inside, artifacts="11/nested")
        await send("GET", f"{self.BASE}/11/x/y.txt", directory=directory)
        with pytest.raises(Refusal):
            await send("GET", f"{self.BASE}/11/nested/y.txt", directory=directory)
        with pytest.raises(Refusal):  # whoever lists or deletes above it would reach it too
            await send("DELETE", f"{self.BASE}/11", directory=directory)

    async def test_a_custom_location_is_known_by_its_path(self) -> None:
        directory = Directory()
        custom = PolicyExperiment(id="15", name="team-a/custom")
        directory.places["15"] = LocatedExperiment(experiment=custom, artifacts="somewhere/else")
        await send("PUT", f"{self.BASE}/somewhere/else/f", b"x", directory=directory)
        with pytest.raises(Refusal):
            await send("PUT", f"{self.BASE}/somewhere/other/f", b"x", directory=directory)

    @pytest.mark.parametrize(
        "path", ["", "?path=", "?path=12", "?path=..", "?path=11/../12", "?path=%2531", "?path=/12"]
    )
    async def test_a_folder_that_is_not_own_is_not_listed(self, path: str) -> None:
        with pytest.raises(Refusal):
            await send("GET", self.BASE + path)
        await send("GET", f"{self.BASE}?path=11/a-run")


FILES_OF_MODELS = [
    "/model-versions/get-artifact?name=model-a&version=1&path=x",
    "/ajax-api/2.0/mlflow/logged-models/m-a/artifacts/files?artifact_file_path=x",
]


@pytest.mark.parametrize("target", FILES_OF_MODELS)
async def test_an_address_in_the_storage_needs_more_than_the_file(target: str) -> None:
    """MLflow 3.18 answers `presigned=true` with an address that everybody can read the file by."""
    files = RuleText(allow=("artifacts:read",), experiments=("team-a/*",))
    await send("GET", target, policy=limited(files))
    for value in ("true", "True", ""):
        with pytest.raises(Refusal, match="read artifacts.presigned") as caught:
            await send("GET", f"{target}&presigned={value}", policy=limited(files))
        assert caught.value.status == 403
    everywhere = RuleText(allow=("artifacts:read",))
    with pytest.raises(Refusal, match="read artifacts.presigned"):
        await send("GET", f"{target}&presigned=true", policy=limited(everywhere))


@pytest.mark.parametrize("target", FILES_OF_MODELS)
async def test_an_address_in_the_storage_is_given_within_the_clients_experiments(target: str) -> None:
    both = RuleText(allow=("artifacts:read", "artifacts.presigned:read"), experiments=("team-a/*",))
    passage = await send("GET", f"{target}&presigned=true", policy=limited(both))
    assert passage.experiments == (A.experiment,)
    anothers = target.replace("model-a", "model-b").replace("m-a", "m-b")
    with pytest.raises(Refusal):
        await send("GET", f"{anothers}&presigned=true", policy=limited(both))
