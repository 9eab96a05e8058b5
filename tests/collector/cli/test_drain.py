"""`sidespan drain`: what a service still holds, before another takes its place."""

from typing import Any

import pytest

from collector.cli.drain import Remains, drained, read_remains
from collector.model.errors import Misconfigured


def health(spans: int = 0, records: int = 0, lag: float = 0.0, letters: int = 0) -> dict[str, Any]:
    return {
        "parts": {
            "journal": {"dead_letters": letters},
            "delivery": {"pending_spans": spans},
            "logs": {"pending_records": records, "dead_letters": 1 if letters else 0},
            "index": {"lag_seconds": lag},
        }
    }


@pytest.mark.parametrize(
    ("said", "is_empty"),
    [
        (health(), True),
        (health(letters=2), True),
        (health(spans=1), False),
        (health(records=1), False),
        (health(lag=0.5), False),
    ],
    ids=["nothing", "dead_letters_wait_for_a_person", "spans", "log_records", "the_index_lags"],
)
def test_a_service_is_empty_once_all_has_gone_that_goes_by_itself(
    said: dict[str, Any], is_empty: bool
) -> None:
    assert read_remains(said).is_empty == is_empty


def test_dead_letters_of_both_signals_are_counted() -> None:
    assert read_remains(health(letters=2)).dead_letters == 3


@pytest.mark.parametrize(
    ("said", "reason"),
    [({"ready": True}, "SIDESPAN_TOKEN"), ({"parts": {"delivery": {"ok": True}}}, "the role query")],
    ids=["a_probe_without_token", "a_process_that_does_not_count"],
)
def test_a_service_that_does_not_tell_is_an_error(said: dict[str, Any], reason: str) -> None:
    with pytest.raises(Misconfigured, match=reason):
        read_remains(said)


def test_it_waits_until_all_has_gone_or_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([health(spans=5), health(spans=2), health()])
    monkeypatch.setattr("collector.cli.drain.remote.get_readiness", lambda *_, **__: next(answers))
    monkeypatch.setattr("collector.cli.drain.LOOK_EVERY_SECONDS", 0.0)
    told: list[Remains] = []
    assert drained("http://nowhere", timeout_seconds=None, tell=told.append).is_empty
    assert [each.pending_spans for each in told] == [5, 2, 0]

    monkeypatch.setattr("collector.cli.drain.remote.get_readiness", lambda *_, **__: health(spans=7))
    assert drained("http://nowhere", timeout_seconds=0.0).pending_spans == 7
