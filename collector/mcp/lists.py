"""Tools whose answer is a list: rows by pages with a cursor, and groups from a place on."""

from collections.abc import Sequence

from collector.mcp.asking import Ask, Json, Query, Question, ask_json
from collector.mcp.bounds import Cut
from collector.mcp.envelope import Omission, ToolAnswer
from collector.mcp.fitting import fit_in_turn
from collector.mcp.inputs import (
    Compare,
    GetStatistics,
    ListErrors,
    ListFacets,
    ListRuns,
    ListSessions,
    SearchTraces,
    ToolInput,
)

# how often a page is asked for with fewer rows until it fits; each time with what has fitted
MAX_TRIES = 4
# of errors or groups: what the service lists in one answer
MOST_ROWS = 1000
SAME = "the same tool and arguments"
ONE_ROW = "get_trace, get_session or get_run shows one of them, with longer texts"
NARROW = f"{SAME}, with more filters"


async def search_traces(given: SearchTraces, ask: Ask, max_tokens: int) -> ToolAnswer:
    """Rows of traces."""
    return await _page(ask, "/-/traces", given, "traces", "next_cursor", "cursor", max_tokens)


async def list_sessions(given: ListSessions, ask: Ask, max_tokens: int) -> ToolAnswer:
    """Rows of sessions."""
    return await _page(ask, "/-/sessions", given, "sessions", "next_cursor", "cursor", max_tokens)


async def list_runs(given: ListRuns, ask: Ask, max_tokens: int) -> ToolAnswer:
    """Rows of runs."""
    return await _page(ask, "/-/runs", given, "runs", "next_page_token", "page_token", max_tokens)


async def list_errors(given: ListErrors, ask: Ask, max_tokens: int) -> ToolAnswer:
    """Groups of errors. The service has no pages of them: what is skipped is asked for as well."""
    wanted = given.skip + given.limit
    query = {**given.query(without=("skip", "limit")), "limit": [str(min(MOST_ROWS, wanted + 1))]}
    document = await ask_json(ask, Question(path="/-/traces/errors", query=query))
    found = len(document["errors"])
    document = {"errors": document["errors"][given.skip : wanted]}
    is_end = wanted >= found >= MOST_ROWS
    return await _from(
        given.skip, document, "errors", max_tokens, more=_more("errors", found, wanted, is_end)
    )


async def get_statistics(given: GetStatistics, ask: Ask, max_tokens: int) -> ToolAnswer:
    """Metrics by group and over time."""
    wanted = given.skip + given.top
    query = _groups_from(given.query(without=("skip", "top")), wanted)
    document = await ask_json(ask, Question(path="/-/traces/stats", query=query))
    document["groups"] = document["groups"][given.skip :]
    series = "a longer bucket, or a shorter time range"
    cuts = (
        Cut(path="groups.*.series", how=f"{SAME}, with {series}"),
        Cut(path="series", how=f"{SAME}, with {series}"),
    )
    found = wanted + bool(document.get("more_groups"))
    more = _more("groups", found, wanted, found > wanted >= MOST_ROWS)
    return await _from(given.skip, document, "groups", max_tokens, cuts=cuts, more=more)


async def compare(given: Compare, ask: Ask, max_tokens: int) -> ToolAnswer:
    """Metrics of two selections, side by side. The service gives so many groups of either side, or more."""
    sides = {
        f"{side}.{name}": values
        for side, selection in (("a", given.a), ("b", given.b))
        for name, values in selection.query().items()
    }
    both = given.both.query() if given.both is not None else {}
    own = given.query(without=("a", "b", "both", "skip", "top"))
    wanted = given.skip + given.top
    query = _groups_from({**own, **both, **sides}, wanted + 1)
    document = await ask_json(ask, Question(path="/-/traces/compare", query=query))
    found = len(document["groups"])
    document["groups"] = document["groups"][given.skip : wanted]
    more = _more("groups", found, wanted, wanted >= found >= MOST_ROWS)
    return await _from(given.skip, document, "groups", max_tokens, more=more)


def _more(name: str, found: int, wanted: int, is_end: bool) -> Omission | None:
    """That there is more than the rows up to `wanted`; `is_end`: the service lists no more than these."""
    if is_end:
        return Omission(what=f"{name} after the first {MOST_ROWS}, if there are any", how=NARROW)
    if found > wanted:
        return Omission(what=f"more {name}", how=f"{SAME}, with skip = {wanted}")
    return None


async def list_facets(given: ListFacets, ask: Ask, max_tokens: int) -> ToolAnswer:
    """The values of each filter, most frequent first."""
    document = await ask_json(ask, Question(path="/-/traces/facets", query=given.query()))
    cuts = [Cut(path=name, how=NARROW, least=3) for name in document]
    fitted = await fit_in_turn(document, cuts, max_tokens=max_tokens)
    return ToolAnswer(telemetry=fitted.telemetry, omitted=fitted.omitted)


def _groups_from(query: Query, top: int) -> Query:
    return {**query, "top": [str(min(MOST_ROWS, top))]}


async def _from(
    skip: int,
    document: Json,
    name: str,
    max_tokens: int,
    *,
    cuts: Sequence[Cut] = (),
    more: Omission | None = None,
) -> ToolAnswer:
    """The answer with a list that begins `skip` items late; `more` follows it, unless it had to be cut."""
    rest = Cut(path=name, how=f"{SAME}, with skip = {{next}}", least=1, begins_at=skip)
    fitted = await fit_in_turn(document, (*cuts, rest), max_tokens=max_tokens)
    later = () if more is None or name in fitted.kept else (more,)
    return ToolAnswer(telemetry=fitted.telemetry, omitted=(*fitted.omitted, *later))


async def _page(
    ask: Ask, path: str, given: ToolInput, name: str, cursor: str, parameter: str, max_tokens: int
) -> ToolAnswer:
    """A page of as many rows as fit: its cursor then leads to the first row that is missing."""
    query = dict(given.query())
    rest = Cut(path=name, how=NARROW, least=1)
    for _ in range(MAX_TRIES):
        document = await ask_json(ask, Question(path=path, query=query))
        fitted = await fit_in_turn(document, (rest,), max_tokens=max_tokens, whole_texts=ONE_ROW)
        if name not in fitted.kept:
            break
        query["limit"] = [str(fitted.kept[name])]
    omitted = list(fitted.omitted)
    if fitted.telemetry.get(cursor) and name not in fitted.kept:
        omitted.append(Omission(what=f"more {name}", how=f"{SAME}, with {parameter} = telemetry.{cursor}"))
    return ToolAnswer(telemetry=fitted.telemetry, omitted=tuple(omitted))
