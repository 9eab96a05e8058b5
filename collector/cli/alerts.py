"""The commands on alerts: `sidespan alerts list`, `test`, `snooze`."""

import json
from datetime import datetime
from typing import Annotated, Any

import typer

from collector.cli import remote
from collector.cli.options import DEFAULT_URL, AsJson, Config, Url
from collector.model.durations import parse_duration
from collector.model.errors import Misconfigured

REPLAY_SECONDS = 330.0

alerts = typer.Typer(help="Show alerts, try them out on past traces, and silence them.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of the alert.")]


@alerts.command("list")
def list_alerts(url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """List alerts with their states, and the channels.

    The exit code is 1 if an alert fires or can't be evaluated.
    """
    document = remote.get_json(url, "/-/alerts")
    if as_json:
        typer.echo(json.dumps(document))
    else:
        for alert in document["alerts"]:
            _print_alert(alert)
        for channel in document["channels"]:
            _print_channel(channel)
        if not document["alerts"]:
            typer.echo("No alerts are configured (docs/alerts.md).")
    if any(alert["status"] == "firing" or alert["trouble"] for alert in document["alerts"]):
        raise typer.Exit(1)


def _print_alert(alert: dict[str, Any]) -> None:
    asleep = alert["asleep_until_unix_ns"]
    snoozed = f"  (silent until {_moment(asleep)})" if asleep else ""
    typer.echo(f"{alert['status']:<8} {alert['name']}: {alert['summary']}{snoozed}")
    if alert["trouble"]:
        typer.echo(f"         can't be evaluated: {alert['trouble']}")
    for group in alert["groups"]:
        if group["status"] != "ok":
            figure = f"{_named(group['group'])}{_figure(group['judged'])}"
            typer.echo(f"         {group['status']:<8} {figure} since {_moment(group['since_unix_ns'])}")


def _print_channel(channel: dict[str, Any]) -> None:
    trouble = f"; {channel['last_error']}" if channel["last_error"] else ""
    counts = f"{channel['pending']} waiting, {channel['dead_letters']} dead letters"
    typer.echo(f"channel  {channel['name']} ({channel['type']}): {counts}{trouble}")


@alerts.command("test")
def test_alert(
    name: Name,
    since: Annotated[str, typer.Option(help="Start: -1h, -7d, an ISO 8601 time or a Unix time.")] = "-24h",
    until: Annotated[str, typer.Option(help="End, in the same forms.")] = "now",
    config: Config = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Replay an alert over past traces, and show when it would have fired.

    With --config the alert comes from that file, so that it can be tried out before it is used.
    """
    definition = _configured(name, url) if config is None else _written(name, config)
    asked = {"alert": definition, "since": since, "until": until}
    document = remote.post_json(url, "/-/alerts/test", asked, timeout_seconds=REPLAY_SECONDS)
    if as_json:
        typer.echo(json.dumps(document))
        return
    for event in document["events"]:
        at = _moment(event["at_unix_ns"])
        typer.echo(f"{at}  {event['event']:<9} {_named(event['group'])}{event['summary']}")
    if document["events_omitted"]:
        typer.echo(f"… and {document['events_omitted']} more")
    fired = sum(event["event"] == "fired" for event in document["events"])
    typer.echo(
        f"{fired} times fired in {document['windows']} windows, one each {document['step_seconds']:g} s; "
        f"firing in {document['windows_firing']}, without a value in {document['windows_without_value']}"
    )


def _configured(name: str, url: str) -> dict[str, Any]:
    """The definition that the running service has."""
    listed = remote.get_json(url, "/-/alerts")["alerts"]
    found = next((alert["definition"] for alert in listed if alert["name"] == name), None)
    return _there(found, name, [alert["name"] for alert in listed])


def _written(name: str, config: Any) -> dict[str, Any]:
    """The definition in a settings file."""
    from collector.alerts.definition import check_alerts
    from collector.settings import load

    written = load(file=config, checks=[check_alerts]).alerts
    found = next((alert for alert in written if alert.name == name), None)
    document = None if found is None else found.model_dump(mode="json", exclude_unset=True)
    return _there(document, name, [alert.name for alert in written])


def _there(definition: dict[str, Any] | None, name: str, names: list[str]) -> dict[str, Any]:
    if definition is None:
        raise Misconfigured(f"there is no alert {name!r}; there are: {', '.join(names) or 'none'}")
    return definition


@alerts.command("snooze")
def snooze_alert(
    name: Name,
    length: Annotated[str, typer.Argument(help="How long: 30m, 2h, 1d; 0 wakes it.")],
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Send nothing of an alert for a time. Its state is still followed."""
    seconds = 0.0 if length == "0" else parse_duration(length)
    if seconds is None:
        raise Misconfigured(f"{length!r}: must be a length of time, such as 30m, 2h or 1d, or 0")
    document = remote.post_json(url, "/-/alerts/snooze", {"name": name, "seconds": seconds})
    until = document["asleep_until_unix_ns"]
    told = f"{name} is silent until {_moment(until)}." if until else f"{name} is awake."
    typer.echo(json.dumps(document) if as_json else told)


def _moment(unix_ns: int) -> str:
    return datetime.fromtimestamp(unix_ns / 1e9).isoformat(" ", "seconds")


def _named(group: dict[str, str | None]) -> str:
    return "".join(f"{name}={value or '(none)'} " for name, value in group.items())


def _figure(value: float | None) -> str:
    return "no value" if value is None else f"{value:.4g}"
