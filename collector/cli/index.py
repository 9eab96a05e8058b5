"""The commands on the index: `sidespan index status`, `backfill`, `verify`, `rebuild`."""

import json
import time
from typing import Annotated, Any
from urllib.parse import urlencode

import typer
from rich.console import Console

from collector.cli import remote
from collector.cli.options import DEFAULT_URL, AsJson, Url, experiment_parameter
from collector.mlflow.rest import EXPERIMENT_BY_NAME
from collector.model.errors import Misconfigured
from collector.model.parameters import BadParameter

BACKFILL_STEP_SECONDS = 600.0
VERIFY_SECONDS = 600.0

index = typer.Typer(help="Check, fill and rebuild the index behind the summaries.", no_args_is_help=True)


@index.command("status")
def index_status(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Show what the index holds, by experiment."""
    from collector.cli.render_tables import index_table

    answer = remote.get_json(url, "/-/index")
    if as_json:
        typer.echo(json.dumps(answer))
    else:
        console = Console()
        console.print(index_table(answer, console.width))


@index.command("backfill")
def index_backfill(
    experiment: Annotated[str, typer.Option(help="Experiment: an id (digits only) or a name.")],
    since: Annotated[
        str | None, typer.Option(help="Oldest trace: -30d, an ISO 8601 time or a Unix time.")
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Start from the beginning instead of resuming.")
    ] = False,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Read an experiment's traces from MLflow into the index.

    If you stop it, the next call resumes where it stopped.
    """
    asked = experiment_parameter(experiment) | {"since_unix_ms": _since_unix_ms(since)}
    answer = _backfill(url, asked, restart=restart)
    if as_json:
        typer.echo(json.dumps(answer))
    else:
        typer.echo(
            f"The index holds {answer['traces']} traces with {answer['spans']} spans of experiment "
            f"{answer['experiment_name']}."
        )


def _since_unix_ms(since: str | None) -> int:
    from collector.index.queries.asked import moment

    try:
        return 0 if since is None else moment(since, "since", time.time_ns()) // 1_000_000
    except BadParameter as error:
        raise Misconfigured(f"--since {since!r}: {error}") from error


def _backfill(url: str, asked: dict[str, Any], *, restart: bool) -> dict[str, Any]:
    """The answer to the last step; each step reads a page of MLflow's traces."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("traces", total=None)
        document = asked | ({"restart": True} if restart else {})
        while True:
            answer = remote.post_json(
                url, "/-/index/backfill", document, timeout_seconds=BACKFILL_STEP_SECONDS
            )
            document = asked | {"resume": answer["resume"]}
            progress.update(task, total=max(answer["total"], answer["seen"]), completed=answer["seen"])
            if answer["done"]:
                return answer


@index.command("verify")
def index_verify(
    experiment: Annotated[
        list[str] | None, typer.Option(help="Only this experiment, by id or name; repeatable.")
    ] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Compare the index with MLflow: counts, and sessions, users and tags of the newest traces.

    The exit code is 1 if they differ.
    """
    from collector.cli.render_tables import verify_examples, verify_table

    ids = [experiment_id_of(named, url) for named in experiment or ()]
    query = urlencode({"experiment_id": ids}, doseq=True)
    answer = remote.get_json(url, f"/-/index/verify?{query}", timeout_seconds=VERIFY_SECONDS)
    if as_json:
        typer.echo(json.dumps(answer))
    else:
        Console().print(verify_table(answer))
        for line in verify_examples(answer):
            typer.echo(line)
    rows = answer["experiments"]
    counts_differ = any(row[what]["difference"] for row in rows for what in ("traces", "spans", "scores"))
    if counts_differ or any(any(row["labels"]["different"].values()) for row in rows):
        raise typer.Exit(1)


@index.command("rebuild")
def index_rebuild(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Read the journal's entries into the index again."""
    answer = remote.post_json(url, "/-/index/rebuild", {})
    typer.echo(json.dumps(answer) if as_json else f"The index is reading {answer['replayed']} entries again.")


def experiment_id_of(named: str, url: str) -> str:
    """The id of an experiment by id or name. Raises CannotReach, Refused."""
    parameter = experiment_parameter(named)
    if "experiment_id" in parameter:
        return named
    answer = remote.get_json(url, f"{EXPERIMENT_BY_NAME}?{urlencode(parameter)}")
    return str(answer["experiment"]["experiment_id"])
