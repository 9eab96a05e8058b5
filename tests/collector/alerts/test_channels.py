"""Channels over real sockets: sent once, retried, given up, in order; real mail over STARTTLS."""

import asyncio
import json
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from collector.alerts.channels.courier import Courier, Sends
from collector.alerts.channels.opening import channels_from
from collector.alerts.channels.outcomes import NoticeDeferred, NoticeRefused, NoticeSent
from collector.alerts.forms import signature
from collector.alerts.notices import document_of
from collector.alerts.states import AlertEvent
from collector.alerts.store import AlertStore, StateChanges
from collector.model.errors import WrongSetting
from collector.settings.alerts import AlertingSettings
from collector.telemetry.metrics import Metrics
from tests.collector.alerts.test_store import notice
from tests.support.alerting import Clock, Inbox, store_in
from tests.support.ports import free_port
from tests.support.serve import serve

RECOVERED = AlertEvent.RECOVERED


def settings_of(channel: dict[str, Any], **given: Any) -> AlertingSettings:
    quick = {"backoff_initial_seconds": 0.01, "backoff_max_seconds": 0.02}
    return AlertingSettings.model_validate(quick | {"channels": {"ops": channel}} | given)


def show(found: Any) -> dict[str, Any]:
    return document_of(found, base_url="https://s.example.com", include_content=False)


@asynccontextmanager
async def channel_of(settings: AlertingSettings, **environment: str) -> AsyncIterator[Sends]:
    async with aiohttp.ClientSession() as session:
        yield channels_from(settings, session, environment)["ops"]


@asynccontextmanager
async def carrying(
    store: AlertStore, settings: AlertingSettings, firing: Any = lambda: [], **environment: str
) -> AsyncIterator[Courier]:
    """A courier at work, until the block ends."""
    async with channel_of(settings, **environment) as channel:
        courier = Courier(
            name="ops",
            channel=channel,
            document=show,
            firing=firing,
            store=store,
            settings=settings,
            metrics=Metrics(),
            clock=Clock(),
        )
        running = asyncio.ensure_future(courier.run())
        yield courier
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def until_empty(store: AlertStore) -> None:
    async with asyncio.timeout(60):
        while store.pending():
            await asyncio.sleep(0.01)


def post(store: AlertStore, *notices: Any, now_unix_ns: int = Clock()()) -> None:
    store.change(StateChanges(notices=[("ops", each) for each in notices]), now_unix_ns=now_unix_ns)


async def test_a_webhook_is_sent_once_signed_and_in_order(tmp_path: Path) -> None:
    inbox, store = Inbox(), store_in(tmp_path)
    post(store, notice(1), notice(1, RECOVERED))
    async with serve(inbox.app) as url:
        settings = settings_of({"type": "webhook", "url": f"{url}/hook", "secret_env": "KEY"})
        async with carrying(store, settings, KEY="a key") as courier:
            await until_empty(store)
            post(store, notice(2))
            courier.news.set()
            await inbox.wait_for(3)
            await until_empty(store)
    assert [each["event"] for each in inbox.documents()] == ["fired", "recovered", "fired"]
    headers, body = inbox.requests[0]
    assert headers["webhook-id"] == notice(1).id
    expected = signature(
        b"a key", id=headers["webhook-id"], timestamp=headers["webhook-timestamp"], body=body
    )
    assert headers["webhook-signature"] == expected


async def test_what_may_pass_is_sent_again_under_the_same_id(tmp_path: Path) -> None:
    inbox, store = Inbox(statuses=[503, 429, 500]), store_in(tmp_path)
    post(store, notice(1), notice(2))
    async with serve(inbox.app) as url:
        settings = settings_of({"type": "webhook", "url": url})
        async with carrying(store, settings):
            await until_empty(store)
    ids = [each["id"] for each in inbox.documents()]
    assert ids == [notice(1).id] * 4 + [notice(2).id]


async def test_what_is_refused_becomes_a_dead_letter_and_stops_nothing(tmp_path: Path) -> None:
    inbox, store = Inbox(statuses=[400]), store_in(tmp_path)
    post(store, notice(1), notice(2))
    async with serve(inbox.app) as url, carrying(store, settings_of({"type": "webhook", "url": url})):
        await until_empty(store)
    (letter,) = store.dead_letters(10)
    assert letter.notice == notice(1)
    assert letter.reason == "the channel answered 400: said so"
    assert inbox.documents()[1]["id"] == notice(2).id


async def test_what_is_too_old_is_given_up_after_an_attempt(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    post(store, notice(1), now_unix_ns=0)
    settings = settings_of({"type": "webhook", "url": f"http://127.0.0.1:{free_port()}"})
    async with carrying(store, settings) as courier:
        await until_empty(store)
        assert courier.last_error is not None
    (letter,) = store.dead_letters(10)
    assert letter.reason.startswith("no connection to 127.0.0.1")


async def test_what_waits_is_sent_after_a_restart(tmp_path: Path) -> None:
    inbox, store, port = Inbox(), store_in(tmp_path), free_port()
    post(store, notice(1))
    settings = settings_of({"type": "webhook", "url": f"http://127.0.0.1:{port}"})
    async with carrying(store, settings) as courier:
        async with asyncio.timeout(60):
            while courier.last_error is None:
                await asyncio.sleep(0.01)
    store.close()
    store = store_in(tmp_path)
    async with serve(inbox.app, port=port), carrying(store, settings):
        await until_empty(store)
    assert [each["id"] for each in inbox.documents()] == [notice(1).id]


async def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    elsewhere = Inbox()
    async with serve(elsewhere.app) as other:
        inbox = Inbox(statuses=[307], headers={"location": other})
        async with serve(inbox.app) as url:
            async with channel_of(settings_of({"type": "webhook", "url": url})) as channel:
                assert isinstance(await channel.send(show(notice())), NoticeRefused)
    assert elsewhere.requests == []


async def test_a_receiver_that_does_not_answer_is_tried_again_later() -> None:
    ended = asyncio.Event()

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        ended.set()

    server = await asyncio.start_server(stall, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = settings_of({"type": "webhook", "url": f"http://127.0.0.1:{port}"}, timeout_seconds=0.2)
    async with server, channel_of(settings) as channel:
        outcome = await channel.send(show(notice()))
        await ended.wait()
    assert outcome == NoticeDeferred(reason="no answer within 0.2 s")


async def test_slack_gets_a_text_with_links(tmp_path: Path) -> None:
    inbox = Inbox()
    file = tmp_path / "url"
    async with serve(inbox.app) as url:
        file.write_text(f"{url}/services/T0/B0/secret\n")
        async with channel_of(settings_of({"type": "slack", "url_file": str(file)})) as channel:
            assert await channel.send(show(notice())) == NoticeSent()
    headers, body = inbox.requests[0]
    assert headers[":path"] == "/services/T0/B0/secret"
    assert "FIRING: slow" in json.loads(body)["text"]
    assert "<https://s.example.com/-/#/traces?" in json.loads(body)["text"]


async def test_alertmanager_is_told_again_while_an_alert_fires(tmp_path: Path) -> None:
    inbox, store, firing = Inbox(), store_in(tmp_path), [notice(1)]
    post(store, notice(1))
    async with serve(inbox.app) as url:
        settings = settings_of(
            {"type": "alertmanager", "url": f"{url}/", "token_env": "T", "resend_seconds": 1}
        )
        async with carrying(store, settings, firing=lambda: firing, T="token") as courier:
            await inbox.wait_for(3)
            firing.clear()
            post(store, notice(1, RECOVERED))
            courier.news.set()
            await until_empty(store)
    assert {headers[":path"] for headers, _ in inbox.requests} == {"/api/v2/alerts"}
    assert {headers["authorization"] for headers, _ in inbox.requests} == {"Bearer token"}
    alerts = [each for (each,) in inbox.documents()]
    assert len({(each["startsAt"], json.dumps(each["labels"])) for each in alerts}) == 1, "one alert for it"
    ends = [each["endsAt"] for each in alerts]
    assert ends[0] < ends[2], "its end moves on"
    assert ends[-1] < ends[0], "until it has ended"


@pytest.mark.parametrize(
    ("channel", "said"),
    [
        ({"type": "webhook", "url_env": "MISSING"}, "alerting.channels.ops.url_env = 'MISSING'"),
        (
            {"type": "slack", "url_file": "/nowhere"},
            "alerting.channels.ops.url_file = '/nowhere': can't be read",
        ),
        ({"type": "webhook", "url": "http://x/", "secret_env": "BAD"}, "what follows whsec_ must be base64"),
        ({"type": "webhook", "url_env": "WORD"}, "must be an http:// or https:// URL"),
        ({"type": "webhook", "url": "http://x/", "ca_file": "/nowhere"}, "ca_file = '/nowhere'"),
    ],
)
async def test_a_secret_that_cannot_be_read_stops_the_start(channel: dict[str, Any], said: str) -> None:
    with pytest.raises(WrongSetting) as error:
        async with channel_of(settings_of(channel), BAD="whsec_!!hidden", WORD="hidden"):
            pass
    assert said in str(error.value)
    assert "hidden" not in str(error.value)


class Mailbox:
    """What a mail server has taken."""

    def __init__(self) -> None:
        self.taken: list[tuple[list[str], bytes]] = []
        self.replies: list[str] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.replies:
            return self.replies.pop(0)
        assert isinstance(envelope.content, bytes)
        self.taken.append((envelope.rcpt_tos, envelope.content))
        return "250 OK"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mail")
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
            ),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
        ],
        check=True,
        capture_output=True,
    )
    return folder / "cert.pem"


@pytest.fixture
def mail_server(certificate: Path) -> Iterator[tuple[Mailbox, dict[str, Any]]]:
    """A server that wants STARTTLS and a password, and the channel's settings for it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))

    def login(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        good = (data.login, data.password) == (b"sidespan", b"pass word")
        return AuthResult(success=good, handled=False)

    mailbox, port = Mailbox(), free_port()
    controller = Controller(
        mailbox,
        hostname="127.0.0.1",
        port=port,
        tls_context=context,
        require_starttls=True,
        authenticator=login,
        auth_required=True,
    )
    controller.start()
    yield (
        mailbox,
        {
            "type": "email",
            "host": "localhost",
            "port": port,
            "sender": "Sidespan <sidespan@example.com>",
            "to": ["ann@example.com", "bob@example.com"],
            "username": "sidespan",
            "password_env": "PASSWORD",
            "ca_file": str(certificate),
        },
    )
    controller.stop()


Mail = tuple[Mailbox, dict[str, Any]]


async def test_mail_goes_over_starttls_with_a_password(mail_server: Mail) -> None:
    mailbox, channel = mail_server
    async with channel_of(settings_of(channel), PASSWORD="pass word") as email:
        assert await email.send(show(notice())) == NoticeSent()
    ((to, content),) = mailbox.taken
    message = message_from_bytes(content, policy=policy.default)
    assert to == ["ann@example.com", "bob@example.com"]
    assert message["Subject"] == "FIRING: slow [user ann, tool (none)]"
    assert message["Message-ID"] == f"<{notice().id}@example.com>"
    assert "https://s.example.com/-/#/traces?" in message.get_content()


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [("451 later", NoticeDeferred), ("554 never", NoticeRefused)],
    ids=["later", "never"],
)
async def test_a_mail_server_may_refuse(mail_server: Mail, reply: str, outcome: type) -> None:
    mailbox, channel = mail_server
    mailbox.replies.append(reply)
    async with channel_of(settings_of(channel), PASSWORD="pass word") as email:
        found = await email.send(show(notice()))
    assert isinstance(found, outcome)
    assert reply[4:] in str(found)


async def test_a_wrong_password_is_refused_and_not_shown(mail_server: Mail) -> None:
    _, channel = mail_server
    async with channel_of(settings_of(channel), PASSWORD="hidden") as email:
        found = await email.send(show(notice()))
    assert isinstance(found, NoticeRefused)
    assert "hidden" not in str(found)


async def test_mail_is_never_sent_to_a_server_that_cannot_prove_its_name(mail_server: Mail) -> None:
    mailbox, channel = mail_server
    without = {name: value for name, value in channel.items() if name != "ca_file"}
    async with channel_of(settings_of(without), PASSWORD="pass word") as email:
        assert isinstance(await email.send(show(notice())), NoticeDeferred)
    assert mailbox.taken == []


async def test_a_mail_server_that_answers_a_byte_at_a_time_is_tried_again_later() -> None:
    gone = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        with suppress(ConnectionError):
            while True:
                writer.write(b"2")
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.close()
        gone.set()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    channel = {
        "type": "email", "host": "127.0.0.1", "port": port, "security": "none",
        "sender": "a@example.com", "to": ["b@example.com"],
    }  # fmt: skip
    async with server, channel_of(settings_of(channel, timeout_seconds=0.1)) as email:
        async with asyncio.timeout(60):
            outcome = await email.send(show(notice()))
            await gone.wait()
    assert isinstance(outcome, NoticeDeferred)
