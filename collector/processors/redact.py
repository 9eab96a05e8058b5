"""Take secrets and personal data out of everything textual in an export. Pure, in place; before the journal.

Everything: names, values and keys of attributes, nested ones too, bytes that are text, whole numbers that are
card or phone numbers; of resources, scopes, spans, events, links and log records with their bodies; status
messages and trace states.
Fields that protobuf doesn't know can't be read, so they are dropped.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import translate
from functools import partial
from typing import Any, Protocol

from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.model.batch import Rejection
from collector.model.errors import Reason
from collector.otlp.shapes import SPANS, Export, SignalShape
from collector.processors.presets import DIGITS, TABLE, Pattern
from collector.settings.processors import Processor, RedactSettings

HASH_DIGITS = 16
# up to here one search for all needles is faster than one for each
SHORT = 400
SMALLEST_NUMBER = 10**9
# a text that repeats (histories do) is read once an export; longer ones are kept by their own bytes
MAX_REMEMBERED = 10_000

REDACTION_FAILED = "redaction failed, and what it failed on is not stored"

Write = Callable[[str, str], str]


class Redact(Protocol):
    """Redacts an export in place; what could not be redacted is out of it, and why."""

    def __call__(self, export: Export, shape: SignalShape = SPANS) -> list[Rejection]:
        """`shape` says what the export holds."""


def redactor(processors: Sequence[Processor], on_bug: Callable[[Exception], None]) -> Redact | None:
    """All the settings' redactions as one function; None if there is none.

    `on_bug` hears of each exception that kept something from being redacted.
    """
    steps = [_Redaction(each, on_bug) for each in processors if isinstance(each, RedactSettings)]
    if not steps:
        return None

    def redact(export: Export, shape: SignalShape = SPANS) -> list[Rejection]:
        export.DiscardUnknownFields()
        return [rejection for step in steps for rejection in step.apply(export, shape)]

    return redact


class _Redaction:
    """One `redact` processor, compiled."""

    def __init__(self, settings: RedactSettings, on_bug: Callable[[Exception], None]) -> None:
        self._on_bug = on_bug
        own = [Pattern(name=name, regex=re.compile(pattern)) for name, pattern in settings.patterns.items()]
        known = [pattern for preset in TABLE if preset in settings.presets for pattern in TABLE[preset]]
        self._patterns = own + known
        # the cheapest no: most texts are short and hold nothing that a pattern needs
        needles = {needle for pattern in self._patterns for needle in pattern.needles}
        always = any(not (pattern.needles or pattern.digits) for pattern in self._patterns)
        self._needed = re.compile("" if always else "|".join(map(re.escape, sorted(needles))) or "(?!)")
        self._fewest_digits = min((each.digits for each in self._patterns if each.digits), default=SHORT)
        self._drop = re.compile("|".join(map(translate, settings.drop_keys))) if settings.drop_keys else None
        self._write = _writer(settings)

    def apply(self, export: Export, shape: SignalShape) -> list[Rejection]:
        text = _remembering(self._text)
        rejections: list[Rejection] = []
        resources = getattr(export, shape.resources)
        for position in reversed(range(len(resources))):
            of_resource = resources[position]
            scopes = getattr(of_resource, shape.scopes)
            try:
                self._attributes(of_resource.resource, text)
                _strings(of_resource, ("schema_url",), text)
            except Exception as error:
                count = sum(len(getattr(of_scope, shape.items)) for of_scope in scopes)
                rejections += [self._rejected(error, shape)] * count
                del resources[position]
                continue
            for of_scope in scopes:
                rejections += self._scope(of_scope, text, shape)
        return rejections

    def _scope(self, of_scope: Any, text: Callable[[str], str], shape: SignalShape) -> list[Rejection]:
        items = getattr(of_scope, shape.items)
        try:
            self._attributes(of_scope.scope, text)
            _strings(of_scope.scope, ("name", "version"), text)
            _strings(of_scope, ("schema_url",), text)
        except Exception as error:
            count = len(items)
            del items[:]
            of_scope.ClearField("scope")
            return [self._rejected(error, shape)] * count
        redact = self._span if shape is SPANS else self._record
        rejections = []
        for position in reversed(range(len(items))):
            try:
                redact(items[position], text)
            except Exception as error:
                del items[position]
                rejections.append(self._rejected(error, shape))
        return rejections

    def _rejected(self, error: Exception, shape: SignalShape) -> Rejection:
        self._on_bug(error)
        return _rejection(error, shape)

    def _record(self, record: LogRecord, text: Callable[[str], str]) -> None:
        _strings(record, ("event_name", "severity_text"), text)
        self._value(record.body, text)
        self._attributes(record, text)

    def _span(self, span: Span, text: Callable[[str], str]) -> None:
        _strings(span, ("name", "trace_state"), text)
        _strings(span.status, ("message",), text)
        self._attributes(span, text)
        for event in span.events:
            _strings(event, ("name",), text)
            self._attributes(event, text)
        for link in span.links:
            _strings(link, ("trace_state",), text)
            self._attributes(link, text)

    def _attributes(self, holder: Any, text: Callable[[str], str]) -> None:
        """Of anything that has `attributes`."""
        if self._drop is not None:
            for position in reversed(range(len(holder.attributes))):
                if self._drop.match(holder.attributes[position].key):
                    del holder.attributes[position]
        for attribute in holder.attributes:
            attribute.key = text(attribute.key)
            self._value(attribute.value, text)

    def _value(self, value: AnyValue, text: Callable[[str], str]) -> None:
        """A value and what is in it; at most 32 deep, as the receiver checks."""
        match value.WhichOneof("value"):
            case "string_value":
                if (new := text(value.string_value)) != value.string_value:
                    value.string_value = new
            case "bytes_value":
                try:
                    old = value.bytes_value.decode()
                except UnicodeDecodeError:
                    return
                if (new := text(old)) != old:
                    value.bytes_value = new.encode()
            case "int_value" if value.int_value >= SMALLEST_NUMBER:
                if (new := text(str(value.int_value))) != str(value.int_value):
                    value.string_value = new
            case "array_value":
                for each in value.array_value.values:
                    self._value(each, text)
            case "kvlist_value":
                for pair in value.kvlist_value.values:
                    pair.key = text(pair.key)
                    if self._drop is not None and self._drop.match(pair.key):
                        pair.value.Clear()
                    self._value(pair.value, text)

    def _text(self, text: str) -> str:
        digits = sum(map(text.count, DIGITS)) if len(text) >= self._fewest_digits else 0
        if len(text) < SHORT and digits < self._fewest_digits and not self._needed.search(text):
            return text
        for pattern in self._patterns:
            if digits >= pattern.digits and _has_any(text, pattern.needles):
                text = pattern.regex.sub(partial(self._replace, pattern=pattern), text)
        return text

    def _replace(self, match: re.Match[str], *, pattern: Pattern) -> str:
        secret = match[pattern.group]
        if secret.startswith("[redacted:"):
            return match[0]
        at = match.start(pattern.group) - match.start()
        parts, done = [], 0
        for start, end in [(0, len(secret))] if pattern.within is None else pattern.within(secret):
            parts += [match[0][done : at + start], self._write(pattern.name, secret[start:end])]
            done = at + end
        return "".join([*parts, match[0][done:]])


def _has_any(text: str, needles: tuple[str, ...]) -> bool:
    for needle in needles:  # a generator costs more than all the looking
        if needle in text:
            return True
    return not needles


def _writer(settings: RedactSettings) -> Write:
    """What stands in a secret's place. Raises OSError if the key's file can't be read."""
    if settings.mode == "replace":
        return lambda name, secret: f"[redacted:{name}]"
    given = settings.hash_key or ""
    key = settings.hash_key_file.read_bytes().strip() if settings.hash_key_file else given.encode()

    def write(name: str, secret: str) -> str:
        digest = hmac.new(key, secret.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
        return f"[{name}:{digest[:HASH_DIGITS]}]"

    return write


def _remembering(redact: Callable[[str], str]) -> Callable[[str], str]:
    seen: dict[str, str] = {}

    def text(value: str) -> str:
        if not value:
            return value
        found = seen.get(value)
        if found is None:
            found = redact(value)
            if len(seen) < MAX_REMEMBERED:
                seen[value] = found
        return found

    return text


def _strings(message: Any, fields: Iterable[str], text: Callable[[str], str]) -> None:
    for field in fields:
        old = getattr(message, field)
        if old and (new := text(old)) != old:
            setattr(message, field, new)


def _rejection(error: Exception, shape: SignalShape) -> Rejection:
    # the error's own text may hold what was to be redacted
    return Rejection(
        reason=Reason.REDACTION_FAILED,
        message=f"redaction failed ({type(error).__name__}), so the {shape.word} is not stored; send it "
        "without the value that can't be read, or change the redact processor",
    )
