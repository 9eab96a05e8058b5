"""Google's Agent Development Kit with its own spans; the answer that is cut off is streamed."""

import asyncio
import os

os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "SPAN_ONLY"

from google.adk.agents import LlmAgent
from google.adk.agents.run_config import RunConfig, StreamingMode
from google.adk.models import Gemini
from google.adk.runners import Runner
from google.adk.sessions import InMemorySessionService
from google.genai.types import Content, Part
from scene import (
    AGENT,
    CUT_OFF,
    FAILING,
    INSTRUCTIONS,
    QUESTION,
    SESSION,
    USER,
    ask,
    attempt,
    tracer_provider,
    weather,
)

APP = "weather_app"
provider = tracer_provider("adk-agent")


async def run(question: str, mode: StreamingMode = StreamingMode.NONE) -> None:
    agent = LlmAgent(
        name=AGENT, model=Gemini(model="gemini-2.5-flash"), instruction=INSTRUCTIONS, tools=[weather]
    )
    sessions = InMemorySessionService()
    await sessions.create_session(app_name=APP, user_id=USER, session_id=SESSION)
    runner = Runner(app_name=APP, agent=agent, session_service=sessions)
    async for _ in runner.run_async(
        user_id=USER,
        session_id=SESSION,
        new_message=Content(role="user", parts=[Part(text=question)]),
        run_config=RunConfig(streaming_mode=mode),
    ):
        pass


asyncio.run(run(QUESTION))
attempt(lambda: asyncio.run(run(ask("Nowhere"))))
attempt(lambda: asyncio.run(run(CUT_OFF, StreamingMode.SSE)))
attempt(lambda: asyncio.run(run(FAILING)))
provider.shutdown()
