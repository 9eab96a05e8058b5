"""The command `mlflow`, with its server in the same process.

    python mlflow_command.py server …

`mlflow server` starts uvicorn as a process of its own, and both import MLflow: five seconds of the processor
each time.
"""

import os
import runpy
import sys
from collections.abc import Mapping, Sequence

import mlflow.server
from mlflow.cli import cli


def _become(command: Sequence[str], *, extra_env: Mapping[str, str], **_: object) -> None:
    """Run `python -m MODULE …` here, with what MLflow has put into its environment."""
    _, _, module, *arguments = command
    os.environ.update(extra_env)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


mlflow.server._exec_cmd = _become
cli(prog_name="mlflow")
