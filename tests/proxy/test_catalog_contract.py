"""Every route of MLflow is in the catalog: a newer MLflow shows here first.

`make test-mlflow-3.17` asks the oldest version that is supported.
"""

import re
from pathlib import Path

import pytest

from proxy.catalog import PARAMETER, UNKNOWN, load_catalog
from proxy.policy import ANONYMOUS, Client
from tests.proxy.inside_mlflow import inside_mlflow, is_too_new
from tests.support.proxied import EVERYBODY

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
    found = inside_mlflow(WALK, tmp_path_factory.mktemp("routes"))
    return [(method, path) for method, path in found]


def _sample(path: str) -> str:
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


# said once more without the table: a wrong row must not open these
DANGEROUS = re.compile(
    r"/assistant|(?<!/prompt-optimization)/jobs|/webhooks|/users/(?!current)|/roles|/signup|/gateway/secrets|/gateway-proxy|^/gateway/"
    r"|/demo|^/metrics$|/invoke$|/online-config$|/gateway/(?!supported|provider-config)"
)


def test_what_runs_code_spends_money_or_manages_people_is_denied(routes: list[tuple[str, str]]) -> None:
    catalog = load_catalog()
    rights = EVERYBODY.rights(Client(name=ANONYMOUS, roles=("standard",)))
    dangerous = [(method, path) for method, path in routes if DANGEROUS.search(path) and method != "OPTIONS"]
    assert len(dangerous) > 60
    open_ones = {
        f"{method} {path}"
        for method, path in dangerous
        if (decision := rights.everywhere(catalog.classify(method, _sample(path)))) is None or decision.allow
    }
    assert open_ones == set()


ONLY_WITH_SIGN_IN = ("users", "roles")  # routes of `mlflow server --app-name basic-auth`
NOT_ALWAYS_THERE = {
    "/metrics": "only with --expose-prometheus",
    "/favicon.ico": "browsers ask for it, MLflow has none",
}


def test_every_row_of_the_catalog_is_a_route_of_the_installed_mlflow(routes: list[tuple[str, str]]) -> None:
    offered = {(method, _shape(path)) for method, path in routes}
    catalog = load_catalog()
    narrower = {"/api/2.0/mlflow-artifacts/artifacts/{experiment}/traces/{artifact_path:path}"}
    narrower |= {f"/ajax-api{path.removeprefix('/api')}" for path in narrower}
    rows = [(method, path, operation.resource) for (method, path), operation in catalog.exact.items()]
    for method, patterns in catalog.patterns.items():
        rows += [(method, operation.route, operation.resource) for _, operation in patterns]
    stale = {
        f"{method} {path}"
        for method, path, resource in rows
        if (method, _shape(path)) not in offered
        and resource not in ONLY_WITH_SIGN_IN
        and path not in NOT_ALWAYS_THERE
        and not is_too_new(path)
        and path not in narrower  # a part of another route, told apart by the presets
    }
    assert stale == set()


TAKES_AWAY = re.compile(r"delete|remove|abort|detach|unassign|revoke|cancel|/restore")
# rows that take something away and are no delete, by design
WRITES_ALL_THE_SAME = {
    "POST /2.0/mlflow-artifacts/mpu/abort/{artifact_path:path}": "parts of an unfinished upload",
    "POST /3.0/mlflow/prompt-optimization/jobs/{job_id}/cancel": "the job stays, with what it has found",
}


def test_what_takes_something_away_is_a_delete_or_a_write_by_design() -> None:
    """By method and by name: a new row of that kind must say which it is."""
    catalog = load_catalog()
    rows = [(method, operation) for (method, _), operation in catalog.exact.items()]
    rows += [(method, each) for method, found in catalog.patterns.items() for _, each in found]
    others = {
        operation.row
        for method, operation in rows
        if (method == "DELETE" or (method != "GET" and TAKES_AWAY.search(operation.route)))
        and operation.action.value not in ("delete", "admin")
    }
    assert others == set(WRITES_ALL_THE_SAME)


def _shape(path: str) -> str:
    """Without the parameters' names, which the two frameworks write differently."""
    return PARAMETER.sub("{}", re.sub(r"<[^>]*>", "{}", path)).replace("{}", "{p}")


FIELDS = """
import importlib, json, pkgutil
import mlflow.protos as protos
from mlflow.protos import databricks_pb2

def fields(message, prefix="", inside=()):
    if message.full_name in inside or len(inside) > 5:
        return
    for field in message.fields:
        name = prefix + field.name + ("[]" if field.is_repeated else "")
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            yield from fields(field.message_type, name + ".", (*inside, message.full_name))
        else:
            yield name

found = []
for module in pkgutil.iter_modules(protos.__path__):
    if not module.name.endswith("_pb2") or module.name.startswith(("databricks", "unity")):
        continue
    file = importlib.import_module("mlflow.protos." + module.name).DESCRIPTOR
    for service in file.services_by_name.values():
        for method in service.methods:
            options = method.GetOptions()
            if options.HasExtension(databricks_pb2.rpc):
                for end in options.Extensions[databricks_pb2.rpc].endpoints:
                    path = f"/{end.since.major}.0/" + end.path.lstrip("/")
                    found.append((end.method, path, sorted(fields(method.input_type))))
print(json.dumps(found))
"""

# fields named like ids of ours that MLflow doesn't read there, or that name nothing of an experiment
NOT_IDS = {
    "trace.trace_info.assessments[].span_id",
    "trace.spans[].trace_id",  # MLflow takes spans by /v1/traces and keeps none of these
    "trace.spans[].links[].trace_id",
    "path",  # of an artifact inside the run that is named beside it
}
NOT_IN_MLFLOW = ("unified-traces", "get-online-trace-details")


def test_every_id_in_a_request_of_mlflows_is_looked_at(tmp_path: Path) -> None:
    """The protobuf descriptors say where ids travel; a field that a newer MLflow adds shows here."""
    from proxy.locations import KINDS

    requests = inside_mlflow(FIELDS, tmp_path)
    assert len(requests) > 100
    catalog = load_catalog()
    missing = []
    for method, path, names in requests:
        operation = catalog.classify(method, "/api" + _sample(path))
        if operation is UNKNOWN or operation.reach.server or any(part in path for part in NOT_IN_MLFLOW):
            continue
        if any(at.role == "source" for at in operation.reach.locations):
            continue  # the gate looks at run and model together with the source
        places = {".".join(at.keys) for at in operation.reach.locations}
        in_path = set(re.findall(r"\{([\w.]+)\}", path))
        missing += [
            f"{method} {path}: {name}"
            for name in names
            if name.rpartition(".")[2].removesuffix("[]") in KINDS
            and name not in places | in_path | NOT_IDS
            and name.removesuffix("[]") not in {place.removesuffix("[]") for place in places}
        ]
    assert missing == []
