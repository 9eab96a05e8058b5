"""Redaction: what is found, where it is looked for, and what stands in its place."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from collector.model.errors import Reason
from collector.otlp.shapes import LOG_RECORDS
from collector.processors import redact as redact_module
from collector.processors.presets import cards_within
from collector.processors.redact import redactor
from collector.settings.processors import RedactSettings
from tests.support.logs import all_records, logs, record
from tests.support.otlp import agent_export
from tests.support.spans import any_value, otlp_span
from tests.support.timing import within

# put together here, so that no scanner takes this file for a leak
KEY = "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0"
SECRETS = {
    "email": "ann.lee+shop@mail.example.com",
    "phone_international": "+49 (0)30 901820 44",
    "phone_national": "(212) 555-0187",
    "card": "4111 1111 1111 1111",
    "card_without_spaces": "5555555555554444",
    "openai": "sk-proj-" + KEY,
    "anthropic": "sk-ant-" + "api03-" + KEY,
    "google": "AIza" + KEY[:35],
    "aws": "AKIA" + KEY[:16].upper(),
    "github": "ghp_" + KEY[:36],
    "github_fine_grained": "github_pat_" + KEY,
    "gitlab": "glpat-" + KEY[:20],
    "slack": "xoxb-" + "123456789012-" + KEY[:24],
    "stripe": "sk_live_" + KEY[:24],
    "hugging_face": "hf_" + KEY[:34],
    "databricks": "dapi" + "0123456789abcdef" * 2,
    "sendgrid": "SG." + KEY[:22] + "." + KEY,
    "jwt": "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0." + KEY,
    "private_key": "-----BEGIN " + "PRIVATE KEY-----\nMIIEvQIBADANBg\n-----END " + "PRIVATE KEY-----",
}
# what is secret only for what stands before it
AFTER = {
    "bearer": ("Authorization: Bearer ", KEY),
    "url_password": ("postgres://app:", "s3cr3t-pass", "@db.example.com/x"),
    "password": ("password=", "correct-horse"),
    "json_password": ('{"password": "', "correct-horse", '"}'),
    "aws_secret": ("aws_secret_access_key = ", KEY),
    "client_secret": ("client_secret: ", "abc123def456"),
}
BUGS: list[Exception] = []
ALL = redactor([RedactSettings(type="redact")], BUGS.append)
assert ALL is not None


def redacted(text: str) -> str:
    span = otlp_span({"text": text})
    export = ExportTraceServiceRequest()
    export.resource_spans.add().scope_spans.add().spans.append(span)
    assert ALL is not None
    assert ALL(export) == []
    return export.resource_spans[0].scope_spans[0].spans[0].attributes[0].value.string_value


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_a_secret_is_replaced_and_the_rest_stays(secret: str) -> None:
    found = redacted(f"before {secret} after")
    assert re.fullmatch(r"before \[redacted:[a-z-]+\] after", found)


@pytest.mark.parametrize("parts", AFTER.values(), ids=AFTER)
def test_a_value_is_redacted_for_its_name(parts: tuple[str, ...]) -> None:
    before, secret, *after = parts
    found = redacted("".join(parts))
    assert secret not in found
    assert found.startswith(before)
    assert found.endswith("".join(after))


HARMLESS = {
    "trace_id": "0af7651916cd43dd8448eb211c80319c",
    "nanoseconds": "1700000000123456789",
    "uuid": "01a1fad2-a614-74c3-b475-099b61c7b615",
    "date": "2026-11-21T02:30:00+00:00",
    "wrong_check_digit": "4111 1111 1111 1112",
    "money": "EUR 1,234,567.89",
    "python_decorator": "@app.get",
    "words_with_sk": "task-oriented desk-research-in-progress",
    "version": "1.2.3-beta.4+build.5",
    "price_json": '{"tokens": 1234567890123, "max_tokens": 4096}',
    "question": "Do you know the password of the day?",
}


@pytest.mark.parametrize("text", HARMLESS.values(), ids=HARMLESS)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


def embed(secret: str) -> dict[str, str]:
    """The secret as JSON text holds it, after each escape that may stand before it."""
    once = json.dumps({"a": f"line\n{secret}\n", "b": [f"\t{secret}"]})
    return {
        "json": once,
        "json_in_json": json.dumps({"arguments": once}),
        "html_safe_json": once.replace("line\\n", "\\u003c"),
        "cut_json": once[: once.rindex(secret[-4:]) + 4],
        "percent_encoded_before": f"a%20{secret}",
        "ascii_only_json": json.dumps(f"ü{secret}"),
        "windows_path": f"C:\\{secret}",
    }


PLAIN = {name: secret for name, secret in SECRETS.items() if name != "private_key"}


@pytest.mark.parametrize("secret", PLAIN.values(), ids=PLAIN)
def test_a_secret_is_found_behind_json_escapes(secret: str) -> None:
    left = {how: text for how, text in embed(secret).items() if secret in redacted(text)}
    assert left == {}


def test_json_stays_json() -> None:
    for secret in PLAIN.values():
        for how in ("json", "json_in_json", "html_safe_json"):
            json.loads(redacted(embed(secret)[how]))


@pytest.mark.parametrize("at", ["\\u0040", "%40"])
def test_an_escaped_at_sign_hides_no_address(at: str) -> None:
    assert "ann.lee" not in redacted(f'"ann.lee{at}mail.example.com"')


def everywhere(secret: str) -> ExportTraceServiceRequest:
    """An export that holds the secret in every place that OTLP has for text."""
    export = ExportTraceServiceRequest()
    resource_spans = export.resource_spans.add(schema_url=secret)
    scope_spans = resource_spans.scope_spans.add(schema_url=secret)
    scope_spans.scope.name = scope_spans.scope.version = secret
    span = otlp_span(
        {
            "text": secret,
            secret: "in a key",
            "list": [secret, [secret]],
            "map": {"inner": {"deep": secret}, secret: 1},
            "bytes": secret.encode(),
        },
        name=secret,
        trace_state=f"a={secret}",
        status=Status(message=secret, code=Status.STATUS_CODE_ERROR),
    )
    span.events.add(name=secret).attributes.add(key=secret).value.CopyFrom(any_value(secret))
    span.links.add(trace_state=secret).attributes.add(key=secret).value.CopyFrom(any_value([secret]))
    scope_spans.spans.append(span)
    for holder in (resource_spans.resource, scope_spans.scope):
        holder.attributes.add(key=secret).value.CopyFrom(any_value({"a": secret}))
    return export


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_no_place_is_left_out(secret: str) -> None:
    export = everywhere(secret)
    assert secret.encode() in export.SerializeToString()
    assert ALL is not None
    assert ALL(export) == []
    assert secret.encode() not in export.SerializeToString()


def test_a_number_that_is_a_card_is_found() -> None:
    export = ExportTraceServiceRequest()
    export.resource_spans.add().scope_spans.add().spans.append(
        otlp_span({"card": 4111111111111111, "count": 4111111111111112})
    )
    assert ALL is not None
    ALL(export)
    card, count = export.resource_spans[0].scope_spans[0].spans[0].attributes
    assert card.value.string_value == "[redacted:card]"
    assert count.value.int_value == 4111111111111112


def test_fields_that_nobody_can_read_are_dropped() -> None:
    span = Span.FromString(otlp_span({}).SerializeToString() + b"\xa2\x06\x06secret")
    export = ExportTraceServiceRequest()
    export.resource_spans.add().scope_spans.add().spans.append(span)
    assert b"secret" in export.SerializeToString()
    assert ALL is not None
    ALL(export)
    assert b"secret" not in export.SerializeToString()


def with_settings(**settings: Any) -> Any:
    return redactor([RedactSettings(type="redact", **settings)], BUGS.append)


def test_own_patterns_and_keys() -> None:
    redact = with_settings(presets=(), patterns={"ticket": r"T-\d{4}"}, drop_keys=("http.request.header.*",))
    export = ExportTraceServiceRequest()
    span = otlp_span(
        {"note": "see T-1234", "http.request.header.cookie": "x", "map": {"http.request.header.y": "z"}}
    )
    export.resource_spans.add().scope_spans.add().spans.append(span)
    assert redact(export) == []
    note, nested = export.resource_spans[0].scope_spans[0].spans[0].attributes
    assert note.value.string_value == "see [redacted:ticket]"
    assert b"z" not in nested.SerializeToString()


def test_hashes_tell_equal_from_different_and_need_the_key(tmp_path: Any) -> None:
    (tmp_path / "key").write_text("k1\n")

    def hashed(text: str, **key: Any) -> str:
        export = ExportTraceServiceRequest()
        export.resource_spans.add().scope_spans.add().spans.append(otlp_span({"a": text}))
        with_settings(mode="hash", **key)(export)
        return export.resource_spans[0].scope_spans[0].spans[0].attributes[0].value.string_value

    one = hashed("a@example.com", hash_key="k1")
    assert re.fullmatch(r"\[email:[0-9a-f]{16}\]", one)
    assert one == hashed("a@example.com", hash_key_file=tmp_path / "key")
    assert one != hashed("b@example.com", hash_key="k1")
    assert one != hashed("a@example.com", hash_key="k2")


def test_a_span_that_cannot_be_redacted_is_rejected_and_its_text_is_not_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(text: str, *arguments: Any) -> str:
        raise ValueError(f"can't read {text}")

    BUGS.clear()
    redact = with_settings()
    monkeypatch.setattr(redact_module._Redaction, "_span", lambda self, span, text: fail("a secret"))
    export = agent_export()
    count = len(export.resource_spans[0].scope_spans[0].spans)
    rejections = redact(export)
    assert [rejection.reason for rejection in rejections] == [Reason.REDACTION_FAILED] * count
    assert "a secret" not in rejections[0].message
    assert len(BUGS) == count, "each is told, for the log"
    assert len(export.resource_spans[0].scope_spans[0].spans) == 0


@pytest.mark.parametrize("part", ["resource", "scope"])
def test_what_cannot_be_redacted_around_spans_costs_all_of_them(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = redact_module._Redaction._attributes

    def fail(self: Any, holder: Any, text: Any) -> None:
        if type(holder).__name__.lower().endswith(part):
            raise ValueError
        original(self, holder, text)

    redact = with_settings()
    monkeypatch.setattr(redact_module._Redaction, "_attributes", fail)
    export = everywhere("secret of all")
    assert len(redact(export)) == 1
    if part == "resource":
        assert b"secret of all" not in export.SerializeToString()


def test_card_numbers_have_a_check_digit() -> None:
    assert cards_within("4111 1111 1111 1111") == [(0, 19)]
    assert cards_within("4111 1111 1111 1112") == []
    assert cards_within("1111 1111 1111 1117") == []


def test_each_card_number_in_a_run_of_digits_is_found() -> None:
    card, other = "4111 1111 1111 1111", "5500-0000-0000-0004"
    for run in (f"{'0' * 26} {card}", f"{card} {other}", f"12 {card} {'7' * 50} {other} {card} 3"):
        found = redacted(run)
        assert card not in found and other not in found, found
    assert redacted(f"{card} {other}") == "[redacted:card] [redacted:card]"


def test_a_run_of_a_million_digits_holds_nobody_up() -> None:
    for run in ("1 " * 500_000, "1" * 1_000_000, "7" * 1_000_000):
        with within(20.0):
            assert redacted(run) == run
    with within(20.0):
        assert "4 4 4" not in redacted("4 " * 500_000)


@given(st.text(max_size=300), st.sampled_from(sorted(PLAIN.values())), st.text(max_size=300))
def test_a_planted_secret_is_found_in_any_text(before: str, secret: str, after: str) -> None:
    """A word that goes on is another word; anything else around it hides nothing."""
    glued = re.search(r"[A-Za-z0-9_.%+'@(\[-]$", before) or re.match(r"[A-Za-z0-9_.@+'-]", after)
    planted = f"{before} {secret} {after}" if glued else f"{before}{secret}{after}"
    for text in (planted, json.dumps(planted), json.dumps({"x": json.dumps(planted)})):
        assert secret not in redacted(text)


@given(st.text(max_size=200))
def test_redaction_is_done_once(text: str) -> None:
    once = redacted(text)
    assert redacted(once) == once


def test_log_records_are_redacted_as_spans_are() -> None:
    secret = SECRETS["email"]
    said = record(f"event {secret}", body={"content": f"use {secret}", secret: 1}, note=f"key {secret}")
    said.severity_text = secret
    export = logs(said, service=f"service {secret}")
    assert ALL is not None
    assert ALL(export, LOG_RECORDS) == []
    assert secret not in str(export)
    assert "service" in str(export)


def test_a_log_record_that_cannot_be_redacted_is_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    redact = redactor([RedactSettings(type="redact", drop_keys=("bad",))], lambda error: None)
    assert redact is not None
    export = logs(record("fine"), record("broken"))
    monkeypatch.setattr("collector.processors.redact._Redaction._record", _fails_at("broken"))
    (rejection,) = redact(export, LOG_RECORDS)
    assert rejection.reason is Reason.REDACTION_FAILED
    assert "the log record is not stored" in rejection.message
    assert [each.event_name for each in all_records(export)] == ["fine"]


def _fails_at(name: str) -> Any:
    def fail(self: Any, record: LogRecord, text: Any) -> None:
        if record.event_name == name:
            raise ValueError

    return fail
