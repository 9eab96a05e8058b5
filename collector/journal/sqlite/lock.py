"""One process for a data directory, or for a folder in it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from collector.files.private import make_folder, opener
from collector.model.errors import Misconfigured


@contextmanager
def only_process(data_dir: Path) -> Iterator[None]:
    """Hold the directory until the block ends; the system lets go of it when the process dies.

    Raises Misconfigured naming the process that holds it, or why the directory can't be used.
    """
    try:
        make_folder(data_dir)
        file = open(data_dir / "lock", "a+", opener=opener)
    except OSError as error:
        raise Misconfigured(
            f"data_dir = {str(data_dir)!r} can't be written: {error.strerror}; choose another with --data-dir"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise Misconfigured(
                f"data_dir = {str(data_dir)!r} is in use by process {holder}; stop it, or choose another"
            ) from None
        try:
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        except OSError as error:
            raise Misconfigured(f"data_dir = {str(data_dir)!r} can't be written: {error.strerror}") from error
        yield


def holder(data_dir: Path) -> str | None:
    """The id of the process that holds the directory, None if nobody does."""
    try:
        file = (data_dir / "lock").open()
    except OSError:  # no directory yet, or one that `only_process` will complain about
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read().strip() or "unknown"
    return None
