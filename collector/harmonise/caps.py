"""Texts in the length and the characters that MLflow takes. Pure."""

import hashlib
import json
import re

# mlflow/tracing/constant.py: a longer session id makes it refuse the whole request
MAX_ID_CHARACTERS = 250
MAX_TAG_NAME_CHARACTERS = 250
DIGEST_CHARACTERS = 16
# mlflow/utils/validation.py, _validate_tag_name
NOT_IN_TAG_NAMES = re.compile(r"[^\w\-. :/]")


def capped(text: str, limit: int = MAX_ID_CHARACTERS) -> str:
    """At most `limit` characters; the end becomes a digest, so that different texts stay different."""
    if len(text) <= limit:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST_CHARACTERS]
    return f"{text[: limit - DIGEST_CHARACTERS - 1]}~{digest}"


def is_object_of_numbers(text: str) -> bool:
    """Whether MLflow can add up what stands in the text; at anything else it fails the whole request."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and all(
        isinstance(number, int | float) and not isinstance(number, bool) for number in value.values()
    )


def tag_name(name: str) -> str:
    """A tag's name in the characters that MLflow allows; what it doesn't is `_`."""
    return NOT_IN_TAG_NAMES.sub("_", name)[:MAX_TAG_NAME_CHARACTERS]
