"""What is stored is this user's alone: folders 0700, files 0600, whatever the umask of who starts us.

Traces hold prompts and answers. What is there already, of an earlier version say, is mended at the start;
only what is ours by name, for somebody's data folder may hold other things too.
"""

import logging
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_log = logging.getLogger("sidespan")

OTHERS = 0o077
# of a data folder
OURS = (
    "journal.*",
    "alerts.*",
    "retention.*",
    "archive",
    "lock",
    "index",
    "logs",
    "mlflow",
    "tokens.*",
    ".tokens-*",
    "*.sock",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """A file or folder that others can enter, read or change. `is_ours`: we may change its mode."""

    path: Path
    mode: int
    is_ours: bool


def keep_to_ourselves() -> None:
    """Whatever this process and its children make from now on is for this user's eyes only."""
    os.umask(OTHERS)


def make_folder(folder: Path) -> None:
    """The folder, with those above it; one that is there stays as it is. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def make_socket(path: Path) -> None:
    """A Unix socket on which nobody listens yet, in the place of what was there. Raises OSError."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as place:
        place.bind(str(path))
    path.chmod(0o600)


def opener(path: str, flags: int) -> int:
    """For `open`: a file that it makes is this user's alone."""
    return os.open(path, flags, 0o600)


def too_open(data_dir: Path, tokens_file: Path | None = None) -> list[Open]:
    """What is open to others of a data folder, itself first, and of a file of tokens that lies elsewhere."""
    paths = [*_all_of(data_dir), *([tokens_file] if tokens_file else [])]
    return [found for path in paths if (found := _look_at(path)) is not None]


def mend(data_dir: Path, tokens_file: Path | None = None) -> list[Open]:
    """Close to others what can be closed; what is left."""
    for found in too_open(data_dir, tokens_file):
        if found.is_ours:
            with suppress(OSError):  # on a file system without modes, say; it is in what is left
                found.path.chmod(found.mode & ~OTHERS)
    return too_open(data_dir, tokens_file)


def close_to_others(data_dir: Path, tokens_file: Path | None) -> None:
    """Close what an earlier start left open of the data folder; the log names what can't be closed."""
    if left := mend(data_dir, tokens_file):
        _log.warning(
            "the data folder is open to other users of this machine, and can't be closed",
            extra={"paths": len(left), "first": str(left[0].path), "mode": f"{left[0].mode:04o}"},
        )


def _all_of(data_dir: Path) -> Iterator[Path]:
    yield data_dir
    for path in (path for pattern in OURS for path in data_dir.glob(pattern)):
        yield path
        if path.is_dir() and not path.is_symlink():
            for folder, folders, files in os.walk(path):
                yield from (Path(folder, name) for name in (*folders, *files))


def _look_at(path: Path) -> Open | None:
    try:
        status = path.lstat()
    except OSError:  # gone meanwhile
        return None
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISLNK(status.st_mode) or not mode & OTHERS:
        return None
    # a folder that many share, as /tmp is, must stay what it is
    shared = bool(mode & stat.S_ISVTX) and stat.S_ISDIR(status.st_mode)
    return Open(path=path, mode=mode, is_ours=status.st_uid == os.geteuid() and not shared)
