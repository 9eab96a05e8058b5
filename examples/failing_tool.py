"""A tool that asks for a retry, and a tool that fails.

    python examples/failing_tool.py

Look at: the first trace is OK with one recovered retry, which is not an error. The second has failed, with
the tool's exception as its error (see `sidespan summary trace <id>`, and the trace's state in MLflow).
"""

from offline_model import scripted
from pydantic_ai import Agent, ModelRetry

import instrumentation

patient = Agent(
    scripted(("weather", {"city": "paris"}), ("weather", {"city": "Paris"}), answer="Sunny in Paris."),
    name="patient",
)
unlucky = Agent(scripted(("station", {}), answer="never said"), name="unlucky")


@patient.tool_plain(retries=2)
def weather(city: str) -> str:
    """The weather of a city."""
    if not city.istitle():
        raise ModelRetry(f"write {city!r} with a capital")
    return "sunny"


@unlucky.tool_plain
def station() -> str:
    """What the station says."""
    raise ConnectionError("the station does not answer")


def main() -> None:
    instrumentation.configure(service_name="weather", experiment="examples")
    print(patient.run_sync("What is the weather in Paris?").output)
    try:
        unlucky.run_sync("What does the station say?")
    except ConnectionError as error:
        print(f"failed as expected: {error}")


if __name__ == "__main__":
    main()
