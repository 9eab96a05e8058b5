"""Real Kafka brokers on loopback (KRaft, from the registry by Maven), for the tests marked `scale`."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.children import mortal
from tests.support.ports import free_port

POM = Path(__file__).parent / "kafka" / "pom.xml"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sidespan-tests"
LIBS = CACHE / "kafka-4.3.1"
FETCH_TRIES, FETCH_SECONDS = 3, 300
CLUSTER = "MkU3OEVBNTcwNTJENDM2Qg"
HEAP = "-Xmx320m"
READY_SECONDS = 180.0

_PROPERTIES = """
process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{secured}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{secured}
controller.listener.names=CONTROLLER
log.dirs={folder}/data
num.network.threads=2
num.io.threads=2
background.threads=2
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
offsets.topic.replication.factor={replicas}
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={insync}
log.segment.bytes=67108864
log.index.size.max.bytes=65536
controlled.shutdown.enable=false
broker.session.timeout.ms=6000
transaction.abort.timed.out.transaction.cleanup.interval.ms=2000
"""


@dataclass
class Broker:
    """One of the brokers; `process` None while it is down."""

    id: int
    folder: Path
    port: int
    controller: int
    process: "subprocess.Popen[bytes] | None" = None
    # of listeners beside the plain one, by protocol: at localhost, which certificates name
    secured: Mapping[str, int] = field(default_factory=dict)

    @property
    def properties(self) -> Path:
        return self.folder / "server.properties"

    def start(self) -> None:
        command = [*_java(HEAP), "kafka.Kafka", str(self.properties)]
        with (self.folder / "out.log").open("ab") as out:
            self.process = subprocess.Popen(
                mortal(command), cwd=self.folder, stdout=out, stderr=subprocess.STDOUT
            )

    def kill(self) -> None:
        """As a machine that is lost."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@dataclass
class Brokers:
    """A cluster of one or three."""

    brokers: list[Broker]
    replicas: int = field(init=False)

    def __post_init__(self) -> None:
        self.replicas = len(self.brokers)

    @property
    def hosts(self) -> tuple[str, ...]:
        return tuple(f"127.0.0.1:{broker.port}" for broker in self.brokers)

    def await_ready(self) -> None:
        """Until each broker answers and is known to the others."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        admin = AdminClient({"bootstrap.servers": ",".join(self.hosts), "logger": _silent()})
        until = time.monotonic() + READY_SECONDS
        while time.monotonic() < until:
            for broker in self.brokers:
                assert broker.process is None or broker.process.poll() is None, _tail(broker)
            try:
                if len(admin.list_topics(timeout=2).brokers) == len(self.brokers):
                    return
            except KafkaException:
                time.sleep(0.2)
        raise AssertionError(f"Kafka is not ready: {_tail(self.brokers[0])}")

    def are_in_step(self) -> bool:
        """Whether every copy of every partition is in step: then any one broker may be lost."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        admin = AdminClient({"bootstrap.servers": ",".join(self.hosts), "logger": _silent()})
        try:
            topics = admin.list_topics(timeout=10).topics.values()
        except KafkaException:
            return False
        partitions = [each for topic in topics for each in topic.partitions.values()]
        return all(len(each.isrs) == len(each.replicas) for each in partitions)

    def stop(self) -> None:
        for broker in self.brokers:
            broker.kill()


@contextmanager
def kafka(folder: Path, *, count: int, security: "Security | None" = None) -> Iterator[Brokers]:
    """So many brokers, until the block ends."""
    need_java()
    fetch_libs()
    ports = [(free_port(), free_port()) for _ in range(count)]
    voters = ",".join(f"{id}@127.0.0.1:{controller}" for id, (_, controller) in enumerate(ports, 1))
    brokers = []
    for id, (port, controller) in enumerate(ports, 1):
        secured = {protocol: free_port() for protocol in (security.protocols if security else ())}
        broker = Broker(id=id, folder=folder / str(id), port=port, controller=controller, secured=secured)
        broker.folder.mkdir(parents=True)
        listed = "".join(f",{protocol}://localhost:{port}" for protocol, port in secured.items())
        properties = _PROPERTIES.format(
            **vars(broker) | {"voters": voters, "replicas": count, "insync": min(2, count), "secured": listed}
        )
        broker.properties.write_text(properties + (security.properties if security else ""))
        brokers.append(broker)
    _format(brokers, security)
    cluster = Brokers(brokers)
    try:
        for broker in brokers:
            broker.start()
        cluster.await_ready()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, kw_only=True)
class Security:
    """Listeners that ask for a password or a certificate, beside the plain one that brokers use themselves.

    `certificates` is a folder of tests/support/certificates.py; each user signs in by PLAIN and by SCRAM.
    """

    certificates: Path
    users: Mapping[str, str]
    protocols: Sequence[str] = ("SASL_SSL", "SSL")

    @property
    def properties(self) -> str:
        """More of a broker's properties."""
        store = self.certificates / "broker.pem"
        parts = [(self.certificates / name).read_text() for name in ("server.key", "server.pem")]
        store.write_text("".join(parts))
        plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        users = " ".join(f'user_{name}="{password}"' for name, password in self.users.items())
        protocols = ("CONTROLLER:PLAINTEXT", "PLAINTEXT:PLAINTEXT", "SASL_SSL:SASL_SSL", "SSL:SSL")
        return (
            f"listener.security.protocol.map={','.join(protocols)}\n"
            f"ssl.keystore.type=PEM\nssl.keystore.location={store}\n"
            f"ssl.truststore.type=PEM\nssl.truststore.location={self.certificates / 'ca.pem'}\n"
            "listener.name.ssl.ssl.client.auth=required\n"
            "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n"
            f"listener.name.sasl_ssl.plain.sasl.jaas.config={plain} {users};\n"
            f"listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config={scram}\n"
            f"listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={scram}\n"
        )

    @property
    def scram(self) -> list[str]:
        """Arguments with which a broker's folder is made."""
        return [
            argument
            for name, password in self.users.items()
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
            for argument in ("--add-scram", f"{mechanism}=[name={name},password={password}]")
        ]


def need_java() -> None:
    """Skip where Kafka can't be run."""
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            pytest.skip(f"needs {tool}: Kafka's brokers run on Java and come by Maven")


def fetch_libs() -> None:
    """Kafka's jars, fetched once; a registry that fails is asked again."""
    if list(LIBS.glob("kafka_2.13-*.jar")):
        return
    fetched = LIBS.with_suffix(f".{os.getpid()}")
    command = ["mvn", "-q", "-B", "-ntp", "-f", str(POM), "dependency:copy-dependencies"]
    for tries_left in reversed(range(FETCH_TRIES)):
        try:
            subprocess.run([*command, f"-DoutputDirectory={fetched}"], check=True, timeout=FETCH_SECONDS)
            break
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            if not tries_left:
                raise
    if not LIBS.exists():
        fetched.rename(LIBS)


def _java(heap: str) -> list[str]:
    return ["java", heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{LIBS}/*"]


def _format(brokers: list[Broker], security: Security | None) -> None:
    users = security.scram if security else []
    command = [*_java("-Xmx64m"), "kafka.tools.StorageTool", "format", "-t", CLUSTER, *users, "-c"]
    running = [
        subprocess.Popen([*command, str(broker.properties)], cwd=broker.folder, stdout=subprocess.DEVNULL)
        for broker in brokers
    ]
    for process in running:
        assert process.wait(READY_SECONDS) == 0


def _tail(broker: Broker) -> str:
    return (broker.folder / "out.log").read_text()[-2000:]


def _silent() -> object:
    import logging

    logger = logging.getLogger("tests.kafka")
    logger.propagate = False
    logger.addHandler(logging.NullHandler())
    return logger


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
