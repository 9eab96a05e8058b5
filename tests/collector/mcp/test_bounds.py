"""An answer fits its bound, whatever is in it, and says what is missing."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.mcp.bounds import Cut, envelope, fit, tokens_of
from collector.mcp.envelope import ToolAnswer
from collector.mcp.fitting import fit_in_turn, has_many_values

MAX_TOKENS = 3000
CUTS = (
    Cut(path="rows.*.points", how="more points from {next}"),
    Cut(path="tags", how="fewer tags", least=2),
    Cut(path="rows", how="skip = {next}", least=1, begins_at=10),
)
texts = st.text(max_size=4000)
documents = st.fixed_dictionaries(
    {
        "rows": st.lists(
            st.fixed_dictionaries({"name": texts, "points": st.lists(st.integers(), max_size=300)}),
            max_size=20,
        ),
        "tags": st.dictionaries(st.text(max_size=600), texts, max_size=20),
        "other": st.recursive(texts, lambda inner: st.lists(inner, max_size=5), max_leaves=10),
    }
)


@given(documents)
def test_every_answer_is_within_its_bound(document: dict[str, Any]) -> None:
    fitted = fit(document, CUTS, max_tokens=MAX_TOKENS)
    whole = envelope(ToolAnswer(telemetry=fitted.telemetry, omitted=fitted.omitted), max_tokens=MAX_TOKENS)
    assert tokens_of(whole) <= MAX_TOKENS
    assert abs(whole["bound"]["estimated_tokens"] - tokens_of(whole)) <= 3


def test_what_fits_is_left_alone() -> None:
    document = {"rows": [{"name": "a", "points": [1, 2]}], "tags": {"a": "b"}, "zero": 0, "none": []}
    fitted = fit(document, CUTS, max_tokens=MAX_TOKENS)
    assert (fitted.telemetry, fitted.omitted, fitted.kept) == (document, (), {})


def test_the_least_important_list_goes_first_and_says_where_the_rest_begins() -> None:
    document = {"rows": [{"name": "a", "points": list(range(1000, 4000))}] * 2, "tags": {"a": "b"}}
    fitted = fit(document, CUTS, max_tokens=MAX_TOKENS)
    kept = len(fitted.telemetry["rows"][0]["points"])
    assert 0 < kept < 3000
    assert len(fitted.telemetry["rows"]) == 2
    (omission,) = fitted.omitted
    assert (omission.what, omission.how) == (
        f"{2 * (3000 - kept)} of rows.*.points",
        f"more points from {kept}",
    )


def test_the_place_of_the_rest_counts_from_the_beginning_of_all() -> None:
    document = {"rows": [{"name": "x" * 500} for _ in range(50)]}
    fitted = fit(document, CUTS, max_tokens=MAX_TOKENS)
    kept = len(fitted.telemetry["rows"])
    assert fitted.kept == {"rows": kept}
    assert fitted.omitted[-1].how == f"skip = {10 + kept}"


def test_long_texts_say_how_much_is_missing() -> None:
    fitted = fit({"message": "x" * 1000}, (), max_tokens=MAX_TOKENS)
    assert fitted.telemetry["message"].endswith("… (400 more characters)")
    assert "1 texts over 600 characters" in fitted.omitted[0].what


def test_a_text_that_is_too_long_for_the_answer_keeps_as_much_as_fits() -> None:
    fitted = fit({"content": [{"text": "x" * 50_000}]}, (), max_tokens=MAX_TOKENS, max_text=50_000)
    text = fitted.telemetry["content"][0]["text"]
    kept = text.count("x")
    assert 1500 <= kept <= 3400
    assert text == "x" * kept + f"… ({50_000 - kept} more characters)"
    assert "1 texts" in fitted.omitted[0].what


@pytest.mark.parametrize(
    ("document", "many"),
    [
        ({"rows": [1, 2, 3]}, False),
        ({"rows": list(range(6000))}, True),
        ({"metrics": [{"history": [{"step": step} for step in range(2600)]}]}, True),
        ({"rows": [{"text": "x" * 100_000}]}, False),
    ],
)
async def test_a_document_of_many_values_is_made_to_fit_in_a_thread(
    document: dict[str, Any], many: bool
) -> None:
    assert has_many_values(document) is many
    cuts = (Cut(path="rows", how="…"), Cut(path="metrics.*.history", how="…"))
    fitted = await fit_in_turn(copy.deepcopy(document), cuts, max_tokens=MAX_TOKENS)
    assert fitted == fit(document, cuts, max_tokens=MAX_TOKENS)


def test_what_cannot_fit_is_left_out_as_a_whole() -> None:
    document = {f"key {number} {'k' * 400}": number for number in range(100)}
    fitted = fit(document, (), max_tokens=MAX_TOKENS)
    assert fitted.telemetry == {}
    assert [each.what for each in fitted.omitted] == ["everything"]


@pytest.mark.parametrize(
    "text",
    ["plain words", '{"a":"b","c":[1,2,3]}', "31d85ef3f0cbdd52ca0ab6ef81fdbb16", "日本語の文章", "🙂🙂"],
)
def test_a_token_is_two_bytes_of_json(text: str) -> None:
    size = len(json.dumps(text, ensure_ascii=False).encode())
    assert tokens_of(text) == (size + 1) // 2
