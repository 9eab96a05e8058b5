"""`sidespan doctor` on engines that are servers: brokers, topics and lag of Kafka, and ClickHouse."""

from collections import Counter
from collections.abc import Sequence

from collector.cli.doctor_check import DoctorCheck
from collector.delivery.logs.work import CONSUMER as LOGS
from collector.delivery.mlflow.window import CONSUMER as DELIVERY
from collector.index.feed import CONSUMER as INDEX
from collector.journal import PartitionLag
from collector.model.errors import Misconfigured
from collector.settings import EnginePlace, Settings

# so many entries a group may be behind before it is worth a word
MANY_ENTRIES = 10_000


async def check_kafka(settings: Settings) -> Sequence[DoctorCheck]:
    """The brokers, each topic of the log, and how far each group is behind."""
    from collector.journal.kafka.examining import examine_kafka
    from collector.journal.kafka.owned import GroupMembers

    followers = (INDEX,) if settings.index.enabled else ()
    groups = [
        GroupMembers(name="deliver", spans=(DELIVERY,), logs=(LOGS,)),
        *(GroupMembers(name=name, spans=(name,)) for name in followers),
    ]
    place = settings.log_place
    try:
        found = await examine_kafka(place, settings.kafka, groups=groups)
    except Misconfigured as error:
        way_out = "start the brokers, or set journal.url and [kafka]"
        return [DoctorCheck(name="kafka", ok=False, finding=str(error), way_out=way_out)]
    wanted = settings.kafka.replicas
    brokers = DoctorCheck(
        name="kafka",
        ok=len(found.brokers) >= wanted,
        finding=f"{len(found.brokers)} brokers: {', '.join(found.brokers)}",
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
