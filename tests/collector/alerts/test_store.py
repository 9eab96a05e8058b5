"""States and outbox survive what ends the process: all of a change, or nothing of it."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from collector.alerts.measurements import NOTHING_MEASURED, AlertVerdict
from collector.alerts.notices import Notice, notice_of
from collector.alerts.states import AlertEvent, GroupState, GroupStatus
from collector.alerts.store import FILE_NAME, OUTBOX_FULL, StateChanges, StoredState, open_store
from collector.alerts.watch import Occurrence
from collector.model.errors import Misconfigured
from tests.support.alerting import alert, store_in, waiting

STATE = GroupState(status=GroupStatus.FIRING, since_unix_ns=5, fired_unix_ns=6, told=("ops",), told_unix_ns=7)


def notice(number: int = 1, event: AlertEvent = AlertEvent.FIRED) -> Notice:
    occurrence = Occurrence(
        event=event,
        group=("ann", None),
        state=GroupState(status=GroupStatus.FIRING, since_unix_ns=number),
        measurement=NOTHING_MEASURED,
        verdict=AlertVerdict.CROSSED,
        at_unix_ns=number,
    )
    return notice_of(alert(by=["user", "tool"]), occurrence)


def test_states_and_notices_come_back_as_they_were(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    key = ("slow", ("ann", None))
    changes = StateChanges(
        states={key: StoredState(state=STATE, notice=notice())},
        notices=[("ops", notice()), ("chat", notice())],
    )
    store.change(changes, now_unix_ns=1)
    store.snooze("slow", 99)
    store.close()
    store = store_in(tmp_path)
    assert store.states() == {key: StoredState(state=STATE, notice=notice())}
    assert store.snoozes() == {"slow": 99}
    assert store.pending() == {"ops": 1, "chat": 1}
    assert waiting(store, "chat") == [notice()]
    store.change(StateChanges(states={key: None}), now_unix_ns=2)
    store.snooze("slow", None)
    assert (store.states(), store.snoozes()) == ({}, {})


def test_a_notice_that_comes_again_is_one(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    for _ in range(2):
        store.change(StateChanges(notices=[("ops", notice())]), now_unix_ns=1)
    assert store.pending() == {"ops": 1}


def test_a_change_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    broken = StateChanges(
        states={("slow", ()): StoredState(state=STATE)},
        notices=[("ops", notice()), (None, notice(2))],  # type: ignore[list-item]
    )
    with pytest.raises(sqlite3.IntegrityError):
        store.change(broken, now_unix_ns=1)
    assert (store.states(), store.pending()) == ({}, {})


def test_the_outbox_and_the_dead_letters_are_bounded(tmp_path: Path) -> None:
    store = store_in(tmp_path, max_pending=3, max_dead_letters=2)
    lost = [
        store.change(StateChanges(notices=[("ops", notice(number))]), now_unix_ns=number)
        for number in range(1, 8)
    ]
    assert lost == [0, 0, 0, 1, 1, 1, 1]
    assert store.pending() == {"ops": 3}
    letters = store.dead_letters(10)
    assert [letter.parked_unix_ns for letter in letters] == [7, 6], "the oldest are removed"
    assert {letter.reason for letter in letters} == {OUTBOX_FULL}


def test_only_this_user_can_read_it(tmp_path: Path) -> None:
    store_in(tmp_path)
    for path in tmp_path.glob("alerts.*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"not a database" * 100, "version"], ids=["garbage", "newer"])
def test_a_file_that_cannot_be_used_stops_the_start(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / FILE_NAME
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version = 99")
        db.close()
    with pytest.raises(Misconfigured, match=FILE_NAME):
        store_in(tmp_path)


def test_without_alerts_there_is_no_file(tmp_path: Path) -> None:
    open_store(tmp_path, needed=False, max_pending=1, max_dead_letters=1).close()
    assert list(tmp_path.iterdir()) == []


WRITER = """
import sys
from pathlib import Path
from collector.alerts.store import StateChanges, StoredState
from tests.collector.alerts.test_store import STATE, notice
from tests.support.alerting import store_in
store = store_in(Path(sys.argv[1]))
number = 0
print("ready", flush=True)
while True:
    number += 1
    changes = StateChanges(
        states={("slow", (str(number),)): StoredState(state=STATE)}, notices=[("ops", notice(number))]
    )
    store.change(changes, now_unix_ns=number)
    print(number, flush=True)
"""


def test_after_a_kill_there_is_a_notice_for_each_state_and_no_other(tmp_path: Path) -> None:
    """Killed at any point, a state and its notification are both there or neither is."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "50":
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    store = store_in(tmp_path)
    states = sorted(int(str(group[0])) for _, group in store.states())
    assert states[:50] == list(range(1, 51)), "what was committed is there"
    assert [each.at_unix_ns for each in waiting(store)] == states
    store.close()
