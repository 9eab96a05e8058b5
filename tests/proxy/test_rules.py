"""The proxy's pure parts as tables: each row's id is the verdict."""

import pytest

from proxy.catalog import Action, load_catalog
from proxy.errors import Refusal
from proxy.guard import check_host, check_origin
from proxy.headers import NOT_LOCAL, downward, upward
from proxy.policy import ANONYMOUS, Client
from proxy.presets import STANDARD
from proxy.target import check_query, read_path
from tests.support.proxied import EVERYBODY

API = "/api/2.0/mlflow"
AJAX3 = "/ajax-api/3.0/mlflow"


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/", "ui read"),
        ("HEAD", "/version", "server read"),
        ("GET", "/static-files/js/main.1.js", "ui read"),
        ("POST", f"{API}/runs/search", "runs read"),
        ("POST", f"{AJAX3}/traces/search", "traces read"),
        ("POST", f"{API}/runs/delete", "runs delete"),
        ("POST", f"{API}/experiments/restore", "experiments delete"),
        ("POST", f"{API}/runs/log-batch", "runs write"),
        ("PUT", "/api/2.0/mlflow-artifacts/artifacts/1/r/artifacts/a b.txt", "artifacts write"),
        ("DELETE", "/api/2.0/mlflow-artifacts/artifacts/1/r/x", "artifacts delete"),
        ("GET", "/api/3.0/mlflow/traces/get", "traces read"),
        ("GET", "/api/3.0/mlflow/traces/tr-1", "traces read"),
        ("DELETE", f"{AJAX3}/traces/tr-1/assessments/a", "assessments delete"),
        ("POST", "/graphql", "graphql read"),
        ("POST", f"{AJAX3}/assistant/message", "assistant spend"),
        ("GET", f"{AJAX3}/assistant/config", "assistant admin"),
        ("GET", f"{AJAX3}/label-schemas/list", "label-schemas write"),
        ("POST", f"{API}/runs/delete-tag", "runs delete"),
        ("PUT", f"{AJAX3}/scorers/online-config", "scorers spend"),
        ("GET", f"{AJAX3}/gateway/secrets/list", "gateway.secrets admin"),
        ("GET", "/metrics", "ops admin"),
        ("POST", f"{API}/runs/made-up", "unknown admin"),
        ("GET", "/v1/traces", "unknown admin"),
        ("TRACE", "/", "unknown admin"),
        ("GET", "/API/2.0/mlflow/runs/get", "unknown admin"),
        ("GET", "/api/2.0/mlflow/runs/get/", "unknown admin"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_request_is_classified(method: str, path: str, expected: str) -> None:
    operation = load_catalog().classify(method, path)
    assert f"{operation.resource} {operation.action}" == expected


@pytest.mark.parametrize(
    "raw",
    [
        b"/",
        b"/api/2.0/mlflow/runs/get",
        b"/api/2.0/mlflow-artifacts/artifacts/1/run/artifacts/a%20b/%C3%B6.txt",
        b"/api/2.0/mlflow-artifacts/artifacts/1/folder/",
        b"/static-files/lib/a.js",
        b"/gateway/gemini/v1beta/models/m:generateContent",
    ],
)
def test_a_plain_path_is_read(raw: bytes) -> None:
    assert read_path(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"//api/2.0/mlflow/experiments/get",
        b"/api//2.0/mlflow/experiments/get",
        b"/api/2.0/mlflow%2Fexperiments%2Fget",
        b"/api/2.0/mlflow/%65xperiments/get",
        b"/api/2.0/../2.0/mlflow/x",
        b"/api/./2.0",
        b"/static-files/%2e%2e/secret",
        b"/static-files/..%2fsecret",
        b"/api/2.0/mlflow/experiments/get;x=1",
        b"/api/2.0/mlflow\\experiments",
        b"/api/2.0/mlflow/experiments%5cget",
        b"/api/2.0/mlflow-artifacts/artifacts/a%00b",
        b"/api/2.0/mlflow-artifacts/artifacts/a%0ab",
        b"/api/2.0/mlflow-artifacts/artifacts/a%5c..%5cb",
        b"/api/2.0/mlflow-artifacts/artifacts/%252e%252e/x",
        b"/api/2.0/mlflow-artifacts/artifacts/%2530/x",
        b"/api/2.0/mlflow-artifacts/artifacts/%2e%2e/x",
        b"/api/2.0/mlflow-artifacts/artifacts//x",
        b"/api/2.0/mlflow-artifacts/artifacts/%c0%ae%c0%ae/x",
        b"/api/2.0/mlflow/runs/get/",
        b"/\xc3\xb6",
        b"http://elsewhere/api",
        b"*",
        b"/" + b"a" * 9000,
    ],
    ids=lambda raw: raw.decode("latin-1")[:40],
)
def test_a_path_with_more_than_one_reading_is_400(raw: bytes) -> None:
    with pytest.raises(Refusal) as raised:
        read_path(raw)
    assert raised.value.status == 400


@pytest.mark.parametrize("query", [b"a=b c", b"a=\x01", b"x" * 70_000], ids=["space", "control", "long"])
def test_a_query_that_could_break_a_request_line_is_400(query: bytes) -> None:
    with pytest.raises(Refusal):
        check_query(query)


@pytest.mark.parametrize(
    ("host", "allowed", "passes"),
    [
        ("localhost", ["localhost"], True),
        ("localhost:4318", ["localhost"], True),
        ("LOCALHOST:4318", ["localhost"], True),
        ("[::1]:4318", ["[::1]"], True),
        ("127.0.0.1:1", ["127.0.0.1"], True),
        ("a.example.com", ["*.example.com"], True),
        ("mlflow:4318", ["mlflow:4318"], True),
        ("mlflow:4319", ["mlflow:4318"], False),
        ("evil.example", ["localhost"], False),
        ("localhost.evil.example", ["localhost"], False),
        ("example.com.evil", ["*.example.com"], False),
        ("anything", ["*"], True),
        ("", ["localhost"], False),
    ],
)
def test_hosts(host: str, allowed: list[str], passes: bool) -> None:
    assert (check_host(host, allowed) is None) is passes


@pytest.mark.parametrize(
    ("origin", "site", "passes"),
    [
        (None, None, True),
        (None, "same-origin", True),
        (None, "cross-site", False),
        (None, "same-site", False),
        ("http://localhost:4318", None, True),
        ("https://localhost:4318", None, True),
        ("http://localhost:9999", None, False),
        ("https://mlflow.example.com", None, True),
        ("https://evil.example", None, False),
        ("null", None, False),
    ],
)
def test_origins(origin: str | None, site: str | None, passes: bool) -> None:
    refusal = check_origin(
        origin,
        scheme="http",
        host="localhost:4318",
        public_origins=["https://mlflow.example.com"],
        sec_fetch_site=site,
    )
    assert (refusal is None) is passes


def up(*headers: tuple[str, str], peer: str = "10.1.2.3", trusted: bool = False, own: str | None = None):
    return upward(
        [(name.encode(), value.encode()) for name, value in headers],
        peer=peer,
        scheme="http",
        host="pub.example",
        upstream_authority="mlflow:5000",
        authorization=own,
        trusted=trusted,
    )


def test_what_goes_up_names_mlflow_and_the_peer() -> None:
    assert dict(up(("host", "pub.example"), ("x-mlflow-workspace", "w"))) == {
        b"x-mlflow-workspace": b"w",
        b"host": b"mlflow:5000",
        b"x-forwarded-for": b"10.1.2.3",
        b"x-forwarded-proto": b"http",
        b"x-forwarded-host": b"pub.example",
    }


@pytest.mark.parametrize(
    "name",
    [
        "connection",
        "transfer-encoding",
        "te",
        "upgrade",
        "proxy-authorization",
        "forwarded",
        "x-real-ip",
        "origin",
        "x_mlflow_experiment_id",
    ],
)
def test_this_header_does_not_go_up(name: str) -> None:
    assert name.encode() not in dict(up((name, "127.0.0.1")))


def test_a_client_cannot_take_our_headers_away_through_connection() -> None:
    sent = up(
        ("connection", "authorization, x-forwarded-for, x-mine"),
        ("x-mine", "1"),
        ("authorization", "Bearer client"),
        own="Bearer ours",
    )
    assert dict(sent)[b"authorization"] == b"Bearer ours"
    assert dict(sent)[b"x-forwarded-for"] == b"10.1.2.3"
    assert b"x-mine" not in dict(sent)


def test_the_clients_credential_passes_only_where_we_have_none() -> None:
    assert dict(up(("authorization", "Basic x")))[b"authorization"] == b"Basic x"
    replaced = [
        value for name, value in up(("authorization", "Basic x"), own="Bearer o") if name == b"authorization"
    ]
    assert replaced == [b"Bearer o"]


@pytest.mark.parametrize(
    ("peer", "trusted", "claimed", "expected"),
    [
        ("10.1.2.3", False, "1.1.1.1", "10.1.2.3"),
        ("10.1.2.3", True, "1.1.1.1, 2.2.2.2", "1.1.1.1, 2.2.2.2, 10.1.2.3"),
        ("10.1.2.3", True, "127.0.0.1, junk", f"{NOT_LOCAL}, 10.1.2.3"),
        ("127.0.0.1", False, "127.0.0.1", NOT_LOCAL),
        ("::1", False, "", NOT_LOCAL),
        ("", False, "", NOT_LOCAL),
    ],
    ids=[
        "claim_dropped",
        "trusted_chain_kept",
        "trusted_chain_cleaned",
        "loopback_hidden",
        "loopback6_hidden",
        "unix",
    ],
)
def test_mlflow_is_told_the_real_peer_and_never_a_local_one(
    peer: str, trusted: bool, claimed: str, expected: str
) -> None:
    assert (
        dict(up(("x-forwarded-for", claimed), peer=peer, trusted=trusted))[b"x-forwarded-for"]
        == expected.encode()
    )


def test_what_comes_back_keeps_repeated_headers_and_hides_mlflows_address() -> None:
    back = downward(
        [
            (b"Set-Cookie", b"a=1"),
            (b"Set-Cookie", b"b=2"),
            (b"Connection", b"x-hop"),
            (b"X-Hop", b"1"),
            (b"Location", b"http://mlflow:5000/x?y"),
            (b"Content-Length", b"3"),
        ],
        upstream_url="http://mlflow:5000",
    )
    assert back == [
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
        (b"location", b"/x?y"),
        (b"content-length", b"3"),
    ]


DENIED_WHOLLY = [
    "assistant",
    "jobs",
    "webhooks",
    "users",
    "roles",
    "demo",
    "ops",
    "gateway.secrets",
    "gateway.invoke",
    "gateway.endpoints",
    "gateway.model-definitions",
    "gateway.budgets",
    "gateway.guardrails",
    "gateway.legacy-proxy",
]


def test_the_default_policy_covers_every_resource_of_the_catalog() -> None:
    catalog = load_catalog()
    operations = [*catalog.exact.values(), *(op for rows in catalog.patterns.values() for _, op in rows)]
    own = {
        "otlp", "sidespan", "metrics", "dead-letters", "alerts", "journal", "artifact-locations", "retention",
    }  # fmt: skip
    assert {operation.resource for operation in operations} == set(STANDARD) - own
    rights = EVERYBODY.rights(Client(name=ANONYMOUS, roles=("standard",)))
    for operation in operations:
        decision = rights.everywhere(operation)
        assert decision is not None, operation
        if operation.resource in DENIED_WHOLLY or operation.action in (Action.ADMIN, Action.SPEND):
            assert not decision.allow, operation


@pytest.mark.parametrize("resource", DENIED_WHOLLY)
def test_this_resource_is_denied(resource: str) -> None:
    assert STANDARD[resource] == frozenset()
