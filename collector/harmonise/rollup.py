"""Usage of spans whose parts are spans of their own. Pure.

MLflow adds tokens up from the top: where a parent has a number, its children don't count, and each span's
own cost is counted where it groups by model. So a parent that says less than its parts (an agent that
reports its last call only) would hide them, and one that says as much would be counted twice.
"""

from collections.abc import Mapping, Sequence

from collector.harmonise.note import Note
from collector.harmonise.parts import Addition, Part
from collector.harmonise.spans import USAGE, usage_text
from collector.harmonise.traces import Member
from collector.spans.counting import MODEL_KINDS
from collector.spans.values import NO_TOKENS, SpanFacts, Tokens, add_tokens

# to MLflow, a usage that says nothing: it neither reads another attribute nor prices the span
NO_USAGE = ""


def leave_usage_to_parts(members: Sequence[Member], note: Note) -> None:
    """Take a parent's usage out of the count where its parts have their own.

    A parent whose parts have none gets what it says of its whole run.
    """
    if not any(_speaks_for_parts(member.facts) for member in members):
        return
    once = {member.facts.span_id: member for member in members}
    below = _tokens_below(once)
    for id, member in once.items():
        own, whole = member.facts.tokens, member.facts.aggregated_tokens
        parts_known = below[id].known or (note.counted and member.facts.kind not in MODEL_KINDS)
        if own.known and parts_known:
            _silence(member, below[id])
        elif whole.known and not own.known and not parts_known:
            member.give(Part.TOKENS, USAGE, usage_text(whole))


def _silence(member: Member, below: Tokens) -> None:
    own = member.facts.tokens
    # before what the span says of itself: the first addition under a name counts
    if USAGE not in member.view:
        member.additions.insert(0, Addition(part=Part.TOKENS, key=USAGE, value=NO_USAGE))
    elif (below.total or 0) > (own.total or 0):  # MLflow's own roll-up, and less than its parts
        sums = usage_text(below)
        member.additions.insert(0, Addition(part=Part.TOKENS, key=USAGE, value=sums, replaces=True))


def _speaks_for_parts(facts: SpanFacts) -> bool:
    speaks = facts.tokens.known or facts.aggregated_tokens.known
    return speaks and (facts.kind not in MODEL_KINDS or facts.is_roll_up)


def _tokens_below(members: Mapping[str, Member]) -> dict[str, Tokens]:
    """The tokens under each span, of the deepest spans that have any."""
    sums = dict.fromkeys(members, NO_TOKENS)
    for id in reversed(_top_down(members)):
        facts = members[id].facts
        parent = facts.parent_span_id
        if parent is not None and parent in members:
            tokens = sums[id] if sums[id].known else facts.tokens
            sums[parent] = add_tokens([sums[parent], tokens])
    return sums


def _top_down(members: Mapping[str, Member]) -> list[str]:
    """Ids with parents before children; spans that are each other's parents are left out."""
    children: dict[str, list[str]] = {}
    tops = []
    for id, member in members.items():
        parent = member.facts.parent_span_id
        if parent in members and parent is not None:
            children.setdefault(parent, []).append(id)
        else:
            tops.append(id)
    order = []
    while tops:
        id = tops.pop()
        order.append(id)
        tops += children.get(id, ())
    return order
