"""Who asks: tokens, JSON Web Tokens and an auth proxy's header, and what is no proof of anything."""

import asyncio
import base64
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from proxy import oidc as oidc_module
from proxy.clients import Clients, Provider, TrustedHeader
from proxy.errors import Refusal
from proxy.oidc import Oidc
from proxy.policy import ANONYMOUS, Client, RuleText, build_policy
from proxy.tokens import BadTokens, TokenFile, create_token, read_tokens, revoke_tokens
from tests.support.ports import free_port

POLICY = build_policy(
    roles={"team": [RuleText(preset="standard")]},
    clients={"anna": ["team"], "bert": ["read-only"]},
    default_roles=["ingest-only"],
)
PEER = "192.0.2.7"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


def bearer(secret: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", f"Bearer {secret}".encode())]


def basic(user: str, password: str) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", b"Basic " + base64.b64encode(f"{user}:{password}".encode()))]


async def refused(clients: Clients, headers: Any, peer: str = PEER) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await clients.identify(headers, peer)
    return caught.value


class TestTokens:
    async def test_a_token_is_its_client_as_bearer_and_as_password(self, file: Path) -> None:
        secret, _ = create_token(file, "anna")
        clients = Clients(POLICY, tokens=TokenFile(file))
        for headers in (bearer(secret), basic("anna", secret), basic("whoever", secret), basic("", secret)):
            assert await clients.identify(headers, PEER) == Client(
                name="anna", roles=("team",), source="token"
            )

    async def test_gateway_callers_say_who_they_are_in_mlflows_header(self, file: Path) -> None:
        secret, _ = create_token(file, "anna")
        clients = Clients(POLICY, tokens=TokenFile(file))
        headers = [(b"x-mlflow-authorization", f"Bearer {secret}".encode()), *bearer("sk-of-a-provider")]
        assert (await clients.identify(headers, PEER)).name == "anna"

    async def test_roles_of_the_token_stand_before_those_of_the_policy(self, file: Path) -> None:
        secret, _ = create_token(file, "anna", roles=["read-only"])
        clients = Clients(POLICY, tokens=TokenFile(file))
        assert (await clients.identify(bearer(secret), PEER)).roles == ("read-only",)

    async def test_a_client_that_nobody_lists_has_the_default_roles(self, file: Path) -> None:
        secret, _ = create_token(file, "carl")
        clients = Clients(POLICY, tokens=TokenFile(file))
        assert (await clients.identify(bearer(secret), PEER)).roles == ("ingest-only",)

    @pytest.mark.parametrize(
        "headers",
        [
            [],
            bearer("sidespan_guess"),
            bearer(""),
            bearer("a.b.c"),
            basic("anna", ""),
            basic("anna", "sidespan_x"),
            [(b"authorization", b"Basic ???")],
            [(b"authorization", b"Basic " + base64.b64encode(b"no colon"))],
            [(b"authorization", b"Digest x")],
            [(b"authorization", b"")],
            [*bearer("a"), *bearer("b")],
        ],
    )
    async def test_anything_else_is_401_and_asks_for_credentials(self, file: Path, headers: Any) -> None:
        create_token(file, "anna")
        refusal = await refused(Clients(POLICY, tokens=TokenFile(file)), headers)
        assert (refusal.status, refusal.error_code, refusal.challenge) == (401, "UNAUTHENTICATED", True)

    async def test_the_hash_in_the_file_is_no_token(self, file: Path) -> None:
        secret, token = create_token(file, "anna")
        assert secret not in file.read_text()
        assert file.stat().st_mode & 0o077 == 0, "for this user's eyes only"
        await refused(Clients(POLICY, tokens=TokenFile(file)), bearer(token.sha256))

    async def test_a_token_ends_when_it_said_it_would(
        self, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        secret, token = create_token(file, "anna", lifetime_seconds=60)
        clients = Clients(POLICY, tokens=TokenFile(file))
        await clients.identify(bearer(secret), PEER)
        assert token.expires_unix_seconds is not None
        end = float(token.expires_unix_seconds)
        monkeypatch.setattr(time, "time", lambda: end - 0.001)
        await clients.identify(bearer(secret), PEER)
        monkeypatch.setattr(time, "time", lambda: end)
        await refused(clients, bearer(secret))

    async def test_the_running_service_sees_new_and_revoked_tokens(self, file: Path) -> None:
        clients = Clients(POLICY, tokens=TokenFile(file))
        first, token = create_token(file, "anna")
        second, _ = create_token(file, "anna")
        await asyncio.sleep(1.1)
        await clients.identify(bearer(first), PEER)
        assert [gone.id for gone in revoke_tokens(file, token.id)] == [token.id]
        await asyncio.sleep(1.1)
        await refused(clients, bearer(first))
        await clients.identify(bearer(second), PEER)
        assert len(revoke_tokens(file, "anna")) == 1
        assert revoke_tokens(file, "anna") == []

    async def test_a_file_that_is_broken_lets_nobody_in(self, file: Path) -> None:
        secret, _ = create_token(file, "anna")
        clients = Clients(POLICY, tokens=TokenFile(file))
        file.write_text("{")
        await asyncio.sleep(1.1)
        assert (await refused(clients, bearer(secret))).status == 503
        with pytest.raises(BadTokens, match="can't be read"):
            TokenFile(file)

    @pytest.mark.parametrize("name", ["", "a b", "a\n", "-x", "ü", "x" * 65])
    def test_a_name_that_would_confuse_a_log_is_refused(self, file: Path, name: str) -> None:
        with pytest.raises(BadTokens, match="can't be a client's name"):
            create_token(file, name)

    def test_many_at_once_are_all_kept(self, file: Path) -> None:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: create_token(file, f"c{n}"), range(20)))
        assert len(read_tokens(file)) == 20


class TestNobody:
    async def test_who_shows_nothing_is_anonymous_where_the_policy_has_that(self, file: Path) -> None:
        policy = build_policy(roles={}, clients={ANONYMOUS: ["read-only"]})
        clients = Clients(policy, tokens=TokenFile(file))
        assert await clients.identify([], PEER) == Client(name=ANONYMOUS, roles=("read-only",))
        await refused(clients, bearer("wrong"))

    async def test_default_roles_are_not_for_the_anonymous(self, file: Path) -> None:
        assert POLICY.roles_of(ANONYMOUS) == ()

    async def test_where_nobody_is_asked_credentials_mean_nothing(self) -> None:
        clients = Clients(build_policy(roles={}, clients={ANONYMOUS: ["standard"]}))
        assert (await clients.identify(bearer("mlflow's own"), PEER)).name == ANONYMOUS


class TestHeader:
    TRUSTED = TrustedHeader(
        name="X-Forwarded-User",
        roles_name="X-Forwarded-Groups",
        addresses=(ip_network("192.0.2.0/29"),),
        roles={"admins": ("team",), "others": ("read-only",)},
    )

    def headers(self, name: str, groups: str | None = None) -> list[tuple[bytes, bytes]]:
        found = [(b"x-forwarded-user", name.encode())]
        return found if groups is None else [*found, (b"x-forwarded-groups", groups.encode())]

    async def test_the_auth_proxy_is_believed(self) -> None:
        clients = Clients(POLICY, header=self.TRUSTED)
        found = await clients.identify(self.headers("bert@example.com", "admins, nobody"), PEER)
        assert found == Client(name="bert@example.com", roles=("team",), source="header")
        assert (await clients.identify(self.headers("bert"), PEER)).roles == ("read-only",)

    async def test_from_another_address_it_is_nothing(self) -> None:
        clients = Clients(POLICY, header=self.TRUSTED)
        for peer in ("192.0.2.8", "127.0.0.1", "", "unix:"):
            assert (await refused(clients, self.headers("anna", "admins"), peer)).status == 401

    @pytest.mark.parametrize("name", ["", "a b", "ü", "x" * 65])
    async def test_a_name_that_can_be_none_is_refused(self, name: str) -> None:
        assert (await refused(Clients(POLICY, header=self.TRUSTED), self.headers(name))).status == 401

    async def test_two_of_them_are_refused(self) -> None:
        both = [*self.headers("anna"), *self.headers("bert")]
        assert (await refused(Clients(POLICY, header=self.TRUSTED), both)).status == 401


CURVES = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}


@dataclass
class Issuer:
    """An OpenID provider on a real socket."""

    port: int = field(default_factory=free_port)
    keys: dict[str, Any] = field(default_factory=dict)
    published: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: int = 0
    broken: bool = False
    calls_itself: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add(self, id: str, kind: str = "RS256") -> None:
        if kind.startswith("ES"):
            self.keys[id] = (kind, ec.generate_private_key(CURVES[kind]()))
        elif kind == "EdDSA":
            self.keys[id] = (kind, ed25519.Ed25519PrivateKey.generate())
        else:
            self.keys[id] = (kind, rsa.generate_private_key(public_exponent=65537, key_size=2048))

    def token(self, id: str = "k1", *, algorithm: str | None = None, **claims: Any) -> str:
        kind, key = self.keys[id]
        now = int(time.time())
        standard = {"iss": self.url, "aud": "sidespan", "sub": "anna", "exp": now + 60, "iat": now}
        payload = {name: value for name, value in (standard | claims).items() if value is not None}
        return jwt.encode(payload, key, algorithm=algorithm or kind, headers={"kid": id})

    def app(self) -> web.Application:
        async def discovery(_: web.Request) -> web.Response:
            return web.json_response(
                {"issuer": self.calls_itself or self.url, "jwks_uri": f"{self.url}/keys"}
            )

        async def keys(_: web.Request) -> web.Response:
            self.asked += 1
            if self.broken:
                return web.Response(status=500)
            found = []
            for id, (kind, key) in self.keys.items():
                algorithm = jwt.get_algorithm_by_name(kind)
                public = json.loads(algorithm.to_jwk(key.public_key()))
                said = {"kid": id} | self.published.get(id, {"use": "sig", "alg": kind})
                public.pop("key_ops", None)
                found.append({name: value for name, value in (public | said).items() if value is not None})
            return web.json_response({"keys": found})

        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", discovery)
        app.router.add_get("/keys", keys)
        return app

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        runner = web.AppRunner(self.app(), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        try:
            yield
        finally:
            await runner.cleanup()


@dataclass
class Signed:
    issuer: Issuer
    clients: Clients


@pytest.fixture(scope="session")
def key_pairs() -> Iterator[dict[str, Any]]:
    issuer = Issuer()
    kinds = ("RS256", "ES256", "RS256", "ES384", "ES512", "EdDSA")
    for id, kind in ((f"k{number}", kind) for number, kind in enumerate(kinds, 1)):
        issuer.add(id, kind)
    yield issuer.keys


@pytest.fixture
async def signed(key_pairs: dict[str, Any]) -> AsyncIterator[Signed]:
    issuer = Issuer(keys={"k1": key_pairs["k1"]})
    provider = Provider(
        issuer=issuer.url,
        audience="sidespan",
        roles={"ml": ("team",)},
        roles_claim="groups",
        leeway_seconds=1,
    )
    async with issuer.running(), aiohttp.ClientSession() as session:
        yield Signed(issuer, Clients(POLICY, oidc=Oidc(provider, session)))


class TestJwt:
    async def test_a_signed_token_is_its_client_with_the_roles_of_its_groups(self, signed: Signed) -> None:
        token = signed.issuer.token(groups=["ml", "football"])
        for headers in (bearer(token), basic("x", token)):
            found = await signed.clients.identify(headers, PEER)
            assert found == Client(name="anna", roles=("team",), source="oidc")

    async def test_without_such_a_group_the_policy_says(self, signed: Signed) -> None:
        found = await signed.clients.identify(bearer(signed.issuer.token(sub="bert")), PEER)
        assert found.roles == ("read-only",)

    @pytest.mark.parametrize(
        "claims",
        [
            {"exp": 1},
            {"exp": None},
            {"aud": "another"},
            {"aud": None},
            {"iss": "https://evil.example"},
            {"iss": None},
            {"nbf": int(time.time()) + 3600},
            {"sub": None},
            {"sub": ""},
            {"sub": 7},
        ],
    )
    async def test_a_token_that_is_not_for_us_or_not_now_is_401(
        self, signed: Signed, claims: dict[str, Any]
    ) -> None:
        assert (await refused(signed.clients, bearer(signed.issuer.token(**claims)))).status == 401

    async def test_an_unsigned_or_changed_token_is_401(self, signed: Signed) -> None:
        head, payload, signature = signed.issuer.token().split(".")
        none = base64.urlsafe_b64encode(b'{"alg":"none","kid":"k1"}').rstrip(b"=").decode()
        other = base64.urlsafe_b64encode(b'{"sub":"root"}').rstrip(b"=").decode()
        for token in (
            f"{none}.{payload}.",
            f"{head}.{other}.{signature}",
            f"{head}.{payload}.",
            "a.b.c",
            "...",
        ):
            assert (await refused(signed.clients, bearer(token))).status == 401

    async def test_a_public_key_is_no_shared_secret(self, signed: Signed) -> None:
        """RFC 8725, section 2.1: an attacker signs with HMAC and the provider's public key."""
        public = signed.issuer.keys["k1"][1].public_key()
        text = json.dumps(jwt.get_algorithm_by_name("RS256").to_jwk(public)).encode()
        claims = {"iss": signed.issuer.url, "aud": "sidespan", "sub": "root", "exp": time.time() + 60}
        forged = jwt.encode(claims, text.ljust(64, b"x"), algorithm="HS256", headers={"kid": "k1"})
        assert (await refused(signed.clients, bearer(forged))).status == 401

    @pytest.mark.parametrize(
        ("published", "signs_in"),
        [
            pytest.param({"use": "sig", "alg": "RS256"}, True, id="for_signatures_passes"),
            pytest.param({}, True, id="without_a_purpose_passes"),
            pytest.param({"key_ops": ["verify"]}, True, id="key_ops_with_verify_passes"),
            pytest.param({"use": "sig", "key_ops": ["verify", "sign"]}, True, id="both_members_pass"),
            pytest.param({"use": "enc"}, False, id="for_encryption_is_refused"),
            pytest.param({"use": "enc", "alg": "RS256"}, False, id="for_encryption_with_alg_is_refused"),
            pytest.param(
                {"use": "enc", "key_ops": ["verify"]}, False, id="contradicting_members_are_refused"
            ),
            pytest.param({"use": "SIG"}, False, id="another_spelling_is_refused"),
            pytest.param({"use": ["sig"]}, False, id="a_list_as_use_is_refused"),
            pytest.param({"key_ops": ["encrypt", "wrapKey"]}, False, id="key_ops_without_verify_is_refused"),
            pytest.param({"key_ops": []}, False, id="empty_key_ops_is_refused"),
            pytest.param({"key_ops": "verify"}, False, id="a_text_as_key_ops_is_refused"),
            pytest.param({"alg": "RSA-OAEP"}, False, id="an_algorithm_for_encryption_is_refused"),
            pytest.param({"alg": "ES256"}, False, id="an_algorithm_of_another_key_type_is_refused"),
            pytest.param({"alg": "PS256"}, False, id="another_algorithm_than_the_tokens_is_refused"),
            pytest.param({"alg": "none"}, False, id="no_algorithm_is_refused"),
            pytest.param({"alg": ["RS256"]}, False, id="a_list_as_alg_is_refused"),
        ],
    )
    async def test_only_a_key_that_is_published_for_signatures_signs_in(
        self, signed: Signed, key_pairs: dict[str, Any], published: dict[str, Any], signs_in: bool
    ) -> None:
        signed.issuer.keys["good"] = key_pairs["k3"]  # so that the set has a usable key
        signed.issuer.published["k1"] = published
        if signs_in:
            assert (await signed.clients.identify(bearer(signed.issuer.token()), PEER)).name == "anna"
        else:
            assert (await refused(signed.clients, bearer(signed.issuer.token()))).status == 401
        assert (await signed.clients.identify(bearer(signed.issuer.token("good")), PEER)).name == "anna"

    @pytest.mark.parametrize(
        ("id", "algorithm"),
        [
            ("k1", "RS512"),
            ("k1", "PS256"),
            ("k2", "ES256"),
            ("k4", "ES384"),
            ("k5", "ES512"),
            ("k6", "EdDSA"),
        ],
    )
    async def test_a_key_that_names_no_algorithm_signs_in_with_those_that_fit_it(
        self, signed: Signed, key_pairs: dict[str, Any], id: str, algorithm: str
    ) -> None:
        signed.issuer.keys[id] = key_pairs[id]
        signed.issuer.published[id] = {}
        token = signed.issuer.token(id, algorithm=algorithm)
        assert (await signed.clients.identify(bearer(token), PEER)).name == "anna"

    @pytest.mark.parametrize(
        ("id", "said"),
        [("k4", {"alg": "ES256"}), ("k2", {"alg": "ES384"}), ("k6", {"alg": "ES256"})],
        ids=["p384_as_es256", "p256_as_es384", "ed25519_as_es256"],
    )
    async def test_an_algorithm_that_does_not_fit_the_curve_is_401(
        self, signed: Signed, key_pairs: dict[str, Any], id: str, said: dict[str, Any]
    ) -> None:
        signed.issuer.keys[id] = key_pairs[id]
        signed.issuer.published[id] = said
        assert (await refused(signed.clients, bearer(signed.issuer.token(id)))).status == 401

    async def test_a_key_for_encryption_does_not_hide_one_for_signatures_of_the_same_id(
        self, signed: Signed, key_pairs: dict[str, Any]
    ) -> None:
        """RFC 7517, section 4.5: keys of different kinds may share a `kid`."""
        signed.issuer.keys["k3"] = key_pairs["k3"]
        signed.issuer.published["k3"] = {"kid": "k1", "use": "enc"}
        assert (await signed.clients.identify(bearer(signed.issuer.token("k1")), PEER)).name == "anna"

    async def test_keys_are_asked_for_once_and_again_when_they_are_changed(
        self, signed: Signed, key_pairs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for _ in range(5):
            await signed.clients.identify(bearer(signed.issuer.token()), PEER)
        assert signed.issuer.asked == 1
        signed.issuer.keys["k2"] = key_pairs["k2"]
        token = signed.issuer.token("k2")
        assert (await refused(signed.clients, bearer(token))).status == 401, "not again within the pause"
        assert signed.issuer.asked == 1
        monkeypatch.setattr(oidc_module, "REFRESH_PAUSE_SECONDS", 0.0)
        assert (await signed.clients.identify(bearer(token), PEER)).name == "anna"
        assert signed.issuer.asked == 2

    async def test_a_provider_that_is_away_locks_out_nobody_whose_key_is_known(
        self, signed: Signed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token = signed.issuer.token()
        await signed.clients.identify(bearer(token), PEER)
        signed.issuer.broken = True
        monkeypatch.setattr(oidc_module, "KEYS_SECONDS", -1.0)
        await signed.clients.identify(bearer(token), PEER)
        assert signed.issuer.asked == 2

    async def test_without_any_key_it_is_503(self, signed: Signed) -> None:
        signed.issuer.broken = True
        refusal = await refused(signed.clients, bearer(signed.issuer.token()))
        assert refusal.status == 503

    async def test_a_provider_that_calls_itself_otherwise_is_not_believed(self, signed: Signed) -> None:
        signed.issuer.calls_itself = "https://evil.example"
        assert (await refused(signed.clients, bearer(signed.issuer.token()))).status == 503

    async def test_tokens_of_both_kinds_go_side_by_side(self, signed: Signed, file: Path) -> None:
        secret, _ = create_token(file, "bert")
        assert signed.clients._oidc is not None
        clients = Clients(POLICY, tokens=TokenFile(file), oidc=signed.clients._oidc)
        assert (await clients.identify(bearer(secret), PEER)).source == "token"
        assert (await clients.identify(bearer(signed.issuer.token()), PEER)).source == "oidc"

    async def test_a_huge_token_is_not_looked_at(self, signed: Signed) -> None:
        token = f"{os.urandom(10).hex()}.{'a' * 20_000}.b"
        assert "characters" in (await refused(signed.clients, bearer(token))).message
