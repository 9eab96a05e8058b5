"""The options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_URL = "http://127.0.0.1:4318"

Url = Annotated[str, typer.Option(help="Address of the running Sidespan.", envvar="SIDESPAN_URL")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
Config = Annotated[Path | None, typer.Option(help="Settings file (default: ./sidespan.toml).")]
DataDir = Annotated[Path | None, typer.Option(help="Data folder (default: ./.sidespan).")]
MlflowUrl = Annotated[str | None, typer.Option(help="Address of the MLflow server.")]


def experiment_parameter(text: str) -> dict[str, str]:
    """The API's parameter for an experiment: digits only are an id, anything else is a name."""
    return {"experiment_id" if text.isascii() and text.isdigit() else "experiment_name": text}
