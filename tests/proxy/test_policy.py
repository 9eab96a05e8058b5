"""Rules, roles and presets, and the policies that can't be right."""

import pytest

from proxy.catalog import Action, Operation, load_catalog
from proxy.policy import BadPolicy, Client, Decision, PolicyExperiment, Rights, RuleText, build_policy
from proxy.presets import INGEST_ROWS, PRESETS, STANDARD

CATALOG = load_catalog()
READ = CATALOG.classify("GET", "/api/2.0/mlflow/runs/get")
DELETE = CATALOG.classify("POST", "/api/2.0/mlflow/runs/delete")
MODELS = CATALOG.classify("GET", "/api/2.0/mlflow/registered-models/search")
VERSION = CATALOG.classify("GET", "/version")


def rights(*rules: RuleText) -> Rights:
    return build_policy(roles={"r": rules}, clients={}).rights(Client(name="c", roles=("r",)))


def within(rules: list[RuleText], operation: Operation, name: str, id: str = "1") -> bool:
    return rights(*rules).within(operation, PolicyExperiment(id=id, name=name)).allow


def test_nothing_matches_means_no() -> None:
    assert rights(RuleText(allow=("traces:read",))).everywhere(READ) == Decision(
        allow=False, rule="no rule allows it"
    )
    assert Rights(()).everywhere(VERSION) == Decision(allow=False, rule="no rule allows it")


@pytest.mark.parametrize(
    ("rules", "unlimited"),
    [
        ([RuleText(allow=("*:*",))], True),
        ([RuleText(preset="standard"), RuleText(allow=("*:*",))], True),
        ([RuleText(allow=("*:*",)), RuleText(deny=("runs:delete",))], False),
        ([RuleText(allow=("*:*",)), RuleText(deny=("runs:delete",), experiments=("1",))], False),
        ([RuleText(allow=("*:*",), experiments=("*",))], False),
        ([RuleText(allow=("*:read", "*:write", "*:delete"))], False),
        ([RuleText(preset="standard")], False),
    ],
    ids=[
        "allows_all",
        "allows_all_beside_a_preset",
        "denies_something",
        "denies_something_in_one_experiment",
        "in_experiments_only",
        "without_administration",
        "standard",
    ],
)
def test_who_may_do_everything(rules: list[RuleText], unlimited: bool) -> None:
    assert rights(*rules).unlimited is unlimited


def test_deny_wins_wherever_it_stands() -> None:
    for rules in (
        [RuleText(preset="standard"), RuleText(deny=("runs:delete",))],
        [RuleText(deny=("runs:delete",)), RuleText(preset="standard")],
    ):
        assert rights(*rules).everywhere(DELETE) == Decision(
            allow=False,
            rule=f"policy.roles.r[{rules.index(RuleText(deny=('runs:delete',)))}] (deny runs:delete)",
        )
        settled = rights(*rules).everywhere(READ)
        assert settled is not None
        assert settled.allow


def test_a_deny_in_another_role_of_the_client_wins_too() -> None:
    policy = build_policy(roles={"no": [RuleText(deny=("*:delete",))]}, clients={"c": ["standard", "no"]})
    decision = policy.rights(Client(name="c", roles=policy.roles_of("c"))).everywhere(DELETE)
    assert decision == Decision(allow=False, rule="policy.roles.no[0] (deny *:delete)")


def test_a_deny_for_some_experiments_leaves_the_others() -> None:
    rules = [RuleText(preset="standard"), RuleText(deny=("runs:delete",), experiments=("prod*",))]
    assert rights(*rules).everywhere(DELETE) is None, "it depends"
    assert not within(rules, DELETE, "prod/a")
    assert within(rules, DELETE, "dev/a")


def test_what_is_allowed_everywhere_is_not_limited_by_another_rule_that_allows_less() -> None:
    rules = [RuleText(preset="read-only"), RuleText(preset="standard", experiments=("a*",))]
    settled = rights(*rules).everywhere(READ)
    assert settled is not None
    assert settled.allow
    assert rights(*rules).everywhere(DELETE) is None, "this one depends"


@pytest.mark.parametrize(
    ("pattern", "id", "name", "matches"),
    [
        ("7", "7", "x", True),
        ("7", "77", "7", False),
        ("team/*", "1", "team/a/b", True),
        ("team/*", "1", "team", False),
        ("*", "1", "anything", True),
        ("a?c", "1", "abc", False),
        ("a[b]c", "1", "abc", False),
        ("a[b]c", "1", "a[b]c", True),
        ("Team", "1", "team", False),
        ("team", "1", "team ", False),
        ("0", "0", "Default", True),
        ("007", "7", "007", True),
    ],
)
def test_an_experiment_is_named_by_id_name_or_glob(pattern: str, id: str, name: str, matches: bool) -> None:
    assert within([RuleText(allow=("runs:read",), experiments=(pattern,))], READ, name, id) is matches


def test_a_limited_rule_covers_no_server_but_what_is_harmless() -> None:
    limited = rights(RuleText(allow=("*:*",), experiments=("a",)))
    assert limited.everywhere(MODELS) == Decision(allow=False, rule="no rule allows it")
    version = limited.everywhere(VERSION)
    assert version is not None
    assert version.allow


def test_by_id_only_needs_no_names() -> None:
    assert rights(RuleText(allow=("runs:read",), experiments=("7",))).by_id_only(READ)
    assert not rights(RuleText(allow=("runs:read",), experiments=("7", "a*"))).by_id_only(READ)


def test_a_role_that_is_gone_gives_nothing() -> None:
    policy = build_policy(roles={}, clients={})
    decision = policy.rights(Client(name="c", roles=("was-there-once",))).everywhere(READ)
    assert decision is not None
    assert not decision.allow


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ([RuleText(preset="reader")], ["policy.roles.r[0]", "unknown preset 'reader'", "read-only"]),
        ([RuleText(allow=("run:read",))], ["'run:read' names no resource", "runs"]),
        ([RuleText(allow=("runs:remove",))], ["'runs:remove'", "read, write, delete, admin, spend or *"]),
        ([RuleText(allow=("runs",))], ["'runs' must be resource:action"]),
        ([RuleText()], ["give one of preset, allow and deny, not none"]),
        ([RuleText(preset="open", deny=("runs:read",))], ["not preset and deny"]),
        ([RuleText(preset="open", experiments=())], ["experiments = [] is empty"]),
        ([RuleText(preset="open", experiments=("a", " "))], ["is empty"]),
        ([], ["has no rules"]),
        (
            [RuleText(preset="open"), RuleText(allow=("runs:read",))],
            ["policy.roles.r[1]", "can never apply", "allows all"],
        ),
        (
            [RuleText(allow=("runs:read",), experiments=("a",)), RuleText(preset="open")],
            ["r[0]", "can never apply"],
        ),
        (
            [RuleText(allow=("runs:read",)), RuleText(deny=("runs:*",))],
            ["r[0]", "denies all of it everywhere"],
        ),
        ([RuleText(deny=("*:*",)), RuleText(deny=("runs:read",))], ["r[1]", "denies all"]),
        ([RuleText(preset="open"), RuleText(preset="open")], ["r[1]", "can never apply"]),
    ],
)
def test_a_policy_that_cannot_be_right_says_where_and_why(rules: list[RuleText], told: list[str]) -> None:
    with pytest.raises(BadPolicy) as caught:
        build_policy(roles={"r": rules}, clients={})
    for part in told:
        assert part in str(caught.value)


def test_unknown_roles_and_taken_names_are_told() -> None:
    with pytest.raises(BadPolicy, match=r"policy\.clients\.anna: unknown role 'tem'; known are .*team"):
        build_policy(roles={"team": [RuleText(preset="open")]}, clients={"anna": ["tem"]})
    with pytest.raises(BadPolicy, match=r"policy\.default_roles: unknown role"):
        build_policy(roles={}, clients={}, default_roles=["x"])
    with pytest.raises(BadPolicy, match="the name of a preset"):
        build_policy(roles={"standard": [RuleText(preset="open")]}, clients={})


# what each preset must say of each of these; the rows of the table in docs/policies.md
NAMES = ("open-trusted", "open", "standard", "read-only", "no-delete", "ingest-only")
TABLE: list[tuple[str, str, dict[str, bool]]] = [
    (method, path, dict(zip(NAMES, map(bool, cells), strict=True)))
    for method, path, cells in [
        ("GET", "/", (1, 1, 1, 1, 1, 0)),
        ("GET", "/version", (1, 1, 1, 1, 1, 1)),
        ("GET", "/api/3.0/mlflow/server-info", (1, 1, 1, 1, 1, 1)),
        ("POST", "/graphql", (1, 1, 1, 1, 1, 0)),
        ("GET", "/api/2.0/mlflow/experiments/get", (1, 1, 1, 1, 1, 1)),
        ("GET", "/api/2.0/mlflow/experiments/get-by-name", (1, 1, 1, 1, 1, 1)),
        ("POST", "/api/2.0/mlflow/experiments/create", (1, 1, 1, 0, 1, 1)),
        ("POST", "/api/2.0/mlflow/experiments/search", (1, 1, 1, 1, 1, 0)),
        ("POST", "/api/2.0/mlflow/experiments/update", (1, 1, 1, 0, 1, 0)),
        ("POST", "/api/2.0/mlflow/experiments/delete", (1, 1, 1, 0, 0, 0)),
        ("POST", "/api/2.0/mlflow/experiments/restore", (1, 1, 1, 0, 0, 0)),
        ("POST", "/api/2.0/mlflow/runs/search", (1, 1, 1, 1, 1, 0)),
        ("POST", "/api/2.0/mlflow/runs/create", (1, 1, 1, 0, 1, 0)),
        ("POST", "/api/2.0/mlflow/runs/log-batch", (1, 1, 1, 0, 1, 0)),
        ("POST", "/api/2.0/mlflow/runs/delete", (1, 1, 1, 0, 0, 0)),
        ("GET", "/api/2.0/mlflow-artifacts/artifacts/1/r/artifacts/f", (1, 1, 1, 1, 1, 0)),
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts/1/r/artifacts/f", (1, 1, 1, 0, 1, 0)),
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts/1/traces/tr-1/artifacts/f", (1, 1, 1, 0, 1, 1)),
        ("DELETE", "/api/2.0/mlflow-artifacts/artifacts/1/r/artifacts/f", (1, 1, 1, 0, 0, 0)),
        ("POST", "/api/2.0/mlflow-artifacts/mpu/create/1/r/artifacts/f", (1, 1, 0, 0, 0, 0)),
        ("POST", "/api/3.0/mlflow/traces", (1, 1, 1, 0, 1, 1)),
        ("POST", "/api/3.0/mlflow/traces/search", (1, 1, 1, 1, 1, 0)),
        ("POST", "/api/3.0/mlflow/traces/delete-traces", (1, 1, 1, 0, 0, 0)),
        ("PATCH", "/api/3.0/mlflow/traces/tr-1/tags", (1, 1, 1, 0, 1, 1)),
        ("POST", "/api/3.0/mlflow/traces/tr-1/assessments", (1, 1, 1, 0, 1, 1)),
        ("DELETE", "/api/3.0/mlflow/traces/tr-1/assessments/a-1", (1, 1, 1, 0, 0, 0)),
        ("GET", "/api/2.0/mlflow/registered-models/search", (1, 1, 1, 1, 1, 0)),
        ("POST", "/api/2.0/mlflow/registered-models/create", (1, 1, 1, 0, 1, 0)),
        ("DELETE", "/api/2.0/mlflow/registered-models/delete", (1, 1, 1, 0, 0, 0)),
        ("GET", "/ajax-api/3.0/mlflow/gateway/secrets/list", (1, 1, 0, 0, 0, 0)),
        ("POST", "/gateway/openai/v1/chat/completions", (1, 0, 0, 0, 0, 0)),
        ("POST", "/api/2.0/mlflow/webhooks", (1, 1, 0, 0, 0, 0)),
        ("POST", "/ajax-api/3.0/jobs/", (1, 0, 0, 0, 0, 0)),
        ("POST", "/ajax-api/3.0/mlflow/assistant/message", (0, 0, 0, 0, 0, 0)),
        ("POST", "/ajax-api/2.0/mlflow/gateway-proxy", (0, 0, 0, 0, 0, 0)),
        ("POST", "/ajax-api/3.0/mlflow/demo/generate", (0, 0, 0, 0, 0, 0)),
        # what takes something away is a delete, whatever the method
        ("POST", "/api/2.0/mlflow/experiments/delete-experiment-tag", (1, 1, 1, 0, 0, 0)),
        ("POST", "/api/2.0/mlflow/runs/delete-tag", (1, 1, 1, 0, 0, 0)),
        ("DELETE", "/api/2.0/mlflow/traces/tr-1/tags", (1, 1, 1, 0, 0, 0)),
        ("DELETE", "/ajax-api/3.0/mlflow/traces/tr-1/tags", (1, 1, 1, 0, 0, 0)),
        ("DELETE", "/api/2.0/mlflow/logged-models/m-1/tags/k", (1, 1, 1, 0, 0, 0)),
        ("DELETE", "/api/2.0/mlflow/registered-models/alias", (1, 1, 1, 0, 0, 0)),
        ("DELETE", "/api/2.0/mlflow/registered-models/delete-tag", (1, 1, 1, 0, 0, 0)),
        ("DELETE", "/api/2.0/mlflow/model-versions/delete-tag", (1, 1, 1, 0, 0, 0)),
        ("POST", "/api/3.0/mlflow/datasets/d-1/remove-experiments", (1, 1, 1, 0, 0, 0)),
        ("DELETE", "/api/3.0/mlflow/datasets/d-1/tags/k", (1, 1, 1, 0, 0, 0)),
        ("POST", "/api/3.0/mlflow/review-queues/items/remove", (1, 1, 1, 0, 0, 0)),
        ("DELETE", "/api/3.0/mlflow/mcp-servers/a/b/aliases/x", (1, 1, 1, 0, 0, 0)),
        ("DELETE", "/api/3.0/mlflow/mcp-servers/a/b/tags/k", (1, 1, 1, 0, 0, 0)),
        ("DELETE", "/api/3.0/mlflow/mcp-servers/a/b/versions/1/tags/k", (1, 1, 1, 0, 0, 0)),
        # the Skill Registry of MLflow 3.18
        ("GET", "/api/3.0/mlflow/skills", (1, 1, 1, 1, 1, 0)),
        ("GET", "/api/3.0/mlflow/skills/reviewer/versions/1", (1, 1, 1, 1, 1, 0)),
        ("GET", "/ajax-api/3.0/mlflow/skills/@acme/reviewer/aliases/prod", (1, 1, 1, 1, 1, 0)),
        ("POST", "/api/3.0/mlflow/skills/bulk-register", (1, 1, 1, 0, 1, 0)),
        ("PATCH", "/api/3.0/mlflow/skills/@acme/reviewer/versions/1", (1, 1, 1, 0, 1, 0)),
        ("DELETE", "/api/3.0/mlflow/skills/@acme/reviewer", (1, 1, 1, 0, 0, 0)),
        ("DELETE", "/api/3.0/mlflow/skills/reviewer/tags/a/b", (1, 1, 1, 0, 0, 0)),
        # it makes the experiment's first label schema
        ("GET", "/api/3.0/mlflow/label-schemas/list", (1, 1, 1, 0, 1, 0)),
        # what makes MLflow's host call a model, and the names of what it could call
        ("PUT", "/api/3.0/mlflow/scorers/online-config", (1, 0, 0, 0, 0, 0)),
        ("POST", "/ajax-api/3.0/mlflow/scorer/invoke", (1, 0, 0, 0, 0, 0)),
        ("POST", "/ajax-api/3.0/mlflow/issues/invoke", (1, 0, 0, 0, 0, 0)),
        ("POST", "/ajax-api/3.0/mlflow/issues/schedule/state", (1, 0, 0, 0, 0, 0)),
        ("POST", "/ajax-api/3.0/mlflow/genai/evaluate/invoke", (1, 0, 0, 0, 0, 0)),
        ("POST", "/api/3.0/mlflow/prompt-optimization/jobs", (1, 0, 0, 0, 0, 0)),
        ("POST", "/gateway/endpoint/mlflow/invocations", (1, 0, 0, 0, 0, 0)),
        ("POST", "/gateway/proxy/endpoint/v1/messages", (1, 0, 0, 0, 0, 0)),
        ("GET", "/gateway/mlflow/v1/models", (1, 1, 0, 0, 0, 0)),
        ("GET", "/api/3.0/mlflow/gateway/endpoints/list", (1, 1, 0, 0, 0, 0)),
        ("GET", "/api/3.0/mlflow/gateway/model-definitions/list", (1, 1, 0, 0, 0, 0)),
        ("GET", "/api/3.0/mlflow/gateway/guardrails/list", (1, 1, 0, 0, 0, 0)),
        ("GET", "/api/3.0/mlflow/gateway/budgets/list", (1, 1, 0, 0, 0, 0)),
        ("POST", "/api/3.0/mlflow/scorers/register", (1, 1, 1, 0, 1, 0)),
    ]
]


@pytest.mark.parametrize(("method", "path", "expected"), TABLE, ids=[f"{m} {p}" for m, p, _ in TABLE])
def test_each_preset_says_of_each_operation_what_it_should(
    method: str, path: str, expected: dict[str, bool]
) -> None:
    operation = CATALOG.classify(method, path)
    assert operation.route != "unknown"
    policy = build_policy(roles={}, clients={})
    found = {}
    for preset in PRESETS:
        decision = policy.rights(Client(name="c", roles=(preset,))).everywhere(operation)
        assert decision is not None
        found[preset] = decision.allow
    assert found == expected


def test_no_preset_but_open_has_any_administration() -> None:
    for name, actions in PRESETS.items():
        if name not in ("open", "open-trusted"):
            assert {resource for resource, allowed in actions.items() if Action.ADMIN in allowed} == set()


def test_no_preset_but_open_trusted_spends() -> None:
    for name, actions in PRESETS.items():
        spends = {resource for resource, allowed in actions.items() if Action.SPEND in allowed}
        assert bool(spends) is (name == "open-trusted"), name
    assert not PRESETS["open-trusted"]["assistant"], "it runs commands, so it must be named"


SPENDING = [
    CATALOG.classify(method, path)
    for method, path in (
        ("POST", "/gateway/openai/v1/chat/completions"),
        ("POST", "/ajax-api/3.0/jobs/"),
        ("PUT", "/api/3.0/mlflow/scorers/online-config"),
        ("POST", "/api/3.0/mlflow/prompt-optimization/jobs"),
        ("POST", "/ajax-api/2.0/mlflow/gateway-proxy"),
        ("POST", "/ajax-api/3.0/mlflow/assistant/message"),
    )
]


@pytest.mark.parametrize("operation", SPENDING, ids=lambda operation: operation.resource)
@pytest.mark.parametrize(
    ("rules", "spends"),
    [
        pytest.param([RuleText(allow=("*:*",))], True, id="everything_allowed"),
        pytest.param([RuleText(allow=("*:spend",))], True, id="all_spending_allowed"),
        pytest.param([RuleText(allow=("*:read", "*:write", "*:delete", "*:admin"))], False, id="not_named"),
        pytest.param([RuleText(allow=("*:*",)), RuleText(deny=("*:spend",))], False, id="spending_denied"),
        pytest.param(
            [RuleText(allow=("*:*",)), RuleText(deny=("*:write", "*:admin"))],
            False,
            id="what_it_was_called_in_0_1_denied",
        ),
        pytest.param([RuleText(allow=("*:*",)), RuleText(deny=("*:delete",))], True, id="deletes_denied"),
    ],
)
def test_who_may_spend(operation: Operation, rules: list[RuleText], spends: bool) -> None:
    assert operation.action is Action.SPEND
    experiment = PolicyExperiment(id="1", name="a")
    assert rights(*rules).within(operation, experiment).allow is spends


@pytest.mark.parametrize(
    "pattern",
    ["gateway.invoke:write", "gateway.*:write", "jobs:admin", "assistant:admin", "prompt-optimization:write"],
)
def test_a_rule_of_version_0_1_that_let_spend_must_say_what_is_meant_now(pattern: str) -> None:
    with pytest.raises(BadPolicy, match=r"policy\.roles\.r\[0\].*:spend\" beside it.*or the rule deny"):
        rights(RuleText(allow=(pattern,)))
    name = "gateway.invoke" if pattern.startswith("gateway") else pattern.partition(":")[0]
    assert rights(RuleText(allow=(pattern, f"{name}:spend")))
    assert rights(RuleText(allow=(pattern,)), RuleText(deny=(f"{name}:spend",)))
    assert rights(RuleText(preset="open-trusted", experiments=("a",)), RuleText(allow=("scorers:write",)))


@pytest.mark.parametrize("denied", ["label-schemas:read", "*:read", "label-schemas:write", "*:*"])
def test_who_may_not_read_may_not_have_a_list_that_also_writes(denied: str) -> None:
    listing = CATALOG.classify("GET", "/api/3.0/mlflow/label-schemas/list")
    rules = [RuleText(preset="standard"), RuleText(deny=(denied,), experiments=("a",))]
    assert not within(rules, listing, "a")
    assert within(rules, listing, "b")


def test_the_rows_of_ingest_only_are_in_the_catalog() -> None:
    known = {operation.row for operation in CATALOG.exact.values()}
    known |= {operation.row for found in CATALOG.patterns.values() for _, operation in found}
    assert INGEST_ROWS - {"POST /v1/traces"} <= known


def test_every_preset_knows_every_resource() -> None:
    for name in ("open-trusted", "open", "read-only", "no-delete"):
        assert set(PRESETS[name]) == set(STANDARD)
