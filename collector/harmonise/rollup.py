"""Which spans MLflow is to count, in the whole trace as far as it is known. Pure.

    spans at hand + those that MLflow has (the note) -> tree -> the counting rules -> what each is told of

MLflow adds tokens up from the top: where a parent has a number, its children don't count. Each span's own
cost is counted where it groups by model. So a parent that says less than its parts (an agent that reports
its last call only) would hide them, and one that says as much, or another instrumentation's span of the same
call, would be counted twice. What counts is worked out as for summaries and the index (collector/spans).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from collector.harmonise.content import View
from collector.harmonise.note import MAX_ROOT_BYTES, KeptSpan, Note, keep, unpacked
from collector.harmonise.parts import Addition, Part
from collector.harmonise.seen import MAX_SEEN, SeenSpan, call_alone, checksum, noted
from collector.harmonise.spans import COST, REASONING, USAGE, cost_text, model_additions, usage_text
from collector.harmonise.traces import Member, alone
from collector.spans.conventions import CostSource
from collector.spans.same_call import BETWEEN, same_calls, united
from collector.spans.totals import count, tokens_of
from collector.spans.tree import build_tree
from collector.spans.usage import PRICED_KINDS
from collector.spans.values import NO_TOKENS, SpanFacts, Tokens, add_tokens

# to MLflow, a usage that says nothing: it neither reads another attribute nor prices the span
NO_USAGE = ""
COUNTED_PARTS = frozenset({Part.TOKENS, Part.COST})
# of the whole spans that a note holds: while a parent is to come, and for as long as there are notes at all
MAX_WAITING_BYTES = 8 * 1024
MAX_SETTLED_BYTES = 1024
# a span with more is not small
MAX_SMALL_ATTRIBUTES = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageShare:
    """What MLflow is to count of one span. `tokens` None: nothing; `below`: what counts under it."""

    facts: SpanFacts
    tokens: Tokens | None
    cost_usd: float | None
    below: Tokens

    @property
    def is_counted(self) -> bool:
        return self.tokens is not None or self.cost_usd is not None

    @property
    def muted(self) -> "UsageShare":
        return UsageShare(facts=self.facts, tokens=None, cost_usd=None, below=self.below)

    @property
    def told(self) -> int:
        """A checksum of what MLflow is told."""
        facts = self.facts
        return checksum(self.tokens, self.cost_usd, facts.model, facts.provider) if self.is_counted else 0


def share_usage(members: Sequence[Member], note: Note, parts: frozenset[Part]) -> None:
    """Have each span tell MLflow of the tokens and the cost that count as its own, and no others."""
    if not note.seen and not note.calls and _is_plain(members):
        if Part.TOKENS in parts:
            _silence_plainly(members, note)
        return
    shares = _weighed(members, note)
    for member in members:
        _tell(member, shares[member.facts.span_id], parts)


def _weighed(members: Sequence[Member], note: Note) -> dict[str, UsageShare]:
    """What each span that is known tells MLflow: what counts as its own, as far as MLflow can still be told.

    What MLflow was told of a span that is neither at hand nor kept stays as it is: a call that another
    span tells of already is not told of again, and one of which nothing was told is told of by that other.
    """
    facts = _all_facts(members, note)
    within_reach = {member.facts.span_id for member in members} | {each.span_id for each in note.kept}
    fixed = {each.facts.span_id: each.told for each in _seen(note) if each.facts.span_id not in within_reach}
    silent = frozenset(id for id, told in fixed.items() if not told)
    shares = shares_of(facts, counted_before=_counted_before(note), silent=silent)
    loud = frozenset(
        id
        for id, told in fixed.items()
        if told and not shares[id].is_counted and shares[id].facts.kind in PRICED_KINDS
    )
    for id in [id for id in shares if _is_inside(shares[id].facts, loud, shares)]:
        shares[id] = shares[id].muted
    return shares


def shares_of(
    spans: Collection[SpanFacts], *, counted_before: bool = False, silent: Collection[str] = ()
) -> dict[str, UsageShare]:
    """By span id. `counted_before`: there are model calls with tokens that are not among `spans`.

    Those in `silent` can't tell anything: where one's call counts, the span around it tells of it.
    """
    said = build_tree(spans)
    tree = united(said)
    using = count(tree)
    tokens, costs = frozenset(using.tokens), frozenset(using.costs)
    calls_counted = counted_before or any(tree.spans[each].kind in PRICED_KINDS for each in tokens)
    below = [NO_TOKENS] * len(tree.spans)
    shares = {}
    for position in reversed(range(len(tree.spans))):
        span, parent = tree.spans[position], tree.parents[position]
        is_lone = span.kind not in PRICED_KINDS and calls_counted and not below[position].known
        taken = tokens_of(span) if position in tokens and not (is_lone and counted_before) else None
        priced = position in costs and span.cost_source is not CostSource.MLFLOW
        shares[span.span_id] = UsageShare(
            facts=span, tokens=taken, cost_usd=span.cost_usd if priced else None, below=below[position]
        )
        if parent is not None and (counts := taken or below[position]).known:
            below[parent] = add_tokens([below[parent], counts])
    for around, call in enumerate(same_calls(said) if silent else ()):
        if call is not None and said.spans[call].span_id in silent:
            inner, outer = said.spans[call].span_id, said.spans[around].span_id
            shares[outer], shares[inner] = shares[inner], shares[inner].muted
    return shares


def send_again(members: Sequence[Member], note: Note) -> list[bytes]:
    """Spans of earlier requests of which MLflow is to count something else now, each a ResourceSpans."""
    if not note.kept:
        return []
    here = {member.facts.span_id for member in members}
    shares = _weighed(members, note)
    told = {each.facts.span_id: each.told for each in note.seen}
    return [
        unpacked(kept)
        for kept in note.kept
        if kept.span_id not in here
        and kept.span_id in shares
        and shares[kept.span_id].told != told.get(kept.span_id, 0)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What a note says for counting: its fields of these names."""

    seen: tuple[SeenSpan, ...] = ()
    kept: tuple[KeptSpan, ...] = ()
    calls: tuple[str, ...] = ()


def remember_usage(members: Sequence[Member], note: Note) -> Remembered:
    """What a later request needs to count the trace again: of one that seems to be all here, its calls."""
    before = _seen(note)
    ids = {member.facts.span_id for member in members} | {each.facts.span_id for each in before}
    is_whole = all(parent in ids for m in members if (parent := m.facts.parent_span_id) is not None)
    if is_whole and not before and any(member.is_root for member in members):
        if not any(_may_be_around_a_call(member.facts) for member in members):
            return Remembered()
        if _is_plain(members):
            members = _calls_and_below(members)
            if all(len(member.view) > MAX_SMALL_ATTRIBUTES for member in members):
                return Remembered(calls=tuple(member.facts.span_id for member in members))
    shares = _weighed(members, note)
    facts = _all_facts(members, note)
    seen = [SeenSpan(facts=noted(each), told=shares[each.span_id].told) for each in facts]
    # of a whole trace only what is small by itself is kept
    max_bytes, largest = (
        (MAX_SETTLED_BYTES, 4 * MAX_SETTLED_BYTES) if is_whole else (MAX_WAITING_BYTES, MAX_ROOT_BYTES)
    )
    doubtful = [
        (member.facts.span_id, alone(member))
        for member in members
        if shares[member.facts.span_id].is_counted and member.span.ByteSize() <= largest
    ]
    return Remembered(seen=tuple(seen[-MAX_SEEN:]), kept=keep(doubtful, note.kept, max_bytes=max_bytes))


def _seen(note: Note) -> Sequence[SeenSpan]:
    return [*map(call_alone, note.calls), *note.seen] if note.calls else note.seen


def _calls_and_below(members: Sequence[Member]) -> list[Member]:
    """The model calls, and what another instrumentation's span of one may come to stand under."""
    kinds = {m.facts.span_id: m.facts.kind for m in members}
    parents = {m.facts.span_id: m.facts.parent_span_id for m in members}
    found = []
    for member in members:
        at: str | None = member.facts.span_id
        for _ in members:
            if at is None or kinds.get(at) not in BETWEEN:
                break
            at = parents[at]
        if at is not None and kinds.get(at) in PRICED_KINDS:
            found.append(member)
    return found


def _may_be_around_a_call(facts: SpanFacts) -> bool:
    return facts.kind in PRICED_KINDS or _says_usage(facts)


def _counted_before(note: Note) -> bool:
    """Whether there are model calls with tokens that the note says no more of."""
    return note.counted and not note.calls and not 0 < len(note.seen) < MAX_SEEN


def _all_facts(members: Iterable[Member], note: Note) -> list[SpanFacts]:
    """Of the spans that MLflow has and of those at hand, each once."""
    facts = {each.facts.span_id: each.facts for each in _seen(note)}
    facts.update((member.facts.span_id, member.facts) for member in members)
    return list(facts.values())


def _says_usage(facts: SpanFacts) -> bool:
    return facts.tokens.known or facts.aggregated_tokens.known or facts.cost_usd is not None


def _is_plain(members: Sequence[Member]) -> bool:
    """Whether each model call stands alone and says its tokens, so that those count and no others.

    Nearly every trace is so, and needs no tree.
    """
    parents: dict[str, str | None] = {}
    calls: list[str] = []
    for member in members:
        facts = member.facts
        parents[facts.span_id] = facts.parent_span_id
        if facts.kind in PRICED_KINDS:
            if facts.is_roll_up or not facts.tokens.known:
                return False
            calls.append(facts.span_id)
        elif facts.cost_usd is not None:
            return False
    if not calls:
        return not any(_says_usage(member.facts) for member in members)
    return not _is_any_nested(calls, parents)


def _is_any_nested(calls: Sequence[str], parents: Mapping[str, str | None]) -> bool:
    """Whether one of these spans is somewhere below another."""
    ids = frozenset(calls)
    looked_at: set[str] = set()
    for call in calls:
        above = parents[call]
        while above is not None and above not in looked_at:
            if above in ids:
                return True
            looked_at.add(above)
            above = parents.get(above)
    return False


def _silence_plainly(members: Sequence[Member], note: Note) -> None:
    if not any(m.facts.kind not in PRICED_KINDS and m.facts.tokens.known for m in members):
        return
    shares = None
    for member in members:
        if member.facts.kind in PRICED_KINDS or not member.facts.tokens.known:
            continue
        if USAGE not in member.view:
            member.additions.insert(0, Addition(part=Part.TOKENS, key=USAGE, value=NO_USAGE))
        else:
            shares = shares or shares_of(_all_facts(members, note))
            _raise(member, shares[member.facts.span_id].below)


def _tell(member: Member, share: UsageShare, parts: frozenset[Part]) -> None:
    """Give the span what it is to tell MLflow, in the place of what it would say for itself."""
    if share.facts is member.facts and _speaks_for_itself(share):
        return
    if member.facts.kind in PRICED_KINDS or share.is_counted:
        member.additions[:] = [each for each in member.additions if each.part not in COUNTED_PARTS]
        member.additions += [each for each in _counted(share, member.view) if each.part in parts]
    if Part.TOKENS in parts and share.tokens is None and member.facts.tokens.known:
        _silence(member, share)


def _speaks_for_itself(share: UsageShare) -> bool:
    """Whether what follows from the span alone (spans.py) is what counts."""
    facts = share.facts
    if facts.kind not in PRICED_KINDS:
        return not share.is_counted and not facts.tokens.known
    said = facts.cost_usd if facts.cost_source is not CostSource.MLFLOW else None
    whole = facts.tokens if facts.tokens.known else None
    return not facts.is_roll_up and share.tokens == whole and share.cost_usd == said


def _counted(share: UsageShare, view: View) -> list[Addition]:
    facts = share.facts
    additions: list[Addition] = []
    if share.tokens is not None:
        additions.append(Addition(part=Part.TOKENS, key=USAGE, value=usage_text(share.tokens)))
        if (reasoning := share.tokens.reasoning) is not None:
            additions.append(Addition(part=Part.TOKENS, key=REASONING, value=str(reasoning)))
    if share.cost_usd is not None:
        additions.append(Addition(part=Part.COST, key=COST, value=cost_text(facts, share.cost_usd)))
    if facts.kind in PRICED_KINDS or share.cost_usd is not None:
        additions += model_additions(facts, view)
    return additions


def _silence(member: Member, share: UsageShare) -> None:
    # before what the span says of itself: the first addition under a name counts
    if USAGE not in member.view:
        member.additions.insert(0, Addition(part=Part.TOKENS, key=USAGE, value=NO_USAGE))
    elif member.facts.kind in PRICED_KINDS and share.facts is not member.facts:  # the same call again
        silence = Addition(part=Part.TOKENS, key=USAGE, value=NO_USAGE, replaces=True)
        member.additions.insert(0, silence)
    else:
        _raise(member, share.below)


def _raise(member: Member, below: Tokens) -> None:
    """Where MLflow's own roll-up says less than its parts: their sum."""
    if (below.total or 0) > (member.facts.tokens.total or 0):
        sums = usage_text(below)
        member.additions.insert(0, Addition(part=Part.TOKENS, key=USAGE, value=sums, replaces=True))


def _is_inside(facts: SpanFacts, loud: Collection[str], shares: Mapping[str, UsageShare]) -> bool:
    """Whether the span is of a call that MLflow counts already, on the span around it."""
    parent = facts.parent_span_id
    for _ in range(len(shares) if loud else 0):
        if parent is None or parent in loud:
            return parent is not None
        if parent not in shares or shares[parent].facts.kind not in {*BETWEEN, *PRICED_KINDS}:
            return False
        parent = shares[parent].facts.parent_span_id
    return False
