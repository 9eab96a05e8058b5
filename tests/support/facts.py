"""The facts of one span that a test makes up."""

from typing import Any

from collector.spans.facts import facts
from tests.support.spans import otlp_span


def read(attributes: dict[str, Any], **fields: Any) -> Any:
    return facts(otlp_span(attributes, **fields), {})
