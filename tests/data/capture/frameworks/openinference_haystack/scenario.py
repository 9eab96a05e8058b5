"""Haystack with OpenInference: its agent, then a pipeline that retrieves, ranks and answers."""

from haystack import Document, Pipeline
from haystack.components.agents import Agent
from haystack.components.builders import ChatPromptBuilder
from haystack.components.embedders import OpenAITextEmbedder
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.components.generators.utils import print_streaming_chunk
from haystack.components.rankers import LostInTheMiddleRanker
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.dataclasses import ChatMessage
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.tools import create_tool_from_function
from openinference.instrumentation import using_attributes
from openinference.instrumentation.haystack import HaystackInstrumentor
from scene import (
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

provider = tracer_provider("haystack-agent")
HaystackInstrumentor().instrument(tracer_provider=provider)


def model(*, stream: bool = False) -> OpenAIChatGenerator:
    streaming = print_streaming_chunk if stream else None
    asks = {"stream_options": {"include_usage": True}} if stream else {}
    return OpenAIChatGenerator(
        model="gpt-4o-mini", max_retries=0, streaming_callback=streaming, generation_kwargs=asks
    )


def run(question: str, *, stream: bool = False) -> None:
    agent = Agent(
        chat_generator=model(stream=stream),
        tools=[create_tool_from_function(weather)],
        system_prompt=INSTRUCTIONS,
        raise_on_tool_invocation_failure=False,
    )
    pipeline = Pipeline()
    pipeline.add_component("agent", agent)
    pipeline.run({"agent": {"messages": [ChatMessage.from_user(question)]}})


def retrieve(question: str) -> None:
    store = InMemoryDocumentStore()
    store.write_documents(
        [
            Document(content="Paris is sunny.", embedding=[0.25, 0.5, 0.25]),
            Document(content="London is grey.", embedding=[0.5, 0.25, 0.25]),
        ]
    )
    template = [ChatMessage.from_user("{{ documents[0].content }} {{ question }}")]
    pipeline = Pipeline()
    pipeline.add_component("embedder", OpenAITextEmbedder(model="text-embedding-3-small"))
    pipeline.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=2))
    pipeline.add_component("ranker", LostInTheMiddleRanker())
    pipeline.add_component("prompt", ChatPromptBuilder(template, required_variables="*"))
    pipeline.add_component("model", model())
    pipeline.connect("embedder.embedding", "retriever.query_embedding")
    pipeline.connect("retriever.documents", "ranker.documents")
    pipeline.connect("ranker.documents", "prompt.documents")
    pipeline.connect("prompt.prompt", "model.messages")
    pipeline.run({"embedder": {"text": question}, "prompt": {"question": question}})


with using_attributes(session_id=SESSION, user_id=USER):
    run(QUESTION)
    attempt(run, ask("Nowhere"))
    run(CUT_OFF, stream=True)
    attempt(run, FAILING)
    retrieve(ask("London"))
provider.shutdown()
