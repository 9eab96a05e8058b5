"""How much the receivers hold at a time: requests and bytes, until they are answered."""

from typing import Self

from collector.model.errors import Reason, Unavailable


class InFlightBounds:
    """Counts what is in flight on one event loop and refuses what goes over.

    `stopping`: the service will end soon and still takes what comes. `draining` refuses everything new: its
    time is over.
    """

    def __init__(self, *, max_requests: int, max_bytes: int) -> None:
        self.max_requests = max_requests
        self.max_bytes = max_bytes
        self.requests = 0
        self.bytes = 0
        self.stopping = False
        self.draining = False

    def count(self) -> int:
        """The requests that are in flight."""
        return self.requests

    def request(self) -> "Reservation":
        """A place for one request, held until the reservation ends. Raises Unavailable if there is none."""
        if self.draining:
            raise draining()
        if self.requests >= self.max_requests:
            raise Unavailable(
                Reason.TOO_MANY_REQUESTS, f"{self.requests} requests are in flight, send it again"
            )
        return Reservation(self)


def draining() -> Unavailable:
    """What is said to a client when the service's time is over."""
    return Unavailable(Reason.DRAINING, "the service is stopping; send it again", retry_after_seconds=2)


class Reservation:
    """A request's place and the bytes that it holds; a context manager that gives both back."""

    __slots__ = ("_bounds", "_bytes")

    def __init__(self, bounds: InFlightBounds) -> None:
        self._bounds = bounds
        self._bytes = 0
        bounds.requests += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bounds.bytes -= self._bytes
        self._bounds.requests -= 1

    def reserve(self, size_bytes: int) -> None:
        """Set `size_bytes` more aside. Raises Unavailable at the bound."""
        if self._bounds.bytes + size_bytes > self._bounds.max_bytes:
            raise Unavailable(Reason.MEMORY_FULL, f"{self._bounds.bytes} bytes are in flight, send it again")
        self._bounds.bytes += size_bytes
        self._bytes += size_bytes

    def hold(self, size_bytes: int) -> None:
        """Have `size_bytes` set aside in all, instead of what was. Raises Unavailable at the bound."""
        self.give_back(self._bytes)
        self.reserve(size_bytes)

    def give_back(self, size_bytes: int) -> None:
        """Let go of a part before the end."""
        self._bounds.bytes -= size_bytes
        self._bytes -= size_bytes
