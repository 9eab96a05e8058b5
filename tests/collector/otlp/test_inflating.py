"""Inflating takes time in proportion to what goes in and comes out."""

import gzip
import os
import time
import zlib

import pytest

from collector.model.errors import Reason, Rejected
from collector.otlp import media
from collector.otlp.media import MAX_MEMBERS, inflate, zstd

MIB = 1024 * 1024
LIMIT = 64 * MIB
PACK = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd.compress}


@pytest.mark.parametrize("coding", PACK)
@pytest.mark.parametrize(
    "size", [1, 63 * 1024, 64 * 1024, 64 * 1024 + 1, MIB, 3_000_000], ids=lambda size: f"{size}_bytes"
)
def test_whatever_its_size_it_comes_out_whole(coding: str, size: int) -> None:
    body = os.urandom(size)
    assert inflate(PACK[coding](body), coding, limit_bytes=LIMIT) == body


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_members_of_any_size_follow_each_other(coding: str) -> None:
    parts = [os.urandom(size) for size in (0, 1, 70_000, 0, 65_536, 200_000, 3)]
    packed = b"".join(PACK[coding](part) for part in parts)
    assert inflate(packed, coding, limit_bytes=LIMIT) == b"".join(parts)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_up_to_a_thousand_members_are_taken(coding: str) -> None:
    one = PACK[coding](b"x")
    assert inflate(one * MAX_MEMBERS, coding, limit_bytes=LIMIT) == b"x" * MAX_MEMBERS
    with pytest.raises(Rejected, match=f"over {MAX_MEMBERS}") as caught:
        inflate(one * (MAX_MEMBERS + 1), coding, limit_bytes=LIMIT)
    assert caught.value.reason is Reason.TOO_LARGE


def test_frames_that_are_skipped_are_counted_too() -> None:
    skipped = b"\x50\x2a\x4d\x18\0\0\0\0"  # RFC 8878, 3.1.2
    with pytest.raises(Rejected):
        inflate(skipped * 100_000, "zstd", limit_bytes=LIMIT)


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_twice_the_members_take_about_twice_the_time(coding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a body behind them: what a decoder leaves over is copied for each."""
    monkeypatch.setattr(media, "MAX_MEMBERS", 10**9)

    def seconds(members: int) -> float:
        packed = PACK[coding](b"") * members + PACK[coding](os.urandom(4 * MIB))
        started = time.process_time()
        inflate(packed, coding, limit_bytes=LIMIT)
        return time.process_time() - started

    seconds(100)
    least = min(seconds(4000) for _ in range(3))
    assert min(seconds(16_000) for _ in range(3)) < 8 * least + 0.05


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
@pytest.mark.parametrize("end", [1, 9, 64 * 1024, 64 * 1024 + 1])
def test_a_cut_body_is_malformed_wherever_it_is_cut(coding: str, end: int) -> None:
    with pytest.raises(Rejected) as caught:
        inflate(PACK[coding](os.urandom(100_000))[:end], coding, limit_bytes=LIMIT)
    assert caught.value.reason is Reason.MALFORMED


def test_bytes_after_the_end_of_deflate_are_malformed() -> None:
    with pytest.raises(Rejected, match="bytes follow its end"):
        inflate(zlib.compress(b"x" * 70_000) + b"x", "deflate", limit_bytes=LIMIT)
