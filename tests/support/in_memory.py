"""A folder in memory for what a run of the tests writes.

Hundreds of services and three MLflow servers each write to databases of their own. On a disk, each commit
waits until the disk has it. No test asks whether it does: those about crashes kill processes only.
"""

import os
import shutil
from pathlib import Path

MEMORY = Path("/dev/shm")
# https://docs.kernel.org/admin-guide/cgroup-v2.html#memory
CONTAINER = Path("/sys/fs/cgroup")
PREFIX = "sidespan-tests-"
# a run writes about 1 GB, half of it one file of MLflow's; its processes take some more
FREE_BYTES = 3 * 2**30
AVAILABLE_BYTES = 6 * 2**30


def folder_in_memory() -> Path | None:
    """Where this process may make one; None where the machine has no such file system, or little memory.

    What runs that are no more have left there is removed.
    """
    try:
        room = os.statvfs(MEMORY)
        if not os.access(MEMORY, os.W_OK) or _available_bytes() < AVAILABLE_BYTES:
            return None
        _remove_left_over()
    except OSError:
        return None
    return MEMORY / f"{PREFIX}{os.getpid()}" if room.f_bavail * room.f_frsize >= FREE_BYTES else None


def remove(folder: Path) -> None:
    """What a process that is just ending still writes there goes at the next run."""
    shutil.rmtree(folder, ignore_errors=True)


def _available_bytes() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) * 1024
    try:
        allowed, used = ((CONTAINER / f"memory.{name}").read_text().strip() for name in ("max", "current"))
    except OSError:
        return free
    return free if allowed == "max" else min(free, int(allowed) - int(used))


def _remove_left_over() -> None:
    for folder in MEMORY.glob(f"{PREFIX}*"):
        process_id = folder.name.removeprefix(PREFIX)
        if process_id.isdecimal() and not Path(f"/proc/{process_id}").exists():
            remove(folder)
