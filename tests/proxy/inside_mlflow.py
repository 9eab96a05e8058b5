"""A script inside MLflow's own server code, in a process of its own."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from tests.support.mlflow_server import MLFLOW_PYTHON, mlflow_version

_SINCE_3_18 = re.compile(r"/3\.0/mlflow/(?:skills(?:/|$)|issues/schedule/state$)")


def is_too_new(path: str) -> bool:
    """Whether a path of the catalog is of a newer MLflow than the tests run against."""
    return mlflow_version() < (3, 18) and _SINCE_3_18.search(path) is not None


def inside_mlflow(script: str, home: Path, *, given: Any = None) -> Any:
    """What `script` prints last, as JSON; `given` is on its standard input, as JSON."""
    done = subprocess.run(
        [MLFLOW_PYTHON, "-W", "ignore", "-c", script],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
        cwd=home,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(home),
            "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{home}/db",
            "_MLFLOW_SERVER_ARTIFACT_ROOT": str(home),
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        },
    )
    return json.loads(done.stdout.splitlines()[-1])
