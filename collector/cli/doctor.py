"""`sidespan doctor`: checks the set-up and says what to do about each failure."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.answers.explain import explain
from collector.answers.health import probe
from collector.answers.traces import parse_trace_id
from collector.cli import remote
from collector.cli.doctor_check import DoctorCheck
from collector.cli.doctor_engines import check_clickhouse, check_kafka
from collector.cli.doctor_questions import check_questions
from collector.delivery.mlflow.forward import parts_of
from collector.files.private import too_open
from collector.journal.sqlite.lock import only_process
from collector.mlflow.client import Mlflow, MlflowUnreachable, open_mlflow
from collector.mlflow.experiments import CannotAsk, Experiments, NoSuchExperiment, Resolved
from collector.mlflow.headers import CANONICAL_ID
from collector.mlflow.rest import MlflowApi
from collector.model.batch import Route
from collector.model.errors import Misconfigured, Rejected
from collector.otlp.codec import decode
from collector.otlp.media import Encoding
from collector.receivers.grpc.opening import INSTALL_IT, check_grpc, is_installed
from collector.settings import Engine, MlflowSettings, ReceiverSettings, Settings, is_loopback

CLOCK_SECONDS = 5.0
SERVICE_SECONDS = 3.0


async def examine(settings: Settings, *, url: str) -> AsyncIterator[DoctorCheck]:
    """Each check as soon as it is done. `url` is the address of the service."""
    if settings.log_place.engine.is_embedded:
        yield _check_privacy(settings.data_dir, settings.auth.tokens_file)
        yield _check_data_dir(settings.data_dir)
        yield _check_disk(settings)
    else:
        for check in await check_kafka(settings):
            yield check
    index = settings.index_place
    if index is not None and index.engine is Engine.CLICKHOUSE:
        yield await check_clickhouse(settings, index)
    yield _check_exposure(settings)
    health = await _ask_service(url)
    yield _check_service(url, health)
    yield _check_grpc(settings.receiver, health)
    for check in check_questions(health):
        yield check
    async with open_mlflow(_mlflow_in_use(settings.mlflow, health), max_connections=2) as mlflow:
        reachable = await probe(mlflow)
        yield DoctorCheck(
            name="mlflow",
            ok=reachable["ok"],
            finding=f"{mlflow.url}: {reachable.get('version') or reachable['reason']}",
            way_out="" if reachable["ok"] else "start MLflow, or set mlflow.url; traces wait until then",
        )
        if reachable["ok"]:
            yield await _check_clock(mlflow)
            yield await _check_traces_endpoint(mlflow)
            for experiment in _experiments(settings):
                yield await _check_experiment(experiment, settings, mlflow)


def _mlflow_in_use(settings: MlflowSettings, health: dict[str, Any] | remote.CannotReach) -> MlflowSettings:
    """Where the service has MLflow, unless one is named: `sidespan up` starts its own at a free port."""
    if isinstance(health, remote.CannotReach) or "url" in settings.model_fields_set:
        return settings
    told = health.get("parts", {}).get("mlflow", {}).get("url") or ""
    # settings may hold a token: it stays on this machine
    return (
        settings.model_copy(update={"url": told}) if is_loopback(urlsplit(told).hostname or "") else settings
    )


def _check_data_dir(data_dir: Path) -> DoctorCheck:
    existing = next(path for path in (data_dir.absolute(), *data_dir.absolute().parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        return DoctorCheck(
            name="data_dir",
            ok=False,
            finding=f"{existing} is not writable",
            way_out="choose another folder with --data-dir, or give this user write permission",
        )
    if not data_dir.exists():
        return DoctorCheck(name="data_dir", ok=True, finding=f"{data_dir} will be created")
    try:
        with only_process(data_dir):
            return DoctorCheck(name="data_dir", ok=True, finding=f"{data_dir} is available")
    except Misconfigured as error:
        return DoctorCheck(name="data_dir", ok=True, finding=str(error).partition(";")[0])


def _check_privacy(data_dir: Path, tokens_file: Path | None) -> DoctorCheck:
    """Whether other users of this machine can read the data. Runs before anything is created there."""
    found = too_open(data_dir, tokens_file)
    if not found:
        return DoctorCheck(name="privacy", ok=True, finding=f"only this user can open {data_dir}")
    first = found[0]
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    fixable = any(each.is_ours for each in found)
    return DoctorCheck(
        name="privacy",
        ok=not fixable,  # the folder of a volume may belong to another user; its content is ours
        finding=f"{first.path} (mode {first.mode:04o}){more} can be opened by other users of this machine",
        way_out=f"restart the service, which fixes it, or run chmod -R go= {first.path}"
        if fixable
        else "it belongs to another user or is shared: choose your own folder with --data-dir",
    )


def _check_disk(settings: Settings) -> DoctorCheck:
    place = settings.data_dir.absolute()
    existing = next(path for path in (place, *place.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    needed = settings.journal.max_bytes
    return DoctorCheck(
        name="disk",
        ok=free > settings.journal.min_free_disk_bytes,
        finding=f"{free // 2**20} MiB free; the journal may grow to {needed // 2**20} MiB",
        way_out="" if free > needed else "free some disk space, or lower journal.max_bytes",
    )


def _check_exposure(settings: Settings) -> DoctorCheck:
    host = settings.server.host
    if settings.auth.mode == "clients":
        observing = settings.policy.mode == "observe"
        return DoctorCheck(
            name="exposure",
            ok=True,
            finding=f"{host}: clients authenticate with {_ways_in(settings)}; "
            + ("nothing is denied yet (policy.mode = observe)" if observing else "the policy is enforced"),
            way_out='set policy.mode = "enforce" once logs/access.jsonl shows no wrong denials'
            if observing
            else "",
        )
    if is_loopback(host):
        return DoctorCheck(name="exposure", ok=True, finding=f"{host}: this machine only")
    return DoctorCheck(
        name="exposure",
        ok=True,
        finding=f"{host}: clients are not authenticated; anyone who reaches the port may read and write",
        way_out='set auth.mode = "clients" and configure the clients (docs/policies.md)',
    )


def _ways_in(settings: Settings) -> str:
    ways = ["tokens"]
    ways += ["JSON Web Tokens"] if settings.oidc.issuer else []
    ways += [f"the header {settings.trusted_header.name}"] if settings.trusted_header.name else []
    return ", ".join(ways)


async def _ask_service(url: str) -> dict[str, Any] | remote.CannotReach:
    try:
        return await asyncio.to_thread(remote.get_readiness, url, timeout_seconds=SERVICE_SECONDS)
    except remote.CannotReach as error:
        return error


def _check_service(url: str, health: dict[str, Any] | remote.CannotReach) -> DoctorCheck:
    if isinstance(health, remote.CannotReach):
        return DoctorCheck(name="service", ok=False, finding=health.finding, way_out=remote.START_IT)
    if "parts" not in health:
        return DoctorCheck(
            name="service",
            ok=health.get("ready") is True,
            finding=f"{url}: {'ready' if health.get('ready') else 'not ready'}; details need a token",
            way_out="set SIDESPAN_TOKEN",
        )
    bad = [f"{name}: {part['reason']}" for name, part in health["parts"].items() if not part["ok"]]
    return DoctorCheck(
        name="service",
        ok=health["ready"] and not bad,
        finding=f"{url}, version {health['version']}: " + ("; ".join(bad) or "all parts are ok"),
        way_out="fix the parts named here; accepted spans are not lost meanwhile" if bad else "",
    )


def _check_grpc(settings: ReceiverSettings, health: dict[str, Any] | remote.CannotReach) -> DoctorCheck:
    """As the running service says; else whether these settings can be met."""
    part = None if isinstance(health, remote.CannotReach) else health.get("parts", {}).get("grpc")
    if part is not None:
        return DoctorCheck(
            name="otlp/grpc",
            ok=part["ok"],
            finding=part["reason"],
            way_out="" if part["ok"] else "free the port or choose another, then restart the service",
        )
    try:
        check_grpc(settings)
    except Misconfigured as error:
        finding, _, way_out = str(error).partition(": ")
        return DoctorCheck(name="otlp/grpc", ok=False, finding=finding, way_out=way_out)
    wanted = f"port {settings.grpc_port}" if settings.grpc_port else "off: receiver.grpc_port = 0"
    missing = settings.grpc_port and not is_installed()
    finding = f"off: grpcio is not installed ({INSTALL_IT})" if missing else wanted
    return DoctorCheck(name="otlp/grpc", ok=True, finding=finding)


async def _check_clock(mlflow: Mlflow) -> DoctorCheck:
    answer = await MlflowApi(connection=mlflow, timeout_seconds=3).version()
    theirs = parsedate_to_datetime(answer.headers["date"]).timestamp() if "date" in answer.headers else None
    if theirs is None:
        return DoctorCheck(name="clock", ok=True, finding="MLflow sends no Date header")
    off = time.time() - theirs
    return DoctorCheck(
        name="clock",
        ok=abs(off) < CLOCK_SECONDS,
        finding=f"{off:+.0f} s from MLflow's clock",
        way_out="" if abs(off) < CLOCK_SECONDS else "synchronise both clocks (NTP); trace times are off",
    )


async def _check_traces_endpoint(mlflow: Mlflow) -> DoctorCheck:
    """An empty export changes nothing; MLflow refuses it with 400 if the endpoint is there."""
    try:
        answer = await MlflowApi(connection=mlflow, timeout_seconds=5).export_nothing()
    except MlflowUnreachable as error:
        return DoctorCheck(name="mlflow /v1/traces", ok=False, finding=str(error), way_out="see MLflow's log")
    ok = answer.status in (200, 400)
    way_out = (
        "set mlflow.username and password, or mlflow.token"
        if answer.status in (401, 403)
        else "OTLP needs MLflow 3.6 or newer with a SQL store, run by uvicorn"
    )
    finding = "accepts OTLP" if ok else f"answers {answer.status}: {answer.error}"
    return DoctorCheck(name="mlflow /v1/traces", ok=ok, finding=finding, way_out="" if ok else way_out)


def _experiments(settings: Settings) -> list[str]:
    return list(dict.fromkeys([settings.routing.default_experiment, *settings.routing.services.values()]))


async def _check_experiment(experiment: str, settings: Settings, mlflow: Mlflow) -> DoctorCheck:
    route = (
        Route(experiment_id=experiment)
        if CANONICAL_ID.match(experiment)
        else Route(experiment_name=experiment)
    )
    directory = Experiments(mlflow, create=False, lookup_timeout_seconds=5)
    name = f"experiment {experiment}"
    match await directory.resolve(route):
        case Resolved(experiment_id=found):
            return DoctorCheck(name=name, ok=True, finding=f"id {found}")
        case NoSuchExperiment(message=message):
            made = settings.routing.create_experiments and route.experiment_name is not None
            return DoctorCheck(
                name=name,
                ok=made,
                finding="will be created with its first trace" if made else message,
                way_out="" if made else "create it in MLflow, or change [routing]",
            )
        case CannotAsk(message=message):
            return DoctorCheck(name=name, ok=False, finding=message, way_out="see the check named mlflow")


def explain_trace(trace: str, settings: Settings, *, url: str) -> dict[str, Any]:
    """The explanation (answers/explain.py) of a file's spans, or of a trace that the service at `url` knows.

    Raises Misconfigured (neither a file nor a trace id, or not an OTLP export), CannotReach, Refused.
    """
    path = Path(trace)
    if path.is_file():
        return explain(
            _read_export(path),
            None,
            parts=parts_of(settings.harmonise),
            processors=settings.processors,
        )
    if parse_trace_id(trace) is None:
        raise Misconfigured(f"--trace {trace!r}: there is no such file, and a trace id is 32 hex digits")
    return remote.get_json(url, f"/-/traces/{trace}/explanation")


def _read_export(path: Path) -> ExportTraceServiceRequest:
    content = path.read_bytes()
    encoding = Encoding.JSON if content.lstrip().startswith(b"{") else Encoding.PROTOBUF
    try:
        decoded = decode([content], encoding, max_depth=32, max_spans=100_000, max_messages=len(content))
    except Rejected as error:
        raise Misconfigured(f"--trace {path}: {error}") from error
    if decoded.rejections:
        raise Misconfigured(f"--trace {path}: {decoded.rejections[0].message}")
    export: ExportTraceServiceRequest = decoded.export
    return export


def render_explanation(found: Mapping[str, Any]) -> str:
    """The explanation as text: each span, its facts with their sources, and the changes to it."""
    lines: list[str] = []
    for span in found["spans"]:
        conventions = ", ".join(span["conventions"]) or "none that Sidespan knows"
        lines += [f"{span['name']}  {span['span_id']}", f"  conventions: {conventions}"]
        lines += [
            f"  {fact['name']} = {fact['value']}" + (f"   from {fact['source']}" if fact["source"] else "")
            for fact in span["facts"]
        ]
        lines += [
            f"  {change['step']} {change['change']} {change['key']} = {change['value']}\n"
            f"      because {change['why']}"
            for change in span["changes"]
        ]
        if span["dropped_by"]:
            lines.append(f"  dropped by {span['dropped_by']}")
        lines.append("")
    if found["spans_omitted"]:
        lines.append(f"{found['spans_omitted']} more spans")
    return "\n".join(lines).rstrip()
