"""What the journal in memory holds: entries and claims."""

from collections import Counter
from dataclasses import dataclass, field, fields

from collector.model.batch import Draft, Entry, Position


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldClaim:
    """Whose a trace id is; `delivered` once the target has spans of it."""

    target: str
    client: str = ""
    delivered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldEntry:
    """An entry. `consumer` None: everybody sees it. `attempts` are by consumer."""

    sequence: int
    received_unix_ns: int
    content: Draft
    consumer: str | None = None
    attempts: Counter[str] = field(default_factory=Counter)

    def is_for(self, consumer: str | None) -> bool:
        """Whether the consumer sees it."""
        return self.consumer is None or self.consumer == consumer

    def entry(self, consumer: str) -> Entry:
        """It as the consumer reads it."""
        return Entry(
            position=Position(self.sequence),
            received_unix_ns=self.received_unix_ns,
            attempts=self.attempts[consumer],
            **{each.name: getattr(self.content, each.name) for each in fields(Draft)},
        )
