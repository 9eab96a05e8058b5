"""Runs the tour of examples/log_everything.py with MLflow's own client, through an address; prints JSON.

    python -m tests.proxy.tour      and for each tour a line [DIRECT, THROUGH, NAME, BIG_BYTES] on its input

The answer to each is a line {step: {"outcome": "ok" | "denied" | "failed", "result" | "message"}}, among what
MLflow's client prints. Each tour runs in a fork, which needn't import MLflow again and knows nothing of the
others. A step that is denied is done again directly, so that the next ones find what they build on.
MLFLOW_TRACKING_TOKEN says who asks.
"""

import importlib.util
import json
import logging
import os
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import mlflow
import mlflow.sklearn
import sklearn.linear_model
from mlflow.tracking._tracking_service import utils

EXAMPLE = Path(__file__).parents[2] / "examples" / "log_everything.py"


def load_example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("log_everything", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["log_everything"] = module
    spec.loader.exec_module(module)
    return module


def use(url: str) -> None:
    """Everything goes there from now on: MLflow's client remembers addresses of files and of traces."""
    utils._artifact_repos_cache.clear()
    mlflow.set_tracking_uri(url)
    mlflow.set_registry_uri(url)
    mlflow.tracing.reset()


def is_stored(direct: str, trace_id: str) -> bool:
    use(direct)
    return mlflow.get_trace(trace_id, silent=True) is not None


def tour(example: ModuleType, direct: str, through: str, name: str, big_bytes: int) -> None:
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        on_tour = example.Tour(name=name, folder=Path(folder), big_bytes=big_bytes)
        for each in example.STEPS:
            use(through)
            try:
                found[each.__name__] = {"outcome": "ok", "result": each(on_tour)}
                if each.__name__ != "trace_a_function" or is_stored(direct, on_tour.trace):
                    continue
                # MLflow's client exports behind the caller's back, who hears of no denial
                found[each.__name__] = {"outcome": "not stored"}
            except Exception as error:
                mlflow.end_run()
                is_denial = "PERMISSION_DENIED" in str(error)
                found[each.__name__] = {
                    "outcome": "denied" if is_denial else "failed",
                    "message": str(error)[:500],
                }
            use(direct)
            try:
                each(on_tour)
            except Exception as error:
                mlflow.end_run()
                found[each.__name__]["directly"] = str(error)[:500]
    print(json.dumps(found, default=str), flush=True)


def save_a_model() -> None:
    """MLflow imports five hundred modules with the first one."""
    with tempfile.TemporaryDirectory() as folder:
        mlflow.sklearn.save_model(
            sklearn.linear_model.LinearRegression(), f"{folder}/model", pip_requirements=["scikit-learn"]
        )


def main() -> None:
    example = load_example()
    for module in ("pandas", "matplotlib.pyplot"):  # which steps import
        importlib.import_module(module)
    save_a_model()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                tour(example, *json.loads(line))
            except Exception:
                traceback.print_exc()
                print("{}", flush=True)
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    main()
