"""Runs Python programs in forks of a process that has already imported what they need.

    python -m tests.support.forker MODULE …      and for each program a line of JSON on its input

It answers with lines of JSON: [NUMBER, PROCESS_ID] when a program begins, which are numbered from 0, and
[NUMBER, PROCESS_ID, EXIT_CODE] when it has ended. It ends with its input; its programs go on. See forked.py.
"""

import gc
import importlib
import json
import os
import runpy
import select
import signal
import sys
from collections.abc import Iterator
from typing import Any


def main() -> None:
    for name in sys.argv[1:]:
        importlib.import_module(name)
    gc.freeze()
    woken, waking = os.pipe()
    os.set_blocking(waking, False)
    signal.set_wakeup_fd(waking)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, int] = {}
    for number, program in enumerate(_programs(woken, running)):
        child = os.fork()
        if child == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(woken)
            os.close(waking)
            return _become(program)
        running[child] = number
        print(json.dumps([number, child]), flush=True)


def _programs(woken: int, running: dict[int, int]) -> Iterator[dict[str, Any]]:
    """Each program that is asked for; meanwhile the ends of those that run are told."""
    held = b""
    while True:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            _tell_ends(running)
        if 0 in ready:
            if not (read := os.read(0, 65536)):
                return
            *lines, held = (held + read).split(b"\n")
            yield from map(json.loads, lines)


def _tell_ends(running: dict[int, int]) -> None:
    while running:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child == 0:
            return
        print(json.dumps([running.pop(child), child, os.waitstatus_to_exitcode(status)]), flush=True)


def _become(program: dict[str, Any]) -> None:
    """Run the program as a Python of its own would; its end is the end of this process."""
    os.environ.clear()
    os.environ.update(program["environment"])
    os.chdir(program["folder"])
    for descriptor, name in ((0, os.devnull), (1, program["stdout"]), (2, program["stderr"])):
        file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(file, descriptor)
        os.close(file)
    sys.stdin = os.fdopen(0)
    _run(*program["arguments"])


def _run(how: str, *arguments: str) -> None:
    """As in `python -c CODE …`, `python -m MODULE …` and `python SCRIPT …`."""
    match how:
        case "-m":
            sys.argv = [*arguments]
            runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
        case "-c":
            sys.argv = [how, *arguments[1:]]
            exec(compile(arguments[0], "<string>", "exec"), vars(sys.modules["__main__"]))
        case script:
            sys.argv = [script, *arguments]
            sys.path.insert(0, os.path.dirname(script))
            runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
