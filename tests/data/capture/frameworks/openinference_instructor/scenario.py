"""Instructor with OpenInference, above its instrumentation of the OpenAI client: an answer in a form."""

import instructor
from openai import OpenAI
from openinference.instrumentation import using_attributes
from openinference.instrumentation.instructor import InstructorInstrumentor
from openinference.instrumentation.openai import OpenAIInstrumentor
from pydantic import BaseModel
from scene import CUT_OFF, FAILING, INSTRUCTIONS, QUESTION, SESSION, USER, attempt, tracer_provider

provider = tracer_provider("instructor-agent")
InstructorInstrumentor().instrument(tracer_provider=provider)
OpenAIInstrumentor().instrument(tracer_provider=provider)


class Weather(BaseModel):
    city: str
    sky: str


client = instructor.from_openai(OpenAI(max_retries=0))


def run(question: str) -> None:
    client.chat.completions.create(
        model="gpt-4o-mini",
        response_model=Weather,
        max_retries=0,
        messages=[{"role": "system", "content": INSTRUCTIONS}, {"role": "user", "content": question}],
    )


with using_attributes(session_id=SESSION, user_id=USER):
    run(QUESTION)
    attempt(run, CUT_OFF)
    attempt(run, FAILING)
provider.shutdown()
