"""A report on the last day's traces by agent, as Markdown for a chat or a ticket.

Look at: what it prints. It only reads Sidespan's HTTP API (docs/index.md) and needs only the standard
library. Run it from cron while Sidespan runs, with SIDESPAN_TOKEN if clients are authenticated.
"""

import json
import os
import sys
import urllib.request
from urllib.parse import urlencode

URL = os.environ.get("SIDESPAN_ENDPOINT", "http://127.0.0.1:4318")
METRICS = ("count", "error_rate", "duration_seconds_p95", "total_tokens", "cost_usd")


def ask(path: str, **parameters: object) -> dict:
    """The answer to a question."""
    request = urllib.request.Request(f"{URL}{path}?{urlencode(parameters, doseq=True)}")
    if token := os.environ.get("SIDESPAN_TOKEN"):
        request.add_header("authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def number(value: float | None, unit: str = "") -> str:
    """A number for people; a dash where nobody said."""
    return "–" if value is None else f"{value:,.4g}{unit}"


def change(both: dict) -> str:
    """A number, and how it stands to the day before."""
    if both["ratio"] is None:
        return number(both["b"])
    return f"{number(both['b'])} ({100 * (both['ratio'] - 1):+.0f} %)"


def main() -> None:
    """Print the report; an argument names the experiment."""
    of = {"experiment_name": sys.argv[1]} if sys.argv[1:] else {}
    days = {"a.since": "-2d", "a.until": "-1d", "b.since": "-1d"}
    compared = ask("/-/traces/compare", metric=METRICS, by="agent", order="-cost_usd", **days, **of)
    print("| agent | traces | errors | 95th percentile | tokens | cost |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for group in [*compared["groups"], {"key": {"agent": "**all**"}, "values": compared["total"]}]:
        values = group["values"]
        cells = [change(values[name]) for name in ("count", "total_tokens", "cost_usd")]
        errors, seconds = values["error_rate"]["b"], values["duration_seconds_p95"]["b"]
        share = number(None if errors is None else 100 * errors, " %")
        agent = group["key"]["agent"] or "(no agent)"
        print(f"| {agent} | {cells[0]} | {share} | {number(seconds, ' s')} | {cells[1]} | {cells[2]} |")
    for error in ask("/-/traces/errors", since="-1d", limit=5, **of)["errors"]:
        print(f"\n- {error['traces']} traces: {error['error']} ({URL}/-/#/trace/{error['example_trace_id']})")


if __name__ == "__main__":
    main()
