"""The same spans in JSON and in protobuf, 30 attributes each: acknowledged and durable spans a second.

JSON is what JavaScript's exporter sends by default. Nobody is behind Sidespan while it is measured.
"""

import statistics
from pathlib import Path

from collector.otlp.json_reader import read_json
from collector.otlp.media import Encoding
from tests.benchmarks.load import wrk
from tests.benchmarks.payloads import json_body, write_script
from tests.support.ports import free_port
from tests.support.sidespan import Sidespan

ROUNDS = 3
SECONDS = 4
SPANS = 100
BODIES = 8
BAR = 10_000


def run(directory: Path) -> None:
    print(f"== JSON beside protobuf, {SPANS} spans of 30 attributes a request, spans/s")
    texts = [json_body(SPANS) for _ in range(BODIES)]
    messages = [read_json(text, max_depth=32, max_spans=SPANS)[0] for text in texts]
    scripts = {
        Encoding.JSON: write_script(directory / "as-json", texts, Encoding.JSON),
        Encoding.PROTOBUF: write_script(directory / "as-protobuf", messages, Encoding.PROTOBUF),
    }
    rates = _rates(directory / "formats", scripts)
    print(f"   protobuf {rates[Encoding.PROTOBUF]:>55,.0f}")
    print(
        f"   JSON {rates[Encoding.JSON]:>59,.0f}   "
        f"{rates[Encoding.JSON] / rates[Encoding.PROTOBUF]:.2f} of protobuf (bar {BAR:,} spans/s)"
    )


def _rates(data_dir: Path, scripts: dict[Encoding, Path]) -> dict[Encoding, float]:
    """Spans a second by encoding: medians of alternating rounds."""
    service = Sidespan(data_dir=data_dir, mlflow_url=f"http://127.0.0.1:{free_port()}")
    service.start()
    try:
        found: dict[Encoding, list[float]] = {encoding: [] for encoding in scripts}
        for _ in range(ROUNDS):
            for encoding, script in scripts.items():
                rate = wrk(service.url, script, connections=8, seconds=SECONDS)
                found[encoding].append(rate * SPANS)
        return {encoding: statistics.median(rates) for encoding, rates in found.items()}
    finally:
        service.stop()
