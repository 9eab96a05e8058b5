"""The journal's file as a process beside the service reads it."""

from pathlib import Path

import pytest

from collector.journal.sqlite.journal import open_journal
from collector.journal.sqlite.opening import FILE_NAME
from collector.journal.sqlite.reader import JournalUnreadable, open_reader
from collector.model.batch import Draft, Parked, Position, Route
from collector.settings import JournalSettings

LANE = Route(experiment_id="1").lane
TRACE = b"t" * 16
SETTINGS = JournalSettings(min_free_disk_bytes=0)


def draft(payload: bytes) -> Draft:
    return Draft(lane=LANE, payload=payload, span_count=3, trace_ids=frozenset({TRACE}))


def parked() -> Parked:
    return Parked(
        lane=LANE,
        payload=b"refused",
        span_count=1,
        trace_ids=frozenset({TRACE}),
        reason="refused",
        message="m",
        received_unix_ns=1,
    )


async def test_it_reads_what_waits_for_its_consumer_while_the_service_writes(tmp_path: Path) -> None:
    async with open_journal(tmp_path, settings=SETTINGS, consumers=("index",), keep_claims=9) as journal:
        positions = [await journal.log.append([draft(payload)]) for payload in (b"a", b"b", b"c")]
        with open_reader(tmp_path / FILE_NAME, "index") as reader:
            heads = list(reader.heads(LANE, after=None))
            assert [head.position for head in heads] == positions
            assert {(head.size_bytes, head.span_count, head.trace_ids) for head in heads} == {
                (1, 3, frozenset({TRACE}))
            }
            assert [reader.payload(head.position) for head in heads] == [b"a", b"b", b"c"]
            assert [head.position for head in reader.heads(LANE, after=positions[1])] == positions[2:]
            await journal.consumer("index").commit(LANE, through=positions[0])
            assert [head.position for head in reader.heads(LANE, after=None)] == positions[1:]
            assert reader.payload(positions[0]) is None


async def test_it_never_sees_what_another_consumer_retries(tmp_path: Path) -> None:
    consumers = ("delivery", "index")
    async with open_journal(tmp_path, settings=SETTINGS, consumers=consumers, keep_claims=9) as journal:
        first = await journal.log.append([draft(b"a")])
        await journal.consumer("delivery").commit(LANE, through=first, parked=[parked()])
        await journal.dead_letters("delivery").retry(None)
        with open_reader(tmp_path / FILE_NAME, "index") as reader:
            assert [head.position for head in reader.heads(LANE, after=None)] == [first]
        with open_reader(tmp_path / FILE_NAME, "delivery") as reader:
            assert [head.span_count for head in reader.heads(LANE, after=None)] == [1]


async def test_a_journal_has_a_name_that_no_other_has(tmp_path: Path) -> None:
    names = []
    for folder in ("a", "b", "a"):
        async with open_journal(tmp_path / folder, settings=SETTINGS, consumers=("index",), keep_claims=9):
            with open_reader(tmp_path / folder / FILE_NAME, "index") as reader:
                names.append(reader.identity())
    assert (names[0] == names[2], names[0] == names[1]) == (True, False)


@pytest.mark.parametrize("content", [b"", b"this is no database" * 999], ids=["empty", "garbage"])
def test_what_is_no_journal_is_one_named_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with (
        pytest.raises(JournalUnreadable, match="can't be read"),
        open_reader(tmp_path / FILE_NAME, "index") as reader,
    ):
        reader.payload(Position(1))
