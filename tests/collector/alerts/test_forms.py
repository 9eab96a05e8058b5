"""The forms of notifications: signatures that others can check, and nothing in the wrong place."""

import base64
import hmac
import json
from hashlib import sha256
from typing import Any

import pytest

from collector.alerts.channels.outcomes import (
    NoticeDeferred,
    NoticeRefused,
    NoticeSent,
    http_outcome,
    seconds_of,
    smtp_outcome,
)
from collector.alerts.forms import alertmanager_form, email_form, slack_form, webhook_form, webhook_key

EVIL = 'x\r\nBcc: all@example.com\n<script>|<!channel>&"'


def document(**given: Any) -> dict[str, Any]:
    return {
        "id": "a1",
        "incident": "i1",
        "event": "fired",
        "alert": "slow",
        "description": "Look at it.",
        "labels": {"severity": "page"},
        "group": {"user": "ann", "tool": None},
        "title": "FIRING: slow [user ann]",
        "summary": "it is slow",
        "link": "https://s.example.com/-/#/traces?user=ann&since=1",
        "traces": [{"trace_id": "ab" * 16, "link": "https://s.example.com/-/#/trace/abab"}],
        "started_unix_ns": 1_700_000_000_000_000_000,
        "at_unix_ns": 1_700_000_060_000_000_000,
        **given,
    }


@pytest.mark.parametrize(
    ("secret", "key"),
    [("plain text", b"plain text"), ("whsec_" + base64.b64encode(b"\x00\x01key").decode(), b"\x00\x01key")],
)
def test_a_webhook_is_signed_as_standard_webhooks_says(secret: str, key: bytes) -> None:
    body, headers = webhook_form(document(), key=webhook_key(secret), now_unix_seconds=1_700_000_100)
    assert headers["webhook-id"] == "a1"
    assert headers["webhook-timestamp"] == "1700000100"
    signed = b"a1.1700000100." + body
    expected = base64.b64encode(hmac.new(key, signed, sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert json.loads(body)["alert"] == "slow"


def test_the_signature_is_the_one_of_the_specifications_own_example() -> None:
    from collector.alerts.forms import signature

    key = webhook_key("whsec_plJ3nmyCDGBKInavdOK15jsl")
    body = b'{"event_type":"ping","data":{"success":true}}'
    found = signature(key, id="msg_loFOjxBNrRLzqYUf", timestamp="1731705121", body=body)
    assert found == "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="


def test_what_follows_the_prefix_must_be_base64() -> None:
    with pytest.raises(ValueError, match="base64"):
        webhook_key("whsec_!!")


def test_names_from_outside_stay_text_in_slack() -> None:
    body, _ = slack_form(document(title=EVIL, summary=EVIL))
    text = json.loads(body)["text"]
    assert "<script>" not in text
    assert "<!channel>" not in text
    assert "|Open in Sidespan>" in text


def test_names_from_outside_make_no_headers_of_mail() -> None:
    message = email_form(
        document(title=EVIL), sender="Sidespan <s@example.com>", to=["a@example.com"], now_unix_seconds=0
    )
    text = message.as_bytes().decode()
    head = text.partition("\n\n")[0]
    assert not any(line.startswith("Bcc:") for line in head.splitlines())
    assert message["Message-ID"] == "<a1@example.com>"
    assert message["References"] == "<i1@example.com>"


@pytest.mark.parametrize(("event", "ends"), [("fired", "22:18:20"), ("recovered", "22:14:20")])
def test_alertmanager_is_told_when_an_alert_ends(event: str, ends: str) -> None:
    body, _ = alertmanager_form(
        [document(event=event)], now_unix_ns=1_700_000_060_000_000_000, resend_seconds=60
    )
    (alert,) = json.loads(body)
    assert alert["labels"] == {"alertname": "slow", "severity": "page", "user": "ann"}
    assert alert["startsAt"] == "2023-11-14T22:13:20.000+00:00"
    assert alert["endsAt"].startswith(f"2023-11-14T{ends}")
    assert alert["generatorURL"].startswith("https://")


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *((status, NoticeSent) for status in (200, 201, 202, 204)),
        *((status, NoticeDeferred) for status in (408, 425, 429, 500, 502, 503, 504)),
        *((status, NoticeRefused) for status in (301, 302, 307, 400, 401, 403, 404, 410, 422)),
    ],
)
def test_what_a_status_means(status: int, outcome: type) -> None:
    found = http_outcome(status, text="no", retry_after="7", now_unix_seconds=0)
    assert isinstance(found, outcome)
    if isinstance(found, NoticeDeferred):
        assert found.retry_after_seconds == 7


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7.0), ("Thu, 01 Jan 1970 00:01:40 GMT", 90.0), ("soon", None), ("-3", None)],
)
def test_retry_after_is_a_number_or_a_date(text: str, seconds: float | None) -> None:
    assert seconds_of(text, 10.0) == seconds


@pytest.mark.parametrize(
    ("code", "outcome"), [(421, NoticeDeferred), (451, NoticeDeferred), (550, NoticeRefused)]
)
def test_what_a_reply_of_a_mail_server_means(code: int, outcome: type) -> None:
    assert isinstance(smtp_outcome(code, text="no"), outcome)
