"""Renders one trace's summary for a terminal.

The texts come from outside, so they are printed as plain text, never as markup, and control characters
(escape sequences, line breaks, changes of writing direction) are replaced.
"""

from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

Json = dict[str, Any]

DEEPEST_INDENT = 12
STATUS_STYLES = {"OK": "bold green", "ERROR": "bold red", "UNKNOWN": "bold yellow"}
KIND_STYLES = {"LLM": "cyan", "EMBEDDING": "cyan", "TOOL": "magenta", "AGENT": "blue", "WORKFLOW": "blue"}


def render_trace(summary_json: Json, console: Console) -> None:
    """Print the header, the tree of spans and the remarks."""
    console.print(_header(summary_json), soft_wrap=True)
    rows = summary_json["spans"]
    width = max((_label_width(row) for row in rows), default=0)
    for row in rows:
        console.print(_row(row, min(width, 60)), soft_wrap=True)
    for score in summary_json.get("scores", ()):
        console.print(_score(score, rows), soft_wrap=True)
    for remark in _remarks(summary_json):
        console.print(Text(remark, style="yellow"), soft_wrap=True)


def one_line(summary_json: Json) -> str:
    """The header without colours: name, status, duration, counts, tokens, cost, experiment."""
    return _header(summary_json).plain


def _score(score: Json, rows: Sequence[Json]) -> Text:
    """What was said, of which span, and by whom."""
    line = Text("score ", style="dim")
    line.append(score_text(score), style="red" if score["error_type"] else "bold")
    of = next((row["name"] for row in rows if row["span_id"] == score["span_id"]), score["span_id"])
    about = f"of {printable(of)}" if of else "of the session" if score["session"] else ""
    by = f"{score['judge']} {printable(score['source'] or '')}".strip()
    line.append(f"  {about}  by {by}" if about else f"  by {by}", style="dim")
    return line


def score_text(score: Json) -> str:
    """`helpful 0.8 good`: its name, its number and its label."""
    value = score["value"]
    said = [
        score["name"],
        "" if value is None or score["label"] in ("pass", "fail") else f"{value:.4g}",
        score["label"] or "",
        f"failed: {score['error_type']}" if score["error_type"] else "",
    ]
    return printable(" ".join(filter(None, said)))


def scores_text(scores: Sequence[Json]) -> str:
    """All of them on one line."""
    return ", ".join(map(score_text, scores))


def _header(summary: Json) -> Text:
    parts = [
        Text(printable(summary["name"]), style="bold"),
        Text(summary["status"], style=STATUS_STYLES.get(summary["status"], "bold")),
        Text(duration(summary["duration_seconds"])),
        Text(_counted(summary["span_count"], "span")),
        Text(_counted(summary["model_call_count"], "model call")),
        Text(_counted(summary["tool_call_count"], "tool call")),
    ]
    if summary["error_span_count"]:
        parts.append(Text(_counted(summary["error_span_count"], "error"), style="red"))
    if summary["recovered_retry_count"]:
        retries = summary["recovered_retry_count"]
        parts.append(Text("1 recovered retry" if retries == 1 else f"{retries} recovered retries"))
    if spent := tokens(summary["tokens"]):
        parts.append(Text(spent))
    if (usd := summary["cost"]["usd"]) is not None:
        parts.append(Text(("≥ " if summary["cost"]["unpriced_model_calls"] else "") + money(usd)))
    if place := summary["experiment"]["name"] or summary["experiment"]["id"]:
        parts.append(Text(f"experiment {printable(place)}"))
    return Text("  ").join(parts)


def _row(row: Json, width: int) -> Text:
    line = Text(_indent(row["depth"]), style="dim")
    name = printable(row["name"])
    style = "red" if row["is_error"] and not row["recovered_retry"] else KIND_STYLES.get(row["kind"], "")
    line.append(name, style=style)
    line.append(" " * max(2, width - cell_len(line.plain) + 2))
    line.append(f"{duration(row['duration_seconds']):>9}")
    for part in (tokens(row["tokens"]), _money_or_nothing(row["cost_usd"])):
        if part:
            line.append(f"  {part}")
    if row["is_error"]:
        line.append("  ")
        line.append_text(_error(row))
    for trace_id in dict.fromkeys(link["trace_id"] for link in row.get("links", ())):
        line.append(f"  links to {trace_id}", style="dim")
    return line


def _error(row: Json) -> Text:
    kind, message = printable(row["error_type"] or ""), printable(row["error_message"] or "")
    told = message if message.startswith(kind) else f"{kind}: {message}" if message else kind
    if row["recovered_retry"]:
        return Text(f"retried: {told or 'no reason given'}", style="yellow")
    return Text(told or "error", style="red")


def _remarks(summary: Json) -> list[str]:
    remarks = []
    if summary["spans_omitted"]:
        remarks.append(f"… and {_counted(summary['spans_omitted'], 'span')} more")
    if not summary["complete"]:
        remarks.append(
            "The root span has not arrived: the trace is still running, or its root was sent elsewhere."
        )
    if summary["missing_parents"]:
        remarks.append(f"{_counted(summary['missing_parents'], 'parent span')} missing.")
    if summary["cost"]["unpriced_model_calls"]:
        unpriced = _counted(summary["cost"]["unpriced_model_calls"], "model call")
        remarks.append(f"{unpriced} without a known cost.")
    if summary["input_excluded_cache"]:
        remarks.append("The client counted input tokens without cached ones; they have been added.")
    if summary["incomplete"]:
        remarks.append(f"Possibly incomplete: {printable(summary['incomplete'])}")
    if place := summary.get("archived"):
        where = printable(f"{place['file']} in {place['archive']}")
        remarks.append(f"Archived: its content is in {where}. `sidespan archive restore` brings it back.")
    return remarks


def _indent(depth: int) -> str:
    if depth <= DEEPEST_INDENT:
        return "  " * depth
    return "  " * DEEPEST_INDENT + f"({depth}) "


def _label_width(row: Json) -> int:
    return cell_len(_indent(row["depth"]) + printable(row["name"]))


def duration(seconds: float) -> str:
    """Seconds in a unit that suits their size."""
    if seconds < 0.001:
        return f"{seconds * 1_000_000:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def tokens(counts: Json) -> str:
    """`517→88 tokens (audio 120→50)`: input and output, and how much of them was no text."""
    parts = [
        f"{modality} {counts[f'{modality}_input'] or 0}→{counts[f'{modality}_output'] or 0}"
        for modality in ("image", "audio", "video")
        if counts.get(f"{modality}_input") or counts.get(f"{modality}_output")
    ]
    return _sums(counts) + (f" ({', '.join(parts)})" if parts else "")


def _sums(counts: Json) -> str:
    """`517→88 tokens`: input and output, or the total where only that is known."""
    if counts["input"] is None and counts["output"] is None:
        return "" if counts["total"] is None else _counted(counts["total"], "token")
    taken, given = ("?" if counts[key] is None else counts[key] for key in ("input", "output"))
    return f"{taken}→{given} tokens"


def money(usd: float) -> str:
    """US dollars, with enough digits for small sums."""
    return f"${usd:.2f}" if usd >= 1 or usd == 0 else f"${usd:.4f}" if usd >= 0.0001 else f"${usd:.2g}"


def printable(text: str) -> str:
    """`text` on one line, with control characters replaced."""
    return "".join(character if character.isprintable() else "�" for character in text)


def _money_or_nothing(usd: float | None) -> str:
    return "" if usd is None else money(usd)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
