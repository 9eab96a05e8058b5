"""What every form of the index promises: the process over its socket, and the same verbs in this process."""

import csv
import json
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.index.duckdb import engine as engine_module
from collector.index.duckdb.client import KEEP_ALIVE_SECONDS, open_index
from collector.index.duckdb.engine import EngineSettings, open_engine
from collector.index.duckdb.messages import STATUS, error_from_json, error_to_json
from collector.index.duckdb.process import server_config
from collector.index.feed import CONSUMER
from collector.index.protocol import (
    NOTHING_DELIVERED,
    BatchRefused,
    Delivered,
    FileAnswer,
    Index,
    IndexedBatch,
    IndexQuery,
    IndexState,
    JsonAnswer,
    Lane,
    QueryKind,
    QueryTimedOut,
    TraceQuery,
    UnreadableTraces,
)
from collector.index.queries import models
from collector.journal.sqlite.journal import SqliteJournal
from collector.journal.sqlite.opening import FILE_NAME
from collector.model.batch import Position, Route
from collector.model.experiment import ExperimentReference
from collector.model.parameters import BadParameter
from collector.spans.labels import TraceLabels
from tests.collector.index.test_index_consumer import draft, journal_in
from tests.support.clickhouse_server import ClickhouseStage, open_on
from tests.support.otlp import agent_export, all_spans, new_span_id, new_trace_id, trace_ids_of

SHOP = ExperimentReference(id="1", name="shop")
SESSION = "s-1"
LIMITS = {
    "memory_bytes": 256 * 1024 * 1024,
    "processes": 1,
    "preview_characters": 200,
    "max_age_seconds": 1e9,
    "max_bytes": 10**10,
}


@dataclass
class Stage:
    """A journal, and an index that follows it."""

    journal: SqliteJournal
    index: Index
    # an index without cursors of its own: the feed moves the log's, as after each batch
    commits: bool = False

    async def append(self, request: ExportTraceServiceRequest, experiment_id: str = "1") -> None:
        count, route = len(all_spans(request)), Route(experiment_id=experiment_id)
        await self.journal.log.append(
            [draft(request.SerializeToString(), trace_ids_of(request), count, route=route)]
        )

    async def take(self, experiment: ExperimentReference = SHOP, limit_spans: int = 10**6) -> IndexedBatch:
        lane = Lane(lane=Route(experiment_id=experiment.id).lane, experiment=experiment)
        batch = await self.index.take([lane], limit_spans=limit_spans)
        for name, token in batch.cursors.items() if self.commits else ():
            if token:
                await self.journal.consumer(CONSUMER).commit(name, through=Position(token))
        return batch

    async def indexed(self, *requests: ExportTraceServiceRequest) -> None:
        for request in requests:
            await self.append(request)
        await self.take()

    async def asked(self, kind: QueryKind, *, session: str = "", **parameters: str) -> dict[str, Any]:
        listed = {name.replace("__", "."): [value] for name, value in parameters.items()}
        answer = await self.index.ask(IndexQuery(kind=kind, parameters=listed, session=session))
        assert isinstance(answer, JsonAnswer)
        found: dict[str, Any] = json.loads(answer.body)
        return found

    async def counts(self) -> tuple[int, int]:
        state = await self.index.state()
        return state.traces, state.spans


FORMS = [
    "process",
    "in_process",
    pytest.param("clickhouse", marks=pytest.mark.scale),
    pytest.param("clickhouse_cluster", marks=pytest.mark.scale),
]


@pytest.fixture(params=FORMS)
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    folder, journal_file = tmp_path / "index", tmp_path / FILE_NAME
    async with AsyncExitStack() as stack:
        journal = await stack.enter_async_context(journal_in(tmp_path))
        if request.param == "process":
            arguments = {"folder": str(folder), "journal": str(journal_file), **LIMITS}
            logging = {"log_level": "error", "log_format": "text"}
            index: Index = await stack.enter_async_context(open_index(arguments | logging))
        elif request.param.startswith("clickhouse"):
            servers: ClickhouseStage = request.getfixturevalue(request.param)
            index = await stack.enter_async_context(open_on(servers, journal.consumer(CONSUMER)))
        else:
            settings = EngineSettings(folder=folder, journal=journal_file, **LIMITS)  # type: ignore[arg-type]
            index = await stack.enter_async_context(open_engine(settings))
        await index.ready()
        yield Stage(journal, index, commits=request.param.startswith("clickhouse"))


def session_export() -> ExportTraceServiceRequest:
    """A run of an agent that names its session."""
    request = agent_export()
    for span in all_spans(request):
        span.attributes.add(key="session.id").value.string_value = SESSION
    return request


def part_of(request: ExportTraceServiceRequest, chosen: slice) -> ExportTraceServiceRequest:
    part = ExportTraceServiceRequest()
    part.CopyFrom(request)
    scope = part.resource_spans[0].scope_spans[0]
    kept = all_spans(request)[chosen]
    del scope.spans[:]
    scope.spans.extend(kept)
    return part


def trace_id_of(request: ExportTraceServiceRequest) -> str:
    return all_spans(request)[0].trace_id.hex()


async def test_it_is_ready_and_empty_at_first(stage: Stage) -> None:
    assert (stage.index.trouble, stage.index.starting) == (None, False)
    state = await stage.index.state()
    assert (state.traces, state.spans, list(state.experiments)) == (0, 0, [])
    assert list(await stage.index.experiments()) == []
    assert await stage.index.owners("ab" * 16) == frozenset()


async def test_a_batch_says_what_it_took_and_which_experiments_lack_a_name(stage: Stage) -> None:
    await stage.append(agent_export())
    batch = await stage.take(ExperimentReference(id="1"))
    assert (batch.spans, batch.unreadable, batch.failed, batch.more) == (6, 0, 0, False)
    assert list(batch.unnamed) == [ExperimentReference(id="1")]
    assert list(batch.cursors) == [Route(experiment_id="1").lane]
    assert await stage.counts() == (1, 6)


async def test_more_than_one_batch_holds_comes_in_several(stage: Stage) -> None:
    for _ in range(4):
        await stage.append(agent_export())
    batches = [await stage.take(limit_spans=12) for _ in range(2)]
    assert [batch.more for batch in batches] == [True, False]
    assert await stage.counts() == (4, 24)


async def test_late_spans_join_their_trace(stage: Stage) -> None:
    request = agent_export()
    await stage.indexed(part_of(request, slice(3, None)))
    assert await stage.counts() == (1, 3)
    await stage.indexed(part_of(request, slice(0, 3)))
    assert await stage.counts() == (1, 6)


async def test_repeats_change_nothing(stage: Stage) -> None:
    request = agent_export()
    await stage.indexed(request)
    first = await stage.asked(QueryKind.TRACES)
    again = await stage.take()
    assert again.spans == 0
    await stage.indexed(request, request)
    assert await stage.asked(QueryKind.TRACES) == first


async def test_an_entry_that_cannot_be_read_costs_itself_only(stage: Stage) -> None:
    await stage.journal.log.append([draft(b"\xff\xff no protobuf", {b"x" * 16}, 1)])
    await stage.append(agent_export())
    assert (await stage.take()).unreadable == 1
    assert await stage.counts() == (1, 6)


QUESTIONS: list[tuple[QueryKind, type[models.Shape], dict[str, str]]] = [
    (QueryKind.TRACES, models.TracePage, {"limit": "1"}),
    (QueryKind.STATS, models.Stats, {"of": "models", "by": "model", "bucket": "auto"}),
    (QueryKind.COMPARE, models.Compared, {"a__since": "-1h", "b__since": "-2h", "by": "agent"}),
    (QueryKind.OVERVIEW, models.Overview, {"since": "-1h"}),
    (QueryKind.ERRORS, models.ErrorPage, {}),
    (QueryKind.FACETS, models.Facets, {}),
    (QueryKind.SESSIONS, models.SessionPage, {"sort": "-turns"}),
]


async def test_each_kind_of_question_is_answered_in_its_shape(stage: Stage) -> None:
    await stage.indexed(session_export(), session_export())
    for kind, shape, parameters in QUESTIONS:
        shape.model_validate(await stage.asked(kind, **parameters))
    assert {kind for kind, _, _ in QUESTIONS} == set(QueryKind) - {QueryKind.SESSION}


async def test_a_session_is_answered_with_its_turns_or_is_unknown(stage: Stage) -> None:
    await stage.indexed(session_export(), session_export())
    session = models.Session.model_validate(await stage.asked(QueryKind.SESSION, session=SESSION))
    assert len(session.turns) == 2
    assert await stage.index.ask(IndexQuery(kind=QueryKind.SESSION, session="nobody's")) is None


async def test_rows_come_as_files_too(stage: Stage) -> None:
    await stage.indexed(agent_export(), agent_export())
    files = {}
    for format in ("csv", "parquet"):
        query = IndexQuery(kind=QueryKind.TRACES, parameters={"format": [format]})
        answer = await stage.index.ask(query)
        assert isinstance(answer, FileAnswer)
        files[format] = answer.media_type, answer.name, b"".join([chunk async for chunk in answer.chunks])
    media_type, name, content = files["csv"]
    assert (media_type, name) == ("text/csv; charset=utf-8", "traces.csv")
    rows = list(csv.DictReader(content.decode().splitlines()))
    assert {row["experiment_name"] for row in rows} == {"shop"} and len(rows) == 2
    assert files["parquet"][:2] == ("application/vnd.apache.parquet", "traces.parquet")
    assert files["parquet"][2].startswith(b"PAR1")


async def test_a_parameter_that_cannot_be_right_is_named(stage: Stage) -> None:
    for format, wrong in (("json", ("limit", "-1")), ("csv", ("limit", "-1")), ("xml", ("format", "xml"))):
        query = IndexQuery(kind=QueryKind.TRACES, parameters={"format": [format], "limit": ["-1"]})
        with pytest.raises(BadParameter) as raised:
            await stage.index.ask(query)
        assert (raised.value.document["parameter"], raised.value.document["value"]) == wrong


async def test_a_client_is_told_of_its_experiments_only(stage: Stage) -> None:
    request = agent_export()
    await stage.indexed(request)
    for allowed, count in ((None, 1), (frozenset({"1", "2"}), 1), (frozenset({"2"}), 0), (frozenset(), 0)):
        answer = await stage.index.ask(IndexQuery(kind=QueryKind.TRACES, experiment_ids=allowed))
        assert isinstance(answer, JsonAnswer)
        assert len(json.loads(answer.body)["traces"]) == count
        query = TraceQuery(trace_id=trace_id_of(request), max_spans=10, experiment_ids=allowed)
        assert (await stage.index.trace(query) is not None) == bool(count)


async def test_a_trace_is_summarised_and_whole_only_when_all_of_it_is_there(stage: Stage) -> None:
    request = agent_export()
    await stage.indexed(part_of(request, slice(0, 5)))
    whole = TraceQuery(trace_id=trace_id_of(request), max_spans=10, whole=True)
    partial = TraceQuery(trace_id=trace_id_of(request), max_spans=10, incomplete="MLflow is away")
    assert await stage.index.trace(whole) is None
    body = await stage.index.trace(partial)
    assert body is not None
    summary = json.loads(body)
    assert (summary["span_count"], summary["incomplete"]) == (5, "MLflow is away")
    await stage.indexed(request)
    body = await stage.index.trace(whole)
    assert body is not None and json.loads(body)["complete"]
    assert await stage.index.trace(TraceQuery(trace_id="ab" * 16, max_spans=10)) is None


async def test_links_lead_to_other_traces_and_back(stage: Stage) -> None:
    request, other = agent_export(), agent_export()
    linked = all_spans(other)[0]
    all_spans(request)[2].links.add(trace_id=linked.trace_id, span_id=linked.span_id)
    await stage.indexed(part_of(request, slice(0, 4)), other)
    await stage.indexed(part_of(request, slice(4, 6)))  # late spans: its rows are put together again
    body = await stage.index.trace(TraceQuery(trace_id=trace_id_of(request), max_spans=10))
    assert body is not None
    rows = {row["span_id"]: row["links"] for row in json.loads(body)["spans"]}
    there = {"trace_id": linked.trace_id.hex(), "span_id": linked.span_id.hex()}
    assert rows.pop(all_spans(request)[2].span_id.hex()) == [there]
    assert not any(rows.values())
    found = await stage.asked(QueryKind.TRACES, links_to=linked.trace_id.hex())
    assert [row["trace_id"] for row in found["traces"]] == [trace_id_of(request)]


async def test_prompts_are_told_apart_by_name_and_version(stage: Stage) -> None:
    request = agent_export()
    for place, version in ((2, "3"), (3, "4")):
        for key, value in (("name", "greet"), ("version", version)):
            all_spans(request)[place].attributes.add(key=f"gen_ai.prompt.{key}").value.string_value = value
    await stage.indexed(request)
    for by, keys in (("prompt", {"3", "4"}), ("prompt_name", {"greet"})):
        groups = (await stage.asked(QueryKind.STATS, of="spans", by=by, metric="count"))["groups"]
        assert {group["key"][by] for group in groups} - {None} == keys
        for value in keys:
            assert (await stage.asked(QueryKind.TRACES, **{by: value}))["traces"]


async def test_owners_experiments_and_state_tell_where_traces_are(stage: Stage) -> None:
    request = agent_export()
    await stage.indexed(request, agent_export())
    await stage.append(request, experiment_id="2")
    await stage.take(ExperimentReference(id="2"))
    assert await stage.index.owners(trace_id_of(request)) == {"1", "2"}
    assert sorted(await stage.index.experiments()) == ["1", "2"]
    state = await stage.index.state()
    assert isinstance(state, IndexState) and (state.traces, state.spans) == (3, 18)
    first = asdict(state.experiments[0])
    assert (first["id"], first["name"], first["traces"], first["spans"]) == ("1", "shop", 2, 12)
    assert 0 < first["first_unix_ns"] <= first["last_unix_ns"] <= time.time_ns()


async def test_a_name_that_comes_later_is_the_experiments(stage: Stage) -> None:
    await stage.append(agent_export())
    await stage.take(ExperimentReference(id="1"))
    await stage.index.name(SHOP)
    [row] = (await stage.asked(QueryKind.TRACES, experiment_name="shop"))["traces"]
    assert (row["experiment_id"], row["experiment_name"]) == ("1", "shop")
    assert list((await stage.take()).unnamed) == []


async def test_what_is_forgotten_comes_again_and_is_there_once(stage: Stage) -> None:
    await stage.indexed(agent_export())
    assert (await stage.take()).spans == 0
    await stage.index.forget()
    assert (await stage.take()).spans == 6
    assert await stage.counts() == (1, 6)


def mlflow_trace(trace_id: bytes, *span_ids: bytes) -> dict[str, Any]:
    spans = [
        {
            "trace_id": b64encode(trace_id).decode(),
            "span_id": b64encode(span_id).decode(),
            "name": "from MLflow",
            "start_time_unix_nano": 10**18,
            "end_time_unix_nano": 10**18 + 1,
        }
        for span_id in span_ids
    ]
    return {"trace_info": {"trace_location": {}}, "spans": spans}


async def test_traces_of_mlflow_are_put_beside_what_is_there(stage: Stage) -> None:
    request = agent_export()
    await stage.indexed(request)
    known = all_spans(request)[0]
    traces = [
        mlflow_trace(known.trace_id, known.span_id, new_span_id()),
        mlflow_trace(new_trace_id(), new_span_id()),
    ]
    stored = await stage.index.put(json.dumps({"traces": traces}).encode(), SHOP)
    assert (stored.traces, stored.spans) == (2, 8)
    assert await stage.counts() == (2, 8)
    names = (await stage.asked(QueryKind.STATS, of="spans", by="span", metric="count"))["groups"]
    counts = {group["key"]["span"]: group["values"]["count"] for group in names}
    assert counts["from MLflow"] == 2, "a span that is there stays as it is"


def trace_info(trace_id: str, *, metadata: dict[str, str], tags: dict[str, str]) -> dict[str, Any]:
    return {
        "trace_id": f"tr-{trace_id}",
        "trace_location": {"mlflow_experiment": {"experiment_id": "1"}},
        "trace_metadata": metadata,
        "tags": tags,
    }


async def test_what_mlflow_was_told_of_a_trace_holds_whichever_comes_first(stage: Stage) -> None:
    early, late = agent_export(), agent_export()
    told = {"mlflow.trace.session": "s", "mlflow.trace.user": "ann", "mlflow.trace.infoFinalized": "true"}
    infos = [
        trace_info(trace_id_of(each), metadata=told, tags={"plan": "gold", "mlflow.user": "root"})
        for each in (early, late)
    ]
    await stage.indexed(early)
    assert await stage.index.label(json.dumps({"trace_infos": infos}).encode()) == 2
    await stage.indexed(late)
    found = await stage.index.labels("1", [trace_id_of(early), trace_id_of(late), "ab" * 16])
    labels = TraceLabels(session="s", user="ann", tags=(("plan", "gold"),))
    assert found == {trace_id_of(early): labels, trace_id_of(late): labels}
    traces = (await stage.asked(QueryKind.TRACES, tag="plan=gold", session="s", user="ann"))["traces"]
    assert len(traces) == 2
    summary = await stage.index.trace(TraceQuery(trace_id=trace_id_of(late), max_spans=1))
    assert summary is not None
    assert [json.loads(summary)[name] for name in ("session", "user")] == ["s", "ann"]


async def test_a_tag_that_was_taken_away_is_gone(stage: Stage) -> None:
    request = agent_export()
    await stage.indexed(request)
    for tags in ({"plan": "gold"}, {}):
        info = trace_info(trace_id_of(request), metadata={}, tags=tags)
        await stage.index.label(json.dumps({"trace_infos": [info]}).encode())
        found = await stage.asked(QueryKind.TRACES, tag="plan")
        assert len(found["traces"]) == len(tags)


def assessment(name: str, value: Any, **more: Any) -> dict[str, Any]:
    said = {"assessment_id": f"a-{name}", "assessment_name": name, "feedback": {"value": value}}
    return said | {"create_time": "2026-01-01T00:00:00Z"} | more


async def test_scores_come_from_spans_and_from_mlflow_which_has_the_last_word(stage: Stage) -> None:
    request = agent_export()
    root = all_spans(request)[0]
    root.attributes.add(key="annotations.0.annotation.name").value.string_value = "tone"
    root.attributes.add(key="annotations.0.annotation.label").value.string_value = "kind"
    trace_id = trace_id_of(request)

    async def told(allowed: frozenset[str] | None = None) -> dict[str, Any]:
        found = json.loads(await stage.index.scores(trace_id, experiment_ids=allowed))
        return {each["name"]: each["value"] or each["label"] for each in found}

    async def mlflow_says(*said: dict[str, Any], delivered: Delivered = NOTHING_DELIVERED) -> None:
        info = trace_info(trace_id, metadata={}, tags={}) | {"assessments": list(said)}
        await stage.index.label(json.dumps({"trace_infos": [info]}).encode(), delivered=delivered)

    await mlflow_says(assessment("useful", 0.5))
    assert await told() == {}, "its trace isn't here"
    await stage.indexed(request)
    assert await told() == {"useful": 0.5, "tone": "kind"}
    assert await told(frozenset({"1"})) != {} == await told(frozenset({"2"}))
    await mlflow_says(assessment("useful", 0.75), assessment("right", True))
    assert await told() == {"useful": 0.75, "right": 1.0, "tone": "kind"}
    later = time.time_ns() + 10**12
    await mlflow_says(delivered=Delivered(before_unix_ns=later, but=frozenset({trace_id, "ab" * 16})))
    assert await told() == {"tone": "kind"}, "it may be on its way"
    await mlflow_says(delivered=Delivered(before_unix_ns=later))
    assert await told() == {}
    await mlflow_says(assessment("useful", 1))
    [row] = (await stage.asked(QueryKind.TRACES, score="useful>0.5"))["traces"]
    summary = await stage.index.trace(TraceQuery(trace_id=trace_id, max_spans=1))
    assert summary is not None and json.loads(summary)["scores"] == row["scores"]
    assert (await stage.index.state()).scores == 1


async def test_what_is_no_trace_of_mlflow_is_refused(stage: Stage) -> None:
    for body in (b"no JSON", b"[]", b'{"traces": [{}]}'):
        with pytest.raises(UnreadableTraces):
            await stage.index.put(body, SHOP)
    assert await stage.counts() == (0, 0)


FAILURES: list[Exception] = [
    BatchRefused("ConversionException"),
    QueryTimedOut("since", None, "it took too long"),
    UnreadableTraces("no traces"),
    BadParameter("limit", "-1", "must be a whole number"),
]


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
def test_what_the_process_raises_is_raised_again_by_its_client(error: Exception) -> None:
    body = json.dumps(error_to_json(error)).encode()
    again = error_from_json(STATUS[type(error)], body)
    assert type(again) is type(error) and str(again) == str(error)
    assert getattr(again, "document", None) == getattr(error, "document", None)


def test_an_answer_without_a_reason_is_a_failure_of_the_index() -> None:
    for status, body in ((500, b"Internal Server Error"), (400, b"[]"), (503, b'{"error": 1}')):
        assert error_from_json(status, body) is None
    assert {type(error) for error in FAILURES} == set(STATUS)


async def test_a_query_that_takes_too_long_is_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "QUERY_SECONDS", 0.05)
    settings = EngineSettings(folder=tmp_path, journal=tmp_path / FILE_NAME, **LIMITS)  # type: ignore[arg-type]
    async with open_engine(settings) as index:
        monkeypatch.setattr(engine_module.lookups, "owners", endless)
        with pytest.raises(QueryTimedOut) as raised:
            await index.owners("ab" * 16)
    assert raised.value.document["parameter"] == "since"


def endless(db: Any, _: str) -> Any:
    return db.execute("SELECT count(*) FROM range(10000000) a, range(10000000) b").fetchall()


def test_the_client_closes_idle_connections_before_the_process_does() -> None:
    """Else a question that is sent at that moment is lost: a POST isn't sent again."""
    nothing: Any = None
    assert server_config(nothing, "index.sock").timeout_keep_alive > 2 * KEEP_ALIVE_SECONDS
