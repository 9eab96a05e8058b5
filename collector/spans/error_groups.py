"""An error message without what differs from case to case, so that the same error is one group. Pure."""

import re

MAX_CHARACTERS = 200
# what to put in place of what, in this order: the longer and plainer first
# who passes an error on puts its type in front; the same error below it has none there
TYPE = re.compile(r"^(?:[\w.]+(?:Error|Exception)\s*:\s*)+")
PLACES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"[a-z][a-z0-9+.-]{1,20}://[^\s'\")>]+", re.IGNORECASE), "<url>"),
    (re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"), "<email>"),
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"), "<time>"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"), "<address>"),
    (re.compile(r"(?<![\w.])/(?:[\w.@+-]+/)+[\w.@+-]*"), "<path>"),
    (re.compile(r"\b0x[0-9a-f]+\b", re.IGNORECASE), "<id>"),
    # letters and digits in one word of eight or more: an id of some kind
    (re.compile(r"\b(?=\w*\d)(?=\w*[a-z])[\w-]{8,}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"(?<![\w<])[-+]?\d+(?:[.,]\d+)*(?:[eE][-+]?\d+)?"), "<n>"),
    (re.compile(r"'[^'\n]{1,200}'|\"[^\"\n]{1,200}\""), "<text>"),
    (re.compile(r"\s+"), " "),
)
# only so much of a message is looked at: patterns over text that a client chose
MAX_LOOKED_AT = 400


def normal_message(message: str) -> str:
    """The message with ids, numbers, addresses, paths, times and quoted text made equal, cut to length."""
    message = TYPE.sub("", message[:MAX_LOOKED_AT])
    for pattern, instead in PLACES:
        message = pattern.sub(instead, message[:MAX_LOOKED_AT])
    return message.strip()[:MAX_CHARACTERS]
