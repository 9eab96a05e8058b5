"""Free loopback ports that no other process of the tests is given, and no outgoing connection takes.

The system chooses ports of outgoing connections from 32768 upwards, so a port from there may be gone before
a server listens on it. Ours lie below, in blocks: a process locks one, and hands its ports out in turn.
"""

import fcntl
import itertools
import os
import socket
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO

FIRST, END, SIZE = 20_000, 32_000, 200


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    return next(port for port in _ports(os.getpid()) if _is_free(port))


@cache
def _ports(process_id: int) -> Iterator[int]:
    """The ports of this process's block, again and again; a forked process gets a block of its own."""
    first = _lock_a_block()
    return itertools.cycle(range(first, first + SIZE))


_locks: list[IO[bytes]] = []  # held until the process ends


def _lock_a_block() -> int:
    folder = Path(tempfile.gettempdir()) / f"sidespan-tests-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for first in range(FIRST, END, SIZE):
        lock = (folder / str(first)).open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        _locks.append(lock)
        return first
    raise RuntimeError(f"all blocks of ports are in use, see {folder}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
