"""The other backends as the settings name them: `[[forward]]` tables."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from collector.model.batch import Signal
from collector.settings.keep import KeepSettings
from collector.settings.processors import Processor
from collector.settings.section import Section

MIB = 1024 * 1024
NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,38}[a-z0-9])?")
# what dead letters and replays call the target that is always there
MLFLOW = "mlflow"
LOCALHOST, EVERY_ADDRESS = frozenset({"localhost", "127.0.0.1"}), frozenset({"0.0.0.0", "::"})  # noqa: S104
# RFC 9110, 5.1 and 5.5, without the characters beyond ASCII that it calls obsolete
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
# what the request itself says of its body
OWN_HEADERS = frozenset({"content-type", "content-encoding", "content-length", "host", "transfer-encoding"})


class ForwardSettings(Section):
    """Another backend that gets what Sidespan accepts, over OTLP/HTTP, beside MLflow (docs/forward.md)."""

    name: str
    """Name of the target in metrics, health, logs and dead letters: lower-case letters, digits, `-` and `_`.
    Under another name it is another target."""
    url: str
    """Base URL, with a path if the backend has one; no user name or password in it."""
    traces_path: str = "/v1/traces"
    """Path of traces below `url`."""
    logs_path: str = "/v1/logs"
    """Path of log records below `url`."""
    signals: tuple[Signal, ...] = Field((Signal.TRACES,), min_length=1)
    """What it gets: `traces`, `logs`. With `logs`, also the log records that MLflow has no place for."""
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    """Headers of each request. Secrets are better in `headers_variable` or `headers_file`."""
    headers_variable: str | None = None
    """Environment variable with more headers, in the form of OTEL_EXPORTER_OTLP_HEADERS
    (`name=value,name=value`, percent-encoded)."""
    headers_file: Path | None = None
    """File with more headers, one `name: value` a line."""
    compression: Literal["auto", "gzip", "none"] = "auto"
    """Content-Encoding of the requests; `auto` is gzip, or none if the target is on this machine."""
    ca_file: Path | None = None
    """Certificates (PEM) to trust, instead of the system's."""
    client_certificate_file: Path | None = None
    """Certificate chain (PEM) that Sidespan shows to the target."""
    client_key_file: Path | None = None
    """Private key (PEM) of that certificate, if it is not in the same file."""
    experiments: tuple[str, ...] = ()
    """Forward only these experiments, named as senders and the routing settings name them: an id or a name
    (`*` and `?` work). Empty: all."""
    services: tuple[str, ...] = ()
    """Forward only what has one of these as its `service.name` (`*` and `?` work). Empty: all."""
    attributes: dict[str, str] = Field(default_factory=dict)
    """Forward only spans and log records with all of these attributes, their own or their resource's, with
    values as text (`*` and `?` work)."""
    harmonise: bool = False
    """Send the copy that MLflow gets: harmonised, and through `[[processors]]`. If off, what the client
    sent."""
    processors: tuple[Processor, ...] = ()
    """What else is done to the copy for this target, in this order: `[[forward.processors]]` tables of the
    types redact, limit, slim, tag and drop. On log records only redact works."""
    sampled: bool = False
    """Leave out the spans of traces that the `keep` processor drops, and wait for its decisions."""
    when_full: Literal["skip", "refuse"] = "skip"
    """When the target is away for so long that the journal is half full: `skip` deletes the oldest entries
    that everybody else has passed, and counts them; `refuse` keeps them until the journal is full and new
    exports get 503."""
    request_bytes: int = Field(4 * MIB, gt=0)
    """Size (before compression) up to which entries are sent as one request."""
    max_in_flight: int = Field(2, ge=1, le=64)
    """Requests at the same time, each of another route (experiment, run, workspace)."""
    linger_seconds: float = Field(0.2, ge=0)
    """How long the first entry waits for others before it is sent."""
    connect_timeout_seconds: float = Field(5.0, gt=0)
    """Time to open a connection."""
    request_timeout_seconds: float = Field(30.0, gt=0)
    """Time for one request."""
    backoff_initial_seconds: float = Field(0.5, gt=0)
    """First pause after the target could not accept a request."""
    backoff_max_seconds: float = Field(30.0, gt=0)
    """Longest pause; pauses double up to it, with jitter."""

    @property
    def consumer(self) -> str:
        """The name of the consumer that reads the journal for it."""
        return f"forward:{self.name}"

    @property
    def max_lanes(self) -> int:
        """Lanes that are served at the same time: each has one request in flight."""
        return self.max_in_flight

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError(
                "must be up to 40 lower-case letters, digits, `-` and `_`, such as otel-collector"
            )
        if value == MLFLOW:
            raise ValueError("is what MLflow itself is called; choose another")
        return value

    @field_validator("url")
    @classmethod
    def _is_http_url(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError as error:
            raise ValueError(f"is not a URL: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must start with http:// or https:// and name a host")
        if parts.username or parts.password:
            raise ValueError("must not hold a user name or password; use headers_variable or headers_file")
        if parts.query or parts.fragment:
            raise ValueError("must have no query and no fragment")
        return value.rstrip("/")

    @field_validator("traces_path", "logs_path")
    @classmethod
    def _is_a_path(cls, value: str) -> str:
        if not value.startswith("/"):
            raise ValueError("must start with /")
        return value

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, value: dict[str, str]) -> dict[str, str]:
        check_headers(value)
        return value

    @field_validator("processors")
    @classmethod
    def _are_not_sampling(cls, value: tuple[Processor, ...]) -> tuple[Processor, ...]:
        if any(isinstance(each, KeepSettings) for each in value):
            raise ValueError(
                'a target has no "keep" of its own: write it under [[processors]] and set sampled = true here'
            )
        return value

    @model_validator(mode="after")
    def _tls_is_whole(self) -> "ForwardSettings":
        if self.client_key_file and not self.client_certificate_file:
            raise ValueError("client_key_file needs client_certificate_file")
        return self


def check_targets(targets: Sequence[ForwardSettings], *, host: str, port: int) -> None:
    """Raises ValueError. Sidespan itself listens at `host` and `port`."""
    names = [each.name for each in targets]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"forward: two targets have the name {min(twice)!r}; each needs its own")
    for each in targets:
        if _is_at(each.url, host, port):
            raise ValueError(
                f"forward: the url of {each.name!r} is this Sidespan itself (server.port = {port}): it would "
                "send everything to itself again and again"
            )


def _is_at(url: str, host: str, port: int) -> bool:
    parts = urlsplit(url)
    is_here = parts.hostname in LOCALHOST and host in LOCALHOST | EVERY_ADDRESS
    own = parts.port or {"http": 80, "https": 443}[parts.scheme]
    return own == port and (is_here or parts.hostname == host)


def with_headers(before: Mapping[str, str], over: Mapping[str, str]) -> dict[str, str]:
    """Both, each name once, however it is written: those of `over` win."""
    names = {name.lower() for name in over}
    return {name: value for name, value in before.items() if name.lower() not in names} | dict(over)


def check_headers(headers: dict[str, str]) -> None:
    """Raises ValueError, without a value in its text: it may be a secret."""
    for name, value in headers.items():
        if not HEADER_NAME.fullmatch(name):
            raise ValueError("one of the names is not a header's")
        if name.lower() in OWN_HEADERS:
            raise ValueError(f"{name} is set by Sidespan itself")
        if not HEADER_VALUE.fullmatch(value):
            raise ValueError(f"the value of {name} has characters that no header may have")
