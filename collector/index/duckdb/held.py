"""Whether another process has the index's file. DuckDB locks the whole of it by fcntl, and says of such a
file no more than of a broken one: that it can't be opened.

Source: https://duckdb.org/docs/stable/connect/concurrency
"""

import errno
import fcntl
import time
from pathlib import Path

# less than the time that its client gives the process to start
HELD_SECONDS = 30.0


def wait_until_free(path: Path) -> None:
    """Wait for a process that still has the file: that of a service that was killed ends a moment later.

    Raises BlockingIOError: it keeps the file.
    """
    deadline = time.monotonic() + HELD_SECONDS
    while _is_held(path):
        if time.monotonic() > deadline:
            reason = f"another process has the index's file for more than {HELD_SECONDS:g} s; close it"
            raise BlockingIOError(errno.EAGAIN, reason, str(path))
        time.sleep(0.05)


def _is_held(path: Path) -> bool:
    try:
        with path.open("rb+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        return True
    return False
