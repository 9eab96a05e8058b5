"""Words that senders spell differently, in one spelling. Pure."""

import re
from functools import lru_cache
from typing import Any

from collector.spans.json_text import MAX_CONTENT_CHARACTERS, read_json
from collector.spans.readers import MAX_WORDS, text

# finish reasons that mean: the answer was cut at a limit. In order: OpenAI, Anthropic and Gemini, OpenAI's
# Responses API, Mistral, Anthropic's context window
TRUNCATED = frozenset(
    {"length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded"}
)
# an enum's own name before its member: `FinishReason.LENGTH`, `FINISH_REASON_MAX_TOKENS`
_ENUM = re.compile(r"^[a-z]*_?(?:finish|stop)_?reason[._]")

# span events that tell a reason -> the attribute that it stands in, by itself or within messages
FINISH_EVENTS = {
    "gen_ai.choice": "finish_reason",
    "gen_ai.client.inference.operation.details": "gen_ai.output.messages",
}

# The Vercel AI SDK names provider and endpoint: `openai.chat`, `anthropic.messages`
# (https://ai-sdk.dev/docs/ai-sdk-core/telemetry)
_ENDPOINT = re.compile(
    r"\.(?:chat|responses|messages|completion|embedding|textembedding|image|speech|transcription|rerank)$"
)
# other spellings -> gen_ai.provider.name
# (https://opentelemetry.io/docs/specs/semconv/registry/attributes/gen-ai/)
PROVIDERS = {
    "amazon-bedrock": "aws.bedrock",
    "aws_bedrock": "aws.bedrock",
    "bedrock": "aws.bedrock",
    "az.ai.inference": "azure.ai.inference",
    "az.ai.openai": "azure.ai.openai",
    "azure": "azure.ai.openai",
    "azure-openai": "azure.ai.openai",
    "azure_openai": "azure.ai.openai",
    "gemini": "gcp.gemini",
    "google.generative-ai": "gcp.gemini",
    "google.vertex": "gcp.vertex_ai",
    "vertex_ai": "gcp.vertex_ai",
    "vertexai": "gcp.vertex_ai",
    "mistral": "mistral_ai",
    "mistralai": "mistral_ai",
    "xai": "x_ai",
}

_RANDOM_ID = re.compile(
    r"(?:[0-9a-f]{16,}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})", re.IGNORECASE
)
# what instrumentations put around an agent's name when they name its span
_AGENT_PREFIX = "invoke_agent "
_AGENT_METHODS = re.compile(
    r"\.(?:a?run|a?invoke|kickoff|kickoff_async|execute|execute_sync|execute_async|_execute_core|interaction)$"
)
_NO_AGENTS = frozenset({"invoke_agent", "create_agent", "agent run", "agent", "run"})


def finish_reason(value: Any) -> str | None:
    """One or more reasons in lower case, with commas; a list may stand in JSON text (MLflow's SDK)."""
    if isinstance(value, str) and value.startswith("["):
        decoded = read_json(value)
        value = decoded if isinstance(decoded, list) else value
    said = [text(each) for each in value[:MAX_WORDS]] if isinstance(value, list) else [text(value)]
    return text([_ENUM.sub("", each.lower()) for each in said if each])


def finish_reason_of(value: Any) -> str | None:
    """As `finish_reason`, of a reason or of messages that hold one each, which may be JSON text."""
    if isinstance(value, str) and value.startswith("["):
        value = read_json(value, max_characters=MAX_CONTENT_CHARACTERS)
    if isinstance(value, list):
        value = [each.get("finish_reason") if isinstance(each, dict) else each for each in value]
    return finish_reason(value)


@lru_cache(maxsize=1024)
def is_truncated(reason: str | None) -> bool:
    """Whether one of the reasons, as `finish_reason` reads them, says that the answer was cut."""
    return reason is not None and not TRUNCATED.isdisjoint(reason.split(", "))


def provider(value: Any) -> str | None:
    """`OpenAI` and `openai.chat` are `openai`; names follow OpenTelemetry's where it has one."""
    said = text(value)
    return None if said is None else _provider(said)


@lru_cache(maxsize=1024)
def _provider(said: str) -> str | None:
    named = _ENDPOINT.sub("", said.strip().lower())
    return PROVIDERS.get(named, named) or None


def plausible_name(value: Any) -> str | None:
    """Text that may be a name: an id that was drawn at random is none."""
    said = text(value)
    return None if said is None or _is_random(said) else said


@lru_cache(maxsize=4096)
def _is_random(said: str) -> bool:
    return _RANDOM_ID.fullmatch(said) is not None


@lru_cache(maxsize=1024)
def agent_of_span_name(span_name: str) -> str | None:
    """The agent that a span of kind AGENT is named after: `invoke_agent weather`, `CodeAgent.run`."""
    named = _AGENT_METHODS.sub("", span_name.removeprefix(_AGENT_PREFIX))
    return None if named.lower() in _NO_AGENTS else plausible_name(named)
