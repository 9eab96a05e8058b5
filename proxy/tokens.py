"""API tokens: made once, shown once, kept as hashes in one file.

    {"tokens": [{"id", "name", "sha256", "roles", "created_unix_seconds", "expires_unix_seconds"}]}

A token holds 256 random bits, so that a plain hash of it can't be guessed back; the slow hashes that
passwords need would cost every request their time. The running service sees a change of the file within a
second.
"""

import fcntl
import hashlib
import json
import os
import re
import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

PREFIX = "sidespan_"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}\Z", re.ASCII)
CHECK_SECONDS = 1.0


class BadTokens(ValueError):
    """The file, or a name, can't be right; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is kept of a token. `roles` None: those of `policy.clients`."""

    id: str
    name: str
    sha256: str = field(repr=False)
    roles: tuple[str, ...] | None
    created_unix_seconds: int
    expires_unix_seconds: int | None

    def to_json(self) -> dict[str, Any]:
        """As it is kept."""
        return asdict(self)


def create_token(
    file: Path, name: str, *, roles: Iterable[str] | None = None, lifetime_seconds: float | None = None
) -> tuple[str, Token]:
    """A new token and what is kept of it. Raises BadTokens.

    A client may have several, so that one can be replaced without a gap.
    """
    if not NAME.match(name):
        raise BadTokens(f"{name!r} can't be a client's name: letters, digits, _ . @ -, 64 at the most")
    secret = PREFIX + secrets.token_urlsafe(32)
    now = int(time.time())
    token = Token(
        id=secrets.token_hex(4),
        name=name,
        sha256=hash_of(secret),
        roles=None if roles is None else tuple(roles),
        created_unix_seconds=now,
        expires_unix_seconds=None if lifetime_seconds is None else now + int(lifetime_seconds),
    )
    with _locked(file):
        _write(file, [*read_tokens(file), token])
    return secret, token


def revoke_tokens(file: Path, which: str) -> list[Token]:
    """Remove the token of this id, or all of the client of this name; those removed. Raises BadTokens."""
    with _locked(file):
        tokens = read_tokens(file)
        gone = [token for token in tokens if which in (token.id, token.name)]
        if gone:
            _write(file, [token for token in tokens if token not in gone])
    return gone


def read_tokens(file: Path) -> list[Token]:
    """The tokens of a file; none if it isn't there. Raises BadTokens."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        return [
            Token(**each | {"roles": None if each["roles"] is None else tuple(each["roles"])})
            for each in document["tokens"]
        ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadTokens(f"{file} can't be read as the list of tokens: {error}") from error


def hash_of(secret: str) -> str:
    """What is kept of a secret: its SHA-256 in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


class TokenFile:
    """The tokens as a running service asks for them."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._by_hash: dict[str, Token] = {}
        self._stamp: tuple[int, int] | None = None
        self._checked_at = -1e9
        self.refresh()

    def find(self, secret: str) -> Token | None:
        """The token of a secret; None: there is none, or it has expired."""
        self.refresh()
        token = self._by_hash.get(hash_of(secret))
        if token is None or (token.expires_unix_seconds or time.time() + 1) <= time.time():
            return None
        return token

    def refresh(self) -> None:
        """Read the file again if it was changed. One that can't be read lets nobody in: raises BadTokens."""
        now = time.monotonic()
        if now - self._checked_at < CHECK_SECONDS:
            return
        self._checked_at = now
        try:
            found = self._file.stat()
            stamp = (found.st_mtime_ns, found.st_ino)
        except FileNotFoundError:
            stamp = None
        if stamp != self._stamp or stamp is None:
            self._by_hash = {}
            self._stamp = None
            self._by_hash = {token.sha256: token for token in read_tokens(self._file)}
            self._stamp = stamp


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """One writer at a time."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(file.with_suffix(".lock"), "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(file: Path, tokens: list[Token]) -> None:
    """All of it or nothing, and for this user's eyes only."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=".tokens-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            json.dump({"tokens": [token.to_json() for token in tokens]}, out, indent=1)
            out.flush()
            os.fsync(out.fileno())
        os.replace(name, file)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise BadTokens(f"{file} can't be written: {error.strerror}") from error
