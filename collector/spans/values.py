"""What is known of one span, in one vocabulary. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from collector.spans.conventions import CostSource, ObservationKind
from collector.spans.vocabulary import is_truncated

T = TypeVar("T")


def made_of(values_class: type[T], values: dict[str, Any]) -> T:
    """An object of one of the frozen classes below, from those of its fields that differ from their defaults.

    Its own `__init__` sets each of up to 44 fields by a call, which takes as long as reading them. `values`
    becomes a part of the object: don't change it afterwards.
    """
    made = object.__new__(values_class)
    object.__setattr__(made, "__dict__", values)
    return made


# without slots: a field that isn't set is the class's default, and costs nothing
@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Tokens of one call, or a sum of calls; None where nobody said.

    `input` holds what was read from and written to the cache, `output` the reasoning, and both what is told
    of single modalities: those are parts, never to be added.
    """

    input: int | None = None
    output: int | None = None
    total: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    reasoning: int | None = None
    text_input: int | None = None
    image_input: int | None = None
    audio_input: int | None = None
    video_input: int | None = None
    text_output: int | None = None
    image_output: int | None = None
    audio_output: int | None = None
    video_output: int | None = None

    @property
    def known(self) -> bool:
        """Whether there is a number to count; parts alone are none."""
        return self.total is not None or self.input is not None or self.output is not None


NO_TOKENS = Tokens()


def add_tokens(parts: Iterable[Tokens]) -> Tokens:
    """The sum; what none of the parts knows stays unknown."""
    listed = list(parts)
    if len(listed) < 2:
        return listed[0] if listed else NO_TOKENS
    sums: dict[str, int] = {}
    for part in listed:
        for kind, count in vars(part).items():
            if count is not None:
                sums[kind] = sums.get(kind, 0) + count
    return made_of(Tokens, sums)


# of a span's links the first; more are for batches of thousands
MAX_LINKS = 20
# pydantic-ai 1.x marks a tool's wish for another try by its exception alone
RETRIES = frozenset({"pydantic_ai.exceptions.ToolRetryError", "pydantic_ai.exceptions.ModelRetry"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanLink:
    """Another span that a span names as related, often in another trace. Ids are lower-case hex."""

    trace_id: str
    span_id: str


@dataclass(frozen=True, kw_only=True)
class SpanFacts:
    """What one span says, in one vocabulary. Ids are lower-case hex; times are nanoseconds since 1970.

    `tokens` are the span's own, `aggregated_tokens` a sum over its run that some frameworks give on agent
    spans; a roll-up is a model call whose parts are spans of their own. `model` is the one that answered,
    where the sender tells, and else the requested one. `input_excluded_cache` marks that
    the client counted its input without the cached part, which has been added. `session` is what the client
    named as the session; `conversation` the id that frameworks make up for each run. `tags` are (key,
    value), at most MAX_TAGS; `links` at most MAX_LINKS. `model_attempt` is the place, from 0, of a failed
    attempt at the model request above it, which went on to another model.
    """

    trace_id: str
    span_id: str
    parent_span_id: str | None = None
    name: str
    start_unix_ns: int
    end_unix_ns: int
    kind: ObservationKind = ObservationKind.OTHER
    is_http: bool = False
    is_roll_up: bool = False
    trace_name: str | None = None
    model: str | None = None
    request_model: str | None = None
    response_model: str | None = None
    provider: str | None = None
    agent: str | None = None
    tool: str | None = None
    workflow: str | None = None
    session: str | None = None
    conversation: str | None = None
    user: str | None = None
    tokens: Tokens = NO_TOKENS
    aggregated_tokens: Tokens = NO_TOKENS
    input_excluded_cache: bool = False
    cost_usd: float | None = None
    cost_source: CostSource = CostSource.NONE
    time_to_first_token_seconds: float | None = None
    finish_reason: str | None = None
    prompt_version: str | None = None
    prompt_name: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    links: tuple[SpanLink, ...] = ()
    is_error: bool = False
    error_type: str | None = None
    error_message: str | None = None
    retry_cause: str | None = None
    retry_attempt: int | None = None
    retry_max: int | None = None
    model_attempt: int | None = None
    service: str | None = None
    service_version: str | None = None
    environment: str | None = None

    @property
    def called_model(self) -> str | None:
        """The model that was asked for: a call that failed names no other."""
        return self.request_model or self.model

    @property
    def answering_model(self) -> str | None:
        """The model that answered; None where the call failed before one did."""
        return self.response_model or (None if self.is_error else self.model)

    @property
    def duration_ns(self) -> int:
        """End minus start; never negative."""
        return self.end_unix_ns - self.start_unix_ns

    @property
    def is_truncated(self) -> bool:
        """Whether the answer was cut at a limit."""
        return is_truncated(self.finish_reason)

    @property
    def is_recovered_retry(self) -> bool:
        """An error that its agent was told of and may try again: not an error of the trace.

        Of an attempt at a model request, the request's own span says whether another one succeeded.
        """
        if not self.is_error or (self.retry_cause is None and self.model_attempt is None):
            return False
        if self.retry_cause is None or self.retry_cause in RETRIES:
            return True
        # beyond the last try pydantic-ai 2 gives the cause alone
        if self.retry_attempt is None:
            return False
        return self.retry_max is None or self.retry_attempt <= self.retry_max
