"""`sidespan run -- COMMAND`: starts a program with OpenTelemetry's variables pointing at Sidespan."""

import os
import shutil
from collections.abc import Mapping, Sequence
from typing import NoReturn
from urllib.parse import quote

from collector.mlflow.headers import CANONICAL_ID, EXPERIMENT_ID, EXPERIMENT_NAME
from collector.model.errors import Misconfigured


def environment_for(
    given: Mapping[str, str], *, url: str, service: str | None, experiment: str | None
) -> dict[str, str]:
    """The child's environment. Variables that are already set stay, because the user set them.

    Source: https://opentelemetry.io/docs/specs/otel/protocol/exporter/ and
    https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
    """
    wanted = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_TRACES_EXPORTER": "otlp",
        # evaluations and message content are log records
        "OTEL_LOGS_EXPORTER": "otlp",
        # Sidespan stores none
        "OTEL_METRICS_EXPORTER": "none",
        "SIDESPAN_ENDPOINT": url,
    }
    if service is not None:
        wanted["OTEL_SERVICE_NAME"] = service
    if experiment is not None:
        header = EXPERIMENT_ID if CANONICAL_ID.fullmatch(experiment) else EXPERIMENT_NAME
        before = given.get("OTEL_EXPORTER_OTLP_HEADERS")
        named = f"{header}={quote(experiment, safe='')}"
        wanted["SIDESPAN_EXPERIMENT"] = experiment
        return {**wanted, **given, "OTEL_EXPORTER_OTLP_HEADERS": f"{before},{named}" if before else named}
    return {**wanted, **given}


def launch(command: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Replace this process by the command, which keeps its signals, output and exit code.

    Raises Misconfigured if there is no such program.
    """
    program = shutil.which(command[0], path=environment.get("PATH"))
    if program is None:
        raise Misconfigured(f"run: program {command[0]!r} not found")
    os.execve(program, [*command], dict(environment))
