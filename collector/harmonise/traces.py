"""What MLflow needs of a trace as a whole, from those of its spans that are at hand and its note. Pure.

MLflow 3.17 takes a trace's name, tags and previews from the span without a parent, its session from the
first span in a request that has `session.id` or `gen_ai.conversation.id` and its user from the first with
`user.id`; what it has once taken stays.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from collector.harmonise.content import INPUTS, INPUTS_READ, OUTPUTS, OUTPUTS_READ, View, shown
from collector.harmonise.mlflow_limits import MAX_ID_CHARACTERS, capped, tag_name
from collector.harmonise.note import Note, Telling
from collector.harmonise.parts import Addition, Part
from collector.harmonise.previews import TELLING, Preview, Spoken, preview_of, says_more
from collector.spans.conventions import ObservationKind
from collector.spans.usage import PRICED_KINDS
from collector.spans.values import SpanFacts

# a root that is one of these says itself what there is to be said
NO_CONVERSATIONS = PRICED_KINDS | {ObservationKind.TOOL, ObservationKind.RETRIEVER, ObservationKind.RERANKER}
TRACE_TAG = "mlflow.traceTag."
TRACE_NAME = f"{TRACE_TAG}mlflow.traceName"
SESSION, CONVERSATION, USER = "session.id", "gen_ai.conversation.id", "user.id"

# Span.flags: whether the sender says if the parent is in another process, and that it is
# (opentelemetry-proto 1.3, SpanFlags)
HAS_IS_REMOTE, IS_REMOTE = 0x100, 0x200


@dataclass(slots=True)
class Member:
    """One span of a trace, with what is known of it and what it is to be given; one that is raw, nothing."""

    span: Span
    facts: SpanFacts
    view: View
    of: ResourceSpans
    scope: ScopeSpans
    additions: list[Addition]
    is_raw: bool = False

    @property
    def is_root(self) -> bool:
        return self.facts.parent_span_id is None

    def give(self, part: Part, key: str, value: str, *, replaces: bool = False) -> None:
        self.additions.append(Addition(part=part, key=key, value=value, replaces=replaces))

    def text(self, key: str) -> str | None:
        """What it has or is about to be given under `key`."""
        given = next((addition.value for addition in self.additions if addition.key == key), None)
        return given or (self.view[key].string_value if key in self.view else None) or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a trace, from the spans at hand first and from its note."""

    root: Member | None
    session: str | None
    conversation: str | None
    user: str | None
    telling: Telling | None
    telling_is_final: bool
    preview: Preview
    is_whole: bool
    counted: bool
    root_seen: bool

    @property
    def lacks_words(self) -> bool:
        """Whether the root shows no question or no answer, and calls below it may say them later."""
        if self.root is None or self.root.facts.kind in NO_CONVERSATIONS or not _is_silent(self.root):
            return False
        return self.preview.question is None or self.preview.answer is None


def learn(members: Sequence[Member], note: Note) -> Known:
    """Put the spans at hand and the note together."""
    root = next((member for member in members if member.is_root), None)
    ordered = sorted(members, key=lambda member: (member is not root, member.facts.start_unix_ns))
    facts = [member.facts for member in ordered]
    own = root.facts if root else None
    return Known(
        root=root,
        session=(own and own.session) or note.session or _first(fact.session for fact in facts),
        conversation=(own and own.conversation)
        or note.conversation
        or _first(fact.conversation for fact in facts),
        user=(own and own.user) or note.user or _first(fact.user for fact in facts),
        telling=_telling([member for member in members if member is not root], note),
        telling_is_final=_is_attached(_earliest(members), members),
        preview=preview_of(_spoken(members, root), note.preview) if _is_silent(root) else note.preview,
        is_whole=_is_attached(_earliest(each for each in members if each is not root), members),
        counted=note.counted or any(fact.kind in PRICED_KINDS and fact.tokens.known for fact in facts),
        root_seen=note.root_seen or any(member.is_root or _is_remote_child(member) for member in members),
    )


def tells_more(members: Sequence[Member], note: Note) -> bool:
    """Whether a root that MLflow has already is to be sent once more, for a better name has come."""
    if note.root is None or any(member.is_root for member in members):
        return False
    return _telling(members, note) != note.telling or says_more(_spoken(members, None), note.preview)


def note_for(known: Known, note: Note) -> Note | None:
    """What later spans of the trace will need; None where the note, or its absence, says it already."""
    root = known.root
    # a web server's span is named after what it serves: that may come later, or a better one may
    waits = root is not None and root.facts.is_http and (not known.telling_is_final or note != Note())
    # one that shows nothing shows what its calls say
    waits = waits or (known.lacks_words and (not known.is_whole or note != Note()))
    if root is not None and not waits and note == Note():
        return None  # all there: the common case writes nothing
    new = Note(
        session=known.session,
        conversation=known.conversation,
        user=known.user,
        telling=known.telling,
        preview=known.preview,
        counted=known.counted,
        root_seen=known.root_seen,
        root=_alone(root) if root is not None and waits else note.root,
    )
    return None if new == note else new


def name_and_tag(members: Sequence[Member], known: Known, parts: frozenset[Part]) -> None:
    """Give the root the trace's name and tags."""
    root = known.root
    if root is None:
        return
    if Part.NAMES in parts and (name := _name(members, known)):
        root.give(Part.NAMES, TRACE_NAME, capped(name))
    if Part.CAPS in parts and TRACE_NAME in root.view and len(root.view[TRACE_NAME].string_value) > 4096:
        # MLflow refuses the whole request
        root.give(Part.CAPS, TRACE_NAME, capped(root.view[TRACE_NAME].string_value), replaces=True)
    if Part.TAGS in parts:
        for key, value in _tags(members, root):
            root.give(Part.TAGS, f"{TRACE_TAG}{key}", value)


def give_content(known: Known) -> None:
    """Inputs and outputs for a root that has none, a web server's span say: those of what is below."""
    if known.root is None:
        return
    for key, found, read in (
        (INPUTS, known.preview.question, INPUTS_READ),
        (OUTPUTS, known.preview.answer, OUTPUTS_READ),
    ):
        if found and not _shows(known.root, key, read):
            known.root.give(Part.CONTENT, key, found[1])


def give_session(members: Sequence[Member], known: Known) -> None:
    """Have MLflow take the trace's session and user, whichever of its spans it sees first."""
    wanted = known.session or (known.conversation if _is_settled(members, known) else None)
    first = next(
        (member for member in members if SESSION in member.view or CONVERSATION in member.view), None
    )
    if wanted is not None:
        _have_first_say(first or known.root or members[0], SESSION, wanted)
    elif first is not None:
        # MLflow would take the id of a run and keep it; an empty one leaves the place to the root
        first.give(Part.SESSIONS, SESSION, "", replaces=True)
    if known.user is not None:
        first = next((member for member in members if USER in member.view), None)
        _have_first_say(first or known.root or members[0], USER, known.user)


def cap_session(members: Sequence[Member]) -> None:
    """Shorten the ids that MLflow would refuse the whole request for."""
    for member in members:
        held = SESSION if SESSION in member.view else CONVERSATION
        said = member.view[held].string_value if held in member.view else ""
        given = any(addition.key == SESSION for addition in member.additions)
        if len(said) > MAX_ID_CHARACTERS and not given:
            member.give(Part.CAPS, SESSION, capped(said), replaces=True)


def comes_first(members: Sequence[Member], known: Known) -> Member | None:
    """The root, where MLflow must see it before a span that names another session or user; else None."""
    root = known.root
    if root is None or members[0] is root:
        return None
    for key, wanted in ((SESSION, root.facts.session), (USER, root.facts.user)):
        said = next((text for member in members if (text := member.text(key))), None)
        if wanted and said and said != capped(wanted):
            return root
    return None


def _have_first_say(member: Member, key: str, wanted: str) -> None:
    """Write `wanted` on the span that MLflow asks; a value of the client's own only where it is wrong."""
    value = capped(wanted)
    if key not in member.view:
        if value != wanted or member.text(CONVERSATION) != value or key != SESSION:
            member.give(Part.SESSIONS, key, value)
        return
    said = member.view[key].string_value
    is_copy = key == SESSION and said == member.facts.conversation
    if said != value and is_copy:
        member.give(Part.SESSIONS, key, value, replaces=True)


def _is_settled(members: Sequence[Member], known: Known) -> bool:
    """Whether no root with a session of its own is to be waited for."""
    return known.root_seen or not all(member.span.flags & HAS_IS_REMOTE for member in members)


def _is_remote_child(member: Member) -> bool:
    return bool(member.span.flags & IS_REMOTE)


def _name(members: Sequence[Member], known: Known) -> str | None:
    assert known.root is not None
    if TRACE_NAME in known.root.view:
        return None
    if given := _first(member.facts.trace_name for member in members):
        return given
    if known.root.facts.is_http and known.telling is not None:
        return known.telling.name
    return known.root.facts.name


def _tags(members: Sequence[Member], root: Member) -> list[tuple[str, str]]:
    facts = root.facts
    found = {
        "service.name": facts.service,
        "service.version": facts.service_version,
        "deployment.environment.name": facts.environment,
    }
    for attribute in root.of.resource.attributes:
        found.pop(attribute.key, None)  # MLflow makes tags of those itself
    for name, value in _client_tags(members, root):
        if not name.startswith("mlflow."):
            found.setdefault(tag_name(name), value or "true")
    return [(name, value) for name, value in found.items() if name and value]


def _client_tags(members: Sequence[Member], root: Member) -> Iterable[tuple[str, str]]:
    """The root's own; where it has none, those that all spans with any have: others are about a step."""
    if root.facts.tags:
        return root.facts.tags
    tagged = [set(member.facts.tags) for member in members if member.facts.tags]
    return sorted(set.intersection(*tagged)) if tagged else ()


def _telling(below: Sequence[Member], note: Note) -> Telling | None:
    """What the trace is about: by the earliest agent or model call below the root."""
    told = _earliest(below)
    if told is None or (note.telling and note.telling.start_unix_ns < told.facts.start_unix_ns):
        return note.telling
    return Telling(
        start_unix_ns=told.facts.start_unix_ns,
        name=told.facts.name,
    )


def _spoken(members: Sequence[Member], root: Member | None) -> list[Spoken]:
    return [(each.facts, each.view, each.span.events) for each in members if each is not root]


def _is_silent(root: Member | None) -> bool:
    """Whether it may need the question or the answer of what is below; so far unknown, without a root."""
    return root is None or not (_shows(root, INPUTS, INPUTS_READ) and _shows(root, OUTPUTS, OUTPUTS_READ))


def _shows(root: Member, key: str, read: Sequence[str]) -> bool:
    return root.text(key) is not None or shown(root.view, read) is not None


def _earliest(members: Iterable[Member]) -> Member | None:
    """The first agent or model call; of two with one start, the agent."""
    return min(
        (member for member in members if member.facts.kind in TELLING),
        key=lambda member: (member.facts.start_unix_ns, TELLING.index(member.facts.kind)),
        default=None,
    )


def _is_attached(member: Member | None, members: Sequence[Member]) -> bool:
    """Whether every span between this one and the root is at hand: none of them can tell more later."""
    by_id = {each.facts.span_id: each for each in members}
    for _ in members:
        if member is None or member.is_root:
            break
        member = by_id.get(member.facts.parent_span_id or "")
    return member is not None and member.is_root


def _alone(member: Member) -> bytes:
    """The span with its resource and scope, as one serialized ResourceSpans."""
    scope = ScopeSpans(scope=member.scope.scope, schema_url=member.scope.schema_url, spans=[member.span])
    return ResourceSpans(
        resource=member.of.resource, schema_url=member.of.schema_url, scope_spans=[scope]
    ).SerializeToString()


def _first(values: Iterable[str | None]) -> str | None:
    return next((value for value in values if value), None)
