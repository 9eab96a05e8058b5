"""Processes that make rows beside the one that asks for them."""

import gc
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from typing import TypeVar

_log = logging.getLogger("sidespan.index")

T = TypeVar("T")
# the rows of a batch are many objects that live and die together: looking for cycles among them is in vain
COLLECT_FROM_OBJECTS = 200_000


class Crew:
    """Processes that make rows beside this one: started when they are needed, let go when they are not."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._pool: ProcessPoolExecutor | None = None
        self._used = time.monotonic()

    def start(self, task: Callable[[], T]) -> "Future[T]":
        """Begin a task."""
        if self._pool is None:
            # a process that was forked off would hold this one's locks and files
            self._pool = ProcessPoolExecutor(
                self.size, mp_context=get_context("spawn"), initializer=_begin_helper
            )
        self._used = time.monotonic()
        return self._pool.submit(task)

    def idle_seconds(self) -> float:
        """Since the last task began; 0 while there are no processes."""
        return 0.0 if self._pool is None else time.monotonic() - self._used

    def rest(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


def _begin_helper() -> None:
    calm_garbage_collection()
    stand_back()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A pool's processes wait for tasks for ever when the process that started them is killed."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def calm_garbage_collection() -> None:
    """For a process of the index alone: what is here by now stays, and batches hold no cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_FROM_OBJECTS, 20, 20)


def stand_back() -> None:
    """This thread's work can wait, and that of clients can't. Linux counts niceness by thread."""
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 15)
    except OSError:  # not everywhere may one be modest
        _log.debug("the priority could not be lowered")
