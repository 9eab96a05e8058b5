"""Two agents: a front desk passes a question to an expert through a tool.

    python examples/handoff.py

Look at: one trace with one agent below the other; tokens and cost counted once, over the model calls of
both. `sidespan summary trace <id>` names the agent of each call.
"""

from offline_model import scripted
from pydantic_ai import Agent, RunContext

import instrumentation

expert = Agent(
    scripted(("opening_hours", {"day": "Sunday"}), answer="Closed on Sundays."), name="opening hours expert"
)
front_desk = Agent(
    scripted(("ask_the_expert", {"question": "Open on Sunday?"}), answer="Sorry, we are closed on Sundays."),
    name="front desk",
)


@expert.tool_plain
def opening_hours(day: str) -> str:
    """When the shop is open."""
    return "closed" if day == "Sunday" else "9 to 18"


@front_desk.tool
async def ask_the_expert(context: RunContext[None], question: str) -> str:
    """Hand a question on."""
    return str((await expert.run(question, usage=context.usage)).output)


def main() -> None:
    instrumentation.configure(service_name="shop", experiment="examples")
    print(front_desk.run_sync("Are you open on Sunday?").output)


if __name__ == "__main__":
    main()
