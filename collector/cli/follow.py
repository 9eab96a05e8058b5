"""`sidespan summary traces --follow`: traces as they come, one line for each, until Ctrl-C."""

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import typer

from collector.cli import remote

# longer than the pause between two heartbeats
SILENCE_SECONDS = 60.0
RETRY_SECONDS = 1.0
NS_A_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerEvent:
    """One server-sent event. `kind` is "" where there is none and only the `id` goes on."""

    kind: str
    id: str
    data: str


def follow_traces(url: str, query: Mapping[str, Sequence[str]], *, as_json: bool) -> None:
    """Print events until Ctrl-C; a connection that ends is opened again where it ended.

    Raises CannotReach, Refused: there is no such stream.
    """
    with suppress(KeyboardInterrupt):
        for event in _events(url, f"/-/traces/live?{urlencode(query, doseq=True)}"):
            _print(event, as_json=as_json)


def _events(url: str, path: str) -> Iterator[ServerEvent]:
    last = ""
    while True:
        headers = {"last-event-id": last} if last else {}
        try:
            lines = remote.get_lines(url, path, timeout_seconds=SILENCE_SECONDS, **headers)
            for event in read_events(lines, last):
                last = event.id
                if event.kind:
                    yield event
        except (remote.CannotReach, remote.Refused, OSError) as error:
            if not last:
                raise
            typer.echo(f"connecting again: {error}", err=True)
        time.sleep(RETRY_SECONDS)


def read_events(lines: Iterable[str], last_id: str = "") -> Iterator[ServerEvent]:
    """Events from the lines of a stream.

    Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
    """
    kind, data = "", ""
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "id":
            last_id = value
        elif name == "event":
            kind = value
        elif name == "data":
            data += value
        elif not line:
            yield ServerEvent(kind=kind if data else "", id=last_id, data=data)
            kind, data = "", ""


def _print(event: ServerEvent, *, as_json: bool) -> None:
    document = json.loads(event.data)
    if as_json:
        typer.echo(json.dumps(document))
    elif event.kind == "trace":
        typer.echo(trace_line(document))
    elif event.kind == "missed":
        count = document["missed"]
        typer.echo(f"missed: {'some' if count is None else count} events", err=True)
    sys.stdout.flush()


def trace_line(document: Mapping[str, Any]) -> str:
    """`12:00:01  OK  3 of 14 spans new  2.1 s  trace-id  name`."""
    trace = document["trace"]
    started = datetime.fromtimestamp(trace["start_unix_ns"] / NS_A_SECOND).astimezone()
    status = trace["status"] if trace["complete"] else "RUNNING"
    said = [
        f"{started:%H:%M:%S}",
        f"{status:8}",
        f"{len(document['spans']):>4} of {trace['span_count']} spans new",
        f"{trace['duration_seconds']:.2f} s",
        trace["trace_id"],
        _printable(trace["name"]),
        _printable(trace["error_message"] or trace["error_type"] or ""),
    ]
    return "  ".join(said).rstrip()


def _printable(text: str) -> str:
    """Telemetry must not steer the terminal."""
    return "".join(each if each.isprintable() else " " for each in text)
