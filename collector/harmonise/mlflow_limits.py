"""Texts in the length and the characters that MLflow takes. Pure."""

import hashlib
import math
import re
from typing import Any

from collector.spans.json_text import read_json

# mlflow/tracing/constant.py: a longer session id makes it refuse the whole request
MAX_ID_CHARACTERS = 250
MAX_TAG_NAME_CHARACTERS = 250
DIGEST_CHARACTERS = 16
# whole numbers up to it are exact as floats, and sums of many fit into 63 bits
MAX_NUMBER = 2**53
# mlflow/utils/validation.py, _validate_tag_name
NOT_IN_TAG_NAMES = re.compile(r"[^\w\-. :/]")


def capped(text: str, limit: int = MAX_ID_CHARACTERS) -> str:
    """At most `limit` characters; the end becomes a digest, so that different texts stay different."""
    if len(text) <= limit:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST_CHARACTERS]
    return f"{text[: limit - DIGEST_CHARACTERS - 1]}~{digest}"


def is_object_of_numbers(value: Any) -> bool:
    """Whether MLflow can add up what stands there, as JSON text or an object; else it fails the request."""
    if isinstance(value, str):
        value = read_json(value)
    return isinstance(value, dict) and all(map(_is_number, value.values()))


def _is_number(value: object) -> bool:
    """Whether MLflow stores and shows it: it answers 500 to a trace with a larger one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= MAX_NUMBER and math.isfinite(value)


def tag_name(name: str) -> str:
    """A tag's name in the characters that MLflow allows; what it doesn't is `_`."""
    return NOT_IN_TAG_NAMES.sub("_", name)[:MAX_TAG_NAME_CHARACTERS]
