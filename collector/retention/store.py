"""Where the archive's files are: a folder, or what fsspec reaches by a URL. Synchronous: for a thread.

Both promise the same: `append` cuts a file to the length that is known to be whole, adds to it, and returns
when that is stored; after a crash the file has the old length, the new one, or something between.
"""

import fcntl
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from collector.files.private import make_folder, opener
from collector.model.errors import Misconfigured

COPIED_BYTES = 1024 * 1024
LOCK = "lock"
# fsspec's names of stores without folders
OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"})


class ArchiveFiles(Protocol):
    """Files by name; a name has folders in it (`/`). Each verb raises OSError."""

    @property
    def url(self) -> str:
        """Where they are, for people."""

    def names(self, suffix: str) -> Iterator[str]:
        """All that end so."""

    def size(self, name: str) -> int:
        """In bytes; 0: there is none."""

    def read(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """A part of a file (None: to its end)."""

    def append(self, name: str, data: bytes, *, at: int) -> None:
        """Cut the file to `at` bytes, and add to it."""

    def create(self, name: str, data: bytes) -> bool:
        """Make a small file; False: it is there. Not every store at a URL can tell two that do it at once."""

    def replace(self, name: str, data: bytes) -> None:
        """Make a small file anew, whole or not at all."""

    def remove(self, name: str) -> None:
        """Nothing happens if there is none."""

    def writing(self) -> AbstractContextManager[None]:
        """No other process of this machine writes in the block; of stores at a URL nobody can promise it."""


class FolderFiles:
    """In a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._synced: set[str] = set()

    @property
    def url(self) -> str:
        """The folder."""
        return str(self._folder)

    def names(self, suffix: str) -> Iterator[str]:
        """As in the protocol."""
        for path in sorted(self._folder.rglob(f"*{suffix}")):
            yield path.relative_to(self._folder).as_posix()

    def size(self, name: str) -> int:
        """As in the protocol."""
        try:
            return (self._folder / name).stat().st_size
        except FileNotFoundError:
            return 0

    def read(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """As in the protocol."""
        with (self._folder / name).open("rb") as file:
            file.seek(offset)
            return file.read(-1 if length is None else length)

    def append(self, name: str, data: bytes, *, at: int) -> None:
        """As in the protocol: on the disk when it returns."""
        path = self._folder / name
        make_folder(path.parent)
        descriptor = opener(str(path), os.O_RDWR | os.O_CREAT)
        with os.fdopen(descriptor, "r+b") as file:
            file.truncate(at)
            file.seek(at)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if name not in self._synced:
            _sync_folders(path.parent)
            self._synced.add(name)

    def create(self, name: str, data: bytes) -> bool:
        """As in the protocol."""
        unfinished = self._unfinished(name, data)
        try:
            os.link(unfinished, self._folder / name)
        except FileExistsError:
            return False
        finally:
            unfinished.unlink()
        return True

    def replace(self, name: str, data: bytes) -> None:
        """As in the protocol."""
        self._unfinished(name, data).replace(self._folder / name)

    def _unfinished(self, name: str, data: bytes) -> Path:
        make_folder(self._folder)
        path = self._folder / f"{name}.{uuid.uuid4().hex}"
        with open(path, "wb", opener=opener) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return path

    def remove(self, name: str) -> None:
        """As in the protocol."""
        (self._folder / name).unlink(missing_ok=True)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """As in the protocol."""
        make_folder(self._folder)
        with open(self._folder / LOCK, "a", opener=opener) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _sync_folders(folder: Path) -> None:
    """A new file is there after a power failure only if its folders are on the disk.

    A file that is there may be new too: whoever made it may have been killed before this. In folders that we
    can't write nothing of it is new.
    """
    while os.access(folder, os.W_OK):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if folder == folder.parent:
            return
        folder = folder.parent


class RemoteFiles:
    """At a URL of fsspec. Object stores can't append: the file is written anew beside the old one."""

    def __init__(self, url: str, system: Any, root: str) -> None:
        self._url, self._system, self._root = url, system, root.rstrip("/")

    @property
    def url(self) -> str:
        """The URL, without what may be a secret."""
        return _without_secrets(self._url)

    def names(self, suffix: str) -> Iterator[str]:
        """As in the protocol."""
        self._system.invalidate_cache()
        if self._system.exists(self._root):
            for path in sorted(self._system.find(self._root)):
                if path.endswith(suffix):
                    yield path.removeprefix(f"{self._root}/")

    def size(self, name: str) -> int:
        """As in the protocol."""
        self._system.invalidate_cache()
        path = self._path(name)
        return int(self._system.size(path) or 0) if self._system.exists(path) else 0

    def read(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """As in the protocol."""
        end = None if length is None else offset + length
        found: bytes = self._system.cat_file(self._path(name), start=offset, end=end)
        return found

    def append(self, name: str, data: bytes, *, at: int) -> None:
        """As in the protocol."""
        path, unfinished = self._path(name), f"{self._path(name)}.new"
        self._make_folder(path.rpartition("/")[0])
        with self._system.open(unfinished, "wb") as target:
            for start in range(0, at, COPIED_BYTES):
                target.write(self._system.cat_file(path, start=start, end=min(at, start + COPIED_BYTES)))
            target.write(data)
        self._system.mv(unfinished, path)
        self._system.invalidate_cache()

    def create(self, name: str, data: bytes) -> bool:
        """As in the protocol."""
        self._system.invalidate_cache()
        self._make_folder(self._root)
        try:
            self._system.pipe_file(self._path(name), data, mode="create")
        except FileExistsError:
            return False
        except OSError:  # not all stores with the protocol of S3 say which condition did not hold
            if self.size(name):
                return False
            raise
        return True

    def replace(self, name: str, data: bytes) -> None:
        """As in the protocol."""
        self._system.pipe_file(self._path(name), data)
        self._system.invalidate_cache()

    def remove(self, name: str) -> None:
        """As in the protocol."""
        if self.size(name):
            self._system.rm_file(self._path(name))

    def writing(self) -> AbstractContextManager[None]:
        """As in the protocol."""
        return nullcontext()

    def _make_folder(self, path: str) -> None:
        """Object stores have none, and would make a bucket where its name is misspelt."""
        protocol = self._system.protocol
        if OBJECT_STORES.isdisjoint([protocol] if isinstance(protocol, str) else protocol):
            self._system.makedirs(path, exist_ok=True)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


def open_files(url: str | None, default: Path) -> ArchiveFiles:
    """The files at `cleanup.archive_url`. Raises Misconfigured."""
    parts = urlsplit(url or "")
    if url is None or parts.scheme in ("", "file"):
        return FolderFiles((default if url is None else Path(unquote(parts.path) or url)).absolute())
    try:
        import fsspec
    except ImportError as error:
        raise Misconfigured(
            f"cleanup.archive_url = {_without_secrets(url)!r} needs fsspec: install 'sidespan[archive]', and "
            "fsspec's package for this kind of URL"
        ) from error
    try:
        system, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError, OSError) as error:
        shown = _without_secrets(url)
        reason = str(error).replace(url, shown)
        raise Misconfigured(f"cleanup.archive_url = {shown!r} can't be used: {reason}") from error
    return RemoteFiles(url, system, root)


def _without_secrets(url: str) -> str:
    """For logs and answers: some of fsspec's URLs hold a password or a key."""
    return re.sub("://[^/]*@", "://", url).partition("?")[0].partition("#")[0]
