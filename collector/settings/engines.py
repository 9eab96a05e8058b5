"""The engines of the log and of the index: which ones by URL, and how to reach those that are servers.

    journal.url   sqlite:///FOLDER       kafka://HOST:PORT,HOST:PORT/PREFIX
    index.url     duckdb:///FOLDER       clickhouse://USER@HOST:PORT/DATABASE

SQLite and DuckDB are embedded: one process has their files. A path after `:///` is relative, after `:////`
absolute, as in MLflow's own store URLs.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, model_validator

from collector.model.errors import Misconfigured
from collector.settings.section import Section

MIB = 1024 * 1024

# of topics and databases alike: no quoting is ever needed
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,99}")


class Engine(StrEnum):
    """What the log or the index is kept in, as its URL's scheme says."""

    SQLITE = "sqlite"
    DUCKDB = "duckdb"
    KAFKA = "kafka"
    CLICKHOUSE = "clickhouse"

    @property
    def product(self) -> str:
        """Its name as people write it."""
        return {"sqlite": "SQLite", "duckdb": "DuckDB", "kafka": "Kafka", "clickhouse": "ClickHouse"}[self]

    @property
    def is_embedded(self) -> bool:
        """Whether one process alone has it, with its files."""
        return self in (Engine.SQLITE, Engine.DUCKDB)


LOG_ENGINES = (Engine.SQLITE, Engine.KAFKA)
INDEX_ENGINES = (Engine.DUCKDB, Engine.CLICKHOUSE)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePlace:
    """Where an engine is. Of an embedded one `folder`, of a server `hosts` (with ports), `user` and `name`.

    `name` is the prefix of Kafka's topics and groups, or ClickHouse's database.
    """

    engine: Engine
    folder: Path | None = None
    hosts: tuple[str, ...] = ()
    user: str = ""
    name: str = ""

    @property
    def shown(self) -> str:
        """As logs and messages name it."""
        if self.folder is not None:
            return str(self.folder)
        return f"{self.engine.value}://{','.join(self.hosts)}/{self.name}"


def read_engine_url(url: str, allowed: Sequence[Engine]) -> EnginePlace:
    """The place that a URL names. Raises ValueError, without the URL: it may hold a password."""
    scheme = url.partition("://")[0]
    if scheme not in [each.value for each in allowed] or "://" not in url:
        raise ValueError(f"must begin with {' or '.join(f'{each.value}://' for each in allowed)}")
    parts = urlsplit(url)
    if ":" in parts.netloc.rpartition("@")[0]:
        raise ValueError("must not hold a password: set it in a file or in the environment")
    if parts.query or parts.fragment:
        raise ValueError("must not hold a query or a fragment: everything else is a setting of its own")
    engine = Engine(scheme)
    read = _folder if engine.is_embedded else _server
    return read(engine, parts.netloc, parts.path)


def _folder(engine: Engine, host: str, path: str) -> EnginePlace:
    folder = unquote(path.removeprefix("/"))
    if host or not folder:
        raise ValueError(f"must be {engine.value}:///FOLDER, with four slashes for an absolute path")
    return EnginePlace(engine=engine, folder=Path(folder))


def _server(engine: Engine, netloc: str, path: str) -> EnginePlace:
    user, _, hosts = netloc.rpartition("@")
    name = path.removeprefix("/")
    if not _NAME.fullmatch(name):
        raise ValueError(f"must end with /NAME: {_NAMED[engine]}, of letters, digits, _ and -")
    if engine is Engine.CLICKHOUSE and "-" in name:
        raise ValueError("the name of a database must not hold a -")
    if engine is Engine.KAFKA and user:
        raise ValueError("must not hold a user: set kafka.username")
    places = tuple(_with_port(host, engine) for host in hosts.split(","))
    return EnginePlace(engine=engine, hosts=places, user=unquote(user), name=name)


_PORTS = {Engine.KAFKA: 9092, Engine.CLICKHOUSE: 8123}
_NAMED = {Engine.KAFKA: "the prefix of the topics", Engine.CLICKHOUSE: "the database"}


def _with_port(host: str, engine: Engine) -> str:
    parts = urlsplit(f"//{host}")
    if not parts.hostname or parts.netloc != host:
        raise ValueError(f"must name a host: {engine.value}://HOST:PORT/NAME")
    if parts.port is not None:  # raises ValueError
        return host
    return f"{host}:{_PORTS[engine]}"


class KafkaSettings(Section):
    """Kafka as the log, where `journal.url` names it (docs/scale.md)."""

    tls: bool = False
    """Connect with TLS."""
    ca_file: Path | None = None
    """Certificates (PEM) to trust for the brokers, instead of the system's; needs `tls`."""
    certificate_file: Path | None = None
    """Our certificate (PEM), for brokers that ask for one; needs `key_file`."""
    key_file: Path | None = None
    """Private key (PEM) of our certificate."""
    key_password_file: Path | None = None
    """File that holds the password of the key."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """How `username` signs in."""
    username: str | None = None
    """User at the brokers. Without one there is no sign-in."""
    password: str | None = Field(None, repr=False)
    """Password for `username`. Better in the environment or in `password_file`."""
    password_file: Path | None = None
    """File that holds the password."""
    partitions: int = Field(12, ge=1, le=10_000)
    """Partitions of the log, fixed for its life: a topic that has another number is refused at the start.
    No more processes than this can share one kind of work."""
    replicas: int = Field(3, ge=1, le=9)
    """Copies of each partition that a topic is created with; a topic with fewer is refused at the start."""
    min_insync_replicas: int = Field(2, ge=1, le=9)
    """Copies that must have a record before it is acknowledged; a topic that asks for fewer is refused at the
    start."""
    create_topics: bool = True
    """Create topics that are missing. If off, a missing topic is refused at the start."""
    member: str | None = None
    """Name of this replica in its groups, which no other replica may have; with one, a restarted replica has
    its partitions back at once (in a StatefulSet: the pod's name). Without one it is a new member each
    time."""
    session_timeout_seconds: float = Field(10.0, ge=6)
    """How long a replica may be silent before others take over what it works on."""
    delivery_timeout_seconds: float = Field(5.0, ge=1)
    """How long the brokers may take to acknowledge; beyond it 503. Clients wait 10 s."""
    max_message_bytes: int = Field(8 * MIB, ge=10_000)
    """Largest record of our topics. Exports over 1 MiB are split by trace, then by span; a single span may
    have this size, and a larger one gets 413."""
    max_lag_bytes: int = Field(64 * 1024 * MIB, ge=MIB)
    """What may wait for the slowest consumer; beyond it new requests get 503. The brokers' disks must hold
    it."""
    max_held_bytes: int = Field(128 * MIB, ge=MIB)
    """Memory of one consumer for records that were read and wait for their turn."""
    foreign_topics: tuple[str, ...] = ()
    """Topics that other programs write OTLP to, such as the OpenTelemetry Collector's `otlp_spans`; the role
    `route` brings them into the log."""

    @model_validator(mode="after")
    def _is_whole(self) -> "KafkaSettings":
        _check_credential(self.username, self.password, self.password_file)
        if (self.ca_file or self.certificate_file) and not self.tls:
            raise ValueError("ca_file and certificate_file need tls = true")
        if bool(self.certificate_file) != bool(self.key_file):
            raise ValueError("certificate_file and key_file must be set together")
        if self.key_password_file and not self.key_file:
            raise ValueError("key_password_file needs key_file")
        if self.min_insync_replicas > self.replicas:
            raise ValueError("min_insync_replicas must not be more than replicas")
        return self

    def read_password(self) -> str | None:
        """From wherever it is. Raises Misconfigured."""
        return _password(self.password, self.password_file, "kafka.password_file")

    def read_key_password(self) -> str | None:
        """Raises Misconfigured."""
        return _password(None, self.key_password_file, "kafka.key_password_file")


class ClickhouseSettings(Section):
    """ClickHouse as the index, where `index.url` names it (docs/scale.md)."""

    tls: bool = False
    """Connect with HTTPS."""
    ca_file: Path | None = None
    """Certificates (PEM) to trust for the server, instead of the system's; needs `tls`."""
    password: str | None = Field(None, repr=False)
    """Password of the user in `index.url`. Better in the environment or in `password_file`."""
    password_file: Path | None = None
    """File that holds the password."""
    cluster: str | None = None
    """Cluster, as ClickHouse's `remote_servers` name it; `index.url` must name each of its servers, on which
    the tables are created. Without one there is a single server."""
    replicated: bool = False
    """Make replicated tables (`ReplicatedReplacingMergeTree`); the servers must have Keeper, and the macros
    `shard` and `replica`."""
    connect_timeout_seconds: float = Field(5.0, gt=0)
    """Time to open a connection."""
    query_timeout_seconds: float = Field(30.0, gt=0)
    """Time for a query; beyond it 503 names a parameter that makes it narrower."""
    insert_timeout_seconds: float = Field(60.0, gt=0)
    """Time for one insert."""

    @model_validator(mode="after")
    def _is_whole(self) -> "ClickhouseSettings":
        if self.password and self.password_file:
            raise ValueError("give one credential, not password and password_file")
        if self.ca_file and not self.tls:
            raise ValueError("ca_file needs tls = true")
        return self

    def read_password(self) -> str | None:
        """From wherever it is. Raises Misconfigured."""
        return _password(self.password, self.password_file, "clickhouse.password_file")


def _check_credential(username: str | None, password: str | None, file: Path | None) -> None:
    if password and file:
        raise ValueError("give one credential, not password and password_file")
    if bool(username) != bool(password or file):
        raise ValueError("username and a password (password or password_file) must be set together")


def _password(given: str | None, file: Path | None, key: str) -> str | None:
    if file is None:
        return given
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{key} = {str(file)!r} can't be read: {error}") from error
