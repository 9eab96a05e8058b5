"""The headers and ids by which a request names what it is for in MLflow. Pure."""

import re

EXPERIMENT_ID = "x-mlflow-experiment-id"
EXPERIMENT_NAME = "x-mlflow-experiment-name"
RUN_ID = "x-mlflow-run-id"
WORKSPACE = "x-mlflow-workspace"
HEADERS = (EXPERIMENT_ID, EXPERIMENT_NAME, RUN_ID, WORKSPACE)

# MLflow reads ids with int(), which takes "00", "+1" and other scripts' digits: only one form is one id
CANONICAL_ID = re.compile(r"(0|[1-9][0-9]{0,18})\Z", re.ASCII)
