"""A script inside the installed MLflow's own server code, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def inside_mlflow(script: str, home: Path, *, given: Any = None) -> Any:
    """What `script` prints last, as JSON; `given` is on its standard input, as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
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
