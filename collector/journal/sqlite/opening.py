"""The journal's file at the start: looked at, and put right if it is broken."""

import logging
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

from collector.journal.sqlite import schema
from collector.journal.sqlite import statements as sqlite
from collector.journal.sqlite.salvage import salvage, set_aside

_log = logging.getLogger("sidespan.journal")

FILE_NAME = "journal.sqlite3"
# there means: the last process met damage, look at the whole file before it is used
SUSPECT_NAME = "journal.suspect"
# there means: salvaged whole from a broken file, and to take its place
REBUILT_NAME = f"{FILE_NAME}.rebuilt"
# up to this size the file is looked at on each start; it takes about a second per GiB
CHECK_UP_TO_BYTES = 256 * 1024 * 1024


def open_file(path: Path) -> sqlite3.Connection:
    """The write connection; a broken file is set aside and what is readable in it carried over.

    Raises sqlite3.OperationalError, NotSupportedError, OSError.
    """
    suspect = path.with_name(SUSPECT_NAME)
    if path.with_name(REBUILT_NAME).exists():
        _put_rebuilt(path)
    check = suspect.exists() or not path.exists() or path.stat().st_size <= CHECK_UP_TO_BYTES
    try:
        db = sqlite.connect(path)
        schema.create_or_check(db, thorough=check)
        cut_short = sqlite.recover(db)
    except sqlite3.DatabaseError as error:
        if isinstance(error, (sqlite3.OperationalError, sqlite3.NotSupportedError)):
            raise
        with suppress(UnboundLocalError):
            db.close()
        db, cut_short = _replace(path, error), 0
    suspect.unlink(missing_ok=True)
    if cut_short:
        _log.warning("the last process ended while it worked on entries", extra={"entries": cut_short})
    return db


def _replace(path: Path, error: Exception) -> sqlite3.Connection:
    """A new file with what is readable in the broken one. Killed at any point, the next start does it."""
    _log.error("the journal is broken; what is readable is carried over", extra={"error": str(error)})
    unfinished = path.with_name(f"{FILE_NAME}.rebuilding")
    for suffix in ("", "-wal", "-shm"):
        unfinished.with_name(unfinished.name + suffix).unlink(missing_ok=True)
    with closing(sqlite.connect(unfinished)) as db:
        schema.create_or_check(db, thorough=False)
        _log.warning("salvaged", extra={"rows": salvage(path, db)})
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()  # the file moves without its log
    unfinished.rename(path.with_name(REBUILT_NAME))
    _put_rebuilt(path)
    return sqlite.connect(path)


def _put_rebuilt(path: Path) -> None:
    aside = set_aside(path, now_ns=time.time_ns())
    path.with_name(REBUILT_NAME).rename(path)
    _log.error("the broken journal was set aside", extra={"file": str(aside)})
