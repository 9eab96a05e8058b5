"""From an alert's group to its traces: the filters of the list of traces, and addresses on the page. Pure."""

from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlencode

from collector.alerts.definition import filters_of
from collector.alerts.measurements import AlertGroup
from collector.index.queries.filters import OF_THEIR_TRACE, TRACE_FILTERS
from collector.index.queries.stats import ENTITIES
from collector.settings.alerts import AlertSettings

Parameters = Mapping[str, Sequence[str]]

# dimensions whose values are text from inside traces
CONTENT_DIMENSIONS = frozenset({"error"})
# filters that mean a span where spans are counted, and a trace in the list of traces
_OF_THE_SPAN = frozenset({"status", "min_duration_seconds", "max_duration_seconds", "min_cost_usd"})
# how a metric's name begins, and how traces that it speaks of are sorted
_SORTS = (
    ("duration", "duration"),
    ("self_seconds", "duration"),
    ("cost", "cost"),
    ("error_spans", "errors"),
    ("recovered", "errors"),
    ("model_calls", "model_calls"),
    ("spans", "spans"),
)


def trace_parameters(
    alert: AlertSettings, group: AlertGroup, *, since_unix_ns: int, until_unix_ns: int
) -> dict[str, Sequence[str]]:
    """The filters of the traces that a group's window is about; of more, where no filter is narrower."""
    is_about_traces = ENTITIES[alert.of].filters is TRACE_FILTERS if alert.of in ENTITIES else True
    found: dict[str, Sequence[str]] = {}
    for name, values in filters_of(alert).items():
        if is_about_traces or name not in _OF_THE_SPAN:
            found[OF_THEIR_TRACE.get(name, name)] = values
    for name, value in zip(alert.by, group, strict=False):
        if value is not None and (is_about_traces or name not in _OF_THE_SPAN):
            found["experiment_name" if name == "experiment" else name] = (value,)
    if is_about_traces and alert.metric in ("errors", "error_rate"):
        found.setdefault("status", ("ERROR",))
    return {name: values for name, values in found.items() if name in TRACE_FILTERS} | {
        "sort": (_sort(alert, is_about_traces),),
        "since": (str(since_unix_ns),),
        "until": (str(until_unix_ns),),
    }


def _sort(alert: AlertSettings, is_about_traces: bool) -> str:
    if not is_about_traces and alert.metric in ("errors", "error_rate"):
        return "-errors"
    key = next((sort for begin, sort in _SORTS if alert.metric.startswith(begin)), None)
    if key is None and alert.metric.endswith("_tokens"):
        key = "tokens"
    if key is None:
        return "-start"
    return f"-{key}" if alert.above is not None else key


def traces_link(base_url: str, parameters: Parameters) -> str:
    """The page with these traces."""
    return f"{base_url}/-/#/traces?{urlencode(parameters, doseq=True)}"


def trace_link(base_url: str, trace_id: str) -> str:
    """The page with one trace."""
    return f"{base_url}/-/#/trace/{quote(trace_id, safe='')}"


def alerts_link(base_url: str) -> str:
    """The page with the alerts."""
    return f"{base_url}/-/#/alerts"
