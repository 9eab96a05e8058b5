"""What `sidespan doctor` makes of what brokers say; tests/system/test_scale.py asks real ones."""

import pytest

from collector.cli.doctor_engines import MANY_ENTRIES, lag_checks, missing_checks, topic_check
from collector.journal import PartitionLag
from collector.journal.kafka.examining import ExaminedTopic
from collector.settings import KafkaSettings


def examined(**found: object) -> ExaminedTopic:
    values: dict[str, object] = {"problems": (), "offline": (), "lagging": ()}
    return ExaminedTopic(name="x-spans", partitions=4, replicas=3, **values | found)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("topic", "said"),
    [
        (examined(), None),
        (examined(problems=["forgets records"]), "forgets records"),
        (examined(offline=[3, 1]), "partitions 1, 3 have no leader"),
        (examined(lagging=[2]), "partitions 2 have copies that are missing or behind"),
    ],
    ids=["as_it_must_be", "wrongly_set_up", "without_leader", "a_copy_is_missing"],
)
def test_a_topic_is_fine_or_the_check_says_what_is_wrong(topic: ExaminedTopic, said: str | None) -> None:
    check = topic_check(topic)
    assert check.ok == (said is None)
    assert check.ok == (not check.way_out)
    assert said is None or said in check.finding


def test_a_missing_topic_is_made_or_must_be() -> None:
    (made,) = missing_checks(["x-spans"], KafkaSettings())
    (missing,) = missing_checks(["x-spans"], KafkaSettings(create_topics=False))
    assert (made.ok, missing.ok) == (True, False)
    assert "kafka.create_topics" in missing.way_out


def test_lag_is_told_by_group_with_the_partition_that_has_the_most() -> None:
    lags = [
        PartitionLag(group="deliver", partition=0, entries=MANY_ENTRIES - 1),
        PartitionLag(group="deliver", partition=1, entries=1),
        PartitionLag(group="index", partition=0, entries=0),
    ]
    deliver, index = lag_checks(lags)
    assert not deliver.ok and "in partition 0" in deliver.finding and "MLflow" in deliver.way_out
    assert (index.ok, index.finding) == (True, "nothing waits")
