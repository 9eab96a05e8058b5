"""Brokers that ask for a password or a certificate: who is let in, and what the others are told."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.journal.kafka import client
from collector.journal.kafka.examining import examine_kafka
from collector.model.errors import Misconfigured
from tests.support.certificates import certificates_in
from tests.support.kafka_brokers import Brokers, Security, kafka
from tests.support.kafka_logs import KafkaLogPlace, draft, take_all

pytestmark = pytest.mark.scale
USER, PASSWORD = "sidespan", "correct-horse-battery"
WRONG = "hunter2-hunter2"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates_in(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def secured(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    security = Security(certificates=certificates, users={USER: PASSWORD})
    with kafka(tmp_path_factory.mktemp("secured"), count=1, security=security) as brokers:
        yield brokers


def place_at(brokers: Brokers, protocol: str, **settings: Any) -> KafkaLogPlace:
    port = brokers.brokers[0].secured[protocol]
    return KafkaLogPlace(hosts=(f"localhost:{port}",), more={"tls": True} | settings)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_a_user_signs_in_with_a_password_from_a_file(
    secured: Brokers, certificates: Path, tmp_path: Path, mechanism: str
) -> None:
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    user = {"username": USER, "password_file": tmp_path / "password", "sasl_mechanism": mechanism}
    place = place_at(secured, "SASL_SSL", ca_file=certificates / "ca.pem", **user)
    async with place.open() as journal:
        await journal.log.append([draft(b"signed in")])
        assert await take_all(journal) == [b"signed in"]
        assert {lag.partition for lag in await journal.lag()} == set(range(place.partitions))
    assert (await examine_kafka(place.place, place.settings(), groups=[])).missing == []


async def test_a_certificate_is_enough_where_brokers_ask_for_one(
    secured: Brokers, certificates: Path
) -> None:
    ours = {"certificate_file": certificates / "client.pem", "key_file": certificates / "client.key"}
    place = place_at(secured, "SSL", ca_file=certificates / "ca.pem", **ours)
    async with place.open() as journal:
        await journal.log.append([draft(b"certified")])
        assert await take_all(journal) == [b"certified"]


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "wrong_password": ("SASL_SSL", {"username": USER, "password": WRONG}, "[Aa]uthentication"),
    "wrong_mechanism": (
        "SASL_SSL",
        {"username": USER, "password": WRONG, "sasl_mechanism": "PLAIN"},
        "Invalid username or password",
    ),
    "authority_that_is_not_trusted": (
        "SASL_SSL",
        {"username": USER, "password": PASSWORD, "ca_file": "another"},
        "certificate verify failed",
    ),
    "no_certificate": ("SSL", {}, "certificate"),
    "no_tls": ("SASL_SSL", {"username": USER, "password": PASSWORD, "tls": False}, r"kafka\.tls = true"),
}


@pytest.mark.parametrize(("protocol", "settings", "reason"), REFUSED.values(), ids=REFUSED)
async def test_who_is_refused_is_told_why_and_no_password_is_shown(
    secured: Brokers,
    certificates: Path,
    tmp_path: Path,
    protocol: str,
    settings: dict[str, Any],
    reason: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("collector.journal.kafka.topics.CALL_SECONDS", 3.0)
    monkeypatch.setattr(client, "TOLD_SECONDS", 15.0)
    caplog.set_level(logging.DEBUG)
    trusted = certificates if settings.get("ca_file") is None else certificates_in(tmp_path)
    files = {} if settings.get("tls") is False else {"ca_file": trusted / "ca.pem"}
    place = place_at(secured, protocol, **settings | files)
    with pytest.raises(Misconfigured, match=reason) as raised:
        async with place.open():
            pass
    assert str(place.place.hosts[0]) in str(raised.value)
    said = str(raised.value) + caplog.text
    assert PASSWORD not in said
    assert WRONG not in said
