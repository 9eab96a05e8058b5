"""The one reading of a request's path. Pure.

uvicorn decodes a path once, MLflow's router strips and redirects slashes, its artifact handlers decode again:
the same bytes can mean different things to each. So what has more than one reading is refused with 400, and
what is matched is byte for byte what is sent.

    API paths       no escapes at all (ids and names travel elsewhere)
    artifact paths  one level of escapes: decoding twice must not change anything
    both            no empty, `.` or `..` segment, no backslash, `;`, control character, invalid UTF-8
"""

import re
from urllib.parse import unquote_to_bytes

from proxy.errors import invalid

MAX_PATH_BYTES = 8192
MAX_QUERY_BYTES = 64 * 1024

# where the rest of the path is a file's or an object's name, which may need escapes
NAMED = re.compile(
    r"/(?:api|ajax-api)/(?:"
    r"2\.0/mlflow-artifacts/(?:artifacts|presigned|mpu/(?:create|complete|abort))"
    r"|2\.0/mlflow/logged-models/[^/]+/tags|3\.0/mlflow/(?:mcp-servers|skills|datasets|workspaces)"
    r")/|/(?:static-files|build)/"
)
# the one route of MLflow's API that ends with a slash
SLASHED = frozenset({"/ajax-api/3.0/jobs/"})
FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\;]")


def read_path(raw_path: bytes) -> str:
    """The decoded path that routes are matched with. Raises Refusal (400)."""
    if len(raw_path) > MAX_PATH_BYTES:
        raise invalid(f"Invalid path: it is over {MAX_PATH_BYTES} bytes")
    try:
        raw = raw_path.decode("ascii")
        path = unquote_to_bytes(raw_path).decode("utf-8")
    except UnicodeDecodeError:
        raise invalid("Invalid path: it is not UTF-8 in percent-encoding") from None
    if not raw.startswith("/"):
        raise invalid("Invalid path: the request target must be a path")
    if raw != path and not NAMED.match(raw):
        raise invalid("Invalid path: escapes (%xx) are not allowed in it")
    if unquote_to_bytes(path) != path.encode():
        raise invalid("Invalid path: it is escaped more than once")
    if FORBIDDEN.search(path):
        raise invalid("Invalid path: it has a control character, a backslash or a semicolon")
    if path != "/" and any(segment in ("", ".", "..") for segment in _segments(path)):
        raise invalid("Invalid path: it has an empty, `.` or `..` segment")
    return path


def _segments(path: str) -> list[str]:
    segments = path[1:].split("/")
    # some clients ask for a folder with a slash at its end
    return segments[:-1] if segments[-1] == "" and (path in SLASHED or NAMED.match(path)) else segments


def check_query(query: bytes) -> None:
    """Raises Refusal (400) for a query that is too long or holds control characters."""
    if len(query) > MAX_QUERY_BYTES:
        raise invalid(f"the query is over {MAX_QUERY_BYTES} bytes")
    if any(byte < 0x21 or byte == 0x7F for byte in query):
        raise invalid("the query has a space or a control character")
