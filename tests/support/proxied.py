"""The proxy alone in front of an MLflow, with a policy, on a socket of its own."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from proxy import (
    Access,
    AccessSettings,
    Answering,
    Observation,
    ProxyOptions,
    Upstream,
    open_access,
    open_proxy,
)
from proxy.clients import Provider, TrustedHeader
from proxy.policy import ANONYMOUS, Policy, build_policy
from proxy.tokens import create_token
from tests.support.serve import serve

EVERYBODY = build_policy(roles={}, clients={ANONYMOUS: ["standard"]})


def upstream_at(url: str, *, authorization: str | None = None, read_timeout_seconds: float = 60) -> Upstream:
    return Upstream(
        url=url,
        authorization=authorization,
        ssl=True,
        connect_timeout_seconds=2,
        read_timeout_seconds=read_timeout_seconds,
        max_connections=20,
    )


@asynccontextmanager
async def proxied(
    upstream: Upstream,
    *,
    policy: Policy = EVERYBODY,
    tokens_file: Path | None = None,
    oidc: Provider | None = None,
    header: TrustedHeader | None = None,
    trusted_proxies: Sequence[str] = (),
    public_origins: Sequence[str] = (),
    allowed_hosts: Sequence[str] = ("127.0.0.1", "localhost"),
    root_path: str = "",
    max_inspected_bytes: int = 1024 * 1024,
    logs: Path | None = None,
    observe: Callable[[Observation], None] = lambda seen: None,
    http: str | type[asyncio.Protocol] = "httptools",
    answering: Answering | None = None,
) -> AsyncIterator[tuple[str, Access]]:
    """Yields its address, and what decides."""
    settings = AccessSettings(
        policy=policy,
        tokens_file=tokens_file,
        oidc=oidc,
        header=header,
        access_log=None if logs is None else logs / "access.jsonl",
        audit_log=None if logs is None else logs / "audit.jsonl",
        lookup_timeout_seconds=5,
    )
    async with open_access(settings, upstream) as access:
        proxy = open_proxy(
            upstream=upstream,
            settings=ProxyOptions(
                allowed_hosts=allowed_hosts,
                public_origins=public_origins,
                trusted_proxies=trusted_proxies,
                root_path=root_path,
                identity_headers=frozenset() if header is None else frozenset({header.name.lower().encode()}),
                max_inspected_bytes=max_inspected_bytes,
            ),
            access=access,
            observe=observe,
            answering=answering,
        )
        async with proxy as app, serve(app, http=http) as url:
            yield url, access


def tokens_for(file: Path, *names: str) -> dict[str, str]:
    """A new token for each client."""
    return {name: create_token(file, name)[0] for name in names}
