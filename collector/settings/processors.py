"""The processors as the settings name them: `[[processors]]` tables, each with its `type`."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from collector.settings.keep import KeepSettings

Preset = Literal["email", "phone", "card", "api-keys", "passwords"]
PRESETS: tuple[Preset, ...] = ("email", "phone", "card", "api-keys", "passwords")


class ProcessorSettings(BaseModel):
    """A frozen part of a processor's settings; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class ConditionSettings(ProcessorSettings):
    """Which spans: all that is given must hold. `*` and `?` in texts stand for anything and one character."""

    name: str | None = None
    """Name of the span."""
    scope: str | None = None
    """Name of its instrumentation scope, such as `opentelemetry.instrumentation.asgi`."""
    service: str | None = None
    """`service.name` of its resource."""
    kind: Literal["internal", "server", "client", "producer", "consumer"] | None = None
    """OpenTelemetry's kind of the span."""
    status: Literal["unset", "ok", "error"] | None = None
    """Its status."""
    attributes: dict[str, str] = Field(default_factory=dict)
    """Attributes that it has, with their values as text; `*` for any value."""

    @model_validator(mode="after")
    def _says_something(self) -> "ConditionSettings":
        if not self.model_fields_set:
            raise ValueError("give at least one of name, scope, service, kind, status and attributes")
        return self


class RedactSettings(ProcessorSettings):
    """Take secrets and personal data out of everything textual, before the journal."""

    type: Literal["redact"]
    """`redact`."""
    presets: tuple[Preset, ...] = PRESETS
    """Kinds of text: `email`, `phone`, `card` (with a valid check digit), `api-keys`, `passwords`."""
    patterns: dict[str, str] = Field(default_factory=dict)
    """Your own regular expressions, by the name that replaces the text."""
    drop_keys: tuple[str, ...] = ()
    """Names of attributes to drop (`*` and `?` work)."""
    mode: Literal["replace", "hash"] = "replace"
    """`replace` writes `[redacted:email]`, `hash` `[email:5f2b…]`: equal texts get equal hashes."""
    hash_key: str | None = Field(None, repr=False)
    """Key of the hash (HMAC-SHA256); without it short texts could be guessed."""
    hash_key_file: Path | None = None
    """File that holds the key."""

    @field_validator("patterns")
    @classmethod
    def _compile(cls, value: dict[str, str]) -> dict[str, str]:
        for name, pattern in value.items():
            try:
                compiled = re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{name}: {pattern!r} is not a valid regular expression: {error}") from error
            if compiled.fullmatch(""):
                raise ValueError(f"{name}: {pattern!r} matches the empty text, so it would match everywhere")
        return value

    @model_validator(mode="after")
    def _has_its_key(self) -> "RedactSettings":
        given = bool(self.hash_key) + bool(self.hash_key_file)
        if self.mode == "hash" and given != 1:
            raise ValueError('mode = "hash" needs either hash_key or hash_key_file')
        if self.mode == "replace" and given:
            raise ValueError('hash_key is for mode = "hash"')
        if not (self.presets or self.patterns or self.drop_keys):
            raise ValueError("nothing to redact: give presets, patterns or drop_keys")
        return self


class LimitSettings(ProcessorSettings):
    """Bound what a span carries. What is cut is counted in OTLP's own dropped counts."""

    type: Literal["limit"]
    """`limit`."""
    value_characters: int | None = Field(None, ge=16)
    """Length of an attribute's text; a longer one is shortened and ends in `…`."""
    attributes: int | None = Field(None, ge=1)
    """Attributes of a span; the first ones and MLflow's own are kept."""
    events: int | None = Field(None, ge=0)
    """Events of a span; exceptions are kept first."""
    links: int | None = Field(None, ge=0)
    """Links of a span."""

    @model_validator(mode="after")
    def _says_something(self) -> "LimitSettings":
        if self.model_fields_set <= {"type"}:
            raise ValueError("give at least one of value_characters, attributes, events and links")
        return self


class SlimSettings(ProcessorSettings):
    """Drop copies that another attribute of the same span holds in full."""

    type: Literal["slim"]
    """`slim`."""
    messages: bool = True
    """Flattened messages (`llm.input_messages.*`), and messages that MLflow has in its own attribute."""
    tools: bool = True
    """Flattened tool definitions (`llm.tools.*`)."""
    schemas: bool = True
    """`logfire.json_schema`, which describes the other attributes."""


class TagSettings(ProcessorSettings):
    """Set attributes on some spans."""

    type: Literal["tag"]
    """`tag`."""
    when: ConditionSettings
    """Which spans."""
    set: dict[str, str] = Field(min_length=1)
    """Attributes and their values; on a root, `mlflow.traceTag.<name>` becomes a tag of the trace."""


class DropSettings(ProcessorSettings):
    """Leave some spans out: health checks, another library's. Their children stay."""

    type: Literal["drop"]
    """`drop`."""
    when: ConditionSettings
    """Which spans."""


Processor = Annotated[
    RedactSettings | LimitSettings | SlimSettings | TagSettings | DropSettings | KeepSettings,
    Field(discriminator="type"),
]
