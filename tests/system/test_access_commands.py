"""`sidespan token …` and `sidespan policy …`, as a user types them."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.forked import COMMAND_LINE, run_forked
from tests.support.mlflow_server import MlflowServer
from tests.support.sidespan import Sidespan

pytestmark = pytest.mark.slow

POLICY = """
[auth]
mode = "clients"
[policy.clients]
anna = ["team"]
[[policy.roles.team]]
preset = "standard"
experiments = ["commands/*"]
"""


def sidespan(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    bare = {"PATH": "/usr/bin:/bin", "HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])}
    return run_forked(
        "-m", "collector", *arguments, imported=COMMAND_LINE, environment=bare | environment, folder=home
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "sidespan.toml").write_text(POLICY)
    return tmp_path


def test_a_token_is_made_shown_once_listed_and_revoked(home: Path) -> None:
    made = sidespan(home, "token", "create", "anna", "--expires", "30d")
    assert made.returncode == 0, made.stderr
    secret = made.stdout.strip()
    assert secret.startswith("sidespan_")
    assert len(secret) > 40
    assert "MLFLOW_TRACKING_TOKEN" in made.stderr
    listed = sidespan(home, "token", "list")
    assert "anna" in listed.stdout
    assert secret not in listed.stdout + (home / ".sidespan" / "tokens.json").read_text()
    (token,) = json.loads(sidespan(home, "token", "list", "--json").stdout)["tokens"]
    assert token["expires"] > token["created"]
    assert sidespan(home, "token", "revoke", token["id"]).stdout == "1 tokens revoked\n"
    assert sidespan(home, "token", "revoke", "anna").returncode == 1


def test_a_token_for_nobody_says_so(home: Path) -> None:
    made = sidespan(home, "token", "create", "carl")
    assert "It has no rights yet" in made.stderr
    (home / "sidespan.toml").unlink()
    assert 'auth.mode = "loopback"' in sidespan(home, "token", "create", "carl").stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["token", "create", "a b"], "can't be a client's name"),
        (["token", "create", "anna", "--role", "tem"], "unknown role 'tem'"),
        (["token", "create", "anna", "--expires", "soon"], "such as 90m, 12h or 30d"),
        (["policy", "explain", "GET", "/version", "--body", "none.json"], "No such file"),
    ],
)
def test_a_mistake_is_one_message(home: Path, arguments: list[str], said: str) -> None:
    done = sidespan(home, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_explain_says_what_would_be_decided_and_why(home: Path, mlflow_server: MlflowServer) -> None:
    own = mlflow_server.create_experiment("commands/own")
    other = mlflow_server.create_experiment("elsewhere")
    body = home / "search.json"
    body.write_text(json.dumps({"experiment_ids": [own, other]}))
    to = ("--mlflow-url", mlflow_server.url)
    get = "/api/2.0/mlflow/experiments/get?experiment_id="

    allowed = sidespan(home, "policy", "explain", "GET", get + own, "--as", "anna", *to)
    assert allowed.returncode == 0, allowed.stderr
    assert allowed.stdout.startswith("allowed: policy.roles.team[0] (preset standard)")
    assert f"experiments {own}" in allowed.stdout

    denied = sidespan(home, "policy", "explain", "GET", get + other, "--as", "anna", *to)
    assert denied.returncode == 1
    assert "may not read experiments" in denied.stdout

    narrowed = sidespan(
        home,
        "policy",
        "explain",
        "POST",
        "/api/2.0/mlflow/runs/search",
        "--as",
        "anna",
        "--body",
        str(body),
        "--json",
        *to,
    )
    found = json.loads(narrowed.stdout)
    assert json.loads(found["sent"]["body"]) == {"experiment_ids": [own]}

    nobody = sidespan(home, "policy", "explain", "GET", get + own, "--as", "zoe", *to)
    assert nobody.returncode == 1
    assert "no roles" in nobody.stdout

    for method, path, status in (
        ("POST", "/v1/traces", 1),  # no experiment is named
        ("GET", "/-/dead-letters", 1),
        ("GET", "/-/ready", 0),
        ("GET", "/api/2.0/mlflow%2Fruns/get", 1),
        ("GET", "/no/such/route", 1),
    ):
        done = sidespan(home, "policy", "explain", method, path, "--as", "anna", *to)
        assert done.returncode == status, (path, done.stdout, done.stderr)


def test_explain_says_what_spends_and_what_needs_credentials(home: Path, mlflow_server: MlflowServer) -> None:
    (home / "sidespan.toml").write_text(
        POLICY.replace("anna = [", 'root = ["open"]\nanonymous = ["open"]\nanna = [')
        + '[server]\nhost = "0.0.0.0"\n'
    )
    schedule = home / "tag.json"
    schedule.write_text(json.dumps({"experiment_id": "0", "key": "mlflow.issueDetection.schedule"}))
    tag = ("POST", "/api/2.0/mlflow/experiments/set-experiment-tag")
    for client, request, said in (
        ("root", ("PUT", "/api/3.0/mlflow/scorers/online-config"), "scorers:spend"),
        ("root", (*tag, "--body", str(schedule)), "experiments:spend"),
        ("root", tag, None),
        ("root", ("POST", "/-/replay"), None),
        ("anonymous", ("POST", "/-/replay"), "without credentials while the service listens on 0.0.0.0"),
        ("anonymous", ("GET", "/-/dead-letters"), None),
    ):
        done = sidespan(
            home, "policy", "explain", *request, "--as", client, "--mlflow-url", mlflow_server.url
        )
        assert done.returncode == (said is not None), (request, done.stdout, done.stderr)
        assert said is None or said in done.stdout


def test_the_other_commands_send_the_token(home: Path, mlflow_server: MlflowServer) -> None:
    secret = sidespan(home, "token", "create", "root", "--role", "standard").stdout.strip()
    service = Sidespan(home / ".sidespan", mlflow_server.url)
    service.arguments = ("--config", str(home / "sidespan.toml"))
    service.start()
    try:
        without = sidespan(home, "dead-letters", "list", "--url", service.url)
        assert without.returncode == 1
        assert "sidespan token create" in without.stderr
        with_token = sidespan(home, "dead-letters", "list", "--url", service.url, SIDESPAN_TOKEN=secret)
        assert with_token.returncode == 0, with_token.stderr
        doctor = sidespan(home, "doctor", "--url", service.url, "--mlflow-url", mlflow_server.url)
        assert "service" in doctor.stdout
        assert "Traceback" not in doctor.stderr
    finally:
        service.stop()
