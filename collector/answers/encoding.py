"""Answers as JSON. Pure."""

import json
from typing import Any, NewType

EncodedJson = NewType("EncodedJson", bytes)
"""A JSON document in UTF-8. The index encodes its answers itself; nobody decodes them on their way out."""


def encode_json(document: Any) -> EncodedJson:
    """The document without spaces. Raises ValueError: NaN or an infinity, which JSON doesn't have."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return EncodedJson(text.encode())
