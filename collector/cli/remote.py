"""The HTTP client of the CLI: asks a running Sidespan through its API."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http.client import HTTPException, HTTPResponse
from typing import IO, Any
from urllib.parse import urlsplit

from collector.model.errors import Misconfigured, SidespanError
from collector.settings import environment

TIMEOUT_SECONDS = 30.0


START_IT = "start it with `sidespan up` or `sidespan serve`, or give its address with --url"


class CannotReach(SidespanError):
    """No Sidespan answers at that address; `finding` says so without the advice."""

    def __init__(self, finding: str) -> None:
        super().__init__(f"{finding}; {START_IT}")
        self.finding = finding


class Refused(SidespanError):
    """Sidespan answered with an error; the message is its own."""


def get(url: str, path: str) -> bytes:
    """The body of GET `path`. Raises CannotReach, Refused."""
    return _open(urllib.request.Request(url.rstrip("/") + path))


def get_lines(url: str, path: str, *, timeout_seconds: float, **headers: str) -> Iterator[str]:
    """The lines of GET `path` as they come. Raises CannotReach, Refused."""
    request = urllib.request.Request(url.rstrip("/") + path, headers=headers)
    try:
        with _send(request, timeout_seconds) as answer:
            for line in answer:
                yield line.decode().rstrip("\n")
    except urllib.error.HTTPError as error:
        raise Refused(_message(error)) from error
    except (HTTPException, OSError) as error:
        raise CannotReach(f"the connection to {url} has ended: {error}") from error


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


def exchange(url: str, path: str, document: dict[str, Any] | None = None) -> tuple[int, bytes]:
    """Status and body of GET `path`, or of a POST of `document`, whatever the status. Raises CannotReach."""
    request = urllib.request.Request(
        url.rstrip("/") + path,
        data=None if document is None else json.dumps(document).encode(),
        headers={"content-type": "application/json"} if document is not None else {},
    )
    try:
        with _send(request, TIMEOUT_SECONDS) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def error_body(message: str) -> bytes:
    """An error as the API has it, for those who could not ask it."""
    return json.dumps({"error": {"message": message}}).encode()


def get_readiness(url: str, *, timeout_seconds: float) -> dict[str, Any]:
    """What `/-/ready` says, be the service ready (200) or not (503). Raises CannotReach."""
    request = urllib.request.Request(url.rstrip("/") + "/-/ready")
    try:
        with _send(request, timeout_seconds) as answer:
            return _object(answer.read(), url)
    except urllib.error.HTTPError as error:
        return _object(error.read(), url)


def _open(request: urllib.request.Request, timeout_seconds: float = TIMEOUT_SECONDS) -> bytes:
    try:
        with _send(request, timeout_seconds) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        raise Refused(_message(error)) from error


class _Redirections(urllib.request.HTTPRedirectHandler):
    """Follows none: the token would go along, to whoever is named."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        """Raises CannotReach."""
        raise CannotReach(f"{req.full_url} redirects to {newurl}")


@contextmanager
def _send(request: urllib.request.Request, timeout_seconds: float) -> Iterator[HTTPResponse]:
    """The answer, open for reading. Raises HTTPError (4xx, 5xx), CannotReach, Misconfigured."""
    if urlsplit(request.full_url).scheme not in ("http", "https"):
        raise Misconfigured(f"--url {request.full_url!r}: must begin with http:// or https://")
    if token := environment().get("SIDESPAN_TOKEN"):
        request.add_header("authorization", f"Bearer {token}")
    # HTTP_PROXY and the like are for hosts elsewhere; this service is ours
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Redirections())
    try:
        with opener.open(request, timeout=timeout_seconds) as answer:
            yield answer
    except urllib.error.HTTPError:
        raise
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise CannotReach(f"no Sidespan answers at {request.full_url}: {reason}") from error


def _message(error: urllib.error.HTTPError) -> str:
    try:
        document = json.loads(error.read())["error"]
        message = str(document["message"])
        return f"{document['parameter']} = {document['value']!r}: {message}" if error.code == 400 else message
    except (ValueError, KeyError, TypeError):
        return f"Sidespan answered {error.code} {error.reason}"


def _object(body: bytes, url: str) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise CannotReach(f"the server at {url} is not Sidespan")
    return document
