"""Where spans go, and what of them: arguments over environment over defaults. Pure.

    endpoint         argument > OTEL_EXPORTER_OTLP_TRACES_ENDPOINT (as it is) > OTEL_EXPORTER_OTLP_ENDPOINT
                     > SIDESPAN_ENDPOINT > http://127.0.0.1:4318
    experiment       argument > SIDESPAN_EXPERIMENT > x-mlflow-experiment-id or -name in the OTEL_ headers
                     > mlflow.experiment.id or .name in OTEL_RESOURCE_ATTRIBUTES > what Sidespan routes to
    headers          argument, over OTEL_EXPORTER_OTLP_TRACES_HEADERS, OTEL_EXPORTER_OTLP_HEADERS
    token            argument > SIDESPAN_TOKEN: sent as `authorization: Bearer`
    service_name, service_version
                     argument > OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES (the SDK reads them)
    include_content  argument > SIDESPAN_INCLUDE_CONTENT
                     > OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT > true
    hide_inputs      argument > SIDESPAN_HIDE_INPUTS > OPENINFERENCE_HIDE_INPUTS > false; hide_outputs alike
    sampling_ratio   argument > OTEL_TRACES_SAMPLER and its argument (the SDK reads them) > everything
    compression      argument > OTEL_EXPORTER_OTLP_TRACES_COMPRESSION, OTEL_EXPORTER_OTLP_COMPRESSION > gzip
    batch            argument > SIDESPAN_BATCH > true
    logs             argument > SIDESPAN_LOGS > true, but not where OTEL_LOGS_EXPORTER is none; they go to
                     OTEL_EXPORTER_OTLP_LOGS_ENDPOINT (as it is), else beside the traces, at /v1/logs
    openinference    argument > SIDESPAN_OPENINFERENCE > true; repeat_content: SIDESPAN_REPEAT_CONTENT > false

Source: OpenTelemetry specification, "OpenTelemetry Protocol Exporter", "Resource SDK", "Environment
Variables".
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from opentelemetry.util.re import parse_env_headers

DEFAULT_ENDPOINT = "http://127.0.0.1:4318"
TRACES_PATH, LOGS_PATH = "/v1/traces", "/v1/logs"
EXPERIMENT_ID = re.compile(r"(0|[1-9][0-9]{0,18})\Z", re.ASCII)
ID_HEADER, NAME_HEADER = "x-mlflow-experiment-id", "x-mlflow-experiment-name"
EXPERIMENT_ATTRIBUTES = ("mlflow.experiment.id", "mlflow.experiment.name")
YES, NO = frozenset({"true", "1", "yes", "on"}), frozenset({"false", "0", "no", "off"})

# switch -> the variables that set it, strongest first, and its default
SWITCHES: Mapping[str, tuple[tuple[str, ...], bool]] = {
    "include_content": (
        ("SIDESPAN_INCLUDE_CONTENT", "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"),
        True,
    ),
    "hide_inputs": (("SIDESPAN_HIDE_INPUTS", "OPENINFERENCE_HIDE_INPUTS"), False),
    "hide_outputs": (("SIDESPAN_HIDE_OUTPUTS", "OPENINFERENCE_HIDE_OUTPUTS"), False),
    "batch": (("SIDESPAN_BATCH",), True),
    "logs": (("SIDESPAN_LOGS",), True),
    "openinference": (("SIDESPAN_OPENINFERENCE",), True),
    "repeat_content": (("SIDESPAN_REPEAT_CONTENT",), False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A full traces URL, and what tells Sidespan which experiment: resource attributes or headers.

    The resource is the better place, each span's payload carries it; headers serve where the resource
    belongs to a provider that we joined and can't be changed. `base` is the URL without the path of traces.
    """

    url: str
    resource_attributes: Mapping[str, str]
    headers: Mapping[str, str]

    @property
    def base(self) -> str:
        return self.url.removesuffix(TRACES_PATH)


def destination(
    *, endpoint: str | None, experiment: str | None, environment: Mapping[str, str]
) -> Destination:
    """Where this process sends its spans. Raises ValueError for an endpoint that is no http URL."""
    experiment = (experiment or environment.get("SIDESPAN_EXPERIMENT") or "").strip() or None
    attributes: dict[str, str] = {}
    headers: dict[str, str] = {}
    if experiment is not None and EXPERIMENT_ID.match(experiment):
        attributes["mlflow.experiment.id"] = headers[ID_HEADER] = experiment
    elif experiment is not None:
        attributes["mlflow.experiment.name"] = experiment
        headers[NAME_HEADER] = quote(experiment, safe=" ")
    return Destination(
        url=_traces_url(endpoint, environment), resource_attributes=attributes, headers=headers
    )


def switches(given: Mapping[str, bool | None], environment: Mapping[str, str]) -> dict[str, bool]:
    """Each of SWITCHES: as given, else as the environment says. Raises ValueError for any other word."""
    found = {}
    for name, (variables, default) in SWITCHES.items():
        chosen = given.get(name)
        said = next((variable for variable in variables if environment.get(variable)), None)
        if chosen is None and said is not None:
            chosen = _switch(environment[said], said)
        found[name] = default if chosen is None else chosen
    return found


def _switch(text: str, where: str) -> bool:
    word = text.strip().lower()
    if word not in YES | NO:
        raise ValueError(f"{where}: {text!r} is neither true nor false")
    return word in YES


def export_headers(
    to: Destination,
    *,
    joins: bool,
    environment: Mapping[str, str],
    headers: Mapping[str, str] | None = None,
    token: str | None = None,
    signal: str = "TRACES",
) -> dict[str, str] | None:
    """The headers of each export; None leaves the standard variables' to the exporter.

    An experiment goes into a header where the resource can't say it (`joins`), or would not be heard:
    Sidespan follows a header before the resource, and the standard variables may hold one.
    """
    standard = standard_headers(environment, signal)
    own = {name.lower(): value for name, value in (headers or {}).items()}
    token = token or environment.get("SIDESPAN_TOKEN")
    if token:
        own.setdefault("authorization", f"Bearer {token}")
    named = ID_HEADER in {**standard, **own} or NAME_HEADER in {**standard, **own}
    if to.headers and (joins or named):
        own |= to.headers
    # exporters before 1.45 read the variables only if they are given none
    return {**standard, **own} if own else None


def standard_headers(environment: Mapping[str, str], signal: str = "TRACES") -> Mapping[str, str]:
    """What the standard variables ask every export of a signal to carry, names in lower case."""
    names = (f"OTEL_EXPORTER_OTLP_{signal}_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
    text = next((environment[name] for name in names if environment.get(name)), "")
    return parse_env_headers(text, liberal=True)


def logs_url(to: Destination, environment: Mapping[str, str]) -> str | None:
    """Where log records go; None: nowhere, for the traces' address doesn't tell. Raises ValueError."""
    if as_it_is := environment.get("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"):
        return _checked(as_it_is, "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT")
    if environment.get("OTEL_LOGS_EXPORTER", "").strip().lower() == "none":
        return None
    return to.base + LOGS_PATH if to.url.endswith(TRACES_PATH) else None


def _traces_url(endpoint: str | None, environment: Mapping[str, str]) -> str:
    as_it_is = environment.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if endpoint is None and as_it_is:
        return _checked(as_it_is, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", "SIDESPAN_ENDPOINT")
    found = [(name, environment[name]) for name in names if environment.get(name)]
    where, base = ("endpoint", endpoint) if endpoint else (*found, ("default", DEFAULT_ENDPOINT))[0]
    base = _checked(base, where).rstrip("/")
    return base if base.endswith(TRACES_PATH) else base + TRACES_PATH


def _checked(url: str, where: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{where}: {url!r} is not an http:// or https:// URL")
    return url
