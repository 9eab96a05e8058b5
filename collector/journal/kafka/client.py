"""The Kafka client as this log configures it: whom it talks to, how it signs in, and how its calls fail.

confluent-kafka is imported here and below only: it is the extra `kafka`.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from collector.model.errors import Misconfigured
from collector.settings.engines import EnginePlace, KafkaSettings

_log = logging.getLogger("sidespan.kafka")

Answer = TypeVar("Answer")

# an open transaction of a killed process holds up its partitions for so long, and until the brokers look for
# such transactions next (transaction.abort.timed.out.transaction.cleanup.interval.ms, 10 s)
TRANSACTION_SECONDS = 6.0
CALL_SECONDS = 10.0
# for what a thread asks that has more to do: a leader that is gone never answers
ASK_SECONDS = 3.0
# within which a client that can't connect is told why
TOLD_SECONDS = 3.0
# a record's headers and framing
RECORD_OVERHEAD_BYTES = 64 * 1024


def require_client() -> Any:
    """The client's module. Raises Misconfigured: it is not installed."""
    try:
        import confluent_kafka
    except ImportError as error:
        raise Misconfigured(
            "journal.url names Kafka, but its client is not installed: pip install 'sidespan[server,kafka]'"
        ) from error
    return confluent_kafka


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """Where the brokers are and how to sign in; makes clients. Secrets are never logged."""

    place: EnginePlace
    settings: KafkaSettings

    def common(self) -> dict[str, Any]:
        """What every client is told."""
        settings = self.settings
        told: dict[str, Any] = {
            "bootstrap.servers": ",".join(self.place.hosts),
            "client.id": "sidespan",
            "socket.keepalive.enable": True,
            "reconnect.backoff.max.ms": 2000,
            "topic.metadata.refresh.interval.ms": 30_000,
            "error_cb": _told_error,
            "logger": _log,
        }
        protocol = "SASL" if settings.username else ""
        transport = "SSL" if settings.tls else "PLAINTEXT"
        told["security.protocol"] = f"{protocol}_{transport}" if protocol else transport
        files: Mapping[str, Any] = {
            "ssl.ca.location": settings.ca_file,
            "ssl.certificate.location": settings.certificate_file,
            "ssl.key.location": settings.key_file,
        }
        told |= {key: str(value) for key, value in files.items() if value is not None}
        if (password := settings.read_key_password()) is not None:
            told["ssl.key.password"] = password
        if settings.username:
            told["sasl.mechanism"] = settings.sasl_mechanism
            told["sasl.username"] = settings.username
            told["sasl.password"] = settings.read_password() or ""
        return told

    def admin(self) -> Any:
        """An AdminClient. Its events come in a thread of the library, where no callback may be called."""
        from confluent_kafka.admin import AdminClient

        told = {key: value for key, value in self.common().items() if key not in ("logger", "error_cb")}
        return AdminClient({**told, "log_level": 2})

    def asker(self, group: str) -> Any:
        """A Consumer that only asks where a group is: it never joins, and nobody polls it."""
        told = {key: value for key, value in self.common().items() if key not in ("logger", "error_cb")}
        # stable offsets are waited for by those who read what is committed; here the last ones will do
        told |= {"group.id": group, "isolation.level": "read_uncommitted", "log_level": 2}
        return require_client().Consumer(told)

    def producer(self, **more: Any) -> Any:
        """A Producer whose acknowledgements mean that `min.insync.replicas` copies are there."""
        settings = self.settings
        told = {
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": "zstd",
            "linger.ms": 2,
            "batch.size": 1_000_000,
            "message.max.bytes": settings.max_message_bytes + RECORD_OVERHEAD_BYTES,
            "delivery.timeout.ms": int(settings.delivery_timeout_seconds * 1000),
            "queue.buffering.max.kbytes": 256 * 1024,
        }
        return require_client().Producer({**self.common(), **told, **more})

    def consumer(self, group: str, *, topics: Sequence[str], **more: Any) -> Any:
        """A Consumer that sees what transactions have committed. It commits nothing by itself."""
        told = {
            "group.id": group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 100,
            "fetch.error.backoff.ms": 50,
            "allow.auto.create.topics": False,
        }
        consumer = require_client().Consumer({**self.common(), **told, **more})
        for topic in topics:  # else the first fetch waits for the client's next look at who leads what
            consumer.list_topics(topic, timeout=CALL_SECONDS)
        return consumer


def unreachable(connection: KafkaConnection, error: Exception) -> Misconfigured:
    """Why no broker answers: what a client is told that tries to connect, else what the call was told.

    Blocks for some seconds.
    """
    why = _told_at_connecting(connection)
    if why is None:  # they close connections without a word
        why = error.args[0].str()
        why += "" if connection.settings.tls else "; if they want TLS, set kafka.tls = true"
    return Misconfigured(f"no broker of {connection.place.shown} answers: {why}")


def _told_at_connecting(connection: KafkaConnection) -> str | None:
    """A refused password or certificate first: an AdminClient keeps that to itself."""
    from confluent_kafka import KafkaError

    clear = (KafkaError._AUTHENTICATION, KafkaError._SSL)
    told: list[Any] = []

    def tell(error: Any) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            told.append(error)

    client = require_client().Producer({**connection.common(), "error_cb": tell})
    until = time.monotonic() + TOLD_SECONDS
    while time.monotonic() < until and not any(error.code() in clear for error in told):
        client.poll(0.1)
    first = next((error for error in told if error.code() in clear), told[0] if told else None)
    return None if first is None else str(first.str())


class AdminCalls:
    """Calls of an AdminClient, which is replaced when one fails.

    The library asks whoever led a partition when it last looked, and looks again only after minutes
    (`metadata.max.age.ms`), whatever the answer was: once a leader has moved, the calls of one client fail
    until then. https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md
    """

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection
        self._client: Any = None

    def ask(self, question: Callable[[Any], Answer]) -> Answer:
        """Call `question` with a client; if one fails that has answered before, with a new one. Blocks.

        Raises KafkaException: what a new client was told.
        """
        from confluent_kafka import KafkaException

        known = self._client
        if known is not None:
            try:
                return question(known)
            except KafkaException:
                self._client = None
        client = self._connection.admin()
        answer = question(client)
        self._client = client
        return answer


def _told_error(error: Any) -> None:
    _log.warning("Kafka", extra={"error": str(error)})
