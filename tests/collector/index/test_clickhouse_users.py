"""ClickHouse with users: who is let in and what each may do, and a way to it by TLS."""

import asyncio
import logging
import re
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from collector.index.clickhouse import examine_clickhouse, open_clickhouse_index
from collector.index.clickhouse.schema import SCHEMA_VERSION
from collector.index.feed import CONSUMER, Indexer
from collector.index.protocol import Index, IndexAway, IndexQuery, JsonAnswer, QueryKind
from collector.journal import Consumer
from collector.model.errors import Misconfigured
from collector.settings import ClickhouseSettings, EnginePlace, IndexSettings
from collector.settings.engines import INDEX_ENGINES, read_engine_url
from collector.telemetry.metrics import Metrics
from tests.collector.index.test_index_consumer import NoMlflow, agent_draft, journal_in
from tests.support.certificates import certificates_in
from tests.support.clickhouse_server import CLUSTER, ClickhouseServer

pytestmark = pytest.mark.scale

PASSWORD, WRONG = "correct-horse-battery", "hunter2-hunter2"
OWNER, READER = "sidespan", "reader"
INDEX_GUIDE = Path(__file__).parents[3] / "docs" / "index.md"


def rights(database: str, *, cluster: bool) -> list[str]:
    """What the guide says that a user needs."""
    of_one, of_cluster = INDEX_GUIDE.read_text().split("For a cluster it also needs these")
    text = of_one + of_cluster if cluster else of_one
    statements = re.findall(r"^ {4}GRANT (.+) TO sidespan$", text, re.MULTILINE)
    assert len(statements) == (7 if cluster else 4)
    return [each.replace("sidespan.*", f"{database}.*") for each in statements]


def users(
    database: str, *, cluster: bool = False, owner_profile: str = "default", owner_quota: str = "default"
) -> str:
    """A users.xml: an owner of one database, and someone who reads there."""

    def user(name: str, password: str, profile: str, quota: str, *grants: str) -> str:
        granted = "".join(f"<query>GRANT {each}</query>" for each in grants)
        return (
            f"<{name}><password>{password}</password><networks><ip>127.0.0.1</ip></networks>"
            f"<profile>{profile}</profile><quota>{quota}</quota>"
            + (f"<grants>{granted}</grants>" if granted else "")
            + f"</{name}>"
        )

    return (
        "<clickhouse><profiles><default/><reading><readonly>2</readonly></reading></profiles><quotas>"
        "<default/><spent><interval><duration>86400</duration><written_bytes>1</written_bytes></interval></spent>"
        "</quotas><users>"
        + user("default", "", "default", "default")
        + user(OWNER, PASSWORD, owner_profile, owner_quota, *rights(database, cluster=cluster))
        + user(READER, PASSWORD, "reading", "default", f"SELECT ON {database}.*", "SELECT ON system.parts")
        + "</users></clickhouse>"
    )


@dataclass(frozen=True)
class Guarded:
    """A server with users, and the database that one of them owns."""

    server: ClickhouseServer
    database: str
    password_file: Path

    def place(self, user: str | None, *, host: str | None = None) -> EnginePlace:
        named = f"{user}@" if user else ""
        url = f"clickhouse://{named}{host or self.server.host}/{self.database}"
        return read_engine_url(url, INDEX_ENGINES)

    @asynccontextmanager
    async def open(
        self, user: str, consumer: Consumer | None = None, *, host: str | None = None, **settings: Any
    ) -> AsyncIterator[Index]:
        given = ClickhouseSettings(**({"password_file": self.password_file} | settings))
        made = IndexSettings(processes=1, max_age_seconds=1e9)
        async with open_clickhouse_index(self.place(user, host=host), given, made, consumer) as index:
            yield index

    def restarted(self, **about: str) -> None:
        """With other rights of the owner."""
        self.server.kill()
        self.server.users = users(self.database, **about)
        self.server.start()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickhouseServer]:
    server = ClickhouseServer(tmp_path_factory.mktemp("guarded"))
    yield server
    server.kill()


@pytest.fixture
def guarded(server: ClickhouseServer, tmp_path: Path) -> Guarded:
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    found = Guarded(server, f"t{uuid4().hex}", tmp_path / "password")
    found.restarted()
    return found


async def traces(index: Index) -> int:
    answer = await index.ask(IndexQuery(kind=QueryKind.OVERVIEW))
    assert isinstance(answer, JsonAnswer)
    return (await index.state()).traces


async def fed(indexer: Indexer) -> None:
    while await indexer.look():
        pass


def indexer_of(index: Index, consumer: Consumer) -> Indexer:
    return Indexer(consumer, index, NoMlflow(), Metrics())  # type: ignore[arg-type]


async def test_the_rights_in_the_documentation_are_enough(guarded: Guarded, tmp_path: Path) -> None:
    async with journal_in(tmp_path / "journal") as journal:
        consumer = journal.consumer(CONSUMER)
        async with guarded.open(OWNER, consumer) as index:
            assert index.trouble is None
            await journal.log.append([agent_draft()])
            await fed(indexer_of(index, consumer))
            assert await traces(index) == 1
        # another time to keep rows alters the tables
        settings = IndexSettings(processes=1, max_age_seconds=2e9)
        given = ClickhouseSettings(password_file=guarded.password_file)
        async with open_clickhouse_index(guarded.place(OWNER), given, settings, None) as index:
            assert (index.trouble, await traces(index)) == (None, 1)


async def test_the_rights_in_the_documentation_are_enough_for_a_cluster(tmp_path: Path) -> None:
    database = f"t{uuid4().hex}"
    shards = [
        ClickhouseServer(tmp_path / name, users=users(database, cluster=True)) for name in ("one", "two")
    ]
    try:
        for shard in shards:
            shard.shards = shards
            shard.start()
        hosts = ",".join(shard.host for shard in shards)
        place = read_engine_url(f"clickhouse://{OWNER}@{hosts}/{database}", INDEX_ENGINES)
        given = ClickhouseSettings(password=PASSWORD, cluster=CLUSTER)
        made = IndexSettings(processes=1, max_age_seconds=1e9)
        async with journal_in(tmp_path / "journal") as journal:
            consumer = journal.consumer(CONSUMER)
            async with open_clickhouse_index(place, given, made, consumer) as index:
                assert index.trouble is None
                await journal.log.append([agent_draft() for _ in range(4)])
                await fed(indexer_of(index, consumer))
                assert await traces(index) == 4
    finally:
        for shard in shards:
            shard.kill()


async def test_who_may_only_read_answers_and_writes_nothing(guarded: Guarded, tmp_path: Path) -> None:
    async with journal_in(tmp_path / "journal") as journal:
        consumer = journal.consumer(CONSUMER)
        async with guarded.open(OWNER, consumer) as index:
            await journal.log.append([agent_draft()])
            await fed(indexer_of(index, consumer))
        async with guarded.open(READER, consumer) as index:
            assert (index.trouble, await traces(index)) == (None, 1)
            await journal.log.append([agent_draft()])
            with pytest.raises(IndexAway, match="it takes nothing: ClickHouse refuses"):
                await fed(indexer_of(index, consumer))
            assert await traces(index) == 1
        async with guarded.open(OWNER, consumer) as index:
            await fed(indexer_of(index, consumer))
            assert await traces(index) == 2, "what was refused has waited in the log"


@pytest.mark.parametrize(
    "taken", [{"owner_profile": "reading"}, {"owner_quota": "spent"}], ids=["readonly", "quota"]
)
async def test_a_right_that_is_taken_away_costs_time_and_no_span(
    guarded: Guarded, tmp_path: Path, taken: dict[str, str]
) -> None:
    async with journal_in(tmp_path / "journal") as journal:
        consumer = journal.consumer(CONSUMER)
        async with guarded.open(OWNER, consumer) as index:
            indexer = indexer_of(index, consumer)
            guarded.restarted(**taken)
            await journal.log.append([agent_draft() for _ in range(3)])
            async with asyncio.timeout(120):
                while indexer.stuck is None:
                    with suppress(IndexAway):
                        await fed(indexer)
                    await asyncio.sleep(0.05)
            assert "ClickHouse refuses" in indexer.stuck
            guarded.restarted()
            async with asyncio.timeout(120):
                while (await consumer.state()).pending_entries:
                    with suppress(IndexAway):
                        await fed(indexer)
                    await asyncio.sleep(0.05)
            assert indexer.stuck is None
            assert await traces(index) == 3


REFUSED: dict[str, tuple[str | None, dict[str, Any]]] = {
    "wrong_password": (OWNER, {"password": WRONG, "password_file": None}),
    "no_password": (OWNER, {"password_file": None}),
    "unknown_user": ("nobody", {}),
}


@pytest.mark.parametrize(("user", "settings"), REFUSED.values(), ids=REFUSED)
async def test_who_is_refused_is_told_why_and_no_password_is_shown(
    guarded: Guarded, user: str, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    given = ClickhouseSettings(**({"password_file": guarded.password_file} | settings))
    with pytest.raises(Misconfigured, match="Authentication failed") as raised:
        await examine_clickhouse(guarded.place(user), given)
    async with guarded.open(user or "", **settings) as index:
        assert "Authentication failed" in (index.trouble or "")
        said = str(raised.value) + str(index.trouble) + caplog.text
    assert PASSWORD not in said
    assert WRONG not in said


@asynccontextmanager
async def behind_tls(server: ClickhouseServer, certificates: Path) -> AsyncIterator[str]:
    """What takes TLS in front of a server, as load balancers do; its host and port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(2**16):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to = await asyncio.open_connection("127.0.0.1", server.http_port)
        await asyncio.gather(copy(reader, to[1]), copy(to[0], writer))

    listening = await asyncio.start_server(serve, "localhost", 0, ssl=context)
    try:
        yield f"localhost:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()


async def test_it_is_reached_by_tls_if_its_authority_is_trusted(guarded: Guarded, tmp_path: Path) -> None:
    certificates = certificates_in(tmp_path)
    others = tmp_path / "others"
    others.mkdir()
    async with behind_tls(guarded.server, certificates) as host:
        told = {"tls": True, "password_file": guarded.password_file}
        place = guarded.place(OWNER, host=host)
        given = ClickhouseSettings(**told, ca_file=certificates / "ca.pem")
        assert (await examine_clickhouse(place, given)).schema_version in (None, SCHEMA_VERSION)
        async with guarded.open(OWNER, host=host, **told, ca_file=certificates / "ca.pem") as index:
            assert (index.trouble, await traces(index)) == (None, 0)
        for ca_file in (None, certificates_in(others) / "ca.pem"):
            with pytest.raises(Misconfigured, match="certificate"):
                await examine_clickhouse(place, ClickhouseSettings(**told, ca_file=ca_file))
