"""Rows as CSV: what is written is read back by any reader of CSV."""

import csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.index.rows.csv_text import csv_text
from collector.spans.conventions import ObservationKind

TEXTS = {
    "plain": "gpt-4o",
    "empty": "",
    "comma": "a,b",
    "brackets": "a],[b",
    "quote": 'say "yes"',
    "two_quotes": '""',
    "backslash": "C:\\temp\\u001f",
    "lines": "a\r\nb\n",
    "separator": "\x1fa\x1fb\x1f",
    "backslash_before_a_separator": "\\\x1f",
    "control_character": "\x01",
    "other_script": "天気 ☂ 𝄞",
    "a_word_of_json": "null",
}


def read(text: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text.decode(), newline=""), strict=True))


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_text_is_read_back_as_it_was(text: str) -> None:
    assert read(csv_text([(1, text, None, "x"), (2, "y", text, text)])) == [
        ["1", text, "", "x"],
        ["2", "y", text, text],
    ]


VALUES = {
    "null": (None, ""),
    "number": (-5, "-5"),
    "number_of_64_bits": (2**64 - 1, "18446744073709551615"),
    "number_of_128_bits": (2**128 - 1, "340282366920938463463374607431768211455"),
    "kind": (ObservationKind.LLM, "LLM"),
    "lone_surrogate": ("a\ud800", "a?"),
}


@pytest.mark.parametrize(("value", "field"), VALUES.values(), ids=VALUES)
def test_a_value_is_a_field(value: Any, field: str) -> None:
    assert read(csv_text([(1, value, "x")])) == [["1", field, "x"]]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_keeps_its_last_digit(number: float) -> None:
    assert float(read(csv_text([(1, number)]))[0][1]) == number


@given(
    st.lists(st.tuples(st.integers(), st.text(st.characters(codec="utf-8")), st.none() | st.text('a,"\\\n]')))
)
def test_any_rows_are_read_back(rows: list[tuple[int, str, str | None]]) -> None:
    assert read(csv_text(rows)) == [[str(number), text, other or ""] for number, text, other in rows]


def test_no_rows_are_no_text() -> None:
    assert csv_text([]) == b""
