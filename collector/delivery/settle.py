"""One request, until it is delivered, refused or deferred. Finds the span that the target chokes on.

    send ── taken ──────────────────────────────────────────► delivered
      ├── passing ──────────────────────────────────────────► deferred (the window comes again)
      ├── too large, refused, some rejected by a success: halve down to one span ► refused
      └── suspect: the same again, a few times
            └── still: halve down to one span, each alone again
                  └── still: is the target well? then each alone once more, and is it well after that?
                        ├── yes ────────────────────────────► refused (poison)
                        └── no ─────────────────────────────► deferred: it is the server

MLflow is well if it takes a control: a request that it has taken before, sent once more (upserted, so
without effect). Where there is none, because all were large, or because a target would have it twice, another
success in the meantime will do.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from collector.delivery.bisect import halve
from collector.delivery.group import Request
from collector.delivery.verdicts import Sent, Verdict
from collector.model.batch import Entry, FollowUp, signal_of

Send = Callable[[Request], Awaitable[Sent]]
Pause = Callable[[float], Awaitable[None]]

RESEND_PAUSE_SECONDS = 0.2
MAX_CONTROL_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRequest:
    """Spans or log records that the target will not take, and why."""

    request: Request
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Every span of the request is in the target or in `refusals`; `notes` are to be kept, by trace id.

    `delivered` says which owner has which trace ids in MLflow now, where clients are told apart. `follow_ups`
    are entries that the commit is to append; `counts` are for metrics, by outcome.
    """

    delivered_spans: int
    refusals: tuple[RefusedRequest, ...] = ()
    notes: Mapping[bytes, bytes] = field(default_factory=dict)
    delivered: Mapping[bytes, str] = field(default_factory=dict)
    follow_ups: Sequence[FollowUp] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """Something of the request is neither: send it again, at the earliest after the server's wish.

    `is_bug`: the target has nothing to do with it. `timed_out`: it did not answer in time, and may answer a
    smaller request.
    """

    message: str
    retry_after_seconds: float | None = None
    is_bug: bool = False
    timed_out: bool = False


@dataclass(slots=True)
class TargetHealth:
    """What a target took lately, over all requests of a worker: the evidence against a suspect.

    `may_repeat`: what it has taken can be sent once more without effect.
    """

    target: str = "MLflow"
    may_repeat: bool = True
    successes: int = 0
    control: tuple[Send, Request] | None = None

    def took(self, send: Send, request: Request) -> None:
        """The target has taken `request`."""
        self.successes += 1
        if self.may_repeat and len(request.payload) <= MAX_CONTROL_BYTES:
            self.control = (send, request)

    async def is_proven(self, successes_before: int) -> bool:
        """Whether the target takes the control; without one, whether it took anything since then."""
        if self.control is not None:
            send, request = self.control
            match (await send(request)).verdict:
                case Verdict.TAKEN:
                    return True
                case Verdict.SUSPECT | Verdict.PASSING:
                    return False
            self.control = None  # its experiment is gone, say: it proves nothing any more
        return self.successes > successes_before


@dataclass(slots=True)
class _Findings:
    delivered_spans: int = 0
    refusals: list[RefusedRequest] = field(default_factory=list)
    suspects: list[RefusedRequest] = field(default_factory=list)


class _Passing(Exception):
    """The server's trouble, found in the middle of halving."""

    def __init__(self, sent: Sent) -> None:
        super().__init__(sent.message)
        self.sent = sent


async def settle(
    request: Request, send: Send, *, health: TargetHealth, resends: int, pause: Pause = asyncio.sleep
) -> Settled | Deferred:
    """Bring `request` to an end. `send` says what became of one try; it doesn't raise."""
    found = _Findings()
    successes_before = health.successes
    try:
        await _settle(request, send, found, health=health, resends=resends, pause=pause, is_whole=True)
        if found.suspects and not await _are_guilty(found, send, health, successes_before):
            return Deferred(message=f"{health.target} takes nothing at all: {found.suspects[0].message}")
    except _Passing as passing:
        sent = passing.sent
        return Deferred(
            message=sent.message, retry_after_seconds=sent.retry_after_seconds, timed_out=sent.timed_out
        )
    return Settled(delivered_spans=found.delivered_spans, refusals=(*found.refusals, *found.suspects))


async def _settle(
    request: Request,
    send: Send,
    found: _Findings,
    *,
    health: TargetHealth,
    resends: int,
    pause: Pause,
    is_whole: bool,
) -> None:
    # in the middle of halving only the whole and the single span are sent again: a suspect in between
    # will be halved anyway
    tries = resends + 1 if is_whole or request.span_count == 1 else 1
    sent = await _send_up_to(tries, request, send, pause)
    match sent.verdict:
        case Verdict.TAKEN:
            _took(sent, request, send, found, health)
            return
        case Verdict.PASSING | Verdict.NO_EXPERIMENT:
            raise _Passing(sent)
    if request.span_count > max(1, sent.rejected_spans):  # it doesn't reject them all
        for half in halve(request):
            await _settle(half, send, found, health=health, resends=resends, pause=pause, is_whole=False)
        return
    refusal = RefusedRequest(request=request, reason=_reason(sent.verdict), message=sent.message)
    (found.suspects if sent.verdict is Verdict.SUSPECT else found.refusals).append(refusal)


def _took(sent: Sent, request: Request, send: Send, found: _Findings, health: TargetHealth) -> None:
    if sent.withheld_spans < request.span_count:  # a request of which nothing was sent proves nothing
        health.took(send, request)
    found.delivered_spans += request.span_count - sent.withheld_spans


async def _are_guilty(found: _Findings, send: Send, health: TargetHealth, successes_before: int) -> bool:
    """Whether the target fails at the suspects and at nothing else. What it takes after all is no suspect."""
    if not await health.is_proven(successes_before):
        return False
    still: list[RefusedRequest] = []
    for suspect in found.suspects:
        sent = await send(suspect.request)
        match sent.verdict:
            case Verdict.TAKEN:
                _took(sent, suspect.request, send, found, health)
            case Verdict.PASSING | Verdict.NO_EXPERIMENT:
                raise _Passing(sent)
            case _:
                still.append(suspect)
    if still and not await health.is_proven(successes_before):
        return False
    found.suspects = still
    return True


async def _send_up_to(tries: int, request: Request, send: Send, pause: Pause) -> Sent:
    for attempt in range(1, tries + 1):
        sent = await send(request)
        if sent.verdict is not Verdict.SUSPECT or attempt == tries:
            return sent
        await pause(RESEND_PAUSE_SECONDS * attempt)
    raise AssertionError("tries is at least 1")


def _reason(verdict: Verdict) -> str:
    match verdict:
        case Verdict.SUSPECT:
            return "poison"
        case Verdict.TOO_LARGE:
            return "too_large"
        case _:
            return "refused"


def combine(outcomes: Iterable[Settled | Deferred]) -> Settled | Deferred:
    """The outcome of a window from those of its requests: deferred if any is."""
    delivered = 0
    refusals: list[RefusedRequest] = []
    deferred: Deferred | None = None
    for outcome in outcomes:
        match outcome:
            case Deferred():
                deferred = outcome if deferred is None else _longer(deferred, outcome)
            case Settled():
                delivered += outcome.delivered_spans
                refusals += outcome.refusals
    return deferred or Settled(delivered_spans=delivered, refusals=tuple(refusals))


def _longer(one: Deferred, other: Deferred) -> Deferred:
    return max(one, other, key=lambda deferred: deferred.retry_after_seconds or 0)


def refuse_all(entries: Sequence[Entry], reason: str, message: str) -> Settled:
    """Every entry refused, for one reason."""
    refusals = tuple(
        RefusedRequest(
            request=Request(
                payload=entry.payload,
                span_count=entry.span_count,
                trace_ids=entry.trace_ids,
                received_unix_ns=entry.received_unix_ns,
                client=entry.client,
                signal=signal_of(entry.lane),
            ),
            reason=reason,
            message=message,
        )
        for entry in entries
    )
    return Settled(delivered_spans=0, refusals=refusals)
