"""The settings on clients and policy as the proxy package takes them."""

from ipaddress import ip_network
from pathlib import Path

from collector.settings import Settings
from collector.settings.access import OidcSettings, TrustedHeaderSettings
from proxy import AccessSettings
from proxy.clients import Provider, TrustedHeader


def access_settings(settings: Settings) -> AccessSettings:
    """What `open_access` needs."""
    logs = settings.data_dir / "logs"
    return AccessSettings(
        policy=settings.policy.build(settings.auth),
        tokens_file=tokens_file(settings) if settings.auth.mode == "clients" else None,
        oidc=_oidc(settings.oidc),
        header=_trusted_header(settings.trusted_header),
        access_log=logs / "access.jsonl" if settings.log.access else None,
        audit_log=logs / "audit.jsonl" if settings.log.audit else None,
        logs_to_stdout=settings.log.requests_to == "stdout",
        max_log_bytes=settings.log.max_file_bytes,
        max_log_files=settings.log.max_files,
        lookup_timeout_seconds=settings.proxy.lookup_timeout_seconds,
    )


def _oidc(oidc: OidcSettings) -> Provider | None:
    if oidc.issuer is None or oidc.audience is None:
        return None
    return Provider(
        issuer=oidc.issuer,
        audience=oidc.audience,
        jwks_url=oidc.jwks_url,
        client_claim=oidc.client_claim,
        roles_claim=oidc.roles_claim,
        roles=oidc.roles,
        leeway_seconds=oidc.leeway_seconds,
    )


def _trusted_header(header: TrustedHeaderSettings) -> TrustedHeader | None:
    if header.name is None:
        return None
    return TrustedHeader(
        name=header.name,
        roles_name=header.roles_name,
        addresses=tuple(ip_network(address) for address in header.addresses),
        roles=header.roles,
    )


def identity_headers(settings: Settings) -> frozenset[bytes]:
    """The headers by which an auth proxy names a client, lower-case."""
    names = (settings.trusted_header.name, settings.trusted_header.roles_name)
    return frozenset(name.lower().encode() for name in names if name)


def tokens_file(settings: Settings) -> Path:
    """Where the hashes of the tokens are."""
    return settings.auth.tokens_file or settings.data_dir / "tokens.json"
