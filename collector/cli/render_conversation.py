"""Renders what was said in a trace for a terminal; the texts come from outside (render_trace.py)."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from collector.cli.render_trace import printable

Json = dict[str, Any]

INDENT = "  "
ROLE_STYLES = {"user": "bold cyan", "assistant": "bold green", "tool": "bold magenta"}
MAX_CALL_CHARACTERS = 500


def render_conversation(messages: Sequence[Json], console: Console) -> None:
    """Print each message: who said it, its texts, and tool calls with arguments and results."""
    if not messages:
        console.print(Text("No messages: the sender records no content.", style="yellow"), soft_wrap=True)
    for message in messages:
        said = printable(" ".join(filter(None, (message["role"], message["name"]))))
        console.print(Text(said, style=ROLE_STYLES.get(message["role"], "bold")), soft_wrap=True)
        for line in _lines(message):
            console.print(line, soft_wrap=True)


def _lines(message: Json) -> Iterator[Text]:
    for part in message["parts"]:
        yield from _part(part)
    if message["error"]:
        yield Text(f"{INDENT}failed: {_failure(message['error'])}", style="red")


def _part(part: Json) -> Iterator[Text]:
    match part["type"]:
        case "text" | "json":
            yield from _paragraph(part)
        case "reasoning":
            yield from _paragraph(part, style="dim italic")
        case "tool_call" | "tool_result":
            yield from _call(part)
        case kind:
            name = printable(part["name"] or part["mime_type"] or "")
            yield Text(f"{INDENT}[{kind} {name}]".replace(" ]", "]"), style="dim")


def _paragraph(part: Json, style: str = "") -> Iterator[Text]:
    for line in part["text"].splitlines():
        yield Text(f"{INDENT}{printable(line)}", style=style)
    if (cut := part["characters"] - len(part["text"])) > 0:
        yield Text(f"{INDENT}… and {cut:,} more characters", style="dim")


def _call(part: Json) -> Iterator[Text]:
    arguments = part.get("arguments")
    yield Text(f"{INDENT}→ {printable(part['name'] or 'tool')} {_brief(arguments)}".rstrip(), style="magenta")
    if part.get("error"):
        yield Text(f"{INDENT}  failed: {_failure(part['error'])}", style="red")
    elif part["result"]:
        yield Text(f"{INDENT}  = {_brief(part['result'])}", style="red" if part["is_error"] else "dim")


def _brief(told: Json | None) -> str:
    """A value on one line."""
    if told is None:
        return ""
    text = printable(told["text"])
    cut = len(text) > MAX_CALL_CHARACTERS or told["characters"] > len(told["text"])
    return f"{text[:MAX_CALL_CHARACTERS]}…" if cut else text


def _failure(error: Json) -> str:
    message = error["message"] and error["message"]["text"]
    return printable(": ".join(filter(None, (error["type"], message))) or "no reason given")
