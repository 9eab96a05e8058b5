"""Runs Python programs in forks of a process that has already imported what they need.

    python -m tests.support.forker MODULE …      and for each program a line of JSON on its input

It answers with two lines, the program's process id and its exit code. See forked.py.
"""

import gc
import importlib
import json
import os
import runpy
import sys
from typing import Any


def main() -> None:
    for name in sys.argv[1:]:
        importlib.import_module(name)
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            return _become(json.loads(line))
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(program: dict[str, Any]) -> None:
    """Run `-c CODE …` or `-m MODULE …` as a Python of its own would; its end is the end of this process."""
    os.environ.clear()
    os.environ.update(program["environment"])
    os.chdir(program["folder"])
    for descriptor, name in ((0, os.devnull), (1, program["stdout"]), (2, program["stderr"])):
        file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
        os.close(file)
    sys.stdin = os.fdopen(0)
    how, what, *arguments = program["arguments"]
    if how == "-m":
        sys.argv = [what, *arguments]
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.argv = [how, *arguments]
        exec(compile(what, "<string>", "exec"), vars(sys.modules["__main__"]))


if __name__ == "__main__":
    main()
