"""Clients and policy in the settings: what is read, and what stops the start."""

import gc
import weakref
from pathlib import Path

import pytest

from collector.api.access import access_settings, identity_headers
from collector.model.errors import Misconfigured
from collector.service.app import open_app
from collector.settings import Settings, load
from proxy.policy import ANONYMOUS, Client

EXAMPLES = Path(__file__).parents[3] / "examples" / "policies"


def settings_of(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "sidespan.toml"
    file.write_text(text)
    return load(environment={}, file=file)


def test_without_clients_everybody_has_the_standard_role() -> None:
    settings = Settings()
    policy = access_settings(settings).policy
    assert policy.roles_of(ANONYMOUS) == ("standard",)
    assert access_settings(settings).tokens_file is None


def test_anonymous_can_be_given_other_roles(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, '[policy.clients]\nanonymous = ["read-only"]\n')
    assert access_settings(settings).policy.roles_of(ANONYMOUS) == ("read-only",)


@pytest.mark.parametrize("name", ["team.toml", "sign_in.toml"])
def test_the_examples_can_be_used(name: str, tmp_path: Path) -> None:
    built = access_settings(load(environment={}, file=EXAMPLES / name))
    assert built.tokens_file is not None
    assert built.policy.mode == "enforce"


def test_the_example_of_two_teams_says_what_its_comments_say() -> None:
    from proxy.catalog import load_catalog
    from proxy.policy import PolicyExperiment

    policy = access_settings(load(environment={}, file=EXAMPLES / "team.toml")).policy
    catalog = load_catalog()
    delete = catalog.classify("POST", "/api/2.0/mlflow/runs/delete")
    read = catalog.classify("GET", "/api/3.0/mlflow/traces/get")
    models = catalog.classify("GET", "/api/2.0/mlflow/registered-models/search")
    webhook = catalog.classify("POST", "/api/2.0/mlflow/webhooks")
    rights = {
        name: policy.rights(Client(name=name, roles=policy.roles_of(name)))
        for name in ("anna", "bert", "oscar")
    }
    shared, other = PolicyExperiment(id="7", name="shared"), PolicyExperiment(id="8", name="team-b/x")
    assert rights["anna"].within(read, shared).allow
    assert not rights["anna"].within(read, other).allow
    assert rights["bert"].within(delete, other).allow
    anna_deletes, bert_models = rights["anna"].everywhere(delete), rights["bert"].everywhere(models)
    oscar_hooks = rights["oscar"].everywhere(webhook)
    assert anna_deletes is not None
    assert not anna_deletes.allow
    assert bert_models is not None
    assert bert_models.allow
    assert oscar_hooks is not None
    assert oscar_hooks.allow


def test_a_sign_in_is_read_whole() -> None:
    settings = load(environment={}, file=EXAMPLES / "sign_in.toml")
    built = access_settings(settings)
    assert built.oidc is not None
    assert built.oidc.roles["everybody"] == ("read-only",)
    assert built.header is not None
    assert str(built.header.addresses[0]) == "10.0.0.0/24"
    assert identity_headers(settings) == {b"x-forwarded-user", b"x-forwarded-groups"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '[auth]\nmode = "clients"\n[policy.clients]\nanna = ["tem"]\n',
            ["policy.clients.anna", "unknown role 'tem'"],
        ),
        ('[[policy.roles.r]]\nallow = ["run:read"]\n', ["policy.roles.r[0]", "names no resource"]),
        ('[[policy.roles.r]]\nalow = ["runs:read"]\n', ["policy.roles.r", "alow"]),
        ('[[policy.roles.r]]\npreset = "all"\n', ["policy.roles.r[0]", "unknown preset 'all'"]),
        ('[policy]\nmode = "watch"\n', ["policy.mode = 'watch'", "'enforce' or 'observe'"]),
        ('[policy.clients]\nanna = ["standard"]\n', ["policy.clients", 'set auth.mode = "clients"']),
        ('[oidc]\nissuer = "https://i"\naudience = "a"\n', ["oidc.issuer", 'auth.mode = "clients"']),
        ('[auth]\nmode = "clients"\n[oidc]\nissuer = "https://i"\n', ["oidc", "set together"]),
        ('[auth]\nmode = "clients"\n[oidc]\nissuer = "http://i"\naudience = "a"\n', ["oidc", "https://"]),
        (
            '[auth]\nmode = "clients"\n[oidc]\nissuer = "https://i"\naudience = "a"\nroles = {g = ["x"]}\n',
            ["oidc.roles.g", "unknown role 'x'"],
        ),
        ('[auth]\nmode = "clients"\n[trusted_header]\nname = "X-User"\n', ["trusted_header", "together"]),
        (
            '[auth]\nmode = "clients"\n[trusted_header]\nname = "X-User"\naddresses = ["10.0.0.300"]\n',
            ["trusted_header.addresses", "10.0.0.300"],
        ),
        (
            '[[policy.roles.x]]\nallow = ["jobs:*", "gateway.invoke:write"]\n',
            ["policy.roles.x[0]", '"gateway.invoke:spend" beside it', 'deny = ["gateway.invoke:spend"]'],
        ),
        ('[[policy.roles.open-trusted]]\npreset = "open"\n', ["the name of a preset; choose another"]),
        ('[server]\nroot_path = "mlflow"\n', ["server.root_path = 'mlflow'", "such as /mlflow"]),
        ('[server]\ntls_key_file = "k.pem"\n', ["server", "need tls_certificate_file"]),
        ('[server]\nhost = "0.0.0.0"\n', ["server.host", 'auth.mode = "clients"']),
    ],
    ids=lambda value: value.replace("\n", " ")[:60] if isinstance(value, str) else "",
)  # fmt: skip
def test_what_cannot_be_right_stops_the_start_and_says_where(
    tmp_path: Path, text: str, said: list[str]
) -> None:
    with pytest.raises(Misconfigured) as caught:
        settings_of(tmp_path, text)
    assert all(part in str(caught.value) for part in said), str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[server]\nroot_path = "mlflow"\n', "root_path"),
        ('[[processors]]\ntype = "redact"\npatterns = {a = "("}\n', "not a valid regular expression"),
    ],
)
def test_a_start_that_is_stopped_keeps_nothing_of_its_caller(tmp_path: Path, text: str, said: str) -> None:
    class Local:
        """Something in a frame below the error."""

    def stopped() -> "weakref.ref[Local]":
        local = Local()
        with pytest.raises(Misconfigured) as caught:  # held by the frame that it holds
            settings_of(tmp_path, text)
        assert said in str(caught.value)
        return weakref.ref(local)

    seen = stopped()
    gc.collect()
    assert seen() is None


OPEN = '[server]\nhost = "0.0.0.0"\n[auth]\nmode = "clients"\n'


def test_another_address_may_be_listened_on_once_there_are_clients(tmp_path: Path) -> None:
    assert (
        settings_of(tmp_path, '[server]\nhost = "0.0.0.0"\n[auth]\nmode = "clients"\n').server.host
        == "0.0.0.0"
    )


async def test_a_list_of_tokens_that_is_broken_stops_the_start(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, '[auth]\nmode = "clients"\n')
    settings = settings.model_copy(update={"data_dir": tmp_path / "data"})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "tokens.json").write_text('{"tokens": 5}')
    with pytest.raises(Misconfigured, match="can't be read as the list of tokens"):
        async with open_app(settings):
            pass
