"""Makes the captures of frameworks again: `python -m tests.data.capture [NAME ...]`, or `make captures`.

    frameworks/NAME/ -> an environment of its own -> scenario, beside the provider and receiver
                     -> capture.binpb, calls.json -> which cells of the table changed

Without names, all of them. It needs a package registry, and node for the scenarios in JavaScript.
"""

import asyncio
import sys

from tests.data.capture.environments import Failed, Framework, frameworks
from tests.data.capture.run import capture


def main(names: list[str]) -> int:
    """How many scenarios failed."""
    known = {framework.name: framework for framework in frameworks()}
    if unknown := set(names) - known.keys():
        print(f"no such framework: {', '.join(sorted(unknown))}; known are {', '.join(sorted(known))}")
        return len(unknown)
    return sum(not _one(known[name]) for name in names or sorted(known))


def _one(framework: Framework) -> bool:
    try:
        for line in asyncio.run(capture(framework)):
            print(f"{framework.name}: {line}", flush=True)
    except Failed as error:
        print(f"{framework.name}: FAILED\n{error}", flush=True)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
