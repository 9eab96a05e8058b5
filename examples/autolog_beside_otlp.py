"""MLflow's own tracing beside OTLP: old code keeps `mlflow.trace`, new agents use OTLP.

    python examples/autolog_beside_otlp.py   # needs mlflow in this environment, and Sidespan running

Look at: two traces in the experiment, one sent by MLflow's SDK through Sidespan's proxy, one by OTLP to its
collector. Both have names and span types.
"""

import os

import mlflow
from offline_model import scripted
from pydantic_ai import Agent

import instrumentation

ENDPOINT = os.environ.get("SIDESPAN_ENDPOINT", "http://127.0.0.1:4318")
EXPERIMENT = os.environ.get("SIDESPAN_EXPERIMENT_NAME", "beside")


@mlflow.trace(name="old code", span_type="CHAIN")
def old_code(question: str) -> str:
    return question.upper()


def main() -> None:
    mlflow.set_tracking_uri(ENDPOINT)
    mlflow.set_experiment(EXPERIMENT)
    handle = instrumentation.configure(service_name="beside", experiment=EXPERIMENT)
    print(old_code("traced by MLflow's SDK"))
    print(Agent(scripted(answer="Traced by OTLP."), name="new agent").run_sync("Hello").output)
    handle.flush()
    mlflow.flush_trace_async_logging()


if __name__ == "__main__":
    main()
