"""`make test-mcp`: the scenarios that each revision requires, against `/-/mcp` of a service with one trace.

The lists beside this file name the scenarios that don't apply, with the reason. Exits with 1 if another one
fails, or if one of the list passes. Source: https://github.com/modelcontextprotocol/conformance
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.otlp import agent_export
from tests.support.ports import free_port
from tests.support.senders import post
from tests.support.sidespan import Sidespan

HERE = Path(__file__).parent
SUITE = HERE / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
REVISIONS = ("2025-11-25", "2026-07-28")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# the lines of a run that say what became of the scenarios
TOLD = ("✓", "✗", "Total:", "Baseline", "Expected", "Unexpected", "Stale", "  ✓", "  ✗", "  ~")


def main() -> int:
    """Run both revisions; 0 if each passes."""
    with tempfile.TemporaryDirectory() as home:
        service = Sidespan(Path(home) / "data", f"http://127.0.0.1:{free_port()}")
        service.start()
        try:
            service.wait_index()
            body = agent_export().SerializeToString()
            assert post(service.port, body, {"x-mlflow-experiment-id": "0"})[0] == 200
            return max(_run(service, revision, Path(home)) for revision in REVISIONS)
        finally:
            service.stop()


def _run(service: Sidespan, revision: str, home: Path) -> int:
    done = subprocess.run(
        [
            *("node", "--import", str(HERE / "older_node.mjs"), str(SUITE), "server"),
            *("--url", f"{service.url}/-/mcp", "--requirements", revision),
            *("--expected-failures", str(HERE / f"not_applicable_{revision}.yml")),
            *("--output-dir", str(home / revision)),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    lines = COLOURS.sub("", done.stdout).splitlines()
    shown = lines if done.returncode else [line for line in lines if line.startswith(TOLD)]
    print(f"== {revision}", *shown, done.stderr, sep="\n", flush=True)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
