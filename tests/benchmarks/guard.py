"""What looking at bodies before they are read costs an ordinary request, on one core."""

import asyncio
import gzip
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from collector.otlp.codec import Decoded
from collector.otlp.media import Encoding, inflate
from collector.otlp.nesting import parse, wrap
from collector.receivers.decoder.place import placing
from collector.receivers.ingest import Encoded
from collector.receivers.prepare import Prepared, Rules, prepared
from collector.settings import ReceiverSettings, RoutingSettings
from tests.benchmarks.payloads import body

ROUNDS = 15
PIECE_BYTES = 64 * 1024
HEADERS = {"x-mlflow-experiment-id": "0"}
RULES = Rules(limits=ReceiverSettings(), routing=RoutingSettings())
# a body, its coding, how often a round
CASES: Sequence[tuple[str, int, str | None, int]] = (
    ("34 kB", 1, None, 300),
    ("34 kB, gzip", 1, "gzip", 300),
    ("1.7 MB", 50, None, 10),
)


def run(directory: Path) -> None:
    print("== reading a body, guarded and not (processor time)")
    for name, traces, coding, count in CASES:
        plain = body(traces)
        sent = gzip.compress(plain) if coding else plain
        pieces = [sent[at : at + PIECE_BYTES] for at in range(0, len(sent), PIECE_BYTES)]
        bare, guarded = asyncio.run(_compare(pieces, coding, count))
        print(
            f"   {name:<12} {bare * 1e6:>8,.1f} us   guarded {guarded * 1e6:>8,.1f} us   "
            f"+{(guarded - bare) * 1e6:.1f} us, {guarded / bare:.3f} of it"
        )


async def _compare(pieces: Sequence[bytes], coding: str | None, count: int) -> tuple[float, float]:
    """Medians of alternating rounds."""
    prepare = placing(RULES)
    request = Encoded(chunks=pieces, encoding=Encoding.PROTOBUF, content_encoding=coding, headers=HEADERS)
    bare, guarded = [], []
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(count):
            _unguarded(pieces, coding)
        bare.append((time.process_time() - started) / count)
        started = time.process_time()
        for _ in range(count):
            await prepare(request, _no_reserve)
        guarded.append((time.process_time() - started) / count)
    return statistics.median(bare), statistics.median(guarded)


def _unguarded(pieces: Sequence[bytes], coding: str | None) -> Prepared:
    """The same steps in a row, whatever is in the body."""
    if coding:
        pieces = [inflate(b"".join(pieces), coding, limit_bytes=RULES.limits.max_body_bytes)]
    wrapped = wrap(pieces, RULES.limits.max_attribute_depth)
    export = parse(wrapped)
    assert export is not None
    return prepared(Decoded(wrapped.body, export, True, []), HEADERS, RULES, "")


def _no_reserve(size_bytes: int) -> None:
    pass
