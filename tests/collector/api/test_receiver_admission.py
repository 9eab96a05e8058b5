"""Who may send exports where: by id, by name, while MLflow is there and while it is away."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from collector.api.access import access_settings
from collector.api.audit import audit_line
from collector.api.receiver_admission import EXPORT, ReceiverAdmission
from collector.model.batch import Route
from collector.model.errors import Rejected, Unavailable
from collector.settings import Settings, load
from proxy import Access, open_access
from proxy.policy import Client
from proxy.tokens import create_token
from tests.support.fake_mlflow import FakeMlflow, running
from tests.support.ports import free_port
from tests.support.proxied import upstream_at

# the fake has experiments 1 "one" and 2 "two"
POLICY = """
data_dir = "{home}/data"
[auth]
mode = "clients"
[policy.clients]
named = ["by-name"]
numbered = ["by-id"]
all-but-two = ["denied"]
reader = ["read-only"]
everywhere = ["ingest-only"]
[[policy.roles.by-name]]
preset = "ingest-only"
experiments = ["one", "new*"]
[[policy.roles.by-id]]
preset = "ingest-only"
experiments = ["1"]
[[policy.roles.denied]]
preset = "ingest-only"
[[policy.roles.denied]]
deny = ["otlp:write"]
experiments = ["2"]
"""


class House:
    def __init__(self, settings: Settings, access: Access, fake: Any) -> None:
        self.settings, self.access, self.fake = settings, access, fake
        self.admission = ReceiverAdmission(access)

    async def sender(self, client: str | None) -> Any:
        headers = []
        if client is not None:
            secret, _ = create_token(self.settings.data_dir / "tokens.json", client)
            self.access.clients._tokens._checked_at = -1e9  # type: ignore[union-attr]
            headers = [(b"authorization", f"Bearer {secret}".encode())]
        scope = {"headers": headers, "client": ("192.0.2.1", 1), "method": "POST", "path": "/v1/traces"}
        return await self.admission.admit(scope)

    async def may(self, client: str, route: Route) -> bool:
        sender = await self.sender(client)
        return sender.permit is None or await sender.permit(route) is None


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    file = tmp_path / "sidespan.toml"
    file.write_text(POLICY.format(home=tmp_path))
    settings = load(environment={}, file=file)
    port = free_port()
    fake = FakeMlflow()
    async with (
        running(fake, port) as url,
        open_access(access_settings(settings), upstream_at(url)) as access,
    ):
        yield House(settings, access, fake)


BY_ID_1, BY_ID_2 = Route(experiment_id="1"), Route(experiment_id="2")
BY_NAME_1, BY_NAME_2 = Route(experiment_name="one"), Route(experiment_name="two")


@pytest.mark.parametrize(
    ("client", "route", "allowed"),
    [
        ("named", BY_ID_1, True),
        ("named", BY_NAME_1, True),
        ("named", BY_ID_2, False),
        ("named", BY_NAME_2, False),
        ("named", Route(experiment_name="new one"), True),
        ("named", Route(experiment_id="99"), False),
        ("named", Route(experiment_id="1", workspace="w"), False),
        ("numbered", BY_ID_1, True),
        ("numbered", BY_NAME_1, True),
        ("numbered", BY_ID_2, False),
        ("numbered", Route(experiment_name="new one"), False),
        ("all-but-two", BY_ID_1, True),
        ("all-but-two", BY_ID_2, False),
        ("all-but-two", BY_NAME_2, False),
        ("all-but-two", Route(experiment_name="new one"), True),
        ("everywhere", BY_ID_2, True),
        ("everywhere", Route(experiment_id="2", workspace="w"), True),
    ],
)
async def test_a_client_sends_where_its_rules_say(
    house: House, client: str, route: Route, allowed: bool
) -> None:
    assert await house.may(client, route) is allowed


async def test_who_may_not_send_at_all_is_told_before_the_body_is_read(house: House) -> None:
    with pytest.raises(Rejected, match="may not write otlp"):
        await house.sender("reader")
    with pytest.raises(Rejected, match="credentials are missing"):
        await house.sender(None)
    audit = (house.settings.data_dir / "logs" / "audit.jsonl").read_text()
    assert audit.count('"decision":"denied"') == 1
    assert audit.count('"decision":"unauthenticated"') == 1


@pytest.mark.parametrize(
    ("status", "decision"),
    [(400, "refused"), (401, "unauthenticated"), (403, "denied"), (404, "denied"), (502, "failed")],
)
async def test_a_refusal_has_its_word_in_the_audit_log(house: House, status: int, decision: str) -> None:
    scope = {"method": "GET", "path": "/-/runs", "client": None}
    nobody = Client(name="anonymous", roles=())
    house.access.log.write(audit_line(scope, nobody, EXPORT, status=status, message="why"))
    audit = house.settings.data_dir / "logs" / "audit.jsonl"
    assert json.loads(audit.read_text())["decision"] == decision


async def test_while_mlflow_is_away_what_can_be_told_without_it_is(house: House) -> None:
    house.fake.lookup = lambda request: (_ for _ in ()).throw(ConnectionError())
    assert await house.may("named", BY_NAME_1)
    assert await house.may("numbered", BY_ID_1)
    assert not await house.may("numbered", BY_ID_2)
    with pytest.raises(Unavailable, match="can't be decided now"):
        await house.may("named", BY_ID_1)
