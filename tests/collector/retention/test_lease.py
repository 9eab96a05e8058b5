"""One service at a time writes to an archive, wherever it is."""

import threading
import uuid
from pathlib import Path

import pytest

from collector.retention.lease import FILE, HELD_NS, ArchiveTaken, Lease, LeaseFiles
from collector.retention.store import open_files


class Clock:
    """The time of all services."""

    now = 1_800_000_000_000_000_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture(params=["folder", "memory"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> LeaseFiles:
    url = None if request.param == "folder" else f"memory://{uuid.uuid4().hex}/archive"
    return open_files(url, tmp_path / "archive")


def lease(files: LeaseFiles, clock: Clock, owner: str) -> Lease:
    return Lease(
        files=files, owner=owner, where=f"host of {owner}", now_unix_ns=clock, sleep=lambda seconds: None
    )


def test_a_lease_that_was_left_or_has_run_out_is_anybodys(files: LeaseFiles) -> None:
    clock = Clock()
    one, two = lease(files, clock, "one"), lease(files, clock, "two")
    one.take()
    with pytest.raises(ArchiveTaken, match="host of one, until 2027"):
        two.take()
    one.leave()
    two.take()
    clock.now += HELD_NS + 1
    one.take()
    with pytest.raises(ArchiveTaken):
        two.check()
    two.leave()  # it isn't its own any more
    one.check()
    with pytest.raises(ArchiveTaken):
        two.take()


def test_a_lease_that_another_clock_has_ended_counts_no_more(files: LeaseFiles) -> None:
    slow, fast = Clock(), Clock()
    fast.now += HELD_NS + 1
    one, two = lease(files, slow, "one"), lease(files, fast, "two")
    one.take()
    two.take()
    with pytest.raises(ArchiveTaken, match="host of two"):
        one.check()
    one.leave()
    two.check()


def test_a_service_that_was_killed_goes_on_with_its_lease(files: LeaseFiles) -> None:
    clock = Clock()
    lease(files, clock, "one").take()
    again = lease(files, clock, "one")
    again.take()
    again.check()


def test_a_lease_is_made_anew_before_it_runs_out(files: LeaseFiles) -> None:
    clock = Clock()
    one, two = lease(files, clock, "one"), lease(files, clock, "two")
    for _ in range(10):
        one.take()
        one.check()
        with pytest.raises(ArchiveTaken):
            two.take()
        clock.now += HELD_NS // 2


def test_a_lease_that_cannot_be_read_is_taken(files: LeaseFiles) -> None:
    files.replace(FILE, b"{")
    lease(files, Clock(), "one").take()


def test_two_that_take_a_lease_at_once_do_not_both_get_it(files: LeaseFiles) -> None:
    clock = Clock()
    lease(files, clock, "dead").take()
    clock.now += HELD_NS + 1
    both, got = threading.Barrier(2), list[str]()

    def take(owner: str) -> None:
        one = Lease(
            files=files, owner=owner, where=owner, now_unix_ns=clock, sleep=lambda seconds: _wait(both)
        )
        try:
            one.take()
            got.append(owner)
        except ArchiveTaken:
            both.abort()

    threads = [threading.Thread(target=take, args=[owner]) for owner in ("one", "two")]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(got) == 1


def _wait(both: threading.Barrier) -> None:
    try:
        both.wait(timeout=60)
    except threading.BrokenBarrierError:
        return
