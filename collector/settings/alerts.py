"""Alerts as the settings name them: `[[alerts]]` tables, and `[alerting]` with the channels that carry them.

Whether metric, dimensions and filters exist is checked where alerts are evaluated (collector/alerts/).
"""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, field_validator, model_validator

from collector.settings.section import Section

FilterValue = str | int | float
# an alert is evaluated so many times in its window, but not more often than once in SHORTEST_STEP_SECONDS
STEPS_A_WINDOW = 30
SHORTEST_STEP_SECONDS = 60.0


class AlertSettings(Section):
    """A metric of the index over a time window, and the value from which somebody is told.

    `of`, `metric`, `by` and the filters are those of statistics (docs/index.md).
    """

    model_config = ConfigDict(allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=100)
    """Name of the alert; unique. Its state is kept under this name."""
    description: str = Field("", max_length=1000)
    """What to do about it; part of each notification."""
    of: str = "traces"
    """What is measured: `traces`, `spans`, `models`, `tools`, `errors` or `sessions`."""
    metric: str
    """The metric, such as `error_rate`, `cost_usd` or `duration_seconds_p95`."""
    by: tuple[str, ...] = ()
    """Dimensions that set groups apart, such as `["user"]`; each group fires and recovers for itself."""
    filters: dict[str, FilterValue | tuple[FilterValue, ...]] = Field(default_factory=dict)
    """Filters, as the API has them: `{ service = "checkout", tool = ["search", "fetch"] }`."""
    window_seconds: float = Field(900.0, ge=1, le=90 * 86_400)
    """Length of the window that is measured."""
    above: float | None = None
    """Fire if the value is above this. Give either `above` or `below`."""
    below: float | None = None
    """Fire if the value is below this."""
    compare_with: Literal["nothing", "previous-window", "version"] = "nothing"
    """What the value is compared with: `previous-window` is the window right before this one, `version` the
    same window of `baseline_version`; the filter `version` then names the version that is watched."""
    compare_by: Literal["ratio", "difference"] = "ratio"
    """With a comparison, what `above` and `below` bound: the value divided by the other one, or minus it."""
    baseline_version: str | None = None
    """Service version to compare with; needs `compare_with = "version"`."""
    min_sample: int = Field(0, ge=0)
    """How many traces (spans, calls, sessions) a window must hold to be judged; with a comparison both."""
    for_seconds: float = Field(0.0, ge=0)
    """How long the value must stay beyond the threshold before the alert fires."""
    no_data: Literal["ok", "keep", "alert"] = "ok"
    """A window without a value, or with too small a sample: `ok` counts as recovered, `keep` changes
    nothing, `alert` fires if there is nothing at all."""
    repeat_seconds: float = Field(14_400.0, ge=0)
    """How often a notification is repeated while the alert fires; 0 for never."""
    every_seconds: float | None = Field(None, ge=1, le=90 * 86_400)
    """How often it is evaluated; by default a thirtieth of the window, at least 60."""
    delay_seconds: float = Field(30.0, ge=0, le=90 * 86_400)
    """How long after its end a window is evaluated, so that traces which end later are in it."""
    max_groups: int = Field(100, ge=1, le=1000)
    """How many groups are watched at once: of sums those with the most, otherwise those with the largest
    sample."""
    channels: tuple[str, ...] | None = None
    """Names of channels in `alerting.channels`; by default all of them."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels of your own, such as `{ severity = "page" }`; part of each notification."""

    @field_validator("name")
    @classmethod
    def _is_one_line(cls, value: str) -> str:
        if not value.isprintable():
            raise ValueError("must be one line of printable characters")
        return value

    @model_validator(mode="after")
    def _has_one_threshold(self) -> "AlertSettings":
        if (self.above is None) == (self.below is None):
            raise ValueError("give either above or below")
        return self

    @model_validator(mode="after")
    def _compares_with_something(self) -> "AlertSettings":
        is_version = self.compare_with == "version"
        if is_version != (self.baseline_version is not None):
            raise ValueError('baseline_version and compare_with = "version" need each other')
        if is_version and self.filters.get("version") in (None, self.baseline_version):
            raise ValueError("the filter version must name another version than baseline_version")
        if self.compare_with == "nothing" and "compare_by" in self.model_fields_set:
            raise ValueError("compare_by needs compare_with")
        return self

    @property
    def step_seconds(self) -> float:
        """How often it is evaluated."""
        return self.every_seconds or max(SHORTEST_STEP_SECONDS, self.window_seconds / STEPS_A_WINDOW)


class ChannelSettings(Section):
    """What every channel has."""

    model_config = ConfigDict(allow_inf_nan=False)

    ca_file: Path | None = None
    """Certificates (PEM) to trust instead of the system's."""
    include_content: bool = False
    """Also send text that comes from inside traces: messages of errors."""


class UrlChannelSettings(ChannelSettings):
    """A channel that is an address; where the address is a secret, it comes from a file or a variable."""

    url: str | None = None
    """Address. Give one of `url`, `url_file` and `url_env`."""
    url_file: Path | None = None
    """File that holds the address."""
    url_env: str | None = None
    """Environment variable that holds the address."""

    @field_validator("url")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        return value if value is None else http_url(value)

    @model_validator(mode="after")
    def _has_one_address(self) -> "UrlChannelSettings":
        if sum(each is not None for each in (self.url, self.url_file, self.url_env)) != 1:
            raise ValueError("give one of url, url_file and url_env")
        return self


class WebhookSettings(UrlChannelSettings):
    """A POST with a JSON document, signed as Standard Webhooks."""

    type: Literal["webhook"]
    """`webhook`."""
    secret_file: Path | None = None
    """File with the key of the signature; with the prefix `whsec_` it is base64."""
    secret_env: str | None = None
    """Environment variable with the key of the signature."""

    @model_validator(mode="after")
    def _has_one_key(self) -> "WebhookSettings":
        if self.secret_file is not None and self.secret_env is not None:
            raise ValueError("give one of secret_file and secret_env")
        return self


class SlackSettings(UrlChannelSettings):
    """A message through an incoming webhook of Slack, or of a chat that takes the same form."""

    type: Literal["slack"]
    """`slack`."""


class AlertmanagerSettings(UrlChannelSettings):
    """Alerts for Prometheus's Alertmanager: POST `/api/v2/alerts` below the address."""

    type: Literal["alertmanager"]
    """`alertmanager`."""
    token_file: Path | None = None
    """File with a bearer token."""
    token_env: str | None = None
    """Environment variable with a bearer token."""
    resend_seconds: float = Field(60.0, ge=1, le=86_400)
    """How often a firing alert is sent again; Alertmanager resolves it four times as long after the last."""

    @model_validator(mode="after")
    def _has_one_token(self) -> "AlertmanagerSettings":
        if self.token_file is not None and self.token_env is not None:
            raise ValueError("give one of token_file and token_env")
        return self


class EmailSettings(ChannelSettings):
    """A message by SMTP."""

    type: Literal["email"]
    """`email`."""
    host: str = Field(min_length=1)
    """Mail server."""
    port: int | None = Field(None, ge=1, le=65535)
    """Its port; by default 587, with `security = "tls"` 465, with `none` 25."""
    security: Literal["starttls", "tls", "none"] = "starttls"
    """`starttls` encrypts after the greeting, or fails; `tls` from the first byte; `none` is for a server on
    this machine."""
    username: str | None = None
    """User name, if the server wants one."""
    password_file: Path | None = None
    """File with the password."""
    password_env: str | None = None
    """Environment variable with the password."""
    sender: str = Field(min_length=3)
    """Address in From."""
    to: tuple[str, ...] = Field(min_length=1)
    """Addresses of the recipients."""

    @field_validator("sender", "to")
    @classmethod
    def _are_addresses(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for address in (value,) if isinstance(value, str) else value:
            if "@" not in address or not address.isprintable():
                raise ValueError(f"{address!r} is not an e-mail address")
        return value

    @model_validator(mode="after")
    def _credentials_are_whole(self) -> "EmailSettings":
        given = sum(each is not None for each in (self.password_file, self.password_env))
        if given != (self.username is not None):
            raise ValueError("username needs one of password_file and password_env, and they need username")
        if self.username is not None and self.security == "none":
            raise ValueError('a password needs security = "starttls" or "tls"')
        return self


Channel = Annotated[
    WebhookSettings | SlackSettings | EmailSettings | AlertmanagerSettings, Field(discriminator="type")
]


class AlertingSettings(Section):
    """How alerts leave; each alert is an `[[alerts]]` table (docs/alerts.md)."""

    model_config = ConfigDict(allow_inf_nan=False)

    public_url: str | None = None
    """Address under which people open Sidespan, such as `https://mlflow.example.com`; links in notifications
    begin with it. By default the address that Sidespan listens on."""
    channels: dict[str, Channel] = Field(default_factory=dict)
    """Channels by name, each an `[alerting.channels.NAME]` table with a `type`."""
    max_examples: int = Field(3, ge=0, le=20)
    """Example traces named in a notification."""
    max_pending: int = Field(10_000, ge=1)
    """Notifications that wait for a channel; beyond it new ones become dead letters."""
    give_up_seconds: float = Field(86_400.0, gt=0)
    """Age at which a notification that can't be sent becomes a dead letter."""
    max_dead_letters: int = Field(1000, ge=1)
    """Dead letters of a channel; the oldest are removed."""
    backoff_initial_seconds: float = Field(1.0, gt=0)
    """First pause after a channel could not take a notification."""
    backoff_max_seconds: float = Field(300.0, gt=0)
    """Longest pause; pauses double up to it, with jitter."""
    timeout_seconds: float = Field(10.0, gt=0)
    """Time for a channel to answer."""
    query_timeout_seconds: float = Field(20.0, gt=0)
    """Time for one query to the index; an alert that needs more can't be evaluated."""
    unevaluated_seconds: float = Field(900.0, ge=0)
    """How long alerts may not be evaluated before the channels are told."""

    @field_validator("public_url")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        return value if value is None else http_url(value).rstrip("/")


def http_url(value: str) -> str:
    """The address. Raises ValueError: it isn't one."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http:// or https:// URL")
    return value
