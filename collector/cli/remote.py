"""The CLI's view of a running service: its own HTTP API."""

import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from collector.model.errors import Misconfigured, SidespanError
from collector.settings import environment

TIMEOUT_SECONDS = 30.0


class CannotReach(SidespanError):
    """No Sidespan answers there."""


class Refused(SidespanError):
    """It answered no; the message is its own."""


def get(url: str, path: str) -> bytes:
    """The body of GET `path`. Raises CannotReach, Refused."""
    return _open(urllib.request.Request(url.rstrip("/") + path))


def get_json(url: str, path: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> dict[str, Any]:
    """The JSON object at `path`. Raises CannotReach, Refused."""
    request = urllib.request.Request(url.rstrip("/") + path)
    return _object(_open(request, timeout_seconds), url)


def post_json(
    url: str, path: str, document: dict[str, Any], *, timeout_seconds: float = TIMEOUT_SECONDS
) -> dict[str, Any]:
    """The answer to a POST of `document`. Raises CannotReach, Refused."""
    request = urllib.request.Request(
        url.rstrip("/") + path,
        data=json.dumps(document).encode(),
        headers={"content-type": "application/json"},
    )
    return _object(_open(request, timeout_seconds), url)


def credentials() -> dict[str, str]:
    """The header that says who asks, if SIDESPAN_TOKEN is set."""
    token = environment().get("SIDESPAN_TOKEN")
    return {"authorization": f"Bearer {token}"} if token else {}


def _open(request: urllib.request.Request, timeout_seconds: float = TIMEOUT_SECONDS) -> bytes:
    if urlsplit(request.full_url).scheme not in ("http", "https"):
        raise Misconfigured(f"--url {request.full_url!r}: must begin with http:// or https://")
    for name, value in credentials().items():
        request.add_header(name, value)
    # environment proxies are for the outside; the service is ours
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout_seconds) as answer:
            body: bytes = answer.read()
            return body
    except urllib.error.HTTPError as error:
        raise Refused(_message(error)) from error
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise CannotReach(
            f"no Sidespan answers at {request.full_url}: {reason}; start it with `sidespan up` or "
            "`sidespan serve`, or name it with --url"
        ) from error


def _message(error: urllib.error.HTTPError) -> str:
    try:
        found = json.loads(error.read())["error"]
        message = str(found["message"])
        return f"{found['parameter']} = {found['value']!r}: {message}" if error.code == 400 else message
    except (ValueError, KeyError, TypeError):
        return f"it answered {error.code} {error.reason}"


def _object(body: bytes, url: str) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise CannotReach(f"what answers at {url} is not Sidespan")
    return document
