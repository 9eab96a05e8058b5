"""Child processes that end with the tests, however those end: what is left behind holds ports and memory."""

import shutil
from collections.abc import Sequence


def mortal(command: Sequence[str]) -> list[str]:
    """The command, killed by the system when the thread that starts it ends.

    Where setpriv isn't there (it is Linux's), a child outlives a test run that is killed.
    """
    setpriv = shutil.which("setpriv")
    return [*((setpriv, "--pdeathsig", "KILL") if setpriv else ()), *command]
