"""The commands on what MLflow refused: `sidespan dead-letters …`."""

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from collector.cli import remote
from collector.cli.options import DEFAULT_URL, AsJson, Url
from collector.model.errors import Misconfigured

letters = typer.Typer(
    help="Inspect and retry what a target refused permanently.",
    no_args_is_help=True,
)

Ids = Annotated[list[int], typer.Argument(help="Ids from `dead-letters list`.")]
SomeIds = Annotated[list[int] | None, typer.Argument(help="Ids from `dead-letters list`.")]
Target = Annotated[str | None, typer.Option(help="Only those of one target: mlflow, or a [[forward]] name.")]


@letters.command("list")
def list_letters(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of dead letters.")] = 100,
    target: Target = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """List dead letters, oldest first, with their reasons."""
    query = urlencode({"limit": limit} | ({"target": target} if target is not None else {}))
    document = remote.get_json(url, f"/-/dead-letters?{query}")
    if as_json:
        typer.echo(json.dumps(document))
        return
    for letter in document["dead_letters"]:
        at = datetime.fromtimestamp(letter["parked_unix_ns"] / 1e9).isoformat(" ", "seconds")
        route = " ".join(f"{key}={value}" for key, value in letter["route"].items())
        noun = {"traces": "spans", "logs": "log records"}[letter["signal"]]
        what = f"{letter['span_count']:>5} {noun}  {letter['consumer']}  {letter['reason']}"
        typer.echo(f"{letter['id']:>6}  {at}  {what}  {route}")
        typer.echo(f"        {letter['message']}")
    typer.echo(f"{document['total']} dead letters")


@letters.command("show")
def show_letter(
    id: Annotated[int, typer.Argument(help="Id from `dead-letters list`.")],
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter with its spans or log records, as OTLP JSON."""
    document = remote.get_json(url, f"/-/dead-letters/{id}")
    typer.echo(json.dumps(document, indent=None if as_json else 2))


@letters.command("retry")
def retry_letters(
    ids: SomeIds = None,
    all_: Annotated[bool, typer.Option("--all", help="Retry every dead letter.")] = False,
    target: Target = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Put dead letters back into the journal for another delivery."""
    if bool(ids) == all_:
        raise Misconfigured("dead-letters retry: give either ids or --all")
    _count(url, "retry", _which(ids, target), "retried", as_json)


@letters.command("drop")
def drop_letters(
    ids: SomeIds = None,
    all_: Annotated[bool, typer.Option("--all", help="Delete every dead letter of --target.")] = False,
    target: Target = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Delete dead letters permanently."""
    if bool(ids) == all_ or (all_ and target is None):
        raise Misconfigured("dead-letters drop: give either ids, or --all with --target")
    _count(url, "drop", _which(ids, target), "dropped", as_json)


def _which(ids: list[int] | None, target: str | None) -> dict[str, Any]:
    which: dict[str, Any] = {"ids": ids} if ids else {"all": True}
    return which if target is None else which | {"target": target}


def _count(url: str, verb: str, document: dict[str, Any], key: str, as_json: bool) -> None:
    answer = remote.post_json(url, f"/-/dead-letters/{verb}", document)
    typer.echo(json.dumps(answer) if as_json else f"{answer[key]} dead letters {key}")
    if answer[key] == 0:
        raise typer.Exit(1)


@letters.command("export")
def export_letters(
    ids: Ids,
    directory: Annotated[Path, typer.Option(help="Folder to write to.")] = Path(),
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Write each dead letter to a file.

    A file holds one ExportTraceServiceRequest in protobuf, ready for `curl --data-binary` (an
    ExportLogsServiceRequest for log records).
    """
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
