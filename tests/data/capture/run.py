"""Runs one scenario beside the provider and the receiver, and keeps what was sent."""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.data.capture import environments
from tests.data.capture.changes import changes, summaries
from tests.data.capture.environments import ENVIRONMENTS, HERE, Failed, Framework
from tests.data.capture.files import CALLS, CAPTURE, LOGS, MAX_BYTES, WRITTEN, join
from tests.data.capture.provider.server import Recorded, running
from tests.support.mlflow_server import MlflowServer
from tests.support.ports import free_port

SCENARIO_SECONDS = 240
# a folder of this machine, and what stands for it in a capture
PATHS = ((str(HERE.parents[2]), "/app"), (sys.base_prefix, "/python"))
# attributes of a resource that tell which machine it was
MACHINE = ("host.", "os.", "process.pid")
STACK, NEWLINE = "Traceback (most recent call last):\n", "\n"
KEPT = ("PATH", "LANG", "LD_LIBRARY_PATH", "TMPDIR")
QUIET = {
    "DO_NOT_TRACK": "1",
    "ANONYMIZED_TELEMETRY": "False",
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "OTEL_SDK_DISABLED": "false",
    "TRACELOOP_TELEMETRY": "false",
    "TOKENIZERS_PARALLELISM": "false",
    # a scenario speaks with this machine only
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1,localhost",
}


async def capture(framework: Framework) -> list[str]:
    """Make the capture again; what changed, as lines. Raises Failed where the scenario does."""
    environments.prepare(framework)
    recorded, port = Recorded(), free_port()
    with _mlflow(framework) as mlflow_url:
        async with running(recorded, port, mlflow_url):
            printed = await _scenario(framework, port)
    if not recorded.traces:
        raise Failed(f"nothing was exported\n{printed[-4000:]}")
    return _keep(framework, recorded)


@contextmanager
def _mlflow(framework: Framework) -> Iterator[str | None]:
    """A real MLflow behind the provider, if the scenario needs one."""
    if not framework.needs_mlflow:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        server = MlflowServer(directory=Path(folder))
        server.start()
        try:
            yield server.url
        finally:
            server.stop()


async def _scenario(framework: Framework, port: int) -> str:
    process = await asyncio.create_subprocess_exec(
        *environments.command(framework),
        cwd=framework.environment,
        env=_environment(framework, f"http://127.0.0.1:{port}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        printed, _ = await asyncio.wait_for(process.communicate(), SCENARIO_SECONDS)
    except TimeoutError:
        process.kill()
        raise Failed(f"the scenario did not end within {SCENARIO_SECONDS} s") from None
    if process.returncode:
        raise Failed(printed.decode(errors="replace")[-6000:])
    return printed.decode(errors="replace")


def _environment(framework: Framework, url: str) -> Mapping[str, str]:
    """A home of its own, the provider under every name that libraries look for, and no keys."""
    home = ENVIRONMENTS / "home" / framework.name
    home.mkdir(parents=True, exist_ok=True)
    return {
        **{name: os.environ[name] for name in KEPT if name in os.environ},
        **QUIET,
        "HOME": str(home),
        "PYTHONPATH": str(HERE),
        "PROVIDER_URL": url,
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_API_BASE": f"{url}/v1",
        "OPENAI_API_KEY": "none",
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_BASE": url,
        "ANTHROPIC_API_KEY": "none",
        "GOOGLE_GEMINI_BASE_URL": url,
        "GOOGLE_API_KEY": "none",
        "GEMINI_API_KEY": "none",
    }


def _keep(framework: Framework, recorded: Recorded) -> list[str]:
    found = {"versions": dict(environments.versions(framework)), "calls": recorded.calls}
    lines = [f"{name} {version}" for name, version in found["versions"].items()]
    folder = framework.folder
    before = summaries(folder)
    (folder / CALLS).write_text(_json(found))
    _write(folder / CAPTURE, (without_machine(each, ExportTraceServiceRequest) for each in recorded.traces))
    _write(folder / LOGS, (without_machine(each, ExportLogsServiceRequest) for each in recorded.logs))
    if recorded.written:
        told = [{**each, "body": _without_source(each["body"])} for each in recorded.written]
        (folder / WRITTEN).write_text(json.dumps(told, indent=2) + "\n")
    size = (folder / CAPTURE).stat().st_size
    lines.append(f"{len(recorded.calls)} calls, {len(recorded.traces)} requests, {size} bytes")
    if size > MAX_BYTES:
        lines.append(f"more than {MAX_BYTES} bytes: make the scenario smaller")
    return [*lines, *changes(before, summaries(folder))]


def _write(file: Path, requests: Iterable[bytes]) -> None:
    """Nothing to keep leaves no file."""
    if content := join(requests):
        file.write_bytes(content)
    else:
        file.unlink(missing_ok=True)


def without_machine(body: bytes, kind: type[Message]) -> bytes:
    """The request without what tells of this machine: folders in stack traces and in places in code, ids."""
    request = kind.FromString(body)
    _replace(request)
    for _, listed in request.ListFields():
        for each in listed:
            kept = [own for own in each.resource.attributes if not own.key.startswith(MACHINE)]
            del each.resource.attributes[:]
            each.resource.attributes.extend(kept)
    return request.SerializeToString()


def _replace(message: Message) -> None:
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING and not field.is_repeated:
            setattr(message, field.name, _without_frames(_neutral(value)))
        elif field.type == field.TYPE_MESSAGE:
            for inner in value if field.is_repeated else [value]:
                _replace(inner)


def _without_source(body: str) -> str:
    """What MLflow's SDK says of a trace, without who ran which commit of what."""
    told = json.loads(body)
    metadata = told["trace"]["trace_info"]["trace_metadata"]
    for key in [key for key in metadata if key.startswith(("mlflow.source.", "mlflow.user"))]:
        del metadata[key]
    return json.dumps(told)


def _neutral(text: str) -> str:
    for path, neutral in PATHS:
        text = text.replace(path, neutral)
    return text


def _without_frames(text: str) -> str:
    """Stack traces would be most of a capture: their first and last lines are enough."""
    before, mark, frames = text.partition(STACK)
    return f"{before}{mark}  ...\n{frames.rstrip().rpartition(NEWLINE)[2]}" if mark else text


def _json(found: Mapping[str, Any]) -> str:
    """One line a call."""
    calls = ",\n".join(f"    {json.dumps(call)}" for call in found["calls"])
    versions = json.dumps(found["versions"])
    return f'{{\n  "versions": {versions},\n  "calls": [\n{calls}\n  ]\n}}\n'
