"""DSPy with OpenInference: a ReAct module, which takes its tool by the text of the answer."""

import dspy
from openinference.instrumentation import using_attributes
from openinference.instrumentation.dspy import DSPyInstrumentor
from scene import CUT_OFF, FAILING, QUESTION, SESSION, USER, attempt, tracer_provider, weather

provider = tracer_provider("dspy-agent")
DSPyInstrumentor().instrument(tracer_provider=provider)
dspy.configure(lm=dspy.LM("openai/gpt-4o-mini", cache=False, num_retries=0), track_usage=True)


def run(question: str) -> None:
    dspy.ReAct("question -> answer", tools=[weather], max_iters=2)(question=question)


with using_attributes(session_id=SESSION, user_id=USER):
    run(QUESTION)
    attempt(dspy.Predict("question -> answer"), question=CUT_OFF)
    attempt(dspy.Predict("question -> answer"), question=FAILING)
provider.shutdown()
