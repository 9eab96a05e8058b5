"""The files of tests that take longest, the longest first.

`pytest --durations=0` shows when one should join. The order only decides how evenly workers share the work.
"""

from pathlib import Path

TESTS = Path(__file__).parents[1]
LONGEST = (
    "proxy/test_tour.py",
    "system/test_fast_mlflow.py",
    "system/test_restart.py",
    "system/test_conversation.py",
    "system/test_index.py",
    "system/test_frameworks.py",
    "system/test_outage.py",
    "system/test_alerts.py",
    "system/test_live.py",
    "system/test_kill.py",
    "system/test_logs.py",
    "system/test_page_views.py",
    "instrumentation/test_sidecar_troubles.py",
    "collector/delivery/test_hostile_spans.py",
    "system/test_large_bodies.py",
    "collector/index/test_index_contract.py",
    "contract/test_journal_machine.py",
    "system/test_port.py",
    "test_architecture.py",
    "system/test_mcp.py",
    "collector/delivery/test_backends.py",
    "system/test_counting.py",
    "system/test_forward.py",
    "proxy/test_same_refusals.py",
    "system/test_grpc.py",
    "system/test_private.py",
    "system/test_runs.py",
    "system/test_up.py",
    "instrumentation/test_configure.py",
    "collector/api/test_page.py",
    "system/test_isolation.py",
    "system/test_main_path.py",
    "examples/test_examples.py",
    "instrumentation/test_calls.py",
    "system/test_access_commands.py",
    "conformance/test_json.py",
    "system/test_trace_claims.py",
    "collector/receivers/test_decoder.py",
    "test_run_ends_quietly.py",
    "conformance/test_server_http.py",
    "proxy/test_rights_on_mlflow.py",
    "system/test_processors.py",
    "proxy/test_reads_write_nothing.py",
    "collector/delivery/test_trace_claims.py",
    "system/test_harmonise.py",
    "conformance/test_upgrade.py",
    "system/test_own_paths.py",
    "collector/sampling/test_sampling_volume.py",
    "instrumentation/test_auto.py",
    "proxy/test_attacks.py",
    "proxy/test_mlflow.py",
    "system/test_stop.py",
    "system/test_shutdown.py",
    "collector/index/test_changes.py",
    "proxy/test_transfer.py",
    "collector/otlp/test_json_reader.py",
    "instrumentation/test_situations.py",
    "collector/index/test_index_store.py",
    "system/test_clients.py",
    "collector/delivery/test_delivery.py",
    "collector/answers/test_trace_source.py",
    "system/test_disk_full.py",
    "proxy/test_stream.py",
    "proxy/test_denied_page.py",
    "system/test_scores.py",
)
ORDER = {TESTS / name: number for number, name in enumerate(LONGEST)}


def order_of(file: Path) -> int:
    """The place of a file; all that are not named come after those that are."""
    return ORDER.get(file, len(ORDER))
