"""Every route of the installed MLflow is in the catalog: a newer MLflow shows here first."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.catalog import UNKNOWN, load_catalog

WALK = """
import json, re
from mlflow.server.fastapi_app import app
from mlflow.server import app as flask

def walk(routes, prefix=""):
    for route in routes:
        path = prefix + getattr(route, "path", "")
        if getattr(route, "methods", None):
            for method in route.methods:
                yield method, path
        yield from walk(getattr(route, "routes", None) or [], path)
        original = getattr(route, "original_router", None)
        if original is not None:
            yield from walk(original.routes, prefix + route.include_context.prefix)

found = set(walk(app.routes))
for rule in flask.url_map.iter_rules():
    found |= {(method, rule.rule) for method in rule.methods}
print(json.dumps(sorted(found)))
"""

# routes that MLflow registers and the proxy leaves unknown on purpose
LEFT_OUT = {
    "/v1/traces": "the collector's own",
    "/docs": "FastAPI's page about itself",
    "/docs/oauth2-redirect": "FastAPI's page about itself",
    "/redoc": "FastAPI's page about itself",
    "/openapi.json": "FastAPI's page about itself",
}
ANSWERED_WITH_404_BY_MLFLOW = ("get-online-trace-details", "unified-traces", "2.0mlflow")


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    home: Path = tmp_path_factory.mktemp("routes")
    done = subprocess.run(
        [sys.executable, "-c", WALK],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
        cwd=home,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(home),
            "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{home}/db",
            "_MLFLOW_SERVER_ARTIFACT_ROOT": str(home),
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        },
    )
    return [(method, path) for method, path in json.loads(done.stdout.splitlines()[-1])]


def _sample(path: str) -> str:
    import re

    return re.sub(r"<[^>]*>|\{[^}]*\}", "x1", path)


def test_every_route_of_the_installed_mlflow_is_known(routes: list[tuple[str, str]]) -> None:
    assert len(routes) > 400, "the walk must have found MLflow's routes"
    catalog = load_catalog()
    unknown = {
        f"{method} {path}"
        for method, path in routes
        if method not in ("OPTIONS", "HEAD")
        and path not in LEFT_OUT
        and not any(part in path for part in ANSWERED_WITH_404_BY_MLFLOW)
        and catalog.classify(method, _sample(path)) is UNKNOWN
    }
    assert unknown == set()
