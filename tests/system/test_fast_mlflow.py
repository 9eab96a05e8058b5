"""MLflow's questions answered from the index: the same as its own answers, whatever is written meanwhile."""

import asyncio
import json
import math
import os
import random
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from playwright.async_api import Response, async_playwright

from tests.collector.api.test_page import CHROMIUM, CHROMIUM_ARGUMENTS
from tests.support.metric_questions import QUESTIONS as KINDS
from tests.support.metric_questions import Question, odd_traces, random_question, random_traces
from tests.support.mlflow_server import MlflowServer
from tests.support.search_questions import form_v2, form_v3, next_page, random_search
from tests.support.sidespan import Sidespan

METRICS = "/api/3.0/mlflow/traces/metrics"
MARK = "sidespan-answered-by"
SEED = 20261122
WAIT_SECONDS = 120
SETTINGS = {"SIDESPAN_PROXY__ANSWER_FROM_INDEX": "auto", "SIDESPAN_MLFLOW__DATABASE": "sqlite"}
EVERYTHING: Question = {
    "view_type": "TRACES",
    "metric_name": "trace_count",
    "aggregations": [{"aggregation_type": "COUNT"}],
}
CONNECTIONS: dict[str, HTTPConnection] = {}
PAGES = ("overview/usage", "overview/quality", "overview/tool-calls", "traces", "chat-sessions")
OUTSIDE = {"key": "place", "value": "outside"}
AROUND_MS = 1_790_000_000_000
SearchForm = Callable[[Question], tuple[str, str, str | None]]
ODD_CONDITIONS = (
    "span.name = 'odd'",
    "span.name != 'odd'",
    "span.name = ''",
    "span.name LIKE '%b%'",
    "span.name LIKE 'a%'",
    "span.name ILIKE 'A'",
    "span.type = ''",
    "span.type != 'LLM'",
    "span.type LIKE '%'",
    "span.type NOT IN ('LLM')",
    "span.name = 'odd' AND name IS NULL",
    "span.name = 'odd' AND tags.mlflow.traceName = 'renamed'",
    "span.name = 'odd' AND execution_time_ms < 1",
    "span.name = 'odd' AND execution_time_ms >= 0",
    f"span.name = 'odd' AND end_time_ms >= {AROUND_MS}",
    f"span.name = 'odd' AND timestamp_ms > {AROUND_MS + 9_999}",
    f"span.name = 'odd' AND timestamp_ms >= {AROUND_MS}",
)
# some thousands take minutes: SIDESPAN_TEST_QUESTIONS=5000
QUESTIONS = int(os.environ.get("SIDESPAN_TEST_QUESTIONS", "300"))
TIMEOUT_SECONDS = 300 + QUESTIONS // 2


class World:
    """A service that answers, MLflow behind it, and two experiments with traces."""

    def __init__(self, sidespan: Sidespan, mlflow: MlflowServer, *, seed: int) -> None:
        self.sidespan, self.mlflow = sidespan, mlflow
        self.dice = random.Random(seed)
        self.experiments = [mlflow.create_experiment(f"fast-{uuid.uuid4().hex[:12]}") for _ in range(2)]
        self.outside = mlflow.create_experiment(f"outside-{uuid.uuid4().hex[:12]}")
        self.traces: list[tuple[str, str]] = []
        self.questions = QUESTIONS
        # of those that are asked amid writes; by the API alone each write is read back through a busy MLflow
        self.least_answered = QUESTIONS // 18

    def send_outside(self, count: int) -> None:
        """Traces that Sidespan never sees, of an experiment of their own."""
        request = random_traces(self.dice, count, around_ms=int(time.time() * 1000))
        post_traces(self.mlflow.url, self.outside, request)
        self.ask(self.sidespan.url, EVERYTHING | {"experiment_ids": [self.outside]})

    def send(self, count: int, *, to: str | None = None, wait: bool = True) -> None:
        """Traces for one of the experiments."""
        experiment = self.dice.choice(self.experiments)
        request = random_traces(self.dice, count, around_ms=AROUND_MS)
        ids = {span.trace_id.hex() for span in request.resource_spans[0].scope_spans[0].spans}
        post_traces(to or self.sidespan.url, experiment, request)
        if wait:
            self.sidespan.wait_delivered(60)
        self.traces += [(experiment, f"tr-{id}") for id in sorted(ids)]

    def question(self) -> Question:
        return random_question(self.dice, self.experiments, around_ms=AROUND_MS)

    def ask(self, url: str, question: Question) -> tuple[dict[str, Any], str | None]:
        return ask(f"{url}{METRICS}", question)

    def search(self) -> Question:
        return random_search(self.dice, self.experiments, around_ms=AROUND_MS)

    def look(self, url: str, question: Question, *, form: SearchForm = form_v3) -> tuple[Any, str | None]:
        """What a search finds, and who says so."""
        method, path, body = form(question)
        return answer_to(method, url + path, body)

    def wait_until_answered(self) -> None:
        """Until both experiments are copied."""
        question = EVERYTHING | {"experiment_ids": self.experiments}
        deadline = time.monotonic() + WAIT_SECONDS
        while self.ask(self.sidespan.url, question)[1] is None:
            assert time.monotonic() < deadline, self.sidespan.health()["parts"]["questions"]
            time.sleep(0.1)

    def call(self, method: str, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """A write through the proxy."""
        return call(method, f"{self.sidespan.url}{path}", document)

    def write(self) -> None:
        """One of the things that people do with traces."""
        experiment, trace = self.dice.choice(self.traces)
        what = self.dice.choice((self._tag, self._name, self._assess, self._assess, self._delete, self._feed))
        what(experiment, trace)

    def _tag(self, _: str, trace: str) -> None:
        tag = {"key": "team", "value": self.dice.choice(("blue", "green"))}
        self.call("PATCH", f"/api/3.0/mlflow/traces/{trace}/tags", tag)

    def _name(self, _: str, trace: str) -> None:
        tag = {"key": "mlflow.traceName", "value": self.dice.choice(("plan", "new name"))}
        self.call("PATCH", f"/ajax-api/3.0/mlflow/traces/{trace}/tags", tag)

    def _assess(self, _: str, trace: str) -> None:
        value = self.dice.choice((True, False, "yes", "No ", "other", None, 0.25, 3.0))
        kind = "feedback" if value is None or self.dice.random() < 0.8 else "expectation"
        assessment = {
            "assessment_name": self.dice.choice(("good", "right")),
            "source": {"source_type": "HUMAN", "source_id": "ada"},
            kind: {"value": value},
        }
        self.call("POST", f"/api/3.0/mlflow/traces/{trace}/assessments", {"assessment": assessment})

    def _delete(self, experiment: str, trace: str) -> None:
        self.traces.remove((experiment, trace))
        document = {"experiment_id": experiment, "request_ids": [trace]}
        self.call("POST", "/api/3.0/mlflow/traces/delete-traces", document)

    def _feed(self, *_: str) -> None:
        self.send(2, wait=False)


@pytest.fixture(scope="module")
def world(mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """MLflow's database is at hand, as for `sidespan up`."""
    file = {"SIDESPAN_MLFLOW__DATABASE_FILE": str(mlflow_server.database)}
    with running(mlflow_server, tmp_path_factory.mktemp("fast") / "data", SETTINGS | file) as made:
        yield made


@pytest.fixture(scope="module")
def api_world(mlflow_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Only MLflow's API is at hand."""
    with running(mlflow_server, tmp_path_factory.mktemp("fast-api") / "data", SETTINGS) as made:
        made.questions //= 3
        made.least_answered = made.questions // 50
        yield made


@pytest.fixture(params=["world", "api_world"])
def each_world(request: pytest.FixtureRequest) -> World:
    found: World = request.getfixturevalue(request.param)
    return found


@contextmanager
def running(mlflow_server: MlflowServer, data_dir: Path, environment: Mapping[str, str]) -> Iterator[World]:
    service = Sidespan(data_dir=data_dir, mlflow_url=mlflow_server.url, environment=environment)
    service.start()
    service.wait_index()
    made = World(service, mlflow_server, seed=SEED + len(environment))
    made.send(60)
    # what came to MLflow without us
    made.send(40, to=mlflow_server.url)
    made.send_outside(7)
    made.wait_until_answered()
    yield made
    service.kill()
    for connection in CONNECTIONS.values():
        connection.close()
    CONNECTIONS.clear()


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_random_questions_have_mlflows_answers(each_world: World) -> None:
    world = each_world
    world.wait_until_answered()
    answered, reasons = Counter[bool](), Counter[str]()
    for _ in range(world.questions):
        question = world.question()
        theirs, _none = world.ask(world.mlflow.url, question)
        ours, mark = world.ask(world.sidespan.url, question)
        assert same(ours, theirs), differing(question, ours, theirs, mark)
        answered[mark is not None] += 1
    reasons.update(world.sidespan.health()["parts"]["questions"]["questions"])
    assert answered[True] > world.questions * 2 / 3, reasons


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_answers_stay_mlflows_while_everything_changes(each_world: World) -> None:
    world = each_world
    answered = 0
    for number in range(world.questions // 6):
        if number % 2 == 0:
            world.write()
        question = world.question()
        # spans may be delivered between two requests: then what MLflow says before and after frames ours
        before, _none = world.ask(world.mlflow.url, question)
        ours, mark = world.ask(world.sidespan.url, question)
        after, _none = world.ask(world.mlflow.url, question)
        if same(before, after):
            assert same(ours, after), differing(question, ours, after, mark)
        answered += mark is not None
    assert answered > world.least_answered, world.sidespan.health()["parts"]["questions"]
    # what is still to be delivered would be a change that the other service doesn't know of
    world.sidespan.wait_delivered(60)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("untold", [False, True])
def test_odd_traces_have_mlflows_answers(each_world: World, untold: bool) -> None:
    world = each_world
    experiment = world.mlflow.create_experiment(f"odd-{uuid.uuid4().hex[:12]}")
    sent = odd_traces(around_ms=AROUND_MS, untold=untold, first_id=world.dice.getrandbits(60))
    post_traces(world.sidespan.url, experiment, sent)
    world.sidespan.wait_delivered(60)
    everything = EVERYTHING | {"experiment_ids": [experiment]}
    deadline = time.monotonic() + WAIT_SECONDS
    while world.ask(world.sidespan.url, everything)[1] is None:
        assert time.monotonic() < deadline, world.sidespan.health()["parts"]["questions"]
        time.sleep(0.1)
    wrong = [*wrong_searches(world, experiment)]
    filters = {"TRACES": [[], [f"trace.tag.`long` = '{'x' * 300}'"]]}
    for view, metric, aggregations, dimensions in KINDS:
        for groups in [[], *([each] for each in dimensions)]:
            for chosen in filters.get(view, [[]]):
                question = {
                    "experiment_ids": [experiment],
                    "view_type": view,
                    "metric_name": metric,
                    "aggregations": [
                        {"aggregation_type": each} for each in aggregations if each != "PERCENTILE"
                    ],
                    "dimensions": groups,
                    "filters": chosen,
                }
                theirs, _none = world.ask(world.mlflow.url, question)
                ours, mark = world.ask(world.sidespan.url, question)
                if not same(ours, theirs):
                    wrong.append(differing(question, ours, theirs, mark))
    assert not wrong, "\n".join(wrong)


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_random_searches_have_mlflows_answers(each_world: World) -> None:
    world = each_world
    world.wait_until_answered()
    answered, pages = 0, 0
    for _ in range(world.questions // 6):
        question: Question | None = world.search()
        form = world.dice.choice((form_v3, form_v3, form_v2))
        while question is not None:
            theirs, _none = world.look(world.mlflow.url, question, form=form)
            ours, mark = world.look(world.sidespan.url, question, form=form)
            assert same(ours, theirs), differing(question, ours, theirs, mark)
            answered, pages = answered + (mark is not None), pages + 1
            question = next_page(question, ours) if world.dice.random() < 0.5 else None
    assert answered > pages * 9 / 10, world.sidespan.health()["parts"]["questions"]


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_searches_stay_mlflows_while_everything_changes(world: World) -> None:
    answered = 0
    for number in range(QUESTIONS // 10):
        if number % 2 == 0:
            world.write()
        question = world.search()
        before, _none = world.look(world.mlflow.url, question)
        ours, mark = world.look(world.sidespan.url, question)
        after, _none = world.look(world.mlflow.url, question)
        if same(before, after):
            assert same(ours, after), differing(question, ours, after, mark)
        answered += mark is not None
    assert answered > QUESTIONS // 30, world.sidespan.health()["parts"]["questions"]
    world.sidespan.wait_delivered(60)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"filter": "trace.status = 'OK'"}, id="nothing about spans"),
        pytest.param({"filter": ""}, id="no filter"),
        pytest.param({"filter": "span.name RLIKE '^a'"}, id="another comparison"),
        pytest.param({"filter": "span.name = 'a' OR span.name = 'b'"}, id="an alternative"),
        pytest.param({"filter": "span.attributes.x LIKE '%a%'"}, id="attributes of spans"),
        pytest.param({"filter": "span.kind = 'a'"}, id="an unknown field"),
        pytest.param({"order_by": ["tags.team"]}, id="ordered by a tag"),
        pytest.param({"order_by": ["timestamp", "timestamp_ms"]}, id="an order that contradicts itself"),
        pytest.param({"order_by": ["timestamp SIDEWAYS"]}, id="no order"),
        pytest.param({"max_results": 0}, id="no results"),
        pytest.param({"max_results": 501}, id="too many results"),
        pytest.param({"page_token": "bm9uZQ=="}, id="no token"),
    ],
)
@pytest.mark.parametrize("form", [form_v3, form_v2])
def test_searches_that_are_not_plain_are_passed_on(world: World, changed: Question, form: SearchForm) -> None:
    question = {"experiment_ids": world.experiments, "filter": "span.name = 'plan'"} | changed
    theirs, _none = world.look(world.mlflow.url, question, form=form)
    assert world.look(world.sidespan.url, question, form=form) == (theirs, None)


def test_what_was_deleted_by_its_age_is_gone_from_answers(world: World) -> None:
    experiment = world.experiments[0]
    question = EVERYTHING | {"experiment_ids": [experiment]}
    document = {"experiment_id": experiment, "max_timestamp_millis": AROUND_MS, "max_traces": 5}
    world.call("POST", "/api/3.0/mlflow/traces/delete-traces", document)
    world.sidespan.wait_delivered(60)
    ours, _mark = world.ask(world.sidespan.url, question)
    assert same(ours, world.ask(world.mlflow.url, question)[0])
    world.wait_until_answered()
    ours, mark = world.ask(world.sidespan.url, question)
    assert mark == "index" and same(ours, world.ask(world.mlflow.url, question)[0])


def test_a_change_without_us_that_leaves_all_counts_equal_is_noticed_at_once(world: World) -> None:
    experiment, trace = world.traces[0]
    # the service's own writes are over, so there is nobody else to blame
    world.sidespan.wait_delivered(60)
    world.wait_until_answered()
    question = EVERYTHING | {"experiment_ids": [experiment], "filters": ["trace.tag.`place` = 'outside'"]}
    for _ in range(2):
        call("PATCH", f"{world.mlflow.url}/api/3.0/mlflow/traces/{trace}/tags", OUTSIDE)
        theirs, _none = world.ask(world.mlflow.url, question)
        assert same(world.ask(world.sidespan.url, question)[0], theirs)
    world.wait_until_answered()
    ours, mark = world.ask(world.sidespan.url, question)
    assert mark == "index" and same(ours, theirs)
    assert world.sidespan.health()["parts"]["questions"]["questions"]["changed_elsewhere"] > 0


def test_traces_that_came_to_mlflow_without_us_are_noticed(world: World) -> None:
    question = EVERYTHING | {"experiment_ids": world.experiments}
    world.send(3, to=world.mlflow.url)
    theirs, _none = world.ask(world.mlflow.url, question)
    deadline = time.monotonic() + WAIT_SECONDS
    while not same(world.ask(world.sidespan.url, question)[0], theirs):  # the count is remembered for seconds
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.timeout(300)
async def test_the_questions_of_mlflows_own_pages_have_its_answers(world: World) -> None:
    world.wait_until_answered()
    found = await asked_by_pages(world)
    views = {json.loads(question)["view_type"] for question, _, _ in found}
    assert views == {"TRACES", "SPANS", "ASSESSMENTS"}
    for text, ours, mark in found:
        question = json.loads(text)
        theirs, _none = world.ask(world.mlflow.url, question)
        assert same(ours, theirs), text
        if "assessment_value" in question.get("dimensions", ()):
            continue  # MLflow is asked where values are whole numbers, and of those there are some by chance
        # MLflow's page asks some that MLflow refuses: all time in steps of a day
        answers = None if theirs == {"error": 400} else "index"
        assert mark == answers, (text, world.sidespan.health()["parts"]["questions"])


async def asked_by_pages(world: World) -> list[tuple[str, Any, str | None]]:
    """What MLflow's pages ask of traces/metrics: the question, the answer, and who says so."""
    found: list[Response] = []

    def note(answer: Response) -> None:
        if answer.url.endswith("/traces/metrics"):
            found.append(answer)

    async with async_playwright() as play:
        browser = await play.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_ARGUMENTS))
        # one for all pages, so that MLflow's scripts come once
        context = await browser.new_context()
        for view in PAGES:
            page = await context.new_page()
            page.on("response", note)
            before = len(found)
            path = f"/#/experiments/{world.experiments[0]}/{view}?startTimeLabel=ALL"
            await page.goto(world.sidespan.url + path, timeout=90_000)
            await until_quiet(found, more_than=before if view.startswith("overview") else -1)
        said = [
            (each.request.post_data or "", await answer_of(each), each.headers.get(MARK)) for each in found
        ]
        await browser.close()
    return said


async def answer_of(response: Response) -> Any:
    """Its JSON; an error's code in place of an error."""
    return await response.json() if response.status == 200 else {"error": response.status}


async def until_quiet(found: list[Response], *, more_than: int) -> None:
    """Until there are more answers, and no further ones for a while: a page may ask again for good."""
    deadline, seen, since = time.monotonic() + 60, len(found), time.monotonic()
    while len(found) <= more_than or time.monotonic() - since < 2:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
        if len(found) != seen:
            seen, since = len(found), time.monotonic()


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"view_type": "NOWHERE"}, id="an unknown view"),
        pytest.param({"filters": ["trace.status != 'OK'"]}, id="another comparison"),
        pytest.param({"filters": ["trace.status = 'OK' AND trace.status = 'OK'"]}, id="two in one filter"),
        pytest.param({"filters": ["trace.status = 'O\\'K'"]}, id="an escaped quote"),
        pytest.param({"dimensions": ["span_name"]}, id="a dimension of another view"),
        pytest.param({"time_interval_seconds": 60}, id="buckets without bounds"),
        pytest.param({"experiment_ids": ["01"]}, id="an id in another spelling"),
        pytest.param({"max_results": 0}, id="no results"),
        pytest.param({"unknown": 1}, id="an unknown field"),
    ],
)
def test_what_is_not_plain_is_passed_on(world: World, changed: Question) -> None:
    question = EVERYTHING | {"experiment_ids": world.experiments} | changed
    assert world.ask(world.sidespan.url, question) == (world.ask(world.mlflow.url, question)[0], None)


def test_mlflow_judges_credentials_that_it_would_be_shown(world: World) -> None:
    question = EVERYTHING | {"experiment_ids": world.experiments}
    for name in ("authorization", "cookie", "x-mlflow-workspace"):
        assert ask(f"{world.sidespan.url}{METRICS}", question, {name: "Basic YTpi"})[1] is None


def test_reasons_are_counted(world: World) -> None:
    with urllib.request.urlopen(f"{world.sidespan.url}/-/metrics", timeout=60) as answer:
        text = answer.read().decode()
    assert 'sidespan_proxy_questions_total{answer="index"}' in text
    assert 'sidespan_proxy_questions_total{answer="unreadable"}' in text


def test_the_index_catches_up_with_what_came_without_us(world: World) -> None:
    deadline, found = time.monotonic() + WAIT_SECONDS, dict[str, int]()
    while found.get(world.outside) != 7:
        assert time.monotonic() < deadline, (found, world.sidespan.health()["parts"]["questions"])
        time.sleep(0.1)
        with urllib.request.urlopen(f"{world.sidespan.url}/-/index", timeout=10) as answer:
            experiments = json.loads(answer.read())["experiments"]
        found = {each["id"]: each["traces"] for each in experiments}


def ask(
    url: str, question: Question, headers: Mapping[str, str] | None = None
) -> tuple[dict[str, Any], str | None]:
    """What is answered, and who says so; an error's code in place of an error."""
    return answer_to("POST", url, json.dumps(question), headers)


def answer_to(
    method: str, url: str, body: str | None, headers: Mapping[str, str] | None = None
) -> tuple[dict[str, Any], str | None]:
    """As `ask`, of any request."""
    parts = urlsplit(url)
    connection = connected(parts.netloc)
    headers = {"content-type": "application/json", **(headers or {})}
    asked = (method, parts.path + (f"?{parts.query}" if parts.query else ""), body, headers)
    try:
        connection.request(*asked)
        answer = connection.getresponse()
    except (OSError, HTTPException):  # it was idle for too long
        connection.close()
        connection.request(*asked)
        answer = connection.getresponse()
    text = answer.read()
    found = json.loads(text) if answer.status == 200 else {"error": answer.status}
    return found, answer.headers.get(MARK)


def wrong_searches(world: World, experiment: str) -> Iterator[str]:
    """The searches among odd traces whose answers aren't MLflow's."""
    for condition in ODD_CONDITIONS:
        question = {"experiment_ids": [experiment], "filter": condition, "order_by": ["name", "status DESC"]}
        theirs, _none = world.look(world.mlflow.url, question)
        ours, mark = world.look(world.sidespan.url, question)
        if not same(ours, theirs):
            yield differing(question, ours, theirs, mark)


def connected(address: str) -> HTTPConnection:
    """One connection for all questions: there are many."""
    return CONNECTIONS.setdefault(address, HTTPConnection(address, timeout=60))


def call(method: str, url: str, document: Mapping[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        url, json.dumps(document).encode(), {"content-type": "application/json"}, method=method
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: dict[str, Any] = json.loads(answer.read())
        return found


def post_traces(url: str, experiment: str, traces: ExportTraceServiceRequest) -> None:
    headers = {"content-type": "application/x-protobuf", "x-mlflow-experiment-id": experiment}
    request = urllib.request.Request(f"{url}/v1/traces", traces.SerializeToString(), headers)
    urllib.request.urlopen(request, timeout=60).close()


def same(ours: Any, theirs: Any) -> bool:
    """The same JSON, numbers to 1e-9."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(ours, float) and isinstance(theirs, float):
        return math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-12)
    return bool(ours == theirs)


def differing(question: Question, ours: Any, theirs: Any, mark: str | None) -> str:
    return json.dumps({"question": question, "ours": ours, "theirs": theirs, "by": mark}, indent=1)
