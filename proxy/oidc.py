"""Sign-in with an OpenID provider's JSON Web Tokens: signature, issuer, audience, times; claims to roles.

Keys come from the provider's JWKS, are remembered, and are asked for again when a token names one that isn't
known (rotation), though not more often than `REFRESH_PAUSE_SECONDS`. Which of them count: jwks.py. PyJWT
does the cryptography.
Sources: https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation,
https://openid.net/specs/openid-connect-discovery-1_0.html,
https://www.rfc-editor.org/rfc/rfc7517 and https://www.rfc-editor.org/rfc/rfc8725
"""

import asyncio
import json
import logging
import time
from typing import Any

import aiohttp
import jwt

from proxy.clients import Provider
from proxy.errors import Refusal, unauthenticated
from proxy.jwks import Name, signing_keys
from proxy.policy import Client

KEYS_SECONDS = 3600.0
REFRESH_PAUSE_SECONDS = 10.0
MAX_DOCUMENT_BYTES = 1024 * 1024
MAX_TOKEN_CHARACTERS = 16 * 1024

_log = logging.getLogger("sidespan.oidc")


class Oidc:
    """One provider, with its keys. `session` is for the provider, not for MLflow."""

    def __init__(self, provider: Provider, session: aiohttp.ClientSession) -> None:
        self._provider = provider
        self._session = session
        self._keys: dict[Name, jwt.PyJWK] = {}
        self._asked_at = -1e9
        self._asking = asyncio.Lock()

    async def client(self, token: str) -> Client:
        """Who a token says it is. Raises Refusal: 401, or 503 if the provider's keys can't be had."""
        claims = await self._claims(token)
        name = claims.get(self._provider.client_claim)
        if not isinstance(name, str) or not name:
            raise unauthenticated(f"the token has no claim {self._provider.client_claim!r}")
        found = claims.get(self._provider.roles_claim)
        values = found if isinstance(found, list) else str(found or "").split()
        roles = [role for value in values for role in self._provider.roles.get(str(value), ())]
        return Client(name=name, roles=tuple(dict.fromkeys(roles)), source="oidc")

    async def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise unauthenticated(f"the token is over {MAX_TOKEN_CHARACTERS} characters")
        try:
            head = jwt.get_unverified_header(token)
            key = await self._key((str(head.get("kid", "")), str(head.get("alg", ""))))
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=self._provider.audience,
                issuer=self._provider.issuer,
                leeway=self._provider.leeway_seconds,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.PyJWTError as error:
            raise unauthenticated(f"the token is not valid: {error}") from None
        return claims

    async def _key(self, name: Name) -> jwt.PyJWK:
        async with self._asking:
            age = time.monotonic() - self._asked_at
            if age > KEYS_SECONDS or (name not in self._keys and age > REFRESH_PAUSE_SECONDS):
                await self._ask()
        if not self._keys:
            raise Refusal(
                status=503,
                error_code="TEMPORARILY_UNAVAILABLE",
                message="the sign-in keys are not available at the moment",
            )
        if name not in self._keys:
            raise jwt.InvalidKeyError(
                "it is signed with a key that the issuer doesn't list for this algorithm"
            )
        return self._keys[name]

    async def _ask(self) -> None:
        """Old keys are kept while the provider doesn't answer."""
        self._asked_at = time.monotonic()
        try:
            url = self._provider.jwks_url or await self._discover()
            found = signing_keys(await self._get(url))
            if not found:
                raise ValueError(f"{url} lists no key for signatures")
            self._keys = found
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, jwt.PyJWTError) as error:
            _log.warning(
                "the sign-in keys could not be read", extra={"why": f"{type(error).__name__}: {error}"}
            )

    async def _discover(self) -> str:
        issuer = self._provider.issuer.rstrip("/")
        document = await self._get(f"{issuer}/.well-known/openid-configuration")
        if str(document.get("issuer", "")).rstrip("/") != issuer:
            raise ValueError(f"the issuer names itself {document.get('issuer')!r}")
        return str(document["jwks_uri"])

    async def _get(self, url: str) -> dict[str, Any]:
        async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=5)) as answer:
            answer.raise_for_status()
            content = await answer.content.read(MAX_DOCUMENT_BYTES)
            while not answer.content.at_eof() and len(content) < MAX_DOCUMENT_BYTES:
                content += await answer.content.read(MAX_DOCUMENT_BYTES - len(content))
        document = json.loads(content)
        if not isinstance(document, dict):
            raise ValueError(f"{url} is not a JSON object")
        return document
