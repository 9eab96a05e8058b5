"""Tools about one thing: a trace, a session, a run, an explanation, the service itself."""

from collector.mcp.asking import Ask, AskRefused, Json, Question, ask_json
from collector.mcp.bounds import MAX_TEXT, Cut
from collector.mcp.envelope import Omission, ToolAnswer
from collector.mcp.fitting import fit_in_turn
from collector.mcp.inputs import ExplainTrace, GetHealth, GetRun, GetSession, GetTrace

# as many spans as can be asked for at once
MOST_SPANS = 30_000
# more rows of spans than fit into any answer by default
SPANS_A_CALL = 400
# of how many spans content is given at once
MAX_CONTENTS = 40
LISTED = "GET /-/runs/{run_id} of the HTTP API"
AGAIN = "get_trace again"
ALERTS_LISTED = "GET /-/alerts of the HTTP API lists them"
NO_ALERTS = {403: "a token with the right alerts:read, not limited to experiments"}
ALERT_FIELDS = (
    *("name", "status", "summary", "trouble", "asleep_until_unix_ns", "evaluated_unix_ns", "more_groups"),
)
# of alerts: what matters most first
STATUS_ORDER = ("firing", "unknown", "pending", "ok")
COUNTED_ONLY = "they are in the figures of the trace and of get_statistics, but can't be listed"


async def get_trace(given: GetTrace, ask: Ask, max_tokens: int) -> ToolAnswer:
    """The tree of a trace with its critical path, errors and figures; on request the content of its spans."""
    chosen = given.spans != "all" or given.span_ids is not None
    most = MOST_SPANS if chosen else min(MOST_SPANS, given.skip + SPANS_A_CALL)
    query = {"max_spans": ["0" if given.spans == "none" and not given.span_ids else str(most)]}
    path = f"/-/traces/{given.trace_id}"
    trace = await ask_json(ask, Question(path=path, query=query))
    later, errors = trace.pop("spans_omitted"), trace.pop("errors_omitted")
    beyond = later if not chosen else 0
    trace["spans"] = [row for row in trace["spans"] if _is_wanted(row, given)][given.skip :]
    shown, ids = given.skip + len(trace["spans"]), _content_ids(given, trace["spans"])
    if given.content:
        trace["content"] = await _contents(given, ask, path, ids[:MAX_CONTENTS])
    fitted = await fit_in_turn(
        trace, _trace_cuts(given, beyond), max_tokens=max_tokens, max_text=_max_text(given)
    )
    omitted = list(fitted.omitted)
    if later and most == MOST_SPANS:
        omitted.append(Omission(what=f"{later} spans after the first {MOST_SPANS}", how=COUNTED_ONLY))
    elif beyond and "spans" not in fitted.kept:
        omitted.append(Omission(what=f"{beyond} of spans", how=f"{AGAIN}, with skip = {shown}"))
    if given.content and (rest := len(ids) - MAX_CONTENTS) > 0:
        how = f"{AGAIN}, with content = true and up to {MAX_CONTENTS} span_ids"
        omitted.append(Omission(what=f"content of {rest} of the spans", how=how))
    if errors:
        omitted.append(Omission(what=f"{errors} of errors", how=f'{AGAIN}, with spans = "failed"'))
    return ToolAnswer(telemetry=fitted.telemetry, omitted=tuple(omitted))


def _is_wanted(row: Json, given: GetTrace) -> bool:
    if given.span_ids is not None:
        return row["span_id"] in given.span_ids
    match given.spans:
        case "critical_path":
            return bool(row["critical_seconds"])
        case "failed":
            return bool(row["is_error"])
        case _:
            return given.spans == "all"


def _content_ids(given: GetTrace, rows: list[Json]) -> list[str]:
    return given.span_ids or [row["span_id"] for row in rows]


async def _contents(given: GetTrace, ask: Ask, path: str, ids: list[str]) -> list[Json]:
    query = {
        "span_id": ids,
        "from_character": [str(given.from_character)],
        "max_characters": [str(given.max_characters)],
    }
    if not ids:
        return []
    found = await ask_json(ask, Question(path=f"{path}/content", query=query))
    by_id = {span["span_id"]: span for span in found["spans"]}
    return [by_id[id] for id in ids if id in by_id]


def _trace_cuts(given: GetTrace, beyond: int) -> tuple[Cut, ...]:
    more = f"{AGAIN}, with content = true and skip = {{next}}, or with span_ids of `spans`"
    return (
        Cut(path="content", how=more, least=1, begins_at=given.skip),
        Cut(
            path="spans",
            how=f"{AGAIN}, with skip = {{next}}",
            least=1,
            begins_at=given.skip,
            beyond=beyond,
        ),
        Cut(path="errors", how=f'{AGAIN}, with spans = "failed"', least=1),
        Cut(path="tools", how="get_statistics with of = tools and by = tool", least=1),
        Cut(path="models", how="get_statistics with of = models and by = model", least=1),
    )


def _max_text(given: GetTrace) -> int:
    # a text of content ends with how much of it there is
    return max(MAX_TEXT, given.max_characters) if given.content else MAX_TEXT


async def explain_trace(given: ExplainTrace, ask: Ask, max_tokens: int) -> ToolAnswer:
    """Where the facts of each span come from, and what is changed for MLflow."""
    document = await ask_json(ask, Question(path=f"/-/traces/{given.trace_id}/explanation"))
    document["spans"] = document["spans"][given.skip :]
    how = "explain_trace again, with skip = {next}"
    fitted = await fit_in_turn(
        document, [Cut(path="spans", how=how, least=1, begins_at=given.skip)], max_tokens=max_tokens
    )
    return ToolAnswer(telemetry=fitted.telemetry, omitted=fitted.omitted)


async def get_session(given: GetSession, ask: Ask, max_tokens: int) -> ToolAnswer:
    """One session with its turns, oldest first."""
    query = given.query(without=("session", "skip"))
    document = await ask_json(ask, Question(path=f"/-/sessions/{given.session}", query=query))
    turns = len(document["turns"])
    document["turns"] = document["turns"][given.skip :]
    how = "get_session again, with skip = {next}"
    cuts = (Cut(path="turns", how=how, least=1, begins_at=given.skip),)
    fitted = await fit_in_turn(document, cuts, max_tokens=max_tokens)
    omitted = fitted.omitted
    if document["turns_omitted"]:
        later = Omission(
            what=f"{document['turns_omitted']} turns after the first {turns}",
            how="search_traces with this session, sort = start and since = the start of the last turn",
        )
        omitted = (*omitted, later)
    return ToolAnswer(telemetry=fitted.telemetry, omitted=omitted)


async def get_run(given: GetRun, ask: Ask, max_tokens: int) -> ToolAnswer:
    """One run with the histories of its metrics."""
    history = "all" if given.whole_history else str(given.points)
    query = {"history": [history]} | ({"metric": given.metric} if given.metric else {})
    document = await ask_json(ask, Question(path=f"/-/runs/{given.run_id}", query=query))
    begins_at = given.skip if given.whole_history else 0
    for metric in document["metrics"]:
        metric["history"] = (metric.get("history") or [])[begins_at:]
    cuts = _run_cuts(begins_at)
    fitted = await fit_in_turn(
        document, cuts, max_tokens=max_tokens, whole_texts=f"{LISTED} has them in whole"
    )
    return ToolAnswer(telemetry=fitted.telemetry, omitted=fitted.omitted)


def _run_cuts(begins_at: int) -> tuple[Cut, ...]:
    again = "get_run again, with metric = its name"
    return (
        Cut(path="artifacts", how=f"{LISTED} lists them", least=3),
        Cut(path="children", how="list_runs with filter = tags.`mlflow.parentRunId` = 'run_id'", least=1),
        Cut(path="tags", how=f"{LISTED} lists them", least=10),
        Cut(
            path="metrics.*.history",
            how=f"{again}, whole_history = true and skip = {{next}}",
            begins_at=begins_at,
        ),
        Cut(path="metrics", how=f"{again}; search for names with list_runs", least=1),
        Cut(path="params", how=f"{LISTED} lists them", least=1),
        Cut(path="datasets", how=f"{LISTED} lists them"),
        Cut(path="children", how="list_runs with filter = tags.`mlflow.parentRunId` = 'run_id'"),
        Cut(path="tags", how=f"{LISTED} lists them"),
    )


async def get_health(_: GetHealth, ask: Ask, max_tokens: int) -> ToolAnswer:
    """The state of each part of the service, and of each alert."""
    document = await _health(ask)
    missing: tuple[Omission, ...] = ()
    try:
        alerts = (await ask_json(ask, Question(path="/-/alerts")))["alerts"]
        document["alerts"] = sorted(map(_alert, alerts), key=lambda each: STATUS_ORDER.index(each["status"]))
    except AskRefused as refused:
        missing = (Omission(what="alerts", how=NO_ALERTS.get(refused.status, ALERTS_LISTED)),)
    cuts = (
        Cut(path="alerts.*.groups", how=ALERTS_LISTED, least=1),
        Cut(path="alerts", how=ALERTS_LISTED, least=1),
        Cut(path="parts", how="GET /-/ready of the HTTP API lists them"),
    )
    fitted = await fit_in_turn(document, cuts, max_tokens=max_tokens)
    return ToolAnswer(telemetry=fitted.telemetry, omitted=(*fitted.omitted, *missing))


async def _health(ask: Ask) -> Json:
    """Unready (503) is an answer too."""
    try:
        return await ask_json(ask, Question(path="/-/ready"))
    except AskRefused as refused:
        if "ready" not in refused.document:
            raise
        return dict(refused.document)


def _alert(alert: Json) -> Json:
    """What is known of an alert, with the groups that are beyond its threshold."""
    groups = [group for group in alert["groups"] if group["status"] != "ok"]
    return {name: alert[name] for name in ALERT_FIELDS} | {"groups": groups}
