"""What an operator wants to know of the brokers, without joining anything."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from collector.journal import PartitionLag
from collector.journal.kafka.client import CALL_SECONDS, KafkaConnection, require_client, unreachable
from collector.journal.kafka.lag import LagBound
from collector.journal.kafka.owned import GroupMembers
from collector.journal.kafka.records import Names
from collector.journal.kafka.topics import problems_of, topics_of
from collector.model.errors import Misconfigured
from collector.settings.engines import EnginePlace, KafkaSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ExaminedTopic:
    """A topic of the log; `problems` say why it can't be used, `offline` are partitions without a leader,
    `lagging` those with fewer copies in step than they have."""

    name: str
    partitions: int
    replicas: int
    problems: Sequence[str]
    offline: Sequence[int]
    lagging: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExaminedKafka:
    """The brokers that answer, the log's topics (those that are there), and how far its groups are behind."""

    brokers: Sequence[str]
    topics: Sequence[ExaminedTopic]
    missing: Sequence[str]
    lags: Sequence[PartitionLag]


async def examine_kafka(
    place: EnginePlace, settings: KafkaSettings, *, groups: Sequence[GroupMembers]
) -> ExaminedKafka:
    """Ask the brokers. Raises Misconfigured: no client, no answer, no permission."""
    require_client()
    return await asyncio.to_thread(_examine, KafkaConnection(place, settings), groups)


def _examine(connection: KafkaConnection, groups: Sequence[GroupMembers]) -> ExaminedKafka:
    from confluent_kafka import KafkaException

    try:
        cluster = connection.admin().list_topics(timeout=CALL_SECONDS)
    except KafkaException as error:
        raise unreachable(connection, error) from error
    try:
        wanted = topics_of(Names(connection.place.name), connection.settings)
        present = [topic for topic in wanted if topic.name in cluster.topics]
        problems = problems_of(connection, present, cluster.topics)
        lags: Sequence[PartitionLag] = ()
        if len(present) == len(wanted):
            bound = LagBound(connection, groups, ())
            lags = bound.lags(bound.ask())
            bound.close()
    except KafkaException as error:
        raise Misconfigured(f"{connection.place.shown}: {error.args[0].str()}") from error
    return ExaminedKafka(
        brokers=[f"{broker.host}:{broker.port}" for broker in cluster.brokers.values()],
        topics=[_topic(topic.name, cluster.topics[topic.name], problems[topic.name]) for topic in present],
        missing=[topic.name for topic in wanted if topic.name not in cluster.topics],
        lags=lags,
    )


def _topic(name: str, found: Any, problems: Sequence[str]) -> ExaminedTopic:
    partitions = found.partitions
    return ExaminedTopic(
        name=name,
        partitions=len(partitions),
        replicas=min(len(each.replicas) for each in partitions.values()),
        problems=problems,
        offline=[number for number, each in partitions.items() if each.leader < 0],
        lagging=[number for number, each in partitions.items() if len(each.isrs) < len(each.replicas)],
    )
