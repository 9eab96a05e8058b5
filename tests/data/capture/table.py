"""The table frameworks x cells in docs/harmonise.md, from the truths. Pure but for reading them.

That it is true is held by tests/system/test_frameworks.py, which sends every capture again.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from tests.data.capture.truth import Gap, TraceTruth, Truth, truths

# a column -> the cells of truth.py that it stands for
COLUMNS: Mapping[str, Sequence[str]] = {
    "types": ("types",),
    "name": ("name",),
    "calls": ("model_calls", "tool_calls", "tools"),
    "models": ("models", "answering"),
    "tokens": ("input", "output"),
    "cached": ("cached", "cache_write"),
    "reasoning": ("reasoning",),
    "cost": ("cost", "model_cost"),
    "errors": ("status", "errors"),
    "cut off": ("truncated",),
    "agent": ("agent",),
    "session": ("session",),
    "user": ("user",),
    "question": ("request",),
    "answer": ("response",),
}
# what a sender doesn't report of these is no gap where there was nothing to report
ALWAYS = frozenset({"types", "name", "calls", "models", "errors"})

# the reason that needs no number
PLAIN = "the sender does not tell"


def table() -> str:
    """The table and the words for its empty cells."""
    reasons: dict[str, int] = {}
    rows = [_row(truth, reasons) for truth in truths()]
    head = f"| framework | {' | '.join(COLUMNS)} |"
    lines = [head, "|" + " --- |" * (len(COLUMNS) + 1), *rows, ""]
    return "\n".join([*lines, *(f"{number}. {why}" for why, number in reasons.items())])


def _row(truth: Truth, reasons: dict[str, int]) -> str:
    cells = [_cell(truth, name, cells, reasons) for name, cells in COLUMNS.items()]
    return f"| {truth.title} | {' | '.join(cells)} |"


def _cell(truth: Truth, column: str, cells: Sequence[str], reasons: dict[str, int]) -> str:
    if any(cell in truth.pending for cell in cells):
        return "wrong"
    if limits := {truth.limits[cell] for cell in cells if cell in truth.limits}:
        return f"partly ({', '.join(_numbers(limits, reasons))})"
    asked = [trace for trace in truth.traces if column in ALWAYS or _has(trace, cells)]
    gaps = [list(_gaps(trace, cells)) for trace in asked]
    if not asked:
        return "–"
    if not any(gaps):
        return "yes"
    whys = {gap.why for found in gaps for gap in found} - {PLAIN}
    word = "no" if all(gaps) else "partly"
    return f"{word} ({', '.join(_numbers(whys, reasons))})" if whys else word


def _numbers(whys: Iterable[str], reasons: dict[str, int]) -> list[str]:
    """Each reason has one number in the whole table."""
    return [
        str(number) for number in sorted(reasons.setdefault(why, len(reasons) + 1) for why in sorted(whys))
    ]


def _has(trace: TraceTruth, cells: Iterable[str]) -> bool:
    return any(trace.cells.get(cell) for cell in cells)


def _gaps(trace: TraceTruth, cells: Iterable[str]) -> Iterator[Gap]:
    return (
        trace.gaps[cell]
        for cell in cells
        if cell in trace.gaps and trace.gaps[cell].told != trace.cells.get(cell)
    )
