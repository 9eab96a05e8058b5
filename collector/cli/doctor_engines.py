"""`sidespan doctor` on engines that are servers: brokers, topics and lag of Kafka, and ClickHouse."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from collector.cli.doctor_check import DoctorCheck
from collector.delivery.logs.work import CONSUMER as LOGS
from collector.delivery.mlflow.window import CONSUMER as DELIVERY
from collector.index.feed import CONSUMER as INDEX
from collector.journal import PartitionLag
from collector.model.errors import Misconfigured
from collector.settings import EnginePlace, KafkaSettings, Settings

if TYPE_CHECKING:
    from collector.journal.kafka.examining import ExaminedTopic

# so many entries a group may be behind before it is worth a word
MANY_ENTRIES = 10_000


async def check_kafka(settings: Settings) -> Sequence[DoctorCheck]:
    """The brokers, each topic of the log, and how far each group is behind."""
    from collector.journal.kafka.examining import examine_kafka
    from collector.journal.kafka.owned import GroupMembers, groups_of

    followers = (INDEX,) if settings.index.enabled else ()
    groups = [
        GroupMembers(name="deliver", spans=(DELIVERY,), logs=(LOGS,)),
        *groups_of(followers, followers),
    ]
    place = settings.log_place
    try:
        found = await examine_kafka(place, settings.kafka, groups=groups)
    except Misconfigured as error:
        way_out = "start the brokers, or set journal.url and [kafka]"
        return [DoctorCheck(name="kafka", ok=False, finding=str(error), way_out=way_out)]
    return [
        _brokers(found.brokers, settings.kafka.replicas),
        *map(topic_check, found.topics),
        *missing_checks(found.missing, settings.kafka),
        *lag_checks(found.lags),
    ]


def _brokers(found: Sequence[str], wanted: int) -> DoctorCheck:
    ok = len(found) >= wanted
    return DoctorCheck(
        name="kafka",
        ok=ok,
        finding=f"{len(found)} brokers: {', '.join(found)}",
        way_out="" if ok else f"{wanted} copies of each partition (kafka.replicas) need as many brokers",
    )


def topic_check(topic: "ExaminedTopic") -> DoctorCheck:
    """Whether a topic is as it must be, and all its copies are there."""
    name = f"topic {topic.name}"
    if topic.problems:
        way_out = "change the topic as it says"
        return DoctorCheck(name=name, ok=False, finding=topic.problems[0], way_out=way_out)
    if topic.offline:
        finding = f"partitions {_listed(topic.offline)} have no leader: exports to them get 503"
        return DoctorCheck(name=name, ok=False, finding=finding, way_out="bring their brokers back")
    if topic.lagging:
        finding = f"partitions {_listed(topic.lagging)} have copies that are missing or behind"
        way_out = "bring the missing broker back, or wait until it has caught up"
        return DoctorCheck(name=name, ok=False, finding=finding, way_out=way_out)
    return DoctorCheck(name=name, ok=True, finding=f"{topic.partitions} partitions, every copy in step")


def _listed(partitions: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(partitions)))


def missing_checks(names: Sequence[str], settings: KafkaSettings) -> list[DoctorCheck]:
    """The topics that are not there yet."""
    made = settings.create_topics
    return [
        DoctorCheck(
            name=f"topic {name}",
            ok=made,
            finding="will be created at the first start" if made else "is missing",
            way_out="" if made else "create it, or set kafka.create_topics = true",
        )
        for name in names
    ]


def lag_checks(lags: Sequence[PartitionLag]) -> list[DoctorCheck]:
    """For each group: what waits, and in which partition the most."""
    entries: Counter[str] = Counter()
    for each in lags:
        entries[each.group] += each.entries
    return [_lag(group, count, lags) for group, count in sorted(entries.items())]


def _lag(group: str, entries: int, lags: Sequence[PartitionLag]) -> DoctorCheck:
    worst = max((each for each in lags if each.group == group), key=lambda each: each.entries)
    behind = f"{entries} entries wait, {worst.entries} of them in partition {worst.partition}"
    ok = entries < MANY_ENTRIES
    return DoctorCheck(
        name=f"group {group}",
        ok=ok,
        finding=behind if entries else "nothing waits",
        way_out="" if ok else f"see whether its processes run, and whether {_TARGETS[group]} answers",
    )


# what each group brings the log to
_TARGETS = {"deliver": "MLflow", INDEX: "ClickHouse"}


async def check_clickhouse(settings: Settings, place: EnginePlace) -> DoctorCheck:
    """Whether the server answers, and whether its tables can be used."""
    from collector.index.clickhouse import examine_clickhouse

    try:
        found = await examine_clickhouse(place, settings.clickhouse)
    except Misconfigured as error:
        way_out = "start ClickHouse, or set index.url and [clickhouse]"
        return DoctorCheck(name="clickhouse", ok=False, finding=str(error), way_out=way_out)
    return DoctorCheck(name="clickhouse", ok=True, finding=str(found))
