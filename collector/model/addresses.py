"""Addresses as people and programs are told them. Pure."""


def url_at(host: str, port: int, *, tls: bool) -> str:
    """The URL under which what listens at `host` is reached from here."""
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 (compared, not bound)
    scheme = "https" if tls else "http"
    return f"{scheme}://[{shown}]:{port}" if ":" in shown else f"{scheme}://{shown}:{port}"
