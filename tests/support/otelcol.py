"""The OpenTelemetry Collector, built once with what the tests need, and kept in the user's cache folder."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

CORE = "go.opentelemetry.io/collector"
CONTRIB = "github.com/open-telemetry/opentelemetry-collector-contrib"
BUILD_SECONDS = 1500
# with it, nothing listens but what the config names
QUIET = {"telemetry": {"metrics": {"level": "none"}, "logs": {"level": "warn"}}}


class CannotBuild(Exception):
    """The Collector can't be built here; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """A Collector of these modules, and the name that it is kept under."""

    name: str
    version: str
    receivers: Sequence[str]
    exporters: Sequence[str]
    # else the builder only writes the sources, and `go build` finds the modules
    builder_gets_modules: bool = False

    @property
    def manifest(self) -> Mapping[str, Any]:
        """What the builder reads, but for where it writes."""
        modules = {"receivers": self.receivers, "exporters": self.exporters}
        return {kind: [{"gomod": f"{path} v{self.version}"} for path in of] for kind, of in modules.items()}


WITH_OTLP = Distribution(
    name="otelcol",
    version="0.120.0",
    receivers=(f"{CORE}/receiver/otlpreceiver",),
    exporters=(
        f"{CORE}/exporter/otlpexporter",
        f"{CORE}/exporter/otlphttpexporter",
        f"{CONTRIB}/exporter/fileexporter",
    ),
)
WITH_KAFKA = Distribution(
    name="otelcol-kafka",
    version="0.155.0",
    receivers=(f"{CORE}/receiver/otlpreceiver", f"{CONTRIB}/receiver/kafkareceiver"),
    exporters=(f"{CONTRIB}/exporter/fileexporter", f"{CONTRIB}/exporter/kafkaexporter"),
    # this version's builder writes no go.mod otherwise
    builder_gets_modules=True,
)


def otelcol_binary(distribution: Distribution = WITH_OTLP) -> Path:
    """The Collector with these modules. Raises CannotBuild.

    The first build takes minutes, and 1 GB for Go's caches.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder_name = f"{distribution.name}-{distribution.version}"
    binary = cache / "sidespan-tests" / folder_name / "otelcol"
    if not binary.exists():
        if shutil.which("go") is None:
            raise CannotBuild("needs go")
        with tempfile.TemporaryDirectory() as folder:
            built = _build(Path(folder), distribution)
            binary.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(built, binary.with_suffix(".new"))
        binary.with_suffix(".new").rename(binary)
    return binary


def _build(folder: Path, distribution: Distribution) -> Path:
    place = {"name": "otelcol", "output_path": str(folder / "source")}
    (folder / "builder.yaml").write_text(yaml.safe_dump({"dist": place, **distribution.manifest}))
    _run(folder, "go", "install", f"{CORE}/cmd/builder@v{distribution.version}")
    # the builder itself would fetch what only the modules' tests need
    skipped = () if distribution.builder_gets_modules else ("--skip-get-modules",)
    _run(folder, "./builder", "--config", "builder.yaml", "--skip-compilation", *skipped)
    _run(folder / "source", "go", "build", "-mod=mod", "-trimpath", "-ldflags=-s -w", "-o", "../otelcol", ".")
    return folder / "otelcol"


def _run(folder: Path, *command: str) -> None:
    environment = os.environ | {"GOBIN": str(folder), "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false"}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CannotBuild(f"{command[0]} needs more than {BUILD_SECONDS} s") from error
    if done.returncode != 0:
        raise CannotBuild(f"{' '.join(command)}: {(done.stdout + done.stderr)[-500:]}")


@dataclass
class OtelCollector:
    """One Collector as a process; `port` is one that it listens on. Stopped and started again as it was."""

    binary: Path
    directory: Path
    config: Mapping[str, Any]
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def log(self) -> Path:
        return self.directory / "otelcol.log"

    def start(self) -> None:
        file = self.directory / "otelcol.yaml"
        config = dict(self.config)
        config["service"] = {**QUIET, **config["service"]}
        file.write_text(yaml.safe_dump(config))
        with self.log.open("ab") as log:
            command = [str(self.binary), "--config", str(file)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 60
        while not self._listens():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()[-2000:]
            time.sleep(0.05)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """In order: it writes what it has taken."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=30)
            self.process = None
