"""Clients, policy and logs of one service, as the proxy, the receiver and our own paths share them."""

import ssl as tls
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from proxy.clients import Clients, Provider, ReadsJwt, TrustedHeader
from proxy.gate import Gate
from proxy.logs import RequestLog, RequestLogOnStdout, WritesRequests
from proxy.lookup import Lookup
from proxy.policy import Policy
from proxy.stream import KEEP_ALIVE_SECONDS, Upstream
from proxy.tokens import TokenFile

LOOKUP_CONNECTIONS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSettings:
    """What `open_access` needs; `tokens_file` None: clients are not authenticated.

    `logs_to_stdout`: of the logs only whether they are None counts, and they go to standard output.
    """

    policy: Policy
    tokens_file: Path | None = None
    oidc: Provider | None = None
    header: TrustedHeader | None = None
    access_log: Path | None = None
    audit_log: Path | None = None
    logs_to_stdout: bool = False
    max_log_bytes: int = 10 * 1024 * 1024
    max_log_files: int = 5
    lookup_timeout_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Access:
    """Who asks, what they may, and what is written down about it."""

    clients: Clients
    gate: Gate
    lookup: Lookup
    log: WritesRequests


@asynccontextmanager
async def open_access(settings: AccessSettings, upstream: Upstream) -> AsyncIterator[Access]:
    """Everything that a decision needs, until the block ends. Raises BadTokens, OSError (log files)."""
    log = _open_log(settings)
    try:
        async with (
            _session(upstream.ssl, settings.lookup_timeout_seconds) as session,
            _session(True, settings.lookup_timeout_seconds) as outside,
        ):
            lookup = Lookup(session, upstream.url, upstream.authorization)
            clients = Clients(
                settings.policy,
                tokens=None if settings.tokens_file is None else TokenFile(settings.tokens_file),
                oidc=None if settings.oidc is None else _oidc(settings.oidc, outside),
                header=settings.header,
            )
            yield Access(clients, Gate(settings.policy, lookup), lookup, log)
    finally:
        log.close()


def _open_log(settings: AccessSettings) -> RequestLog | RequestLogOnStdout:
    access, audit = settings.access_log, settings.audit_log
    if settings.logs_to_stdout:
        return RequestLogOnStdout(access=access is not None, audit=audit is not None)
    return RequestLog(
        access=access, audit=audit, max_bytes=settings.max_log_bytes, max_files=settings.max_log_files
    )


def _oidc(provider: Provider, session: aiohttp.ClientSession) -> ReadsJwt:
    from proxy.oidc import Oidc  # its cryptography costs a start 0.1 s and 10 MB, which few need

    return Oidc(provider, session)


def _session(ssl: tls.SSLContext | bool, timeout_seconds: float) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=LOOKUP_CONNECTIONS, ssl=ssl, keepalive_timeout=KEEP_ALIVE_SECONDS
        ),
        timeout=aiohttp.ClientTimeout(total=timeout_seconds),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )
