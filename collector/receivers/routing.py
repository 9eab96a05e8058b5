"""Where a trace goes. Pure: headers, resource, settings in; a route out.

The first match decides:

    1  header x-mlflow-experiment-id
    2  header x-mlflow-experiment-name
    3  resource attribute mlflow.experiment.id, then mlflow.experiment.name
    4  the settings' table from service.name to experiment
    5  service.name as experiment name, if switched on
    6  the default experiment

`x-mlflow-run-id` and `x-mlflow-workspace` are added to whatever matched. Names and ids are kept as given;
whether MLflow has them is asked elsewhere (experiments.py).
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import unquote

from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from collector.mlflow.headers import CANONICAL_ID, EXPERIMENT_ID, EXPERIMENT_NAME, HEADERS, RUN_ID, WORKSPACE
from collector.model.batch import Route
from collector.model.errors import Reason, Rejected
from collector.settings import RoutingSettings

RUN = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z", re.ASCII)
WORKSPACE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,63}\Z", re.ASCII)
MAX_NAME_CHARACTERS = 500  # MLflow's own bound on an experiment name


def route(headers: Mapping[str, str], resource: Resource, settings: RoutingSettings) -> Route:
    """The route for the spans of one resource. `headers` has lower-case names, HEADERS at the most.

    Raises Rejected (invalid_route) for an id or a name that MLflow could not have.
    """
    if EXPERIMENT_ID in headers or EXPERIMENT_NAME in headers:
        return _by_headers(*[headers.get(name) for name in HEADERS])
    experiment_id, experiment_name = _experiment(resource, settings)
    return _route(experiment_id, experiment_name, headers.get(RUN_ID), headers.get(WORKSPACE))


@lru_cache(maxsize=1024)
def _by_headers(*values: str | None) -> Route:
    """The route that `values`, in the order of HEADERS, name; exporters send the same ones again."""
    given = dict(zip(HEADERS, values, strict=True))
    run_id, workspace = given[RUN_ID], given[WORKSPACE]
    if (value := given[EXPERIMENT_ID]) is not None:
        return _route(_id(value, f"header {EXPERIMENT_ID}"), None, run_id, workspace)
    # header values are ASCII; other names come percent-encoded
    name = _name(unquote(given[EXPERIMENT_NAME] or ""), f"header {EXPERIMENT_NAME}")
    return _route(None, name, run_id, workspace)


def _route(
    experiment_id: str | None, experiment_name: str | None, run_id: str | None, workspace: str | None
) -> Route:
    return Route(
        experiment_id=experiment_id,
        experiment_name=experiment_name,
        run_id=_checked(run_id, RUN, "header x-mlflow-run-id", "a run id"),
        workspace=_checked(workspace, WORKSPACE_NAME, "header x-mlflow-workspace", "a workspace name"),
    )


def _experiment(resource: Resource, settings: RoutingSettings) -> tuple[str | None, str | None]:
    attributes = _text_attributes(resource)
    if (value := attributes.get("mlflow.experiment.id")) is not None:
        return _id(value, "resource attribute mlflow.experiment.id"), None
    if (value := attributes.get("mlflow.experiment.name")) is not None:
        return None, _name(value, "resource attribute mlflow.experiment.name")
    service = attributes.get("service.name", "")
    if service in settings.services:
        return _id_or_name(settings.services[service], "routing.services")
    if service and settings.service_name_as_experiment:
        return None, _name(service, "resource attribute service.name")
    return _id_or_name(settings.default_experiment, "routing.default_experiment")


def _text_attributes(resource: Resource) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in resource.attributes:
        if pair.key in ("service.name", "mlflow.experiment.name", "mlflow.experiment.id"):
            value = pair.value
            is_number = value.HasField("int_value")
            found[pair.key] = str(value.int_value) if is_number else value.string_value
    return found


def _id_or_name(value: str, where: str) -> tuple[str | None, str | None]:
    return (value, None) if CANONICAL_ID.match(value) else (None, _name(value, where))


def _id(value: str, where: str) -> str:
    checked = _checked(value, CANONICAL_ID, where, "an experiment id (digits, no leading zero)")
    assert checked is not None
    return checked


def _name(value: str, where: str) -> str:
    if not value.strip() or len(value) > MAX_NAME_CHARACTERS or "\0" in value:
        raise Rejected(
            Reason.INVALID_ROUTE,
            f"{where}: an experiment name has 1 to {MAX_NAME_CHARACTERS} characters, got {value[:80]!r}",
        )
    return value


def _checked(value: str | None, form: re.Pattern[str], where: str, what: str) -> str | None:
    if value is not None and not form.match(value):
        raise Rejected(Reason.INVALID_ROUTE, f"{where}: not {what}: {value[:80]!r}")
    return value
