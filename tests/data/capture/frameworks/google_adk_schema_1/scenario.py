"""The same with the spans of its older versions, which tell of a model call twice (`call_llm`)."""

import os
import runpy
from pathlib import Path

os.environ["ADK_TELEMETRY_SCHEMA_VERSION_OPT_IN"] = "1"
runpy.run_path(str(Path(__file__).parents[1] / "google_adk" / "scenario.py"))
