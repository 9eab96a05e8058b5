"""The one typed object that says how the service runs.

Where a value comes from, strongest first:

    flags  >  environment (SIDESPAN_SECTION__KEY)  >  sidespan.toml  >  defaults

`load` is the only place that reads the environment or the file. A key that isn't known or a value
that can't be right raises Misconfigured, naming the key, the value, where it stands and what is allowed.
Field docstrings are the reference that docs/settings.md is generated from.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from collector.errors import Misconfigured
from collector.process.settings import Processor

MIB = 1024 * 1024
ENVIRONMENT_PREFIX = "SIDESPAN_"
# read by the instrumentation package and the CLI's clients, not by the service
FOREIGN_VARIABLES = frozenset(
    f"SIDESPAN_{name}"
    for name in "ENDPOINT EXPERIMENT URL TOKEN INCLUDE_CONTENT HIDE_INPUTS HIDE_OUTPUTS BATCH OPENINFERENCE"
    " REPEAT_CONTENT".split()
)


class Section(BaseModel):
    """A frozen part of the settings; unknown keys are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True
    )


class Server(Section):
    """Our own port."""

    host: str = "127.0.0.1"
    """Address to listen on. Any other than loopback needs `auth.mode` written out."""
    port: int = Field(4318, ge=0, le=65535)
    """Port for OTLP/HTTP, the proxy and `/-/` (4318 is OTLP's own). 0 takes a free one."""
    allowed_hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")
    """Values of the Host header that are answered (`*.example.com` and `*` work); stops DNS rebinding."""
    public_origins: tuple[str, ...] = ()
    """Origins, beside our own, whose pages may change things, as `https://mlflow.example.com`."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses of proxies in front of us whose X-Forwarded-For is believed."""
    shutdown_seconds: float = Field(20.0, gt=0)
    """How long a stop may take: answers in flight, then the requests to MLflow."""


class Auth(Section):
    """Who may connect."""

    mode: Literal["loopback", "none"] = "loopback"
    """`loopback`: only programs on this machine. `none`: anybody who reaches the port."""


class Mlflow(Section):
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
    """Time for one delivery request; a large batch takes MLflow a while."""
    lookup_timeout_seconds: float = Field(1.0, gt=0)
    """Time that a receiver waits to learn whether an experiment exists before it accepts anyway."""

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
    def _one_credential(self) -> "Mlflow":
        given = [n for n in ("password", "password_file", "token", "token_file") if getattr(self, n)]
        if len(given) > 1:
            raise ValueError(f"give one credential, not {' and '.join(given)}")
        if bool(self.username) != bool(self.password or self.password_file):
            raise ValueError("username needs password or password_file, and the other way round")
        return self


class Receiver(Section):
    """OTLP in."""

    max_body_bytes: int = Field(64 * MIB, gt=0)
    """Body size, on the wire and again after decompression (OTLP recommends 64 MiB); over it 413."""
    max_spans: int = Field(100_000, gt=0)
    """Spans in one request; over it 413."""
    max_attribute_depth: int = Field(32, ge=1, le=46)
    """Lists and maps inside each other in an attribute; a deeper span is rejected."""
    max_in_flight_bytes: int = Field(256 * MIB, gt=0)
    """Memory for bodies being read or waiting for their commit; over it 503."""
    max_concurrent_requests: int = Field(1000, gt=0)
    """Requests being read or waiting for their commit; over it 503."""
    body_timeout_seconds: float = Field(30.0, gt=0)
    """Time for a body to arrive; a slower sender gets 503 and is disconnected."""
    other_signals: Literal["reject", "accept-and-drop"] = "reject"
    """`/v1/metrics` and `/v1/logs`: `reject` (404) or `accept-and-drop` (200, counted)."""
    cors_allowed_origins: tuple[str, ...] = ()
    """Origins whose pages may send OTLP (browser SDKs); `*` for any."""

    @model_validator(mode="after")
    def _one_request_fits(self) -> "Receiver":
        if self.max_in_flight_bytes < 2 * self.max_body_bytes:
            raise ValueError("max_in_flight_bytes must hold one request twice (as sent and inflated)")
        return self


class Routing(Section):
    """Which experiment a trace goes to."""

    default_experiment: str = "0"
    """Experiment (id if only digits, else name) for what nothing else routes."""
    services: dict[str, str] = Field(default_factory=dict)
    """From `service.name` to experiment (id if only digits, else name)."""
    service_name_as_experiment: bool = False
    """Use `service.name` as experiment name where the table says nothing."""
    create_experiments: bool = True
    """Create an experiment that is routed to by name and doesn't exist."""


class Journal(Section):
    """The durable log between receivers and consumers."""

    max_bytes: int = Field(4096 * MIB, ge=MIB)
    """Size of the journal on disk, dead letters included; at the bound new requests get 503."""
    min_free_disk_bytes: int = Field(64 * MIB, ge=0)
    """Free space on the disk under which new requests get 503."""
    retention_seconds: float = Field(0.0, ge=0)
    """How long delivered entries are kept for `sidespan replay`."""
    max_commit_bytes: int = Field(32 * MIB, gt=0)
    """How much one commit takes at the most; requests that wait together share it."""
    max_notes: int = Field(200_000, ge=1000)
    """Traces of which something is remembered between requests: a name, a session, a sampling decision."""
    quarantine_after_crashes: int = Field(3, ge=2)
    """An entry whose processing was cut short by that many crashes goes to the dead letters."""


class Delivery(Section):
    """Journal out to MLflow."""

    request_bytes: int = Field(4 * MIB, gt=0)
    """Size (before compression) up to which entries are grouped into one request."""
    max_in_flight: int = Field(2, ge=1, le=64)
    """Requests to MLflow at the same time. SQLite behind MLflow does best with 1 or 2."""
    max_lanes: int = Field(4, ge=1, le=256)
    """Routes (experiment, run, workspace) that are worked on at the same time."""
    linger_seconds: float = Field(0.2, ge=0)
    """How long a first entry waits for company before it is sent."""
    compression: Literal["auto", "gzip", "none"] = "auto"
    """Content-Encoding of the requests to MLflow; `auto` is gzip, but none to an MLflow on this machine."""
    backoff_initial_seconds: float = Field(0.5, gt=0)
    """First pause after MLflow could not take a request."""
    backoff_max_seconds: float = Field(30.0, gt=0)
    """Longest pause; it doubles up to here, with jitter."""
    suspect_resends: int = Field(2, ge=0, le=10)
    """Plain re-sends of a request that MLflow answered with a mis-coded passing error (400, 422, 500)."""
    verify: Literal["off", "sample", "all"] = "off"
    """Read spans back from MLflow after a 200 and send again what is missing."""
    verify_sample_ratio: float = Field(0.05, gt=0, le=1)
    """Share of requests that `verify = "sample"` reads back."""
    foreign_trace: Literal["refuse", "allow"] = "refuse"
    """A trace id already delivered to another experiment: dead letter, or let MLflow merge it."""
    trace_memory: int = Field(1_000_000, ge=1000)
    """How many trace ids are remembered with their experiment for `foreign_trace`."""
    unknown_run: Literal["dead-letter", "deliver-without-link"] = "dead-letter"
    """What becomes of traces whose `x-mlflow-run-id` MLflow doesn't know."""


class Harmonise(Section):
    """What is added to the copy of each span that goes to MLflow."""

    enabled: bool = True
    """Add anything at all; off, MLflow gets what the client sent."""
    types: bool = True
    """`mlflow.spanType`, from whatever convention the span speaks."""
    tokens: bool = True
    """`mlflow.chat.tokenUsage`, model and provider; cached tokens included."""
    cost: bool = True
    """`mlflow.llm.cost`: the client's own, else by the public price list."""
    content: bool = True
    """Inputs and outputs where MLflow finds none or only a part."""
    names: bool = True
    """The trace's name, from the first agent where the root is a web server's span."""
    tags: bool = True
    """Tags of the trace: service, version, environment, and those that the client set."""
    sessions: bool = True
    """Session and user of the trace on the span that MLflow asks for them."""
    caps: bool = True
    """Shorten ids that would make MLflow refuse the whole request."""


class Proxy(Section):
    """Everything else to MLflow."""

    max_connections: int = Field(100, ge=1)
    """Connections to MLflow for proxied requests."""
    read_timeout_seconds: float = Field(300.0, gt=0)
    """Longest silence of MLflow; a large artifact from a remote store takes minutes to its first byte."""


class Log(Section):
    """What the service says."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is written."""
    format: Literal["auto", "text", "json"] = "auto"
    """`auto` is text on a terminal, JSON lines otherwise."""


class Settings(Section):
    """Everything a user may set."""

    data_dir: Path = Path(".sidespan")
    """Folder of the journal (and of the embedded MLflow); one process uses it at a time."""
    server: Server = Server()
    auth: Auth = Auth()
    mlflow: Mlflow = Mlflow()
    receiver: Receiver = Receiver()
    routing: Routing = Routing()
    journal: Journal = Journal()
    delivery: Delivery = Delivery()
    harmonise: Harmonise = Harmonise()
    processors: tuple[Processor, ...] = ()
    """What else is done to spans, in this order; each is a `[[processors]]` table (docs/processors.md)."""
    proxy: Proxy = Proxy()
    log: Log = Log()

    @model_validator(mode="after")
    def _holds_together(self) -> "Settings":
        if sum(each.type == "keep" for each in self.processors) > 1:
            raise ValueError('processors: only one may be of type "keep"; put its conditions together')
        if self.auth.mode != "none" and not is_loopback(self.server.host):
            raise ValueError(
                f"server.host = {self.server.host!r} lets other machines in, and no clients are "
                'configured: keep 127.0.0.1, or write auth.mode = "none" to let anybody in'
            )
        return self


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    return host in ("localhost", "::1", "[::1]") or host.startswith("127.")


def environment() -> dict[str, str]:
    """The process's own."""
    return dict(os.environ)


Values = dict[str, Any]


def load(
    *,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Settings:
    """The settings from `flags` (dotted keys), `environment` and `file`.

    `file` None: `sidespan.toml` in the working directory, if it is there.
    Raises Misconfigured.
    """
    environment = os.environ if environment is None else environment
    values: Values = {}
    origins: dict[str, str] = {}
    for key, value, origin in [
        *_from_file(file),
        *_from_environment(environment),
        *((key, value, f"flag for {key}") for key, value in (flags or {}).items()),
    ]:
        _put(values, key, value, origin)
        origins[key] = origin
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise Misconfigured(_explain(error, values, origins)) from error


def _from_file(file: Path | None) -> list[tuple[str, Any, str]]:
    path = file or Path("sidespan.toml")
    if file is None and not path.exists():
        return []
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Misconfigured(f"{path}: can't be read as TOML: {error}") from error
    return [(key, value, f"{path}") for key, value in _flatten(content)]


def _flatten(content: Values, prefix: str = "") -> list[tuple[str, Any]]:
    """Tables as dotted keys; the table of services stays one value, its keys are names."""
    flat: list[tuple[str, Any]] = []
    for key, value in content.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, dict) and dotted != "routing.services":
            flat += _flatten(value, f"{dotted}.")
        else:
            flat.append((dotted, value))
    return flat


def _from_environment(environment: Mapping[str, str]) -> list[tuple[str, Any, str]]:
    found = []
    for name, text in environment.items():
        if name.startswith(ENVIRONMENT_PREFIX) and name not in FOREIGN_VARIABLES:
            key = name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")
            found.append((key, _parse(key, text, name), f"environment variable {name}"))
    return found


def _parse(key: str, text: str, name: str) -> Any:
    """Lists and tables are written in TOML's inline form, a list also with commas."""
    field = known_keys().get(key)
    if field is None or not (field.startswith("tuple") or field.startswith("dict")):
        return text
    if field.startswith("tuple") and not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise Misconfigured(f"environment variable {name}: not a TOML value: {error}") from error


def known_keys() -> dict[str, str]:
    """Every dotted key with its type as text."""
    keys: dict[str, str] = {}
    for name, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            for inner, inner_field in kind.model_fields.items():
                keys[f"{name}.{inner}"] = str(inner_field.annotation)
        else:
            keys[name] = str(kind)
    return keys


def _put(values: Values, key: str, value: Any, origin: str) -> None:
    if key not in known_keys():
        raise Misconfigured(f"{origin}: unknown setting {key!r}; {_suggest(key)}")
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
    values[last] = value


def _suggest(key: str) -> str:
    import difflib

    close = difflib.get_close_matches(key, known_keys(), n=3, cutoff=0.7)
    section = key.split(".")[0]
    siblings = [known for known in known_keys() if known.split(".")[0] == section]
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known there: {', '.join(siblings)}" if siblings else "see docs/settings.md"


def _explain(error: ValidationError, values: Values, origins: Mapping[str, str]) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        key = ".".join(str(part) for part in problem["loc"])
        known = ".".join(key.split(".")[:2])
        origin = origins.get(key) or origins.get(known) or origins.get(key.split(".")[0])
        message = problem["msg"].removeprefix("Value error, ")
        value = _lookup(values, key if key.startswith("processors.") else known)
        shown = "" if _is_secret(key, value) or origin is None else f" = {value!r}"
        lines.append(f"{origin or 'settings'}: {key}{shown}: {message}" if key else message)
    return "\n".join(lines)


def _lookup(values: Values, key: str) -> Any:
    found: Any = values
    for part in key.split("."):
        if isinstance(found, list | tuple):
            found = found[int(part)] if part.isdecimal() and int(part) < len(found) else None
        elif not (isinstance(found, dict) and found.get("type") == part):  # pydantic names the type too
            found = found.get(part) if isinstance(found, dict) else None
    return found


def _is_secret(key: str, value: Any) -> bool:
    # somebody who puts a password into the URL must not find it in a log
    return (
        key.endswith(("password", "token", "hash_key"))
        or "hash_key" in str(value)
        or (key == "mlflow.url" and "@" in str(value))
    )
