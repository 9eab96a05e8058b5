"""Documents of MLflow that the index is given. Pure."""

from collections.abc import Callable
from typing import TypeVar

from collector.index.protocol import UnreadableTraces

T = TypeVar("T")


def read_document(read: Callable[[bytes], T], body: bytes) -> T:
    """What `read` makes of it. Raises UnreadableTraces."""
    try:
        return read(body)
    except ValueError as error:
        raise UnreadableTraces(str(error)) from error
