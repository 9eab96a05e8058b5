"""The command line: each command a few lines over the functions that the service uses too.

Exit codes: 0 fine, 1 the answer is "no" or "not found", 2 bad usage or configuration.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from collector.cli import access as cli_access
from collector.cli import remote
from collector.cli import summary as cli_summary
from collector.cli import traces as cli_traces
from collector.model.durations import parse_duration
from collector.model.errors import Misconfigured
from collector.settings import Settings, load

app = typer.Typer(
    help="The sidecar that MLflow tracing lacks: collector, proxy and summaries on one port.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
letters = typer.Typer(help="Spans that MLflow refused for good.", no_args_is_help=True)
app.add_typer(letters, name="dead-letters")
app.add_typer(cli_access.tokens, name="token")
app.add_typer(cli_access.policy, name="policy")
app.add_typer(cli_summary.summary, name="summary")
app.add_typer(cli_traces.index, name="index")

Host = Annotated[str | None, typer.Option(help="Address to listen on (127.0.0.1).")]
Port = Annotated[int | None, typer.Option(help="Port to listen on (4318); 0 takes a free one.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder of the journal (./.sidespan).")]
Config = Annotated[Path | None, typer.Option(help="Settings file (./sidespan.toml).")]
MlflowUrl = Annotated[str | None, typer.Option(help="The MLflow server behind us.")]
Takeover = Annotated[
    bool,
    typer.Option("--takeover", help="Take the place of the running process; no client is refused meanwhile."),
]
Url = Annotated[str, typer.Option(help="Where Sidespan answers.", envvar="SIDESPAN_URL")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Ids = Annotated[list[int], typer.Argument(help="Ids, as `dead-letters list` shows them.")]
DEFAULT_URL = "http://127.0.0.1:4318"


def main() -> None:
    """The entry point: what the user can mend is one message, never a stack."""
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
    """Run everything, with an MLflow of its own: nothing else needs to be there."""
    settings = load(flags=_given(host, port, data_dir), file=config)
    if settings.server.takeover:
        raise Misconfigured("server.takeover is for `sidespan serve`: `up` can't hand its MLflow over")
    _run(_up(settings, as_json), settings)


async def _up(settings: Settings, as_json: bool) -> None:
    from collector.service.embedded import embedded_mlflow
    from collector.service.server import run_service

    async with embedded_mlflow(settings.data_dir) as url:
        mlflow = settings.mlflow.model_copy(update={"url": url})
        await run_service(settings.model_copy(update={"mlflow": mlflow}), announce=_announce(as_json))


@app.command()
def serve(
    mlflow_url: MlflowUrl = None,
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    config: Config = None,
    takeover: Takeover = False,
    as_json: AsJson = False,
) -> None:
    """Run the service in front of an MLflow server that is already there."""
    flags = _given(host, port, data_dir)
    flags |= {"mlflow.url": mlflow_url} if mlflow_url else {}
    flags |= {"server.takeover": True} if takeover else {}
    settings = load(flags=flags, file=config)
    _run(_serve(settings, as_json), settings)


async def _serve(settings: Settings, as_json: bool) -> None:
    from collector.service.server import run_service

    await run_service(settings, announce=_announce(as_json))


def _given(host: str | None, port: int | None, data_dir: Path | None) -> dict[str, Any]:
    flags = {"server.host": host, "server.port": port, "data_dir": data_dir}
    return {key: value for key, value in flags.items() if value is not None}


def _run(service: Awaitable[None], settings: Settings) -> None:
    import uvloop

    from collector.files.private import keep_to_ourselves
    from collector.telemetry.logs import configure_logs

    keep_to_ourselves()
    configure_logs(settings.log)

    async def run() -> None:
        await service

    uvloop.run(run())


def _announce(as_json: bool) -> Callable[[str], None]:
    def announce(url: str) -> None:
        lines = (
            f"Sidespan listens at {url}",
            f"  MLflow UI   {url}/",
            f"  Sidespan    {url}/-/",
            f"  OTLP        export OTEL_EXPORTER_OTLP_ENDPOINT={url}",
        )
        typer.echo(json.dumps({"url": url}) if as_json else "\n".join(lines))
        sys.stdout.flush()

    return announce


@app.command()
def doctor(
    config: Config = None,
    mlflow_url: MlflowUrl = None,
    url: Url = DEFAULT_URL,
    trace: Annotated[
        str | None,
        typer.Option(help="Explain one trace instead: its id, or a file with an OTLP export."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check the running service, MLflow, experiments, disk and clock; say what to do."""
    settings = load(flags={"mlflow.url": mlflow_url} if mlflow_url else {}, file=config)
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
    command: Annotated[list[str], typer.Argument(help="The program and its arguments, after `--`.")],
    service: Annotated[str | None, typer.Option(help="service.name of its spans.")] = None,
    experiment: Annotated[str | None, typer.Option(help="MLflow experiment, by id or name.")] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Run a program in any language with OpenTelemetry's variables set, so that its traces come here."""
    from collector.cli.launch import environment_for, launch
    from collector.settings import environment

    launch(command, environment_for(environment(), url=url, service=service, experiment=experiment))


@app.command()
def version(as_json: AsJson = False) -> None:
    """Print the version."""
    from collector.answers.health import sidespan_version

    typer.echo(json.dumps({"version": sidespan_version()}) if as_json else sidespan_version())


@app.command()
def replay(
    since: Annotated[str, typer.Option(help="How far back: `90s`, `30m`, `2h`, `1d`, or an ISO time.")],
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Deliver retained entries again (journal.retention_seconds keeps them)."""
    since_unix_ns = parse_since(since, now=time.time())
    found = remote.post_json(url, "/-/replay", {"since_unix_ns": since_unix_ns})
    typer.echo(json.dumps(found) if as_json else f"{found['replayed']} entries are delivered again")


def parse_since(text: str, *, now: float) -> int:
    """Nanoseconds since 1970 of `30m` before `now`, or of an ISO 8601 time. Raises Misconfigured."""
    if (seconds := parse_duration(text.removeprefix("-"))) is not None:
        return int((now - seconds) * 1e9)
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1e9)
    except ValueError as error:
        raise Misconfigured(f"--since {text!r}: give 90s, 30m, 2h, 1d or an ISO time") from error


@letters.command("list")
def list_letters(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at the most.")] = 100,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """List them, oldest first, with the reason."""
    document = remote.get_json(url, f"/-/dead-letters?limit={limit}")
    if as_json:
        typer.echo(json.dumps(document))
        return
    for letter in document["dead_letters"]:
        at = datetime.fromtimestamp(letter["parked_unix_ns"] / 1e9).isoformat(" ", "seconds")
        route = " ".join(f"{key}={value}" for key, value in letter["route"].items())
        typer.echo(f"{letter['id']:>6}  {at}  {letter['span_count']:>5} spans  {letter['reason']}  {route}")
        typer.echo(f"        {letter['message']}")
    typer.echo(f"{document['total']} dead letters")


@letters.command("show")
def show_letter(
    id: Annotated[int, typer.Argument()], url: Url = DEFAULT_URL, as_json: AsJson = False
) -> None:
    """Show one with its spans, as OTLP JSON."""
    document = remote.get_json(url, f"/-/dead-letters/{id}")
    typer.echo(json.dumps(document, indent=None if as_json else 2))


@letters.command("retry")
def retry_letters(
    ids: Annotated[list[int] | None, typer.Argument()] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every dead letter.")] = False,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Put them back into the journal, to be delivered again."""
    if bool(ids) == all_:
        raise Misconfigured("name the ids of dead letters, or --all")
    _count(url, "retry", {"all": True} if all_ else {"ids": ids}, "retried", as_json)


@letters.command("drop")
def drop_letters(ids: Ids, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Delete them for good."""
    _count(url, "drop", {"ids": ids}, "dropped", as_json)


def _count(url: str, verb: str, document: dict[str, Any], key: str, as_json: bool) -> None:
    found = remote.post_json(url, f"/-/dead-letters/{verb}", document)
    typer.echo(json.dumps(found) if as_json else f"{found[key]} dead letters {key}")
    if found[key] == 0:
        raise typer.Exit(1)


@letters.command("export")
def export_letters(
    ids: Ids,
    directory: Annotated[Path, typer.Option(help="Where the files go.")] = Path(),
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Write each as a file: one ExportTraceServiceRequest in protobuf, fit for `curl --data-binary`."""
    files = []
    for id in ids:
        file = directory / f"dead-letter-{id}.binpb"
        body = remote.get(url, f"/-/dead-letters/{id}?format=protobuf")
        try:
            file.write_bytes(body)
        except OSError as error:
            raise Misconfigured(f"{file} can't be written: {error.strerror}") from error
        files.append(str(file))
    typer.echo(json.dumps({"files": files}) if as_json else "\n".join(files))
