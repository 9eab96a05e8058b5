"""What of the headers goes up, and what comes back. Pure: lists in, lists out; repeated headers stay apart.

Hop-by-hop headers and whatever Connection lists are removed first, ours are added after: a client can't have
one of ours removed by naming it there. Sources: RFC 9110 section 7.6.1; MLFLOW, "Recipe for the sidecar".
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import ip_address

Headers = list[tuple[bytes, bytes]]

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# what says where a request came from is ours to say; MLflow trusts it
FORWARDING = frozenset(
    {
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"x-forwarded-proto",
        b"x-real-ip",
    }
)
# Host and Origin were checked here; with its own authority and no Origin MLflow's checks pass too
CHECKED_HERE = frozenset({b"host", b"origin", b"referer", b"expect"})
# MLflow opens its local-only features to peers that look local; nobody behind us is
NOT_LOCAL = "192.0.2.1"  # RFC 5737, documentation


def upward(
    headers: Sequence[tuple[bytes, bytes]],
    *,
    peer: str,
    scheme: str,
    host: str,
    upstream_authority: str,
    authorization: str | None,
    trusted: bool,
    private: frozenset[bytes] = frozenset(),
) -> Headers:
    """The headers for MLflow.

    `authorization` replaces the client's, which otherwise passes (an MLflow with its own sign-in), unless
    it is among `private`: names that speak to us alone. `trusted`: the peer is a listed proxy, whose
    X-Forwarded-For is kept in front of ours.
    """
    dropped = HOP_BY_HOP | _listed(headers) | FORWARDING | CHECKED_HERE | private
    if authorization is not None:
        dropped |= {b"authorization"}
    kept = [(name, value) for name, value in headers if name not in dropped and b"_" not in name]
    kept.append((b"host", upstream_authority.encode()))
    if authorization is not None:
        kept.append((b"authorization", authorization.encode("latin-1")))
    kept += [
        (b"x-forwarded-for", _forwarded_for(headers, peer, trusted).encode()),
        (b"x-forwarded-proto", _first(headers, b"x-forwarded-proto", scheme, trusted).encode("latin-1")),
        (b"x-forwarded-host", _first(headers, b"x-forwarded-host", host, trusted).encode("latin-1")),
    ]
    return kept


def downward(headers: Iterable[tuple[bytes, bytes]], *, upstream_url: str, root_path: str = "") -> Headers:
    """The headers for the client; a Location that names MLflow's own address becomes a path of ours."""
    lowered = [(name.lower(), value) for name, value in headers]
    dropped = HOP_BY_HOP | _listed(lowered)
    base = upstream_url.encode()
    return [
        (name, _location(value, base, root_path.encode()) if name == b"location" else value)
        for name, value in lowered
        if name not in dropped
    ]


def _location(value: bytes, base: bytes, root_path: bytes) -> bytes:
    path = value.removeprefix(base) or b"/"
    return root_path + path if path.startswith(b"/") and not path.startswith(b"//") else path


def header_of(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """The first header of this lower-case name, or None."""
    for found, value in headers:
        if found == name:
            return value.decode("latin-1")
    return None


def list_of(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """All headers of this lower-case name as the one list that they are (RFC 9110, section 5.3), or None."""
    return b", ".join(values).decode("latin-1") if (values := [v for n, v in headers if n == name]) else None


def peer_of(client: Sequence[object] | None) -> str:
    """The peer's address in an ASGI scope's `client`; empty on a socket that has none."""
    return str(client[0]) if client else ""


def _listed(headers: Iterable[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """Names that Connection lists: only for the next hop, which is us."""
    lists = [value for name, value in headers if name == b"connection"]
    return frozenset(part.strip().lower() for value in lists for part in value.split(b",") if part.strip())


def _forwarded_for(headers: Sequence[tuple[bytes, bytes]], peer: str, trusted: bool) -> str:
    chain = []
    if trusted:
        values = [value.decode("latin-1") for name, value in headers if name == b"x-forwarded-for"]
        chain = [part.strip() for value in values for part in value.split(",") if _is_address(part.strip())]
    return ", ".join(_shown_address(part) for part in (*chain, peer))


def _first(headers: Sequence[tuple[bytes, bytes]], name: bytes, default: str, trusted: bool) -> str:
    if trusted:
        for found, value in headers:
            if found == name:
                return value.decode("latin-1").split(",")[0].strip()
    return default


@lru_cache(maxsize=1024)
def _shown_address(text: str) -> str:
    """An address as MLflow may see it: never one that it takes for its own machine's."""
    return NOT_LOCAL if not _is_address(text) or ip_address(text).is_loopback else text


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
