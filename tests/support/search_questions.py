"""Random valid questions to MLflow's traces/search, and how they are asked in both of its forms."""

import base64
import json
import random
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from tests.support.metric_questions import Question

SEARCH, SEARCH_V2 = "/api/3.0/mlflow/traces/search", "/api/2.0/mlflow/traces"
SPAN_CONDITIONS = (
    "span.name = 'answer'",
    'span.name != "answer"',
    "span.name IN ('plan', \"a b\")",
    "span.name NOT IN ('plan')",
    "span.name LIKE '%n%'",
    "span.name LIKE 'r_s%'",
    "span.name LIKE 'A%'",
    "span.name ILIKE 'ANSWER'",
    "span.name ILIKE '%É%'",
    "span.type = 'LLM'",
    "span.type ILIKE '%o%'",
    "span.type != 'TOOL'",
    "span.type IN ('AGENT', 'own kind')",
    "span.status = 'ERROR'",
    "span.status != 'OK'",
    # what a parser may stumble over, or a comparison take for more than it is
    "span.name = ''",
    "span.name LIKE ''",
    "span.name LIKE '__é%'",
    "span.name ILIKE '%_%B'",
    "span.name NOT IN ('', \"a b\", 'no -- comment', '/* none */')",
    "span.name != ' AND span.name = '",
    "span.name IN ('(', ')', 'z', '%')",
    "span.type LIKE '%' AND span.type != ''",
    "span.type NOT IN ('null', 'NULL', '日本')",
    "span.status ILIKE 'er%'",
)
TRACE_CONDITIONS = (
    "trace.status = 'OK'",
    "attributes.status != 'OK'",
    "status IN ('ERROR', 'IN_PROGRESS')",
    "trace.name = 'plan'",
    "attributes.name ILIKE '%AN%'",
    "name IS NOT NULL",
    "name != 'plan'",
    "request_metadata.mlflow.trace.session ILIKE '%ION 1%'",
    "metadata.`mlflow.trace.session` = 'session 2'",
    "metadata.`mlflow.trace.session` IS NULL",
    "request_metadata.\"mlflow.trace.user\" = 'ada'",
    "tags.team = 'blue'",
    "tag.`team` = 'red'",
    "tags.mlflow.traceName LIKE 'p%'",
    "attributes.execution_time_ms > 1000",
    "execution_time <= 1500",
    "execution_time_ms != 5",
    "trace.status ILIKE 'ok'",
    "status NOT IN ('OK', 'ok')",
    "attributes.name LIKE '_l%'",
    "tags.team = ''",
    "tags.order.by = 'blue'",
    'metadata.`mlflow.trace.session` LIKE "session _"',
    "execution_time >= 0",
    "timestamp != 0",
)
FIELDS = ("timestamp_ms", "timestamp", "execution_time_ms", "status", "name", "request_id")
PREFIXES = ("", "attributes.", "trace.")


def random_search(dice: random.Random, experiment_ids: Sequence[str], *, around_ms: int) -> Question:
    """A question that MLflow answers slowly: it is about spans."""
    conditions = dice.sample(SPAN_CONDITIONS, dice.choice((1, 1, 1, 2)))
    conditions += dice.sample(TRACE_CONDITIONS, dice.choice((0, 0, 1, 2)))
    if dice.random() < 0.4:
        since = around_ms + dice.randint(-300, 300) * 1000
        conditions.append(f"{dice.choice(PREFIXES)}timestamp_ms {dice.choice(('>', '>='))} {since}")
    if dice.random() < 0.2:
        conditions.append(f"attributes.end_time < {around_ms + dice.randint(-300, 300) * 1000}")
    dice.shuffle(conditions)
    question: Question = {
        "experiment_ids": dice.sample(experiment_ids, dice.randint(1, len(experiment_ids))),
        "filter": " AND ".join(conditions),
    }
    if dice.random() < 0.6:
        question["order_by"] = [
            f"{dice.choice(PREFIXES)}{each}{dice.choice(('', ' ASC', ' DESC'))}"
            for each in dice.sample(FIELDS[1:], dice.randint(1, 3))
        ]
    if dice.random() < 0.1:
        question["experiment_ids"] *= 2
    if dice.random() < 0.1:
        token = json.dumps({"offset": dice.choice((1, 3, 17, 100_000))})
        question["page_token"] = base64.b64encode(token.encode()).decode()
    if dice.random() < 0.8:
        question["max_results"] = dice.choice((1, 2, 5, 10, 25, 200))
    return question


def form_v3(question: Question) -> tuple[str, str, str | None]:
    """Method, path and body."""
    places = [
        {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": id}}
        for id in question["experiment_ids"]
    ]
    document = {name: value for name, value in question.items() if name != "experiment_ids"}
    return "POST", SEARCH, json.dumps({"locations": places, **document})


def form_v2(question: Question) -> tuple[str, str, str | None]:
    """Method, path with its query, and no body."""
    return "GET", f"{SEARCH_V2}?{urlencode(question, doseq=True)}", None


def next_page(question: Question, answer: Mapping[str, Any]) -> Question | None:
    """The question for what follows; None: nothing does."""
    token = answer.get("next_page_token")
    return None if token is None else question | {"page_token": token}
