"""A streamed chat of three turns: one session of one user.

    python examples/streaming_chat.py

Look at: three traces in one session (see Sessions in MLflow) with one user; the time to the first token of
each model call; the tags from the `with` block.
"""

import asyncio

from offline_model import scripted
from pydantic_ai import Agent

import instrumentation

QUESTIONS = ("Hello, who are you?", "What can you do?", "Thank you!")
agent = Agent(scripted(answer="I am an example, and I stream one word after the other."), name="chat")


@instrumentation.user("ann")
@instrumentation.tags("example", channel="terminal")
async def chat(session: str) -> None:
    history = []
    with instrumentation.session(session):
        for question in QUESTIONS:
            print(f"> {question}")
            async with agent.run_stream(question, message_history=history) as result:
                async for text in result.stream_text(delta=True):
                    print(text, end="", flush=True)
                history = result.all_messages()
            print()


def main() -> None:
    instrumentation.configure(service_name="chat", experiment="examples")
    asyncio.run(chat("streaming-chat-1"))


if __name__ == "__main__":
    main()
