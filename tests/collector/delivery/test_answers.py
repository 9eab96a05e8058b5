"""What MLflow's answers mean: the whole table."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.delivery.mlflow.answers import VERDICTS, verdict_of
from collector.delivery.mlflow.send import read_answer
from collector.delivery.verdicts import Verdict, retry_after
from collector.mlflow.client import MlflowAnswer

NOW = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "code", "verdict"),
    [
        (200, None, Verdict.TAKEN),
        (202, None, Verdict.TAKEN),
        (204, None, Verdict.TAKEN),
        (301, None, Verdict.PASSING),
        (302, None, Verdict.PASSING),
        (307, None, Verdict.PASSING),
        (400, None, Verdict.SUSPECT),
        (400, "BAD_REQUEST", Verdict.SUSPECT),
        (400, "INVALID_PARAMETER_VALUE", Verdict.REFUSED),
        (401, None, Verdict.PASSING),
        (403, "PERMISSION_DENIED", Verdict.PASSING),
        (404, "RESOURCE_DOES_NOT_EXIST", Verdict.NO_EXPERIMENT),
        (405, None, Verdict.REFUSED),
        (408, None, Verdict.PASSING),
        (413, None, Verdict.TOO_LARGE),
        (415, None, Verdict.REFUSED),
        (422, None, Verdict.SUSPECT),
        (422, "INVALID_PARAMETER_VALUE", Verdict.SUSPECT),
        (425, None, Verdict.PASSING),
        (429, None, Verdict.PASSING),
        (500, None, Verdict.SUSPECT),
        (500, "INVALID_PARAMETER_VALUE", Verdict.SUSPECT),
        (501, None, Verdict.PASSING),
        (502, None, Verdict.PASSING),
        (503, None, Verdict.PASSING),
        (504, None, Verdict.PASSING),
        (599, None, Verdict.PASSING),
    ],
)
def test_each_status_has_its_meaning(status: int, code: str | None, verdict: Verdict) -> None:
    assert verdict_of(status, code) is verdict


@given(st.integers(100, 999))
def test_only_a_2xx_is_taken_and_only_a_4xx_can_be_refused(status: int) -> None:
    verdict = verdict_of(status)
    assert (verdict is Verdict.TAKEN) == (200 <= status < 300)
    if verdict in (Verdict.REFUSED, Verdict.TOO_LARGE, Verdict.NO_EXPERIMENT):
        assert 400 <= status < 500


def test_the_table_holds_errors_only() -> None:
    assert all(400 <= status < 600 for status in VERDICTS)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("Mon, 04 May 2026 12:00:30 GMT", 30.0),
        ("Mon, 04 May 2026 12:00:30 -0000", 30.0),
        ("Monday, 04-May-26 12:00:30 GMT", 30.0),
        ("Mon, 04 May 2026 11:00:00 GMT", 0.0),
        ("Mon, 04 May 2026 14:00:30 +0200", 30.0),
        ("", None),
        ("soon", None),
        ("-3", None),
        ("1.5", None),
        ("²", None),
        ("Mon, 04 May 99999 12:00:30 GMT", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, now=NOW) == seconds


@given(st.text() | st.from_regex(r"\A[A-Z][a-z]{2}, \d+ May \d+ \d+:\d+:\d+ [+-]\d+\Z"))
def test_no_retry_after_can_do_harm(value: str) -> None:
    seconds = retry_after(value, now=NOW)
    assert seconds is None or seconds >= 0


def answer(status: int, body: bytes = b"", **headers: str) -> MlflowAnswer:
    return MlflowAnswer(status=status, body=body, headers=headers)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b"", "MLflow answered 200"),
        (500, b'{"detail": "Failed to log"}', "MLflow answered 500: Failed to log"),
        (
            400,
            b'{"error_code": "BAD_REQUEST", "message": "race"}',
            "MLflow answered 400: BAD_REQUEST: race",
        ),
        (502, b"<html>Bad Gateway</html>", "MLflow answered 502: <html>Bad Gateway</html>"),
        (503, b"\xff\xfe", "MLflow answered 503: \ufffd\ufffd"),
        (500, b"[1, 2]", "MLflow answered 500: [1, 2]"),
    ],
    ids=["taken", "detail", "error_code", "html", "not_text", "list"],
)
def test_the_message_says_what_mlflow_said(status: int, body: bytes, said: str) -> None:
    assert read_answer(answer(status, body), now=NOW).message == said


def test_a_long_message_is_cut() -> None:
    assert len(read_answer(answer(500, b"x" * 10_000), now=NOW).message) < 600
    body = b'{"detail": "' + b"x" * 10_000 + b'"}'
    assert len(read_answer(answer(500, body), now=NOW).message) < 600


def test_the_servers_wish_goes_along() -> None:
    sent = read_answer(answer(503, **{"retry-after": "7"}), now=NOW)
    assert (sent.verdict, sent.retry_after_seconds) == (Verdict.PASSING, 7.0)
