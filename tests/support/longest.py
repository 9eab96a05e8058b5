"""The files of tests that take longest, the longest first.

`pytest --durations=0` shows when one should join. The order only decides how evenly workers share the work.
"""

from pathlib import Path

TESTS = Path(__file__).parents[1]
LONGEST = (
    "proxy/test_tour.py",
    "system/test_outage.py",
    "system/test_fast_mlflow.py",
    "system/test_restart.py",
    "system/test_alerts.py",
    "system/test_large_bodies.py",
    "system/test_page_views.py",
    "system/test_live.py",
    "system/test_index.py",
    "system/test_scores.py",
    "system/test_kill.py",
    "system/test_forward.py",
    "system/test_mcp.py",
    "proxy/test_same_refusals.py",
    "collector/delivery/test_hostile_spans.py",
    "instrumentation/test_configure.py",
    "instrumentation/test_calls.py",
    "system/test_port.py",
    "system/test_runs.py",
    "system/test_processors.py",
    "system/test_main_path.py",
    "system/test_access_commands.py",
    "system/test_up.py",
    "examples/test_examples.py",
    "instrumentation/test_situations.py",
    "instrumentation/test_sidecar_troubles.py",
    "system/test_isolation.py",
    "proxy/test_reads_write_nothing.py",
    "collector/api/test_page.py",
    "collector/sampling/test_sampling_volume.py",
    "system/test_stop.py",
    "system/test_shutdown.py",
    "system/test_trace_claims.py",
    "system/test_own_paths.py",
)
ORDER = {TESTS / name: number for number, name in enumerate(LONGEST)}


def order_of(file: Path) -> int:
    """The place of a file; all that are not named come after those that are."""
    return ORDER.get(file, len(ORDER))
