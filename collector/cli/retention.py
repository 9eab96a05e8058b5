"""The commands on how long traces stay: `sidespan retention plan|run|status`, `sidespan archive restore`."""

import json
import time
from typing import Annotated, Any

import typer

from collector.cli import remote
from collector.cli.index import experiment_id_of
from collector.cli.options import DEFAULT_URL, AsJson, Url
from collector.model.errors import Misconfigured

PLAN_SECONDS = 3600.0
RESTORE_SECONDS = 120.0
LOOK_SECONDS = 0.5

retention = typer.Typer(help="Plan and apply the [[retention]] rules.", no_args_is_help=True)
archive = typer.Typer(help="Bring archived traces back.", no_args_is_help=True)


@retention.command("plan")
def plan(
    limit: Annotated[int, typer.Option(min=0, max=1000, help="Trace ids to list for each rule.")] = 0,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Show what the rules would delete from MLflow now. Changes nothing."""
    answer = remote.get_json(url, f"/-/retention/plan?limit={limit}", timeout_seconds=PLAN_SECONDS)
    if as_json:
        typer.echo(json.dumps(answer))
        return
    _print(answer["rules"], "would go")


@retention.command("run")
def run(
    wait: Annotated[bool, typer.Option(help="Wait for the end of the run.")] = True,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Apply the rules now. The run goes on in the service if you stop this command."""
    state = remote.post_json(url, "/-/retention/run", {})
    while wait and state["running"]:
        time.sleep(LOOK_SECONDS)
        state = remote.get_json(url, "/-/retention")["run"]
    if as_json:
        typer.echo(json.dumps(state))
    else:
        _print(state["rules"], "deleted")
    if state["trouble"]:
        typer.echo(f"The run has stopped: {state['trouble']}. The next one continues it.", err=True)
        raise typer.Exit(1)


@retention.command("status")
def status(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Show the current or last run, and what the archive holds."""
    answer = remote.get_json(url, "/-/retention")
    if as_json:
        typer.echo(json.dumps(answer))
        return
    run_of = answer["run"]
    typer.echo("A run is going on." if run_of["running"] else "No run is going on.")
    _print(run_of["rules"], "deleted")
    typer.echo(f"Archive: {answer['archive']['url']}")
    for experiment_id, counts in sorted(answer["archive"]["experiments"].items()):
        listed = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        typer.echo(f"  experiment {experiment_id}: {listed}")


@archive.command("restore")
def restore(
    trace: Annotated[str | None, typer.Argument(help="Trace id.")] = None,
    experiment: Annotated[
        str | None, typer.Option(help="All archived traces of an experiment: an id or a name.")
    ] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Return archived traces to MLflow. They stay in the archive too."""
    if (trace is None) == (experiment is None):
        raise Misconfigured("archive restore: give either a trace id or --experiment")
    document = {"trace_id": trace} if trace else {"experiment_id": experiment_id_of(str(experiment), url)}
    traces = 0
    while True:
        answer = remote.post_json(url, "/-/archive/restore", document, timeout_seconds=RESTORE_SECONDS)
        traces += answer["traces"]
        if not answer["left"]:
            break
    typer.echo(json.dumps({"traces": traces}) if as_json else f"{traces} traces restored")
    if not traces:
        raise typer.Exit(1)


def _print(rules: list[dict[str, Any]], verb: str) -> None:
    for rule in rules:
        where = f"{rule['experiment_name']} ({rule['experiment_id']})"
        size = f"{rule['bytes'] / 1e6:.1f} MB" if rule["bytes"] else "size unknown"
        typer.echo(f"{rule['rule']}  {where}  {rule['action']}: {rule['traces']} traces {verb}, {size}")
        if rule["kept"]:
            kept = ", ".join(f"{count} {why}" for why, count in sorted(rule["kept"].items()))
            typer.echo(f"    kept: {kept}")
        for trace_id in rule["trace_ids"]:
            typer.echo(f"    {trace_id}")
    typer.echo(f"{sum(rule['traces'] for rule in rules)} traces {verb}")
