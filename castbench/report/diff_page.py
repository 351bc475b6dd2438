"""A Diff as a page for people, as a long CSV table, and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from castbench.cost.gates import JudgedFigure, JudgedGate, Outcome
from castbench.errors import InputError
from castbench.report import csv_table, markdown, terminal, text
from castbench.report import format as fmt
from castbench.report.blocks import Block, Bullets, Column, Heading, Paragraph, Table
from castbench.report.catalogue import speaking
from castbench.report.diff_view import Diff, DiffRow
from castbench.report.gate_figures import memory_change
from castbench.report.json_report import encoded, said
from castbench.report.nouns import RunFacts
from castbench.report.shapes_page import shape_of
from castbench.said import Quantity, Statement, Unit, statement
from castbench.stats import Verdict

SCHEMA = 1
"""Rises whenever a key is added, renamed, removed or changes its meaning."""

CSV_COLUMNS = (
    "comparable", "base_run_id", "new_run_id", "table", "label", "batch_size", "seq_len", "batching", "regime",
    "base_speedup", "base_speedup_low", "base_speedup_high", "new_speedup", "new_speedup_low", "new_speedup_high",
    "base_ms", "base_low_ms", "base_high_ms", "new_ms", "new_low_ms", "new_high_ms",
    "change_percent", "change_low_percent", "change_high_percent", "verdict", "base_peak_memory_mib",
    "new_peak_memory_mib", "peak_memory_change_percent", "reason",
)  # fmt: skip
_NUMBERS = ("base", "new", "base_ms", "new_ms", "base_mib", "new_mib", "change", "memory_change")


def render(diff: Diff, fmt_name: str, *, width: int = 80, colour: bool = False) -> bytes:
    """The difference in one of FORMATS; InputError for another."""
    draw: dict[str, Callable[[], bytes]] = {
        "terminal": lambda: terminal.draw(page(diff), width=width, colour=colour),
        "md": lambda: markdown.draw(page(diff)),
        "json": lambda: as_json(diff),
        "csv": lambda: table(diff),
    }
    if fmt_name not in draw:
        raise InputError(f"--format: expected one of {', '.join(draw)}, got {fmt_name!r}")
    return draw[fmt_name]()


def page(diff: Diff) -> tuple[Block, ...]:
    """Gates first, then what changed, then what has no verdict."""
    runs = (_run("BASE", diff.base), _run("NEW", diff.new))
    return (
        Heading(text.HEADINGS["diff"], 1),
        *(Paragraph(text.say(note), "warning" if note.key == "compare.unlike" else "plain") for note in diff.notes),
        *_gates(diff.gates),
        Heading(text.HEADINGS["diff.runs"]),
        Bullets(tuple(map(text.say, runs))),
        *_changes(diff),
        *_memory(diff.cases),
        *_unjudged((*diff.traffic, *diff.cases, *diff.absolute)),
    )


def table(diff: Diff) -> bytes:
    """One CSV row per row of the page; `comparable` is yes or UNLIKE RUNS in every row."""
    rows = [("traffic", diff.traffic), ("cases", diff.cases), ("absolute", diff.absolute)]
    cells = (_cells(diff, name, row) for name, listed in rows for row in listed)
    return csv_table.write(CSV_COLUMNS, cells)


@speaking("en")
def as_json(diff: Diff) -> bytes:
    """Everything unrounded, for machines."""
    return encoded(
        {
            "schema": SCHEMA,
            "kind": "diff",
            "unlike_runs": diff.unlike,
            "base": diff.base,
            "new": diff.new,
            "notes": [said(note) for note in diff.notes],
            "margin": diff.margin,
            "noise_floor_percent": diff.floor_percent,
            "gates": [_plain_gate(gate) for gate in diff.gates],
            "traffic": [_plain_row(row) for row in diff.traffic],
            "cases": [_plain_row(row) for row in diff.cases],
            "absolute": [_plain_row(row) for row in diff.absolute],
        }
    )


def gate_sentence(gate: JudgedGate) -> Statement:
    """A gate with what it was held against: of several figures the worst, and how many where all pass."""
    worst = min(gate.judged, key=lambda one: _room(gate, one))
    figure, outcome = worst.figure, gate.outcome
    named: dict[str, str | Statement | Quantity | None] = {"gate": gate.gate.text, "whose": _whose(worst)}
    if outcome is Outcome.UNDECIDED and (figure.quantity is None or figure.why is not None):
        return statement("gate.unknown", **named, why=figure.why)
    named["figure"] = figure.quantity
    if outcome is Outcome.PASSED and len(gate.judged) > 1:
        return statement("gate.every", **named, count=Quantity(len(gate.judged), Unit.COUNT))
    keys = {
        Outcome.PASSED: statement("gate.passed", **named), Outcome.MISSED: statement("gate.missed", **named),
        Outcome.UNDECIDED: statement("gate.undecided", **named),
    }  # fmt: skip
    return keys[outcome]


def _room(gate: JudgedGate, one: JudgedFigure) -> tuple[int, float]:
    """Orders figures from the one that decides the outcome: by outcome, then by how near its unfavourable end is."""
    order = {Outcome.MISSED: 0, Outcome.UNDECIDED: 1, Outcome.PASSED: 2}
    known, wanted = one.figure.quantity, gate.gate
    if known is None:
        return order[one.outcome], 0.0
    low, high = (known.value if end is None else end for end in (known.low, known.high))
    return order[one.outcome], low - wanted.number if wanted.at_least else wanted.number - high


def _whose(one: JudgedFigure) -> Statement:
    """Which mechanism a figure is of, and at which case."""
    if one.figure.case is None:
        return statement("gate.whose", label=one.figure.label)
    return statement("gate.whose_case", label=one.figure.label, case=shape_of(one.figure.case))


def _gates(gates: Sequence[JudgedGate]) -> Iterator[Block]:
    """A line for every gate."""
    if gates:
        yield Heading(text.HEADINGS["diff.gates"])
        yield Bullets(tuple(text.say(gate_sentence(gate)) for gate in gates))


def _run(name: str, run: RunFacts) -> Statement:
    """Which run, where and with what."""
    here = run.environment
    return statement(
        "diff.run", name=name, run_id=run.run_id, created_at=run.created_at, device_name=here.device_name,
        castbench=here.castbench, torch=here.torch,
    )  # fmt: skip


def _changes(diff: Diff) -> Iterator[Block]:
    """The tables of changes."""
    traffic, cases = (
        [row for row in rows if row.verdict is not Verdict.BASELINE] for rows in (diff.traffic, diff.cases)
    )
    if not traffic and not cases:
        yield Paragraph(text.say(statement("diff.nothing")))
    baseline = diff.new_money.baseline
    if traffic:
        yield Heading(text.HEADINGS["diff.traffic"].format(baseline=baseline.label if baseline else fmt.NOTHING))
        yield _table(traffic, ("label", "base", "new", "change", "verdict"))
    if cases:
        yield Heading(text.HEADINGS["diff.cases"].format(baseline=diff.new.baseline_label))
        yield _table(cases, ("label", "case", "base", "new", "change", "verdict"))
    if diff.absolute:
        yield Heading(text.HEADINGS["diff.absolute"])
        yield _table(diff.absolute, ("label", "case", "base_ms", "new_ms", "change", "verdict"))


def _table(rows: Sequence[DiffRow], names: Sequence[str]) -> Table:
    """Rows with the cells of these names; what got slower or faster is stressed."""
    columns = tuple(Column(text.DIFF_COLUMNS[n], numeric=n in _NUMBERS, flexible=n == "label") for n in names)
    marked = tuple(i for i, row in enumerate(rows) if row.verdict in (Verdict.FASTER, Verdict.SLOWER))
    return Table(columns, tuple(tuple(_cell(row, name) for name in names) for row in rows), marked)


def _cell(row: DiffRow, name: str) -> str:
    """One finished cell."""
    quantities = {
        "base": row.base.figure, "base_ms": row.base.figure, "new": row.new.figure, "new_ms": row.new.figure,
        "change": row.change, "base_mib": _mib(row.base.peak_mib), "new_mib": _mib(row.new.peak_mib),
        "memory_change": _percent(memory_change(row)),
    }  # fmt: skip
    if name in quantities:
        return fmt.spread(quantities[name], unit=False)
    words = {
        "label": row.label, "case": fmt.NOTHING if row.group is None else shape_of(row.group),
        "verdict": fmt.NOTHING if row.verdict is None else row.verdict.value,
    }  # fmt: skip
    return words[name]


def _mib(number: float | None) -> Quantity | None:
    return None if number is None else Quantity(number, Unit.MIB)


def _percent(number: float | None) -> Quantity | None:
    return None if number is None else Quantity(number, Unit.PERCENT)


def _memory(rows: Sequence[DiffRow]) -> Iterator[Block]:
    """Peak memory of the cases where it changed, or that it did not."""
    known = [row for row in rows if memory_change(row) is not None]
    changed = [row for row in known if row.base.peak_mib != row.new.peak_mib]
    if changed:
        yield Heading(text.HEADINGS["diff.memory"])
        yield _table(changed, ("label", "case", "base_mib", "new_mib", "memory_change"))
    elif known:
        yield Paragraph(text.say(statement("diff.memory_same", count=Quantity(len(known), Unit.COUNT))))


def _unjudged(rows: Sequence[DiffRow]) -> Iterator[Block]:
    """Rows without a verdict, and why."""
    said_of = [(row, row.why) for row in rows if row.why is not None]
    if not said_of:
        return
    yield Heading(text.HEADINGS["diff.unjudged"])
    sentences = (
        statement("diff.unjudged_traffic", label=row.label, why=why) if row.group is None
        else statement("diff.unjudged", label=row.label, case=shape_of(row.group), why=why)
        for row, why in said_of
    )  # fmt: skip
    yield Bullets(tuple(dict.fromkeys(map(text.say, sentences))))


def _cells(diff: Diff, name: str, row: DiffRow) -> tuple[csv_table.Cell, ...]:
    """A row's CSV cells; speed-ups or milliseconds, whatever the row is of."""
    group = row.group
    case = (None,) * 4 if group is None else (
        group.shape.batch_size, group.shape.seq_len, group.batching, group.regime
    )  # fmt: skip
    figures = (*_ends(row.base.figure), *_ends(row.new.figure))
    nothing = (None,) * len(figures)
    ratios, times = (nothing, figures) if name == "absolute" else (figures, nothing)
    return (
        "UNLIKE RUNS" if diff.unlike else "yes", diff.base.run_id, diff.new.run_id, name, row.label, *case,
        *ratios, *times, *_ends(row.change), None if row.verdict is None else row.verdict.value,
        row.base.peak_mib, row.new.peak_mib, memory_change(row), text.in_english(row.why),
    )  # fmt: skip


def _ends(quantity: Quantity | None) -> tuple[float | None, float | None, float | None]:
    """A number with its ends."""
    return (None, None, None) if quantity is None else (quantity.value, quantity.low, quantity.high)


def _plain_row(row: DiffRow) -> dict[str, object]:
    """A row for machines."""
    return {
        "label": row.label, "group": row.group, "base": row.base.figure, "new": row.new.figure,
        "change_percent": row.change, "verdict": row.verdict, "base_status": row.base.status,
        "new_status": row.new.status, "base_peak_memory_mib": row.base.peak_mib,
        "new_peak_memory_mib": row.new.peak_mib, "reason": text.in_english(row.why),
    }  # fmt: skip


def _plain_gate(gate: JudgedGate) -> dict[str, object]:
    """A gate for machines."""
    return {
        "gate": gate.gate.text, "label": gate.gate.label, "metric": gate.gate.metric,
        "at_least": gate.gate.at_least, "number": gate.gate.number, "tokens": gate.gate.tokens,
        "outcome": gate.outcome, "text": text.say(gate_sentence(gate)),
        "figures": [
            {"label": one.figure.label, "case": one.figure.case, "figure": one.figure.quantity,
             "outcome": one.outcome, "reason": text.in_english(one.figure.why)}
            for one in gate.judged
        ],
    }  # fmt: skip
