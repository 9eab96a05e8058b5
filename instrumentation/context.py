"""Whose work the spans are: session, user, tags, metadata and MLflow run, for a block or a function.

    with instrumentation.session("chat-17"), instrumentation.user("ann"):
        agent.run_sync("...")

    @instrumentation.tags("nightly", team="search")
    async def job(): ...

They travel in OpenTelemetry's own context: with asyncio tasks by themselves, into threads wherever the
context is taken along (`contextvars.copy_context().run`, anyio, asyncio.to_thread,
opentelemetry-instrumentation-threading). A span whose context has none takes those of its parent. Inner
blocks come before outer ones.

Written as the attributes that MLflow, OpenInference and Sidespan read: `session.id`, `user.id`, `tag.tags`,
`metadata` (JSON text); the run goes with each export as the header `x-mlflow-run-id`.
"""

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span

P = ParamSpec("P")
R = TypeVar("R")

KEY = otel_context.create_key("sidespan-labels")
SESSION, USER, TAGS, METADATA = "session.id", "user.id", "tag.tags", "metadata"
RUN = "sidespan.mlflow.run.id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """What holds in a block. `pairs` are tags with a value and metadata: MLflow shows both as tags."""

    session: str | None = None
    user: str | None = None
    words: tuple[str, ...] = ()
    pairs: Mapping[str, Any] = field(default_factory=dict)
    run: str | None = None

    def attributes(self) -> dict[str, Any]:
        """As span attributes; what isn't set is left out."""
        found: dict[str, Any] = {SESSION: self.session, USER: self.user, TAGS: self.words, RUN: self.run}
        if self.pairs:
            found[METADATA] = json.dumps(self.pairs, default=str, ensure_ascii=False)
        return {key: value for key, value in found.items() if value}


NONE = Labels()


def labels_of(context: Context | None = None) -> Labels:
    """What holds in a context (None: here and now)."""
    found = otel_context.get_value(KEY, context)
    return found if isinstance(found, Labels) else NONE


class Block:
    """A context manager and a decorator, for functions, coroutines and generators, as often as wanted."""

    def __init__(self, change: Callable[[Labels], Labels]) -> None:
        self._change = change
        self._tokens: list[Any] = []

    def __enter__(self) -> None:
        changed = otel_context.set_value(KEY, self._change(labels_of()))
        self._tokens.append(otel_context.attach(changed))

    def __exit__(
        self,
        type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        otel_context.detach(self._tokens.pop())

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """`function` with the block around each call (each run, of a generator)."""
        change = self._change
        if inspect.isasyncgenfunction(function):

            @wraps(function)
            async def streaming(*args: P.args, **kwargs: P.kwargs) -> Any:
                with Block(change):
                    async for item in function(*args, **kwargs):
                        yield item

            return streaming
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def asynchronous(*args: P.args, **kwargs: P.kwargs) -> Any:
                with Block(change):
                    return await function(*args, **kwargs)

            return asynchronous  # type: ignore[return-value]
        if inspect.isgeneratorfunction(function):

            @wraps(function)
            def generating(*args: P.args, **kwargs: P.kwargs) -> Any:
                with Block(change):
                    yield from function(*args, **kwargs)

            return generating

        @wraps(function)
        def plain(*args: P.args, **kwargs: P.kwargs) -> R:
            with Block(change):
                return function(*args, **kwargs)

        return plain


def session(id: str) -> Block:
    """The conversation that the work belongs to. MLflow groups traces by it. Raises ValueError if empty."""
    known = _text("session", id)
    return Block(lambda labels: replace(labels, session=known))


def user(id: str) -> Block:
    """Who the work is for. Raises ValueError if empty."""
    known = _text("user", id)
    return Block(lambda labels: replace(labels, user=known))


def tags(*words: str, **pairs: Any) -> Block:
    """Words, and names with values, that MLflow shows as tags of the trace."""
    named = tuple(_text("tag", word) for word in words)
    return Block(
        lambda labels: replace(
            labels,
            words=tuple(dict.fromkeys((*labels.words, *named))),
            pairs={**labels.pairs, **pairs},
        )
    )


def metadata(**pairs: Any) -> Block:
    """Values under names, written as JSON; what JSON doesn't know is written as text."""
    return tags(**pairs)


def run(mlflow_run: Any) -> Block:
    """Link the traces to an MLflow run: its id, or the object that MLflow's client returns for it.

    The header goes with each export. Raises ValueError if it is neither.
    """
    info = getattr(mlflow_run, "info", None)
    id = mlflow_run if isinstance(mlflow_run, str) else getattr(info, "run_id", None)
    if not isinstance(id, str):
        raise ValueError(f"run: {mlflow_run!r} is neither a run's id nor an MLflow run")
    known = _text("run", id)
    return Block(lambda labels: replace(labels, run=known))


def put_labels(span: Span, parent_context: Context | None) -> None:
    """Write on a span that starts what holds for it; what the span has already stays."""
    attributes = labels_of(parent_context).attributes() or _of_parent(parent_context)
    own = getattr(span, "attributes", None) or {}
    for key, value in attributes.items():
        if key not in own:
            span.set_attribute(key, value)


def current_trace_id() -> str | None:
    """32 hex digits of the trace that this code runs in; None outside of any."""
    found = trace.get_current_span().get_span_context()
    return f"{found.trace_id:032x}" if found.is_valid else None


def _of_parent(parent_context: Context | None) -> dict[str, Any]:
    attributes = getattr(trace.get_current_span(parent_context), "attributes", None) or {}
    return {key: attributes[key] for key in (SESSION, USER, TAGS, RUN) if key in attributes}


def _text(what: str, value: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{what}: {value!r} must be a text that is not empty")
    return value
