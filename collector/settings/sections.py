"""The sections of the settings: what may be set, in which bounds, with which default.

Field docstrings are the reference that docs/settings.md is generated from.
"""

import re
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from collector.settings.access import (
    AuthSettings,
    OidcSettings,
    PolicySettings,
    TrustedHeaderSettings,
    check_access,
)
from collector.settings.alerts import AlertingSettings, AlertSettings
from collector.settings.engines import (
    INDEX_ENGINES,
    LOG_ENGINES,
    MIB,
    ClickhouseSettings,
    Engine,
    EnginePlace,
    KafkaSettings,
    read_engine_url,
)
from collector.settings.forward import ForwardSettings, check_targets
from collector.settings.keep import KeepSettings
from collector.settings.live import LiveSettings
from collector.settings.processors import Processor
from collector.settings.proxy import ProxySettings
from collector.settings.retention import CleanupSettings, RetentionSettings
from collector.settings.roles import ALL_ROLES, Role, check_roles, check_tables
from collector.settings.section import Section, is_loopback
from collector.settings.stores import IndexSettings, JournalSettings

INDEX_FOLDER = "index"


class ServerSettings(Section):
    """Our own port."""

    host: str = "127.0.0.1"
    """Address to listen on. An address other than loopback requires `auth.mode` to be set explicitly."""
    port: int = Field(4318, ge=0, le=65535)
    """Port for OTLP/HTTP, the proxy and `/-/` (4318 is OTLP's default). 0 picks a free one."""
    allowed_hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")
    """Accepted values of the Host header (`*.example.com` and `*` work); prevents DNS rebinding."""
    public_origins: tuple[str, ...] = ()
    """Other origins whose pages may send changes, such as `https://mlflow.example.com`."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses of proxies in front of Sidespan whose X-Forwarded-For is trusted."""
    root_path: str = ""
    """Path under which a proxy in front publishes Sidespan, such as `/mlflow`; requests with and without it
    are answered."""
    tls_certificate_file: Path | None = None
    """Certificate chain (PEM) of the port; if set, the port accepts only HTTPS."""
    tls_key_file: Path | None = None
    """Private key (PEM) of the certificate, if it is not in the same file."""
    tls_client_ca_file: Path | None = None
    """Certificate authorities (PEM); if set, clients must have a certificate signed by one of them."""
    header_timeout_seconds: float = Field(10.0, gt=0)
    """Time for the head of a request to arrive, from its first byte; beyond it 408."""
    body_timeout_seconds: float = Field(60.0, gt=0)
    """Longest pause within the body of a request; beyond it the connection is closed."""
    max_head_bytes: int = Field(64 * 1024, ge=4096)
    """Size of a request line with its headers, or of trailers; beyond it 431."""
    max_headers: int = Field(100, ge=10)
    """Headers in one request; beyond it 431."""
    shutdown_seconds: float = Field(2.5, gt=0)
    """How long a stop may take. Requests to MLflow and answers in flight end, and transfers that take longer
    are cut off. Undelivered spans are delivered after the next start."""
    takeover: bool = False
    """Replace the process that uses the data folder, if there is one: it hands over its port, and no client
    is refused (`sidespan serve --takeover`)."""
    takeover_seconds: float = Field(30.0, gt=0)
    """How long that process may take to exit before this one gives up and lets it continue."""

    @field_validator("root_path")
    @classmethod
    def _is_plain_path(cls, value: str) -> str:
        if value and not re.fullmatch(r"(?:/[A-Za-z0-9_.~-]+)+", value.rstrip("/")):
            raise ValueError("must be a plain path, such as /mlflow")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _tls_is_whole(self) -> "ServerSettings":
        if self.tls_certificate_file is None and (self.tls_key_file or self.tls_client_ca_file):
            raise ValueError("tls_key_file and tls_client_ca_file need tls_certificate_file")
        return self


class MlflowSettings(Section):
    """The MLflow server behind us."""

    url: str = "http://127.0.0.1:5000"
    """Base URL, with a path if MLflow has one; no user name or password in it."""
    username: str | None = None
    """User for HTTP basic authentication at MLflow."""
    password: str | None = Field(None, repr=False)
    """Password for `username`. Better in the environment or in `password_file`."""
    password_file: Path | None = None
    """File that holds the password."""
    token: str | None = Field(None, repr=False)
    """Bearer token for MLflow. Better in the environment or in `token_file`."""
    token_file: Path | None = None
    """File that holds the bearer token."""
    ca_file: Path | None = None
    """Certificates (PEM) to trust for MLflow, instead of the system's."""
    insecure_tls: bool = False
    """Accept any certificate from MLflow."""
    connect_timeout_seconds: float = Field(5.0, gt=0)
    """Time to open a connection."""
    request_timeout_seconds: float = Field(120.0, gt=0)
    """Time for one delivery request; MLflow needs a while for a large batch."""
    database: Literal["other", "sqlite"] = "other"
    """The database behind MLflow, where `proxy.answer_from_index` is `auto`; `sidespan up` sets it."""
    database_file: Path | None = None
    """MLflow's SQLite file, if this machine has it and it is on a local disk; `sidespan up` sets it. Then the
    copy for `proxy.answer_from_index` and the spans that `[[retention]]` rules archive are read from there.
    Sidespan only reads the file."""
    lookup_timeout_seconds: float = Field(1.0, gt=0)
    """How long a receiver waits to learn whether an experiment exists before it accepts the spans anyway."""

    @field_validator("url")
    @classmethod
    def _is_http_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an http:// or https:// URL")
        if parts.username or parts.query or parts.fragment:
            raise ValueError("must not hold a user name, a query or a fragment")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _one_credential(self) -> "MlflowSettings":
        given = [n for n in ("password", "password_file", "token", "token_file") if getattr(self, n)]
        if len(given) > 1:
            raise ValueError(f"give one credential, not {' and '.join(given)}")
        if bool(self.username) != bool(self.password or self.password_file):
            raise ValueError("username and a password (password or password_file) must be set together")
        return self


class ReceiverSettings(Section):
    """OTLP in."""

    grpc_port: int = Field(4317, ge=0, le=65535)
    """Port for OTLP/gRPC at `server.host` (4317 is OTLP's default); 0 switches it off. It needs the extra
    `grpc`. If you don't set it, and grpcio is not installed or the port is taken, Sidespan starts without
    OTLP/gRPC and says so in its log."""
    max_body_bytes: int = Field(64 * MIB, gt=0)
    """Body size, on the wire and again after decompression (OTLP recommends 64 MiB); beyond it 413, over gRPC
    RESOURCE_EXHAUSTED."""
    max_spans: int = Field(100_000, gt=0)
    """Spans or log records in one request, counted before they are read; beyond it 413."""
    max_messages: int = Field(3_000_000, gt=0)
    """Attributes, values, events, links and other messages in one protobuf request; beyond it 413."""
    max_attribute_depth: int = Field(32, ge=1, le=46)
    """Levels of nested lists and maps in an attribute; a span with more is rejected."""
    max_in_flight_bytes: int = Field(256 * MIB, gt=0)
    """Memory for bodies being read or waiting for their commit; beyond it 503, over gRPC UNAVAILABLE."""
    decoder_memory_bytes: int = Field(512 * MIB, ge=64 * MIB)
    """Memory of the process that reads large bodies, one at a time; a body that needs more gets 413."""
    max_concurrent_requests: int = Field(1000, gt=0)
    """Requests being read or waiting for their commit; beyond it 503, over gRPC UNAVAILABLE."""
    body_timeout_seconds: float = Field(30.0, gt=0)
    """Time for a body to arrive; a slower sender gets 503 and is disconnected, over gRPC UNAVAILABLE."""
    other_signals: Literal["reject", "accept-and-drop"] = "reject"
    """`/v1/metrics`, and its service over gRPC: `reject` (404, NOT_FOUND) or `accept-and-drop` (200, OK,
    counted)."""
    cors_allowed_origins: tuple[str, ...] = ()
    """Origins whose pages may send OTLP (browser SDKs); `*` for any."""

    @model_validator(mode="after")
    def _one_request_fits(self) -> "ReceiverSettings":
        if self.max_in_flight_bytes < 2 * self.max_body_bytes:
            raise ValueError(
                "max_in_flight_bytes must be at least twice max_body_bytes (as sent and decompressed)"
            )
        if self.decoder_memory_bytes < 3 * self.max_body_bytes:
            raise ValueError("decoder_memory_bytes must be at least three times max_body_bytes")
        return self

    @property
    def wants_grpc(self) -> bool:
        """Whether somebody has chosen the port: then OTLP/gRPC must be there."""
        return "grpc_port" in self.model_fields_set and self.grpc_port != 0


class RoutingSettings(Section):
    """Which experiment a trace goes to."""

    default_experiment: str = "0"
    """Experiment for traces without any other route: an id (digits only) or a name."""
    services: dict[str, str] = Field(default_factory=dict)
    """Maps `service.name` to an experiment: an id (digits only) or a name."""
    service_name_as_experiment: bool = False
    """Use `service.name` as the experiment name if it is not in `routing.services`."""
    create_experiments: bool = True
    """Create experiments that are named by a route but don't exist."""


class DeliverySettings(Section):
    """Journal out to MLflow."""

    request_bytes: int = Field(4 * MIB, gt=0)
    """Size (before compression) up to which entries are grouped into one request."""
    max_in_flight: int = Field(2, ge=1, le=64)
    """Requests to MLflow at the same time. 1 or 2 are best if MLflow uses SQLite."""
    max_lanes: int = Field(4, ge=1, le=256)
    """Routes (experiment, run, workspace) that are delivered at the same time."""
    linger_seconds: float = Field(0.2, ge=0)
    """How long the first entry waits for others before it is sent."""
    compression: Literal["auto", "gzip", "none"] = "auto"
    """Content-Encoding of the requests to MLflow; `auto` is gzip, or none if MLflow is on this machine."""
    backoff_initial_seconds: float = Field(0.5, gt=0)
    """First pause after MLflow could not accept a request."""
    backoff_max_seconds: float = Field(30.0, gt=0)
    """Longest pause; pauses double up to it, with jitter."""
    suspect_resends: int = Field(2, ge=0, le=10)
    """How often a request is sent again unchanged after an error that may pass (400, 422, 500)."""
    verify: Literal["off", "sample", "all"] = "off"
    """Read spans back from MLflow after a 200 and send missing ones again."""
    verify_sample_ratio: float = Field(0.05, gt=0, le=1)
    """Share of requests that `verify = "sample"` reads back."""
    foreign_trace: Literal["refuse", "allow"] = "refuse"
    """For a trace id that another experiment already has: `refuse` makes dead letters, `allow` lets MLflow
    merge the traces."""
    trace_memory: int = Field(1_000_000, ge=1000)
    """How many trace ids are kept with their experiment for `foreign_trace`."""
    log_wait_seconds: float = Field(3600.0, ge=0)
    """How long a log record with an evaluation or a message waits for its trace before it becomes a dead
    letter."""
    unknown_run: Literal["dead-letter", "deliver-without-link"] = "dead-letter"
    """What to do with traces whose `x-mlflow-run-id` MLflow does not know."""


class HarmoniseSettings(Section):
    """What is added to the copy of each span that goes to MLflow."""

    enabled: bool = True
    """Add attributes; if off, MLflow gets what the client sent."""
    types: bool = True
    """`mlflow.spanType`, from the attributes of any convention."""
    tokens: bool = True
    """`mlflow.chat.tokenUsage`, model and provider; cached tokens included."""
    cost: bool = True
    """`mlflow.llm.cost`: the client's own figure, else from the public price list."""
    content: bool = True
    """Inputs and outputs if MLflow finds none or only a part."""
    names: bool = True
    """The trace's name; from the first agent or model call if the root is a web server's span."""
    tags: bool = True
    """Tags of the trace: service, version, environment, and those that the client set."""
    sessions: bool = True
    """Session and user of the trace, on the span from which MLflow reads them."""
    caps: bool = True
    """Shorten values that would make MLflow refuse the whole request."""


class RunsSettings(Section):
    """What is asked of MLflow about runs."""

    allowed_tracking_uris: tuple[str, ...] = ()
    """Other MLflow servers that requests to `/mlflow/runs` may name as `tracking_uri`."""


class McpSettings(Section):
    """What agents may ask at `/-/mcp`."""

    enabled: bool = True
    """Answer at `/-/mcp`, if the extra `mcp` is installed."""
    feedback: bool = False
    """Offer the tool `record_feedback`, which writes assessments to MLflow with the client's rights."""
    max_answer_tokens: int = Field(10_000, ge=3000, le=200_000)
    """Bound on each answer; a token is counted as two bytes of JSON."""


class LogSettings(Section):
    """What the service says."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is written."""
    format: Literal["auto", "text", "json"] = "auto"
    """`auto` is text on a terminal, JSON lines otherwise."""
    access: bool = True
    """Write a line for each proxied request to `logs/access.jsonl` in the data folder."""
    audit: bool = True
    """Write a line for each write, delete and denial to `logs/audit.jsonl` in the data folder."""
    requests_to: Literal["files", "stdout"] = "files"
    """Where these lines go. With `stdout` each has a field `log`, `access` or `audit`, and no file is
    written."""
    max_file_bytes: int = Field(10 * MIB, ge=1024)
    """Size at which such a file is rotated."""
    max_files: int = Field(5, ge=2)
    """How many files of each are kept, the open one included."""


class Settings(Section):
    """Everything a user may set."""

    data_dir: Path = Path(".sidespan")
    """Folder of the journal (and of the embedded MLflow); one process uses it at a time."""
    roles: tuple[Role, ...] = ALL_ROLES
    """What this process does: `receive`, `route`, `deliver`, `index`, `query`, `proxy`; by default all of it.
    Fewer need Kafka and ClickHouse (docs/scale.md)."""
    server: ServerSettings = ServerSettings()
    auth: AuthSettings = AuthSettings()
    oidc: OidcSettings = OidcSettings()
    trusted_header: TrustedHeaderSettings = TrustedHeaderSettings()
    policy: PolicySettings = PolicySettings()
    mlflow: MlflowSettings = MlflowSettings()
    receiver: ReceiverSettings = ReceiverSettings()
    routing: RoutingSettings = RoutingSettings()
    journal: JournalSettings = JournalSettings()
    delivery: DeliverySettings = DeliverySettings()
    harmonise: HarmoniseSettings = HarmoniseSettings()
    processors: tuple[Processor, ...] = ()
    """What else is done to spans, in this order; each is a `[[processors]]` table (docs/processors.md)."""
    forward: tuple[ForwardSettings, ...] = ()
    """Other backends that get what Sidespan accepts; each is a `[[forward]]` table (docs/forward.md)."""
    retention: tuple[RetentionSettings, ...] = ()
    """Which traces leave MLflow; each is a `[[retention]]` table (docs/retention.md)."""
    cleanup: CleanupSettings = CleanupSettings()
    index: IndexSettings = IndexSettings()
    live: LiveSettings = LiveSettings()
    alerts: tuple[AlertSettings, ...] = ()
    """Metrics of the index that somebody is told of; each is an `[[alerts]]` table (docs/alerts.md)."""
    alerting: AlertingSettings = AlertingSettings()
    proxy: ProxySettings = ProxySettings()
    runs: RunsSettings = RunsSettings()
    mcp: McpSettings = McpSettings()
    kafka: KafkaSettings = KafkaSettings()
    clickhouse: ClickhouseSettings = ClickhouseSettings()
    log: LogSettings = LogSettings()

    @property
    def sampling(self) -> KeepSettings | None:
        """The sampling among the processors, if there is one."""
        return next((each for each in self.processors if isinstance(each, KeepSettings)), None)

    @property
    def counts(self) -> bool:
        """Whether this process says what the whole log holds: one kind of process does, or sums are wrong."""
        return Role.QUERY in self.roles

    @property
    def log_place(self) -> EnginePlace:
        """Where the log is kept."""
        if self.journal.url is None:
            return EnginePlace(engine=Engine.SQLITE, folder=self.data_dir)
        return read_engine_url(self.journal.url, LOG_ENGINES)

    @property
    def index_place(self) -> EnginePlace | None:
        """Where the index is kept; None: it is switched off."""
        if not self.index.enabled:
            return None
        if self.index.url is None:
            return EnginePlace(engine=Engine.DUCKDB, folder=self.data_dir / INDEX_FOLDER)
        return read_engine_url(self.index.url, INDEX_ENGINES)

    @model_validator(mode="after")
    def _holds_together(self) -> "Settings":
        if sum(each.type == "keep" for each in self.processors) > 1:
            raise ValueError('processors: only one may be of type "keep"; put its conditions together')
        check_targets(self.forward, host=self.server.host, port=self.server.port)
        if self.auth.mode == "loopback" and not is_loopback(self.server.host):
            raise ValueError(
                f"server.host = {self.server.host!r} lets other machines in, and no clients are "
                'configured: keep 127.0.0.1, write auth.mode = "clients" (docs/policies.md), or write '
                'auth.mode = "none" to let anybody in'
            )
        if self.receiver.grpc_port and self.receiver.grpc_port == self.server.port:
            raise ValueError(
                f"receiver.grpc_port = {self.receiver.grpc_port} is also server.port: OTLP/gRPC needs a port "
                "of its own; choose another, or 0 to switch it off"
            )
        check_roles(self.roles, self.log_place, self.index_place, foreign_topics=self.kafka.foreign_topics)
        check_tables(self.roles, self.log_place, self.alerts, self.forward, self.retention, self.cleanup)
        if self.server.takeover and not self.log_place.engine.is_embedded:
            raise ValueError(
                "server.takeover: there is no journal to hand over where replicas share one; start the new "
                "replica, then stop the old one"
            )
        check_access(self.auth, self.oidc, self.trusted_header, self.policy)
        return self
