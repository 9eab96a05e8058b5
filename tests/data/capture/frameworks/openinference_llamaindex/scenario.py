"""LlamaIndex with OpenInference: an agent, then embeddings, retrieval and rerank over an index."""

import asyncio
import os

from llama_index.core import Document, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.postprocessor import LLMRerank
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI
from openinference.instrumentation import using_attributes
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
from scene import (
    AGENT,
    CUT_OFF,
    INSTRUCTIONS,
    QUESTION,
    SESSION,
    USER,
    ask,
    tracer_provider,
    weather,
)

PROVIDER = {"api_base": os.environ["OPENAI_BASE_URL"], "max_retries": 0}
model = OpenAI(model="gpt-4o-mini", **PROVIDER)
index = VectorStoreIndex.from_documents(  # before spans are made of it
    [Document(text="Paris is sunny."), Document(text="London is grey.")],
    embed_model=OpenAIEmbedding(model="text-embedding-3-small", **PROVIDER),
)
provider = tracer_provider("llamaindex-agent")
LlamaIndexInstrumentor().instrument(tracer_provider=provider)


async def run(question: str, *, stream: bool = False) -> None:
    agent = FunctionAgent(
        name=AGENT,
        llm=model,
        tools=[FunctionTool.from_defaults(weather)],
        system_prompt=INSTRUCTIONS,
        streaming=stream,
    )
    await agent.run(question)


def retrieve(question: str) -> None:
    # the provider ranks nothing: whatever it answers, the first text is the best
    rerank = LLMRerank(llm=model, top_n=1, parse_choice_select_answer_fn=lambda *_: ([1], [9.0]))
    index.as_query_engine(llm=model, node_postprocessors=[rerank]).query(question)


async def main() -> None:
    await run(QUESTION)
    await run(CUT_OFF, stream=True)


with using_attributes(session_id=SESSION, user_id=USER):
    asyncio.run(main())
    retrieve(ask("London"))
provider.shutdown()
