"""Whatever path is accepted has one reading: for us, for MLflow's routers, and for the files behind them."""

import posixpath
from urllib.parse import unquote, unquote_to_bytes

from hypothesis import given
from hypothesis import strategies as st

from proxy.catalog import load_catalog
from proxy.errors import Refusal
from proxy.target import read_path

PIECES = [
    *("/", "//", ".", "..", "a", "ö", " ", ";", "\\", "%", "?", "#", "\x00", "\n", ":", "@"),
    *("%2F", "%2e", "%2E%2e", "%5c", "%00", "%25", "%252e", "%20", "%C3%B6", "%c0%ae", "%61", "%zz", "%"),
    *("/api", "/api/2.0/mlflow-artifacts/artifacts/", "/static-files/", "/api/2.0/mlflow/runs/get"),
    *("/ajax-api/3.0/mlflow/assistant/config", "/api/3.0/mlflow/mcp-servers/", "/metrics", "/graphql"),
]
paths = st.lists(st.sampled_from(PIECES), min_size=1, max_size=8).map(lambda parts: "/" + "".join(parts))


def accepted(raw: bytes) -> str | None:
    try:
        return read_path(raw)
    except Refusal as refusal:
        assert refusal.status == 400
        return None


@given(paths)
def test_an_accepted_path_has_one_reading(text: str) -> None:
    raw = text.encode()
    path = accepted(raw)
    if path is None:
        return
    assert path == unquote(raw.decode("ascii"), errors="strict")
    assert unquote_to_bytes(path) == path.encode(), "decoding again changes nothing"
    assert posixpath.normpath(path) == (path.rstrip("/") or "/"), "no segment means another place"
    assert path.isprintable() and not set(path) & set("\\;")


@given(
    st.sampled_from(["/metrics", "/ajax-api/3.0/mlflow/assistant/config", "/api/2.0/mlflow/users/get"]), paths
)
def test_a_denied_path_has_no_second_spelling(denied: str, noise: str) -> None:
    """MLflow decodes once and strips slashes: what is a denied path for it is one for the catalog too."""
    for text in (denied + noise, noise + denied):
        path = accepted(text.encode())
        if path is not None and posixpath.normpath(unquote(path)) == denied:
            assert load_catalog().classify("GET", path) == load_catalog().classify("GET", denied)


@given(st.binary(max_size=60))
def test_any_bytes_are_accepted_or_400(raw: bytes) -> None:
    accepted(b"/" + raw)
