"""Who asks: credentials in, a client out.

    Authorization: Bearer TOKEN          an API token, or a JSON Web Token of the OpenID provider
    Authorization: Basic USER:TOKEN      the same in MLflow's other form; the user name is free
    X-MLflow-Authorization: …            the same, where Authorization holds a provider's key (the gateway)
    the header of an auth proxy          only from its addresses; from others it is nothing

No credentials is `anonymous`, who has rights only if the policy gives some. Wrong credentials are always 401.
"""

import base64
import binascii
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Protocol

from proxy.errors import Refusal, unauthenticated
from proxy.policy import ANONYMOUS, Client, Policy
from proxy.tokens import NAME, PREFIX, BadTokens, TokenFile

Headers = Sequence[tuple[bytes, bytes]]
CREDENTIALS = b"authorization"
MLFLOW_CREDENTIALS = b"x-mlflow-authorization"

_log = logging.getLogger("sidespan.clients")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedHeader:
    """What an auth proxy in front says, and from where that is believed."""

    name: str
    roles_name: str | None
    addresses: tuple[IPv4Network | IPv6Network, ...]
    roles: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """An issuer and how its claims are read. `roles` maps a value of `roles_claim` to roles."""

    issuer: str
    audience: str
    jwks_url: str | None = None
    client_claim: str = "sub"
    roles_claim: str = "groups"
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    leeway_seconds: float = 30.0


class ReadsJwt(Protocol):
    """`Oidc` is one."""

    async def client(self, token: str) -> Client:
        """Who a token says it is; raises Refusal."""


class Clients:
    """The ways to authenticate, as the settings have them. `tokens` None: clients are not authenticated."""

    def __init__(
        self,
        policy: Policy,
        *,
        tokens: TokenFile | None = None,
        oidc: ReadsJwt | None = None,
        header: TrustedHeader | None = None,
    ) -> None:
        self._policy = policy
        self._tokens = tokens
        self._oidc = oidc
        self._header = header
        self._nobody = Client(name=ANONYMOUS, roles=policy.roles_of(ANONYMOUS))
        self.asked = tokens is not None or oidc is not None or header is not None

    async def identify(self, headers: Headers, peer: str) -> Client:
        """The client of a request. Raises Refusal (401; 503 while an OpenID provider's keys can't be had)."""
        if not self.asked:
            return self._nobody
        if (
            self._header is not None
            and (client := self._from_header(self._header, headers, peer)) is not None
        ):
            return client
        credentials = _one(headers, MLFLOW_CREDENTIALS) or _one(headers, CREDENTIALS)
        if credentials is not None:
            return await self._from_credentials(credentials)
        if ANONYMOUS in self._policy.clients or self._policy.mode == "observe":
            return self._nobody
        raise unauthenticated(
            "credentials are missing: send an API token (`sidespan token create NAME`); set "
            "MLFLOW_TRACKING_TOKEN for MLflow's client, "
            "OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20TOKEN for an exporter, "
            "and use it as the password in a browser"
        )

    async def _from_credentials(self, credentials: str) -> Client:
        scheme, _, value = credentials.strip().partition(" ")
        match scheme.lower():
            case "bearer":
                secret = value.strip()
            case "basic":
                secret = _password(value.strip())
            case _:
                raise unauthenticated(f"Authorization {scheme[:20]!r} is not supported; send Bearer or Basic")
        if self._oidc is not None and not secret.startswith(PREFIX) and secret.count(".") == 2:
            client = await self._oidc.client(secret)
            return Client(
                name=client.name, roles=client.roles or self._policy.roles_of(client.name), source="oidc"
            )
        try:
            token = self._tokens.find(secret) if self._tokens is not None else None
        except BadTokens as error:
            _log.error("no token is accepted at the moment", extra={"why": str(error)})
            raise Refusal(
                status=503,
                error_code="TEMPORARILY_UNAVAILABLE",
                message="the tokens can't be read at the moment",
            ) from None
        if token is None:
            raise unauthenticated("this token is unknown, revoked or expired")
        roles = self._policy.roles_of(token.name) if token.roles is None else token.roles
        return Client(name=token.name, roles=roles, source="token")

    def _from_header(self, trusted: TrustedHeader, headers: Headers, peer: str) -> Client | None:
        name = _one(headers, trusted.name.lower().encode())
        if name is None or not _is_among(peer, trusted.addresses):
            return None
        if not NAME.match(name):
            raise unauthenticated(f"{trusted.name}: {name[:80]!r} can't be a client's name")
        given = _one(headers, trusted.roles_name.lower().encode()) if trusted.roles_name else None
        groups = [part.strip() for part in (given or "").split(",")]
        roles = dict.fromkeys(role for group in groups for role in trusted.roles.get(group, ()))
        return Client(name=name, roles=tuple(roles) or self._policy.roles_of(name), source="header")


def _password(value: str) -> str:
    try:
        _, colon, password = base64.b64decode(value, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon, password = "", ""
    if not colon:
        raise unauthenticated("Authorization: Basic must hold USER:TOKEN in base64")
    return password


def _one(headers: Headers, name: bytes) -> str | None:
    values = [value for found, value in headers if found == name]
    if len(values) > 1:
        raise unauthenticated(f"the header {name.decode()} is repeated {len(values)} times; send it once")
    return values[0].decode("latin-1").strip() if values else None


def _is_among(peer: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    return any(address in network for network in networks)
