"""Session, user, tags, metadata and run: for a block, for a function, across tasks and threads."""

import asyncio
import contextvars
import json
import threading
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from instrumentation.context import RUN, current_trace_id, metadata, run, session, tags, user
from instrumentation.labels import LabelProcessor


class Spans:
    """A provider that labels, and what it made."""

    def __init__(self) -> None:
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(LabelProcessor())
        self._exporter = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("tests")

    def work(self, name: str = "work") -> None:
        with self.tracer.start_as_current_span(name):
            pass

    @property
    def attributes(self) -> dict[str, dict[str, Any]]:
        return {span.name: dict(span.attributes or {}) for span in self._exporter.get_finished_spans()}


@pytest.fixture
def spans() -> Spans:
    return Spans()


BLOCKS = {
    "session": (lambda: session("s"), {"session.id": "s"}),
    "user": (lambda: user("u"), {"user.id": "u"}),
    "words": (lambda: tags("a", "b", "a"), {"tag.tags": ("a", "b")}),
    "pairs": (lambda: tags(plan="gold", seats=3), {"metadata": '{"plan": "gold", "seats": 3}'}),
    "metadata": (lambda: metadata(tenant="ä"), {"metadata": '{"tenant": "ä"}'}),
    "what_json_does_not_know": (lambda: metadata(at=complex(1, 2)), {"metadata": '{"at": "(1+2j)"}'}),
    "run_by_id": (lambda: run("r1"), {RUN: "r1"}),
    "run_by_object": (lambda: run(SimpleNamespace(info=SimpleNamespace(run_id="r2"))), {RUN: "r2"}),
}


@pytest.mark.parametrize(("block", "attributes"), BLOCKS.values(), ids=BLOCKS)
def test_a_block_labels_the_spans_that_start_in_it(block: Any, attributes: Any, spans: Spans) -> None:
    with block():
        spans.work("inside")
    spans.work("after")
    assert spans.attributes == {"inside": attributes, "after": {}}


def test_inner_blocks_come_first_and_outer_ones_come_back(spans: Spans) -> None:
    with session("outer"), tags("a", plan="gold"):
        with session("inner"), user("u"), tags("b", tier="1"):
            spans.work("inside")
        spans.work("between")
    inside, between = spans.attributes["inside"], spans.attributes["between"]
    assert (inside["session.id"], inside["user.id"], inside["tag.tags"]) == ("inner", "u", ("a", "b"))
    assert json.loads(inside["metadata"]) == {"plan": "gold", "tier": "1"}
    assert (between["session.id"], between["tag.tags"], "user.id" in between) == ("outer", ("a",), False)


def test_an_error_ends_the_block(spans: Spans) -> None:
    with pytest.raises(RuntimeError), session("s"):
        raise RuntimeError
    spans.work()
    assert spans.attributes == {"work": {}}


def test_what_a_span_has_already_stays(spans: Spans) -> None:
    with session("block"):
        spans.tracer.start_span("own", attributes={"session.id": "own"}).end()
    assert spans.attributes["own"]["session.id"] == "own"


def test_functions_of_every_kind_can_be_decorated_and_called_again(spans: Spans) -> None:
    @session("s")
    def plain(n: int) -> int:
        spans.work(f"plain {n}")
        return n

    @session("s")
    async def coroutine(n: int) -> int:
        await asyncio.sleep(0)
        spans.work(f"coroutine {n}")
        return n

    @session("s")
    def generator(n: int) -> Iterator[int]:
        spans.work(f"generator {n}")
        yield n

    @session("s")
    async def stream(n: int) -> AsyncIterator[int]:
        spans.work(f"stream {n}")
        yield n

    async def all_of_them() -> None:
        for n in range(2):
            assert plain(n) == n
            assert list(generator(n)) == [n]
            assert [item async for item in stream(n)] == [n]
        assert await asyncio.gather(coroutine(0), coroutine(1)) == [0, 1]

    asyncio.run(all_of_them())
    assert len(spans.attributes) == 8
    assert all(attributes == {"session.id": "s"} for attributes in spans.attributes.values())
    assert plain.__name__ == "plain"


async def test_tasks_keep_apart(spans: Spans) -> None:
    async def chat(name: str) -> None:
        with session(name):
            await asyncio.sleep(0)
            spans.work(name)
            await asyncio.sleep(0)

    await asyncio.gather(*(chat(f"s{n}") for n in range(20)))
    assert all(attributes == {"session.id": name} for name, attributes in spans.attributes.items())
    assert len(spans.attributes) == 20


async def test_threads_that_take_the_context_along_are_labelled(spans: Spans) -> None:
    with session("s"):
        await asyncio.to_thread(spans.work, "to_thread")
        thread = threading.Thread(target=contextvars.copy_context().run, args=(spans.work, "copied"))
        thread.start()
        thread.join()
    assert spans.attributes == {"to_thread": {"session.id": "s"}, "copied": {"session.id": "s"}}


def test_a_span_without_a_context_takes_its_parents_labels(spans: Spans) -> None:
    with session("s"), run("r"):
        parent = spans.tracer.start_span("parent")
    elsewhere = trace.set_span_in_context(parent, context=trace.context_api.Context())
    spans.tracer.start_span("child", context=elsewhere).end()
    parent.end()
    assert spans.attributes["child"] == {"session.id": "s", RUN: "r"}


WRONG = {
    "empty_session": lambda: session(""),
    "blank_user": lambda: user("  "),
    "session_that_is_no_text": lambda: session(7),  # type: ignore[arg-type]
    "empty_tag": lambda: tags(""),
    "no_run": lambda: run(object()),
    "empty_run": lambda: run(""),
}


@pytest.mark.parametrize("block", WRONG.values(), ids=WRONG)
def test_what_cannot_be_a_label_is_said_at_once(block: Any) -> None:
    with pytest.raises(ValueError):
        block()


def test_the_current_trace_id_is_that_of_the_span(spans: Spans) -> None:
    assert current_trace_id() is None
    with spans.tracer.start_as_current_span("work") as span:
        assert current_trace_id() == f"{span.get_span_context().trace_id:032x}"
