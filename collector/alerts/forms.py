"""A document in the form of each kind of channel. Pure.

Webhooks are signed as Standard Webhooks 1.0 says:
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from hashlib import sha256
from typing import Any

from collector.alerts.states import AlertEvent

Document = Mapping[str, Any]
Headers = dict[str, str]

SECRET_PREFIX = "whsec_"  # noqa: S105 - the mark of a key, not a key
# Slack cuts at 40,000; nobody reads half of that
MAX_TEXT_CHARACTERS = 4000
MAX_SUBJECT_CHARACTERS = 200
# an alert that isn't sent again for so many times its interval is over, as Prometheus has it
LOST_RESENDS = 4
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u0085\u2028\u2029]+")
_LABEL = re.compile(r"[^A-Za-z0-9_]")


def webhook_key(secret: str) -> bytes:
    """The key in a secret: base64 behind `whsec_`, else the text itself. Raises ValueError: no base64."""
    if not secret.startswith(SECRET_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("what follows whsec_ must be base64") from error


def webhook_form(document: Document, *, key: bytes | None, now_unix_seconds: int) -> tuple[bytes, Headers]:
    """Body and headers of the POST; `webhook-id` is the same each time it is sent."""
    body = _encoded(document)
    headers = {"content-type": "application/json", "webhook-id": document["id"]}
    headers["webhook-timestamp"] = str(now_unix_seconds)
    if key is not None:
        headers["webhook-signature"] = signature(
            key, id=document["id"], timestamp=str(now_unix_seconds), body=body
        )
    return body, headers


def signature(key: bytes, *, id: str, timestamp: str, body: bytes) -> str:
    """`v1,` and the base64 of the HMAC-SHA256 of `id.timestamp.body`."""
    signed = f"{id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, sha256).digest()).decode()


def slack_form(document: Document) -> tuple[bytes, Headers]:
    """Body and headers of the POST. Source: https://docs.slack.dev/messaging/formatting-message-text"""
    lines = [f"*{_mrkdwn(document['title'])}*", _mrkdwn(document["summary"])]
    lines += [_mrkdwn(document["description"])] if document["description"] else []
    links = [f"<{_mrkdwn(document['link'])}|Open in Sidespan>"]
    links += [
        f"<{_mrkdwn(trace['link'])}|trace {_mrkdwn(trace['trace_id'][:8])}>" for trace in document["traces"]
    ]
    lines.append(" · ".join(links))
    text = "\n".join(lines)[:MAX_TEXT_CHARACTERS]
    return _encoded({"text": text, "unfurl_links": False, "unfurl_media": False}), {
        "content-type": "application/json"
    }


def _mrkdwn(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("|", "¦")


def email_form(document: Document, *, sender: str, to: Sequence[str], now_unix_seconds: int) -> EmailMessage:
    """The message. Its Message-ID is the same each time it is sent, so that a copy can be told from it."""
    message = EmailMessage()
    message["From"] = sender
    message["To"] = ", ".join(to)
    message["Subject"] = _one_line(document["title"])[:MAX_SUBJECT_CHARACTERS]
    message["Date"] = format_datetime(datetime.fromtimestamp(now_unix_seconds, UTC))
    domain = _one_line(sender).rpartition("@")[2].strip("> ") or "localhost"
    message["Message-ID"] = f"<{document['id']}@{domain}>"
    # all of one incident stand together in a mail program
    message["References"] = f"<{document['incident']}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(plain_text(document))
    return message


def plain_text(document: Document) -> str:
    """The document for people, as text."""
    lines = [document["title"], "", document["summary"]]
    lines += ["", document["description"]] if document["description"] else []
    lines += ["", f"Traces: {document['link']}"]
    lines += [f"  {trace['trace_id']}  {trace['link']}" for trace in document["traces"]]
    lines += ["", f"At {_time(document['at_unix_ns'])}, since {_time(document['started_unix_ns'])}"]
    return "\n".join(lines) + "\n"


def alertmanager_form(
    documents: Sequence[Document], *, now_unix_ns: int, resend_seconds: float
) -> tuple[bytes, Headers]:
    """Body and headers of POST /api/v2/alerts.

    A firing alert ends a few re-sends from now unless it is sent again; a recovered one has ended.
    Source: https://prometheus.io/docs/alerting/latest/alerts_api/
    """
    soon = now_unix_ns + round(LOST_RESENDS * resend_seconds * 1e9)
    alerts = [_alertmanager_alert(document, soon) for document in documents]
    return _encoded(alerts), {"content-type": "application/json"}


def _alertmanager_alert(document: Document, soon_unix_ns: int) -> dict[str, Any]:
    ended = document["event"] == AlertEvent.RECOVERED.value
    group = {name: value for name, value in document["group"].items() if value is not None}
    labels = {**document["labels"], **group, "alertname": document["alert"]}
    annotations = {
        "summary": document["summary"],
        "description": document["description"],
        "traces": " ".join(trace["link"] for trace in document["traces"]),
    }
    return {
        "labels": {_LABEL.sub("_", name): value for name, value in labels.items()},
        "annotations": {name: value for name, value in annotations.items() if value},
        "startsAt": _time(document["started_unix_ns"]),
        "endsAt": _time(document["at_unix_ns"] if ended else soon_unix_ns),
        "generatorURL": document["link"],
    }


def _time(unix_ns: int) -> str:
    """RFC 3339."""
    return datetime.fromtimestamp(unix_ns / 1e9, UTC).isoformat(timespec="milliseconds")


def _one_line(text: str) -> str:
    return _CONTROL.sub(" ", text)


def _encoded(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
