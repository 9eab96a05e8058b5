"""Made-up traces as facts, an index of them, and the same numbers worked out the long way."""

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from collector.index.clickhouse import lookups as clickhouse_lookups
from collector.index.duckdb import lookups
from collector.index.duckdb.lookups import DuckdbTables
from collector.index.duckdb.shard import batch_of, open_rows, write_rows
from collector.index.duckdb.store import Store, open_store
from collector.index.queries.asked import Asked
from collector.index.queries.models import Stats
from collector.index.rows.gathered import Gathered, TraceKey
from collector.index.sql import answers
from collector.index.sql.answers import SqlTables
from collector.model.experiment import ExperimentReference
from collector.spans.conventions import CostSource, ObservationKind
from collector.spans.score_facts import ScoreFact
from collector.spans.values import SpanFacts, Tokens

BEGIN_NS = 1_790_000_000_000_000_000
NOW_NS = BEGIN_NS + 3600 * 10**9
SECOND = 10**9
MODELS = (("gpt-4o", "openai"), ("claude-sonnet-4-5", "anthropic"), ("mistral-large", None))
TOOLS = ("search", "weather", 'it\'s "quoted", and, commas', "new\nline")
SEEDS = range(300)
SHOP, DESK = ExperimentReference(id="1", name="shop"), ExperimentReference(id="2", name="desk")
MESSAGES = ("city 4711 not found", "city 0815 not found", "timeout after 30 s", None)


def made_trace(seed: int) -> list[SpanFacts]:
    """One agent's run: model calls, tool calls, now and then an error, a retry, no root, a roll-up."""
    choose = random.Random(seed)
    trace_id = f"{choose.getrandbits(128) | 1:032x}"
    start = BEGIN_NS + choose.randrange(3500) * SECOND
    agent = choose.choice(("planner", "writer", None))
    about: dict[str, Any] = {
        "trace_id": trace_id,
        "service": choose.choice(("shop", "desk")),
        "service_version": choose.choice(("1.0", "1.1", None)),
        "session": choose.choice(("s-1", "s-2", "s-3", None)),
        "user": choose.choice(("ann", None)),
    }
    root_id = f"{choose.getrandbits(64) | 1:016x}"
    spans, at = [], start
    for _ in range(choose.randrange(1, 7)):
        lasts = choose.randrange(1, 5 * SECOND)
        span_id = f"{choose.getrandbits(64) | 1:016x}"
        common = {
            **about,
            "span_id": span_id,
            "parent_span_id": root_id,
            "start_unix_ns": at,
            "end_unix_ns": at + lasts,
        }
        if choose.random() < 0.6:
            model, provider = choose.choice(MODELS)
            taken, given = choose.randrange(2000), choose.randrange(300)
            known = choose.random() < 0.8
            spans.append(
                SpanFacts(
                    **common,
                    name=f"chat {model}",
                    kind=ObservationKind.LLM,
                    model=model,
                    provider=provider,
                    tokens=Tokens(input=taken, output=given, total=taken + given) if known else Tokens(),
                    cost_usd=taken / 1e6 if known else None,
                    cost_source=CostSource.CLIENT if known else CostSource.NONE,
                    finish_reason=choose.choice(("stop", "length")),
                    time_to_first_token_seconds=choose.choice((None, 0.25)),
                    tags=(("tier", choose.choice(("gold", "a=b"))),) if choose.random() < 0.3 else (),
                )
            )
        else:
            failed = choose.random() < 0.3
            retry = failed and choose.random() < 0.5
            spans.append(
                SpanFacts(
                    **common,
                    name="running tool",
                    kind=ObservationKind.TOOL,
                    tool=choose.choice(TOOLS),
                    is_error=failed,
                    error_type="ToolError" if failed else None,
                    error_message=choose.choice(MESSAGES) if failed else None,
                    retry_cause="ModelRetry" if retry else None,
                    retry_attempt=1 if retry else None,
                    retry_max=2 if retry else None,
                )
            )
        at += choose.randrange(lasts + SECOND)
    if choose.random() < 0.9:
        end = max(span.end_unix_ns for span in spans)
        sums = [span.tokens for span in spans if span.tokens.known]
        spans.append(
            SpanFacts(
                **about,
                span_id=root_id,
                name=f"invoke_agent {agent}",
                kind=ObservationKind.AGENT,
                agent=agent,
                start_unix_ns=start,
                end_unix_ns=end,
                is_error=choose.random() < 0.2,
                error_message=None,
                aggregated_tokens=Tokens(
                    input=sum(each.input or 0 for each in sums),
                    output=sum(each.output or 0 for each in sums),
                    total=sum(each.total or 0 for each in sums),
                )
                if sums
                else Tokens(),
            )
        )
    return spans


def made_scores(seed: int) -> list[ScoreFact]:
    """What was said of one agent's run: nothing, or a few scores, on the trace or on a span."""
    spans, choose = made_trace(seed), random.Random(seed + 1_000_000)
    found = []
    for number in range(choose.choice((0, 0, 1, 2, 4))):
        name = choose.choice(("helpful", "correct", "tone"))
        passed = choose.random() < 0.7
        failed = choose.random() < 0.1
        value, label = {
            "helpful": (choose.randrange(11) / 10, choose.choice((None, "good"))),
            "correct": (float(passed), "pass" if passed else "fail"),
            "tone": (None, choose.choice(("kind", "curt"))),
        }[name]
        found.append(
            ScoreFact(
                key=f"{seed}-{number}",
                trace_id=spans[0].trace_id,
                span_id=spans[0].span_id if choose.random() < 0.5 else None,
                name=name,
                value=None if failed else value,
                label=None if failed else label,
                error_type="TimeoutError" if failed else None,
                source=choose.choice(("judge-1", "ann", None)),
                judge=choose.choice(("LLM_JUDGE", "HUMAN", "CODE")),
                session=None,
                time_unix_ns=spans[0].start_unix_ns + number,
            )
        )
    return found


def put_scores(
    store: Store,
    scores: Sequence[ScoreFact],
    *,
    experiment: ExperimentReference | None = None,
    seen_unix_ns: int = 1,
) -> None:
    """One batch of scores, as the index's process does it."""
    number = store.number_of(experiment or ExperimentReference(id="1", name="shop"))
    with open_rows(store.path.parent, "test", 200) as rows:
        rows.write_scores(scores, experiment=number, seen_unix_ns=seen_unix_ns)
    store.put([batch_of(store.path.parent, "test", rows, ())], {})


def made_spans(seeds: Iterable[int]) -> list[SpanFacts]:
    """The spans of many traces."""
    return [span for seed in seeds for span in made_trace(seed)]


@contextmanager
def store_in(folder: Path) -> Iterator[Store]:
    """An empty index."""
    store = open_store(folder, memory_bytes=256 * 1024 * 1024, threads=2)
    try:
        yield store
    finally:
        store.close()


def put(
    store: Store,
    spans: Sequence[SpanFacts],
    *,
    experiment: ExperimentReference | None = None,
    run_id: str | None = None,
) -> None:
    """One batch, as the index's process does it."""
    number = store.number_of(experiment or ExperimentReference(id="1", name="shop"))
    found: dict[TraceKey, Gathered] = {}
    for span in spans:
        key = (number, span.trace_id)
        found.setdefault(key, Gathered(run_id=run_id, seen_unix_ns=1)).spans.append(span)
    for key, before in store.stored(list(found)).items():
        found[key] = replace(before, spans=[*found[key].spans, *before.spans], run_id=before.run_id or run_id)
    batch = write_rows(found, into=store.path.parent, name="test", preview_characters=200)
    store.put([batch], {})


def content(store: Store) -> tuple[list[Any], list[Any]]:
    """Every row of both tables."""
    return (
        store.db.execute("SELECT * FROM traces ORDER BY experiment, trace_id").fetchall(),
        store.db.execute("SELECT * FROM spans ORDER BY experiment, trace_id, span_id").fetchall(),
    )


def asked(*, experiments: frozenset[str] | None = None, **parameters: Any) -> Asked:
    """Parameters as a request has them; `a__since` is `a.since`."""
    return Asked(
        parameters={
            name.replace("__", "."): [str(each) for each in value]
            if isinstance(value, list)
            else [str(value)]
            for name, value in parameters.items()
        },
        now_unix_ns=NOW_NS,
        experiments=experiments,
    )


def quantile(values: Sequence[float], share: float) -> float | None:
    """Between neighbours in proportion."""
    ordered = sorted(values)
    if not ordered:
        return None
    place = (len(ordered) - 1) * share
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def tables_of(store: Any) -> SqlTables:
    """A store as questions ask it; one of ClickHouse has its tables in `db`."""
    return DuckdbTables(store.db) if isinstance(store, Store) else store.db


def trace_in(store: Any, trace_id: str, experiments: frozenset[str] | None) -> Any:
    """A stored trace, if it may be seen."""
    if isinstance(store, Store):
        return lookups.find_trace(store.db, trace_id, experiments)
    return clickhouse_lookups.find_trace(store.db.server, trace_id, experiments)


def scores_in(store: Any, trace_id: str, experiments: frozenset[str] | None) -> list[dict[str, Any]]:
    """The scores of a trace, as far as they may be seen."""
    if isinstance(store, Store):
        return lookups.scores(store.db, trace_id, experiments)
    return clickhouse_lookups.scores(store.db.server, trace_id, experiments)


def ask(store: Any, **parameters: Any) -> dict[str, Any]:
    """Statistics, in the form that they are documented in."""
    answer = answers.stats(tables_of(store), asked(**parameters))
    Stats.model_validate(answer)
    return answer


def close(one: Any, other: Any) -> bool:
    """Whether two numbers are the same but for rounding."""
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)


def added(values: Iterable[Any]) -> float | None:
    """The sum of those that are known."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
