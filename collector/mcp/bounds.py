"""An answer within its bound, and what had to go. Pure.

A token is counted as two bytes of the JSON document in UTF-8. The common tokenizers make fewer of it: English
and JSON have three to four bytes a token, ids in hex about two.

What is too long goes in this order, until the rest fits:

    texts over `max_text` characters lose their end
    the lists that the tool names lose their end, the least important list first
    texts lose half again and again, and in the end everything goes: the answer then only says so
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from collector.mcp.asking import Json
from collector.mcp.envelope import NOTICE, Omission, ToolAnswer, visible

BYTES_A_TOKEN = 2
MAX_TEXT = 600
LEAST_TEXT = 30
# for the notice, the omissions and the names around them
RESERVED_BYTES = 2600
OF_SPANS = "get_trace with content = true, span_ids and from_character reads the texts of spans in whole"
TOO_LARGE = "even shortened it does not fit: ask for less, with filters or a smaller limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A list (or object) whose end may go: `path` to it (`metrics.*.history`: in each of them), and how to
    get the rest; `{next}` is the place of the first one that is missing. At least `least` stay. `beyond` more
    were not even asked for."""

    path: str
    how: str
    least: int = 0
    begins_at: int = 0
    beyond: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A document that fits, and what went; `kept` says how long each cut list is now, by its path."""

    telemetry: Json
    omitted: tuple[Omission, ...]
    kept: dict[str, int]


def tokens_of(document: Any) -> int:
    """About how many tokens the document has, as a model reads it."""
    return -(-bytes_of(document) // BYTES_A_TOKEN)


def bytes_of(document: Any) -> int:
    """The size of the document as JSON."""
    return len(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())


def fit(
    document: Json,
    cuts: Sequence[Cut],
    *,
    max_tokens: int,
    max_text: int = MAX_TEXT,
    whole_texts: str = OF_SPANS,
) -> Fitted:
    """The document, visible and within `max_tokens` with all that stands around it.

    `whole_texts` says where texts are that were shortened.
    """
    room = max_tokens * BYTES_A_TOKEN - RESERVED_BYTES
    telemetry, omitted, kept = visible(document), list[Omission](), dict[str, int]()
    shortened = _shorten(telemetry, max_text)
    for cut in cuts:
        if (over := bytes_of(telemetry) - room) <= 0:
            break
        if gone := _cut(telemetry, cut, over):
            kept[cut.path] = gone.kept
            how = cut.how.replace("{next}", str(cut.begins_at + gone.kept))
            omitted.append(Omission(what=f"{gone.count + cut.beyond} of {cut.path}", how=how))
    while bytes_of(telemetry) > room and max_text > LEAST_TEXT:
        max_text //= 2
        shortened = _shorten(telemetry, max_text)
    if bytes_of(telemetry) > room:
        return Fitted(telemetry={}, omitted=(Omission(what="everything", how=TOO_LARGE),), kept=kept)
    if shortened:
        what = f"the ends of {shortened} texts over {max_text} characters"
        omitted.insert(0, Omission(what=what, how=whole_texts))
    return Fitted(telemetry=telemetry, omitted=tuple(omitted), kept=kept)


def envelope(answer: ToolAnswer, *, max_tokens: int) -> Json:
    """The answer as a client gets it."""
    document = {
        "notice": NOTICE,
        "telemetry": answer.telemetry,
        "omitted": [{"what": each.what, "how": each.how} for each in answer.omitted],
        "bound": {"max_tokens": max_tokens, "estimated_tokens": 0},
    }
    document["bound"] = {"max_tokens": max_tokens, "estimated_tokens": tokens_of(document)}
    return document


@dataclass(frozen=True, slots=True)
class _Gone:
    count: int
    kept: int


def _cut(telemetry: Json, cut: Cut, over: int) -> _Gone | None:
    """Shorten the lists at the path, all to one length, by `over` bytes or as far as it goes; or None."""
    lists = [each for each in _at(telemetry, cut.path.split(".")) if len(each) > cut.least]
    if not lists:
        return None
    longest = max(map(len, lists))
    sizes = [0] * longest  # of what stands at this place in any of them
    for each in lists:
        for place, item in enumerate(each.items() if isinstance(each, dict) else each):
            sizes[place] += bytes_of(item) + 1
    kept = longest
    while kept > cut.least and over > 0:
        kept -= 1
        over -= sizes[kept]
    count = sum(max(0, len(each) - kept) for each in lists)
    for each in lists:
        _end(each, kept)
    return _Gone(count, kept)


def _end(container: list[Any] | Json, kept: int) -> None:
    if isinstance(container, list):
        del container[kept:]
        return
    for key in list(container)[kept:]:
        del container[key]


def _at(value: Any, path: Sequence[str]) -> Iterator[list[Any] | Json]:
    """The lists and objects at the path."""
    if not path:
        if isinstance(value, list | dict):
            yield value
    elif path[0] == "*" and isinstance(value, list):
        for each in value:
            yield from _at(each, path[1:])
    elif isinstance(value, dict) and path[0] in value:
        yield from _at(value[path[0]], path[1:])


def _shorten(value: Any, most: int) -> int:
    """Cut the texts in a list or object, in place; how many were cut."""
    members = enumerate(value) if isinstance(value, list) else list(value.items())
    count = 0
    for key, each in members:
        if isinstance(each, str) and len(each) > most:
            value[key] = _ShortText(each, most)
            count += 1
        elif isinstance(each, list | dict):
            count += _shorten(each, most)
    return count


class _ShortText(str):
    """The beginning of a text, and how much is missing; it can be shortened again."""

    __slots__ = ("characters", "kept")

    characters: int
    kept: str

    def __new__(cls, text: str, most: int) -> "_ShortText":
        kept = (text.kept if isinstance(text, _ShortText) else text)[:most]
        characters = text.characters if isinstance(text, _ShortText) else len(text)
        short = super().__new__(cls, f"{kept}… ({characters - len(kept)} more characters)")
        short.characters, short.kept = characters, kept
        return short
