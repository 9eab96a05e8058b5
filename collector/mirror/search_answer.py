"""MLflow's answer about the traces of a page, as its answer to the question. Pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from collector.mirror.filters import NAME_TAG, SESSION_METADATA
from collector.mirror.rows import trace_times
from collector.mirror.search import SearchForm, SearchQuestion, page_token

NOTHING = b"{}"


def search_answer(question: SearchQuestion, rows: Sequence[Sequence[Any]], body: bytes) -> bytes | None:
    """The answer, from MLflow's about the traces of `rows` (PAGE of search_sql.py).

    None: a trace has changed in between. Raises ValueError, KeyError, TypeError: it isn't MLflow's JSON.
    """
    document = json.loads(body)
    facts = _facts_v3 if question.form is SearchForm.V3 else _facts_v2
    told = [facts(each) for each in document.get("traces", ())]
    expected = [list(row) for row in rows[: question.limit]]
    if question.form is SearchForm.V2:
        # that form knows no trace without a duration
        expected = [[id, at, latency or 0, *more] for id, at, latency, *more in expected]
    if [row for row, _ in told] != expected or not all(_fits(question, entries) for _, entries in told):
        return None
    has_token = "next_page_token" in document
    if len(rows) > question.limit and not has_token:
        return None  # what followed is gone, but more may follow
    if not has_token or not question.offset:
        return body
    return json.dumps(document | {"next_page_token": page_token(question.offset + question.limit)}).encode()


Entries = Mapping[str, Mapping[str, str]]


def _fits(question: SearchQuestion, entries: Entries) -> bool:
    """Whether a trace still has the tags and metadata that were asked for."""
    asked = [each for each in question.conditions if each.key is not None]
    return all(entries[each.table].get(each.key or "") == each.value for each in asked)


def _facts_v3(info: Mapping[str, Any]) -> tuple[list[Any], Entries]:
    tags, metadata = info.get("tags", {}), info.get("trace_metadata", {})
    row = [info["trace_id"], *trace_times(info), info["state"], *_named(tags, metadata)]
    return row, {"tag": tags, "metadata": metadata}


def _facts_v2(info: Mapping[str, Any]) -> tuple[list[Any], Entries]:
    tags, metadata = (_pairs(info.get(name, ())) for name in ("tags", "request_metadata"))
    times = int(info["timestamp_ms"]), int(info["execution_time_ms"])
    return [info["request_id"], *times, info["status"], *_named(tags, metadata)], {
        "tag": tags,
        "metadata": metadata,
    }


def _pairs(listed: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {each["key"]: each["value"] for each in listed}


def _named(tags: Mapping[str, str], metadata: Mapping[str, str]) -> tuple[str | None, str | None]:
    return tags.get(NAME_TAG), metadata.get(SESSION_METADATA)
