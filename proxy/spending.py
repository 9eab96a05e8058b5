"""Values that make MLflow's host call a model later, by a route that is harmless otherwise. Pure.

Of a scorer that MLflow runs by itself it takes the newest version, so that registering one which uses the
gateway (or brings its own code) decides what is called. From MLflow 3.18 on, issues are detected by a
schedule that is nothing but tags of an experiment, which name the model and the key to call it with. Such a
request needs `spend` of its resource beside what its route needs.
Sources: scorers/scorer_utils.py (`is_gateway_model`), scorers/job.py and discovery/schedule.py in
https://github.com/mlflow/mlflow/blob/master/mlflow/genai
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from proxy.locations import find

ROWS = frozenset(
    {
        "POST /2.0/mlflow/experiments/create",
        "POST /2.0/mlflow/experiments/set-experiment-tag",
        "POST /3.0/mlflow/scorers/register",
    }
)

SCHEDULE_TAGS = "mlflow.issuedetection.schedule"
# what Python's urlsplit, by which MLflow reads the address, leaves out of one
_IGNORED = re.compile(r"[\t\r\n]|\A[\x00-\x20]+")


def spends(row: str, document: Any) -> bool:
    """Whether a body of one of ROWS makes MLflow's host call a model. Raises Refusal (400) as `find` does."""
    if row == "POST /3.0/mlflow/scorers/register":
        return any(map(_runs_by_itself, find(document, ("serialized_scorer",))))
    keys = ("tags[]", "key") if row.endswith("/create") else ("key",)
    return any(_is_schedule(key) for key in find(document, keys))


def _is_schedule(key: str) -> bool:
    """Whatever its case: some databases find a tag by any."""
    return key.strip().lower().startswith(SCHEDULE_TAGS)


def _runs_by_itself(serialized: str) -> bool:
    try:
        parsed = json.loads(serialized, object_pairs_hook=list)  # so that a key that is there twice is seen
        return any(map(_calls, _texts(parsed)))
    except ValueError:  # MLflow refuses it
        return False
    except RecursionError:
        return True


def _texts(value: Any) -> Iterator[str]:
    """Every text in it, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


def _calls(text: str) -> bool:
    return text == "call_source" or _IGNORED.sub("", text).lower().startswith("gateway:")
