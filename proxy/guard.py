"""Who may speak to this port at all: our own names, and pages that belong here. Pure.

A page on any web site can make its visitor's browser send requests to a local port. Two checks stop that:
the Host must be a name of ours (DNS rebinding), and a page that changes something must be ours (CSRF).
Programs send no Origin and are not asked for one.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from urllib.parse import urlsplit


def check_host(host: str, allowed: Sequence[str]) -> str | None:
    """Why a Host header is refused, or None.

    `allowed` holds names, with `*` as a wildcard; a name without a port allows every port.
    """
    return _check_host(host, tuple(allowed))


@lru_cache(maxsize=256)
def _check_host(host: str, allowed: tuple[str, ...]) -> str | None:
    given = host.strip().lower()
    without_port = _without_port(given)
    for pattern in allowed:
        wanted = pattern.lower()
        if fnmatchcase(given, _literal(wanted)) or fnmatchcase(without_port, _literal(wanted)):
            return None
    return f"Host {host[:100]!r} is not in server.allowed_hosts; add it there if it is a name of this service"


def check_origin(
    origin: str | None,
    *,
    scheme: str,
    host: str,
    public_origins: Sequence[str],
    sec_fetch_site: str | None = None,
) -> str | None:
    """Why a request that changes something is refused, or None.

    Source: Fetch standard, "Origin header"; Fetch Metadata, "Sec-Fetch-Site".
    """
    if origin is None:
        if sec_fetch_site in (None, "same-origin", "none"):
            return None
        return f"a page of another site sent this (Sec-Fetch-Site: {sec_fetch_site[:40]})"
    given = origin.lower()
    if given in (known.lower().rstrip("/") for known in public_origins):
        return None
    parts = urlsplit(given)
    # behind TLS we see http where the browser sees https: the names must agree, the scheme is the browser's
    if parts.scheme in (scheme, "https") and parts.netloc == host.strip().lower():
        return None
    return (
        f"pages of {origin[:100]!r} may not change anything here; if they should, see server.public_origins"
    )


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() and (":" not in name or name.endswith("]")) else host


def _literal(pattern: str) -> str:
    """Only `*` is a wildcard; the brackets of an IPv6 address are not a character class."""
    return pattern.replace("[", "[[]").replace("?", "[?]")
