"""The command line: each command is a few lines over functions that the service uses too.

Exit codes: 0 success, 1 the answer is "no" or "not found", 2 wrong usage or configuration.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Collection
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from collector.alerts.definition import check_alerts
from collector.cli import remote
from collector.cli.access import policy, tokens
from collector.cli.alerts import alerts
from collector.cli.dead_letters import letters
from collector.cli.index import index
from collector.cli.options import DEFAULT_URL, AsJson, Config, DataDir, MlflowUrl, Url
from collector.cli.retention import archive, retention
from collector.cli.traces import summary
from collector.model.durations import parse_duration
from collector.model.errors import Misconfigured
from collector.settings import Role, Settings, load

if TYPE_CHECKING:
    from collector.cli.drain import Remains

app = typer.Typer(
    help="An OpenTelemetry collector, a filtering proxy and summaries for MLflow, on one port.",
    epilog='Exit codes: 0 success, 1 the answer is "no" or "not found", 2 wrong usage or configuration.',
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(letters, name="dead-letters")
app.add_typer(tokens, name="token")
app.add_typer(policy, name="policy")
app.add_typer(summary, name="summary")
app.add_typer(index, name="index")
app.add_typer(alerts, name="alerts")
app.add_typer(retention, name="retention")
app.add_typer(archive, name="archive")

Host = Annotated[str | None, typer.Option(help="Address to listen on (default: 127.0.0.1).")]
Port = Annotated[int | None, typer.Option(help="Port to listen on (default: 4318); 0 picks a free one.")]
Roles = Annotated[
    list[Role] | None,
    typer.Option("--role", help="What this process does; repeatable (default: everything)."),
]
Takeover = Annotated[
    bool, typer.Option("--takeover", help="Replace the running process without refusing any client.")
]


def main() -> None:
    """The entry point. What the user can fix is reported as one message, without a traceback."""
    try:
        app()
    except (Misconfigured, remote.CannotReach) as error:
        typer.echo(f"sidespan: {error}", err=True)
        sys.exit(2)
    except remote.Refused as error:
        typer.echo(f"sidespan: {error}", err=True)
        sys.exit(1)


@app.command()
def up(
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Run Sidespan together with its own MLflow server."""
    settings = load(flags=_given(host, port, data_dir), file=config, checks=[check_alerts])
    if settings.server.takeover:
        raise Misconfigured("server.takeover is for `sidespan serve`: `up` can't hand its MLflow over")
    _run(_up(settings, as_json), settings)


async def _up(settings: Settings, as_json: bool) -> None:
    from collector.service.embedded import embedded_mlflow
    from collector.service.mirroring import with_answers
    from collector.service.server import run_service

    async with embedded_mlflow(settings.data_dir) as url:
        mlflow = settings.mlflow.model_copy(update={"url": url})
        settings = with_answers(settings.model_copy(update={"mlflow": mlflow}))
        await run_service(settings, announce=_announce(settings.roles, as_json))


@app.command()
def serve(
    mlflow_url: MlflowUrl = None,
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    config: Config = None,
    role: Roles = None,
    takeover: Takeover = False,
    as_json: AsJson = False,
) -> None:
    """Run Sidespan in front of an existing MLflow server."""
    flags = _given(host, port, data_dir)
    flags |= {"roles": role} if role else {}
    flags |= {"mlflow.url": mlflow_url} if mlflow_url else {}
    flags |= {"server.takeover": True} if takeover else {}
    settings = load(flags=flags, file=config, checks=[check_alerts])
    _run(_serve(settings, as_json), settings)


async def _serve(settings: Settings, as_json: bool) -> None:
    from collector.service.server import run_service

    await run_service(settings, announce=_announce(settings.roles, as_json))


def _given(host: str | None, port: int | None, data_dir: Path | None) -> dict[str, Any]:
    flags = {"server.host": host, "server.port": port, "data_dir": data_dir}
    return {key: value for key, value in flags.items() if value is not None}


def _run(service: Awaitable[None], settings: Settings) -> None:
    import uvloop

    from collector.files.private import keep_to_ourselves
    from collector.telemetry.logs import configure_logs

    keep_to_ourselves()
    configure_logs(level=settings.log.level, format=settings.log.format)

    async def run() -> None:
        await service

    uvloop.run(run())


def _announce(roles: Collection[Role], as_json: bool) -> Callable[[str, str | None], None]:
    def announce(url: str, grpc_url: str | None) -> None:
        told = {
            Role.PROXY: f"  MLflow UI   {url}/",
            Role.QUERY: f"  Sidespan    {url}/-/",
            Role.RECEIVE: f"  OTLP        export OTEL_EXPORTER_OTLP_ENDPOINT={url}",
        }
        lines = [f"Sidespan is listening at {url}", *(told[role] for role in told if role in roles)]
        if grpc_url is not None:
            lines.append(f"  OTLP/gRPC   export OTEL_EXPORTER_OTLP_ENDPOINT={grpc_url}")
        found = {"url": url} | ({"grpc_url": grpc_url} if grpc_url is not None else {})
        typer.echo(json.dumps(found) if as_json else "\n".join(lines))
        sys.stdout.flush()

    return announce


@app.command()
def doctor(
    config: Config = None,
    mlflow_url: MlflowUrl = None,
    url: Url = DEFAULT_URL,
    trace: Annotated[
        str | None,
        typer.Option(help="Explain this trace instead: a trace id, or a file with an OTLP export."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check the service, MLflow, experiments, disk and clock.

    Each failed check says what to do.
    """
    flags = {"mlflow.url": mlflow_url} if mlflow_url else {}
    settings = load(flags=flags, file=config, checks=[check_alerts])
    if trace is not None:
        from collector.cli.doctor import explain_trace, render_explanation

        found = explain_trace(trace, settings, url=url)
        typer.echo(json.dumps(found) if as_json else render_explanation(found))
        return
    raise typer.Exit(asyncio.run(_doctor(settings, url, as_json)))


async def _doctor(settings: Settings, url: str, as_json: bool) -> int:
    from collector.cli.doctor import examine

    checks = []
    async for check in examine(settings, url=url):
        checks.append(check)
        if not as_json:
            typer.echo(f"{'ok  ' if check.ok else 'FAIL'} {check.name}: {check.finding}")
            if check.way_out:
                typer.echo(f"     -> {check.way_out}")
    ok = all(check.ok for check in checks)
    if as_json:
        typer.echo(json.dumps({"ok": ok, "checks": [check.to_json() for check in checks]}))
    return 0 if ok else 1


@app.command(context_settings={"ignore_unknown_options": True})
def run(
    command: Annotated[list[str], typer.Argument(help="The program and its arguments, after --.")],
    service: Annotated[str | None, typer.Option(help="Service name of its spans (service.name).")] = None,
    experiment: Annotated[
        str | None, typer.Option(help="MLflow experiment: an id (digits only) or a name.")
    ] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Run a program with its traces sent to Sidespan.

    Sets OpenTelemetry's environment variables, so it works for programs in any language.
    """
    from collector.cli.launch import environment_for, launch
    from collector.cli.plugins import without_our_switch
    from collector.settings import environment

    given = without_our_switch(environment())
    launch(command, environment_for(given, url=url, service=service, experiment=experiment))


@app.command()
def mcp(
    url: Url = DEFAULT_URL,
    feedback: Annotated[
        bool, typer.Option("--feedback", help="Also offer the tool that writes: record_feedback.")
    ] = False,
    max_answer_tokens: Annotated[
        int, typer.Option(min=3000, max=200_000, help="Bound on each answer.")
    ] = 10_000,
) -> None:
    """Answer a coding agent's questions (MCP over stdio).

    Asks a running Sidespan. Needs the extra `mcp`: pip install 'sidespan[server,mcp]'.
    """
    try:
        from collector.cli.mcp import serve_stdio
    except ModuleNotFoundError as error:
        raise Misconfigured(f"{error.name} is missing: pip install 'sidespan[server,mcp]'") from error
    if not url.startswith(("http://", "https://")):
        raise Misconfigured(f"--url {url!r}: must begin with http:// or https://")
    asyncio.run(serve_stdio(url, max_tokens=max_answer_tokens, feedback=feedback))


@app.command()
def version(as_json: AsJson = False) -> None:
    """Print the version."""
    from collector.answers.health import sidespan_version

    typer.echo(json.dumps({"version": sidespan_version()}) if as_json else sidespan_version())


@app.command()
def replay(
    since: Annotated[str, typer.Option(help="How far back: 90s, 30m, 2h, 1d, or an ISO 8601 time.")],
    target: Annotated[str, typer.Option(help="To whom: mlflow, or a [[forward]] name.")] = "mlflow",
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Deliver entries that the journal still retains again.

    The setting journal.retention_seconds says how long it retains them.
    """
    since_unix_ns = parse_since(since, now=time.time())
    answer = remote.post_json(url, "/-/replay", {"since_unix_ns": since_unix_ns, "target": target})
    typer.echo(json.dumps(answer) if as_json else f"{answer['replayed']} entries will be delivered again.")


@app.command()
def drain(
    timeout: Annotated[
        str | None, typer.Option(help="Give up after 90s, 30m, 2h or 1d (default: never).")
    ] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Wait until a service has delivered everything.

    Point the clients elsewhere first. The exit code is 1 if something is left, dead letters included.
    """
    from collector.cli.drain import drained

    remains = drained(
        url,
        timeout_seconds=_seconds(timeout),
        tell=lambda found: None if as_json else typer.echo(f"{found.pending_spans} spans wait", err=True),
    )
    typer.echo(json.dumps(remains.to_json()) if as_json else _told_of(remains))
    if not remains.is_empty or remains.dead_letters:
        raise typer.Exit(1)


def _told_of(remains: "Remains") -> str:
    if not remains.is_empty:
        return f"{remains.pending_spans} spans and {remains.pending_records} log records still wait."
    if remains.dead_letters:
        return f"Drained, but for {remains.dead_letters} dead letters: retry, export or drop them."
    return "Drained: everything is delivered and indexed."


def _seconds(text: str | None) -> float | None:
    seconds = None if text is None else parse_duration(text)
    if text is not None and seconds is None:
        raise Misconfigured(f"--timeout {text!r}: must be 90s, 30m, 2h or 1d")
    return seconds


def parse_since(text: str, *, now: float) -> int:
    """Nanoseconds since 1970 of `30m` before `now`, or of an ISO 8601 time. Raises Misconfigured."""
    if (seconds := parse_duration(text.removeprefix("-"))) is not None:
        return int((now - seconds) * 1e9)
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1e9)
    except ValueError as error:
        raise Misconfigured(f"--since {text!r}: must be 90s, 30m, 2h, 1d or an ISO 8601 time") from error
