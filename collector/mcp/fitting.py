"""Answers within their bound without holding up the event loop: large ones are made to fit in a thread."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from collector.mcp.asking import Json
from collector.mcp.bounds import MAX_TEXT, OF_SPANS, Cut, Fitted, fit

# values in a document that take a few milliseconds
MANY_VALUES = 5000


async def fit_in_turn(
    document: Json,
    cuts: Sequence[Cut],
    *,
    max_tokens: int,
    max_text: int = MAX_TEXT,
    whole_texts: str = OF_SPANS,
) -> Fitted:
    """As `fit`."""
    making = partial(fit, document, cuts, max_tokens=max_tokens, max_text=max_text, whole_texts=whole_texts)
    return await asyncio.to_thread(making) if has_many_values(document) else making()


def has_many_values(document: Any) -> bool:
    """Whether there are more than MANY_VALUES in it; stops counting there."""
    waiting, count = [document], 0
    while waiting and count <= MANY_VALUES:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting.extend(value.values())
            count += len(value)
        elif isinstance(value, list):
            waiting.extend(value[: MANY_VALUES + 1])
            count += len(value)
    return count > MANY_VALUES
