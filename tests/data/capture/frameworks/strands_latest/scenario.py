"""Strands Agents by newer conventions: messages in `gen_ai.client.inference.operation.details`."""

import os
import runpy
from pathlib import Path

os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "gen_ai_latest_experimental"
runpy.run_path(str(Path(__file__).parents[1] / "strands" / "scenario.py"))
