"""The log's topics: created as they must be, or refused at the start with the reason."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collector.journal.kafka.client import CALL_SECONDS, RECORD_OVERHEAD_BYTES, KafkaConnection, unreachable
from collector.journal.kafka.records import Kind, Names
from collector.model.errors import Misconfigured
from collector.settings.engines import KafkaSettings

# a new topic is known to every broker after a moment
KNOWN_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic as it must be. Compacted topics keep the newest record of each key."""

    name: str
    partitions: int
    is_compacted: bool


def topics_of(names: Names, settings: KafkaSettings) -> list[Topic]:
    """All topics of a log."""
    partitions = settings.partitions
    data = [Topic(name=names.data(kind), partitions=partitions, is_compacted=False) for kind in Kind]
    state = Topic(name=names.state, partitions=partitions, is_compacted=True)
    return [*data, state, Topic(name=names.dead_letters, partitions=1, is_compacted=True)]


def prepare_topics(connection: KafkaConnection) -> None:
    """Create what is missing and check what is there. Blocks.

    Raises Misconfigured: no broker answers, or a topic would lose data or mix up traces.
    """
    settings = connection.settings
    wanted = topics_of(Names(connection.place.name), settings)
    admin = connection.admin()
    known = _known(admin, connection)
    missing = [topic for topic in wanted if topic.name not in known]
    if missing and not settings.create_topics:
        raise Misconfigured(
            f"Kafka has no topic {missing[0].name}, and kafka.create_topics is off; create it with"
            f" {missing[0].partitions} partitions"
        )
    if missing:
        _create(admin, missing, settings)
        known = _await_known(admin, connection, missing)
    for name, problems in problems_of(connection, wanted, known).items():
        for problem in problems:
            raise Misconfigured(f"the topic {name} {problem}")


def problems_of(
    connection: KafkaConnection, topics: Sequence[Topic], known: Mapping[str, Any]
) -> dict[str, list[str]]:
    """Why topics that are there can't be used, by name, in words that follow the name."""
    configs = _configs(connection.admin(), [topic.name for topic in topics]) if topics else {}
    settings = connection.settings
    return {t.name: _problems(t, known[t.name], configs[t.name], settings) for t in topics}


def _known(admin: Any, connection: KafkaConnection) -> Mapping[str, Any]:
    from confluent_kafka import KafkaException

    try:
        topics: Mapping[str, Any] = admin.list_topics(timeout=CALL_SECONDS).topics
    except KafkaException as error:
        raise unreachable(connection, error) from error
    return topics


def _await_known(admin: Any, connection: KafkaConnection, created: Sequence[Topic]) -> Mapping[str, Any]:
    until = time.monotonic() + KNOWN_SECONDS
    while True:
        known = _known(admin, connection)
        if all(t.name in known and len(known[t.name].partitions) == t.partitions for t in created):
            return known
        if time.monotonic() > until:
            return known
        time.sleep(0.05)


def _create(admin: Any, topics: Sequence[Topic], settings: KafkaSettings) -> None:
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import NewTopic

    new = [
        NewTopic(
            topic.name,
            num_partitions=topic.partitions,
            replication_factor=settings.replicas,
            config=_config_of(topic, settings),
        )
        for topic in topics
    ]
    for name, future in admin.create_topics(new, request_timeout=CALL_SECONDS).items():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another replica was first
                raise Misconfigured(f"the topic {name} can't be created: {error.args[0].str()}") from error


def _config_of(topic: Topic, settings: KafkaSettings) -> dict[str, str]:
    config = {
        "min.insync.replicas": str(settings.min_insync_replicas),
        "max.message.bytes": str(settings.max_message_bytes + RECORD_OVERHEAD_BYTES),
        "unclean.leader.election.enable": "false",
    }
    if topic.is_compacted:
        compacted = {"cleanup.policy": "compact", "segment.bytes": str(64 * 1024 * 1024)}
        return config | compacted | {"min.cleanable.dirty.ratio": "0.2"}
    return config | {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}


def _configs(admin: Any, names: Sequence[str]) -> dict[str, dict[str, str]]:
    from confluent_kafka.admin import ConfigResource, ResourceType

    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    described = admin.describe_configs(resources, request_timeout=CALL_SECONDS)
    return {
        resource.name: {name: entry.value for name, entry in future.result().items()}
        for resource, future in described.items()
    }


def _problems(topic: Topic, found: Any, config: Mapping[str, str], settings: KafkaSettings) -> list[str]:
    partitions = len(found.partitions)
    replicas = min(len(partition.replicas) for partition in found.partitions.values())
    policy = "compact" if topic.is_compacted else "delete"
    problems = []
    if partitions != topic.partitions:
        problems.append(
            f"has {partitions} partitions, and kafka.partitions is {topic.partitions}: another number would"
            " send a trace's spans to two places; set the number that the topic has"
        )
    if replicas < settings.replicas:
        problems.append(
            f"keeps {replicas} copies, and kafka.replicas asks for {settings.replicas}; add replicas to it"
        )
    if int(config["min.insync.replicas"]) < settings.min_insync_replicas:
        problems.append(
            f"acknowledges with {config['min.insync.replicas']} copies, and kafka.min_insync_replicas asks"
            f" for {settings.min_insync_replicas}; set its min.insync.replicas"
        )
    if config["cleanup.policy"] != policy:
        problems.append(
            f"has cleanup.policy={config['cleanup.policy']}: it must be {policy}, or records would be lost"
        )
    elif not topic.is_compacted and (config["retention.ms"] != "-1" or config["retention.bytes"] != "-1"):
        problems.append(
            f"forgets records (retention.ms={config['retention.ms']},"
            f" retention.bytes={config['retention.bytes']}): set both to -1, for Sidespan deletes what every"
            " consumer has passed"
        )
    if int(config["max.message.bytes"]) < settings.max_message_bytes:
        problems.append(
            f"takes records of {config['max.message.bytes']} bytes, and kafka.max_message_bytes is"
            f" {settings.max_message_bytes}; raise its max.message.bytes"
        )
    return problems
