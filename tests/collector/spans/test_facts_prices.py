"""What a call costs, and the tags of a trace, as a span says them."""

from typing import Any

import pytest

from collector.spans.conventions import CostSource
from tests.support.facts import read

PRICED = {
    "by_model_and_provider": (
        {"gen_ai.request.model": "gpt-4o", "gen_ai.provider.name": "openai"},
        1000 * 2.5e-6 + 100 * 10e-6,
    ),
    "by_the_model_alone": ({"gen_ai.request.model": "gpt-4o"}, 1000 * 2.5e-6 + 100 * 10e-6),
    "cached_tokens_at_their_own_price": (
        {"gen_ai.request.model": "gpt-4o", "gen_ai.usage.cache_read.input_tokens": 400},
        600 * 2.5e-6 + 400 * 1.25e-6 + 100 * 10e-6,
    ),
    "under_a_provider_that_the_list_does_not_know": (
        {"gen_ai.request.model": "gpt-4o", "gen_ai.provider.name": "our-gateway"},
        1000 * 2.5e-6 + 100 * 10e-6,
    ),
}


@pytest.mark.parametrize(("attributes", "usd"), PRICED.values(), ids=PRICED.keys())
def test_a_call_without_a_cost_is_priced_by_the_list(attributes: dict[str, Any], usd: float) -> None:
    tokens = {"gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 100}
    found = read({"gen_ai.operation.name": "chat", **tokens, **attributes})
    assert found.cost_usd == pytest.approx(usd)
    assert found.cost_source is CostSource.TABLE


UNPRICED = {
    "an_unknown_model": {"gen_ai.operation.name": "chat", "gen_ai.request.model": "our-own-model"},
    "an_agent_whose_calls_are_priced": {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.request.model": "gpt-4o",
    },
    "no_model": {"gen_ai.operation.name": "chat"},
}


@pytest.mark.parametrize("attributes", UNPRICED.values(), ids=UNPRICED.keys())
def test_what_cannot_be_priced_has_no_cost(attributes: dict[str, Any]) -> None:
    found = read({"gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 1, **attributes})
    assert (found.cost_usd, found.cost_source) == (None, CostSource.NONE)


def test_the_clients_own_cost_comes_before_the_list() -> None:
    found = read(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.usage.input_tokens": 1000,
            "operation.cost": 0.5,
        }
    )
    assert (found.cost_usd, found.cost_source) == (0.5, CostSource.CLIENT)


def test_cached_counts_that_cannot_be_are_not_priced_and_harm_nothing() -> None:
    found = read(
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.usage.output_tokens": 3,
            "gen_ai.usage.cache_read.input_tokens": 400,
        }
    )
    assert found.cost_usd is None


TAGS = {
    "words": ({"tag.tags": ["beta", "eu"]}, {"beta": "", "eu": ""}),
    "one_word": ({"langfuse.trace.tags": "beta"}, {"beta": ""}),
    "json_metadata": ({"metadata": '{"tier": "gold", "seats": 3}'}, {"tier": "gold", "seats": "3"}),
    "metadata_as_an_object": ({"metadata": {"tier": "gold"}}, {"tier": "gold"}),
    "metadata_that_is_no_object": ({"metadata": "just words"}, {}),
    "mlflow": ({"mlflow.traceTag.team": "search"}, {"team": "search"}),
    "traceloop": ({"traceloop.association.properties.team": "search"}, {"team": "search"}),
    "vercel": ({"ai.telemetry.metadata.team": "search"}, {"team": "search"}),
    "not_what_has_a_row_of_its_own": (
        {
            "traceloop.association.properties.session_id": "s",
            "ai.telemetry.metadata.userId": "u",
            "mlflow.traceTag.mlflow.traceName": "n",
        },
        {},
    ),
}


@pytest.mark.parametrize(("attributes", "tags"), TAGS.values(), ids=TAGS.keys())
def test_tags_are_read_from_every_convention(attributes: dict[str, Any], tags: dict[str, str]) -> None:
    assert dict(read(attributes).tags) == tags


def test_tags_are_bounded() -> None:
    assert len(read({"tag.tags": [f"word {n}" for n in range(1000)]}).tags) == 50
