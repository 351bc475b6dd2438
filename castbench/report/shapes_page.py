"""The part of a page that is measured: a table per shape, shapes without a number, energy, memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from castbench.plan import Group
from castbench.records import Purpose, Status
from castbench.report import format as fmt
from castbench.report import text
from castbench.report.blocks import Block, Bullets, Column, Heading, Paragraph, Table
from castbench.report.nouns import CaseRow, Discards, EnergyRow, GroupTable
from castbench.said import Quantity, Unit, statement, together

_WORDS = ("label", "recommendation", "verdict", "metric", "case")
_DISCARDED: dict[tuple[Purpose, bool], str] = {
    ("compare", False): "group.discarded", ("compare", True): "group.discarded_single",
    ("confirm", False): "group.discarded_fresh", ("confirm", True): "group.discarded_fresh_single",
}  # fmt: skip
"""The sentence by what the rounds were for, and whether there was only one."""
_REASONS_NAMED = 3
"""Reasons for discarding that are told before they are only counted."""


def column(name: str) -> Column:
    """A column by its name: texts to the left, labels flexible."""
    return Column(text.COLUMNS[name], numeric=name not in _WORDS, flexible=name == "label")


def optional(number: float | None, unit: Unit) -> Quantity | None:
    """A quantity without an interval; None stays None."""
    return None if number is None else Quantity(number, unit)


def shape_of(group: Group) -> str:
    """A shape in few characters, batch × tokens; the regime where it is not eager."""
    regime = "" if group.regime == "eager" else f" {text.TERMS[group.regime]}"
    return f"{_count(group.shape.batch_size)} × {_count(group.shape.seq_len)} {text.TERMS[group.batching]}{regime}"


def _count(number: int) -> str:
    """A whole number as people read it."""
    return fmt.value(Quantity(number, Unit.COUNT))


def shapes(groups: Sequence[GroupTable]) -> Iterator[Block]:
    """A table for every shape that has a number, and a line for those that have none for one reason."""
    measured = [table for table in groups if table.is_measured]
    if measured:
        yield Heading(text.HEADINGS["shapes"])
    for table in measured:
        yield from _shape(table)
    empty = tuple(_unmeasured([table for table in groups if not table.is_measured]))
    if empty:
        yield Heading(text.HEADINGS["unmeasured"])
        yield Bullets(empty)


def energy(groups: Sequence[GroupTable]) -> Iterator[Block]:
    """Joules of the cases that have them, with how they were read, and why others have none; nothing where none has."""
    cases = _with_energy_pass(groups)
    known = [(group, row, row.energy) for group, row in cases if row.energy is not None]
    if not known:
        return
    yield Heading(text.HEADINGS["energy"])
    columns = tuple(map(column, ("label", "case", "gross", "net", "per_tokens", "power")))
    yield Table(columns, tuple(_energy_cells(group, row, found) for group, row, found in known))
    yield from _energy_notes([found for _, _, found in known])
    missing = tuple(_missing([(group, row) for group, row in cases if row.energy is None]))
    if missing:
        yield Bullets(missing)


def no_energy(groups: Sequence[GroupTable], *, asked: bool) -> str | None:
    """That no case has any energy, with the reasons, each once; None where one has."""
    cases = [row for _, row in _with_energy_pass(groups)]
    if not cases or any(row.energy is not None for row in cases):
        return None
    reasons = dict.fromkeys(text.retell(row.energy_reason.rstrip(". ")) for row in cases if row.energy_reason)
    why = text.WORDS["semicolon"].join(reasons) if asked else text.WORDS["energy.not_asked"]
    return text.say(statement("energy.none_because", why=why) if why else statement("energy.none"))


def memory(groups: Sequence[GroupTable]) -> Iterator[Block]:
    """What the allocator reserved, where there is one, and the largest batches, where they were searched for."""
    cases = [(table.group, row) for table in groups for row in table.rows]
    reserved = [(group, row) for group, row in cases if row.reserved_memory_mib is not None]
    largest = tuple(_largest(group, row) for group, row in cases if row.largest_batch is not None)
    if reserved or largest:
        yield Heading(text.HEADINGS["memory"])
    if reserved:
        columns = tuple(map(column, ("label", "case", "memory", "reserved", "weights")))
        yield Table(columns, tuple(_memory_cells(group, row) for group, row in reserved))
    if largest:
        yield Bullets(largest)


def _largest(group: Group, row: CaseRow) -> str:
    """The largest batch of a case that was searched for, in a sentence."""
    found = row.largest_batch
    assert found is not None
    said = statement(
        "memory.unlimited" if found.fails is None else "memory.largest", label=row.arm.label,
        batching=group.batching, regime=group.regime, length=Quantity(group.shape.seq_len, Unit.TOKENS),
        fits=Quantity(found.fits, Unit.COUNT), fails=optional(found.fails, Unit.COUNT),
    )  # fmt: skip
    return text.say(said)


def _shape(table: GroupTable) -> Iterator[Block]:
    """The table of one shape, with a line for every row that has no number."""
    group = table.group
    heading = text.heading(
        "group.held_out" if group.held_out else "group", batch_size=_count(group.shape.batch_size),
        seq_len=_count(group.shape.seq_len), batching=group.batching, regime=group.regime,
    )  # fmt: skip
    yield Heading(heading, 3)
    columns = tuple(map(column, ("label", "latency", "mean", "speedup", "tokens", "memory", "verdict")))
    yield Table(columns, tuple(_case_cells(row) for row in table.rows))
    counts = [row.rounds for row in table.rows if row.rounds]
    rounds = Quantity(min(counts), Unit.COUNT, min(counts), max(counts))
    ended = text.ended(table.rows[0].stopped_by)
    yield Paragraph(text.say(statement("group.end", rounds=rounds, ended=ended)), "note")
    yield from (Paragraph(_discarded(found), "note") for found in table.discards)
    told = [row for row in table.rows if row.status is not Status.OK or row.reason]
    if told:
        yield Bullets(tuple(text.word("of", whom=row.arm.label, what=_why(row)) for row in told))


def _unmeasured(tables: Sequence[GroupTable]) -> Iterator[str]:
    """A line per run of shapes that differ in their length only and have no number for the same reasons."""
    alike: dict[tuple[object, ...], list[GroupTable]] = {}
    for table in tables:
        group = table.group
        key = (group.shape.batch_size, group.batching, group.regime, _reasons(table.rows))
        alike.setdefault(key, []).append(table)
    for (_, _, _, reasons), found in alike.items():
        group = found[0].group
        ended = {table.rows[0].stopped_by for table in found if table.discards}
        discards = [_discarded(each) for table in found for each in table.discards]
        lengths = tuple(Quantity(table.group.shape.seq_len, Unit.TOKENS) for table in found)
        line = statement(
            "group.unmeasured", length=lengths, batch_size=Quantity(group.shape.batch_size, Unit.COUNT),
            batching=group.batching, regime=group.regime, reasons=str(reasons),
        )  # fmt: skip
        yield text.WORDS["full_stop"].join([text.say(line), *map(text.ended, ended), *discards])


def _reasons(rows: Sequence[CaseRow]) -> str:
    """Why nothing at a shape has a number: one reason for all, or each with its labels."""
    by_reason: dict[str, list[str]] = {}
    for row in rows:
        by_reason.setdefault(_why(row), []).append(row.arm.label)
    if len(by_reason) == 1:
        return text.say(statement("group.all", why=next(iter(by_reason))))
    told = (statement("group.some", labels=text.named(labels), why=why) for why, labels in by_reason.items())
    return text.WORDS["semicolon"].join(map(text.say, told))


def _why(row: CaseRow) -> str:
    """A status with its reason."""
    return text.say(statement("group.status", status=row.status.value, reason=row.reason))


def _discarded(found: Discards) -> str:
    """How many rounds were discarded, and why."""
    named = found.reasons[:_REASONS_NAMED]
    alone = len(found.reasons) == 1
    key = "group.discarded_reason" if alone else "group.discarded_times"
    told = [statement(key, reason=reason, times=Quantity(times, Unit.COUNT)) for reason, times in named]
    if len(found.reasons) > len(named):
        told.append(statement("group.discarded_more", count=Quantity(len(found.reasons) - len(named), Unit.COUNT)))
    said = statement(
        _DISCARDED[found.purpose, found.count == 1], count=Quantity(found.count, Unit.COUNT),
        attempts=Quantity(found.attempts, Unit.COUNT), reasons=together(told),
    )  # fmt: skip
    return text.say(said)


def _case_cells(row: CaseRow) -> tuple[str, ...]:
    """Cells of one case; the status stands in the verdict's place where there is no verdict."""
    verdict = row.verdict.value if row.verdict is not None and row.rounds else text.TERMS[row.status]
    return (
        row.arm.label,
        fmt.spread(Quantity.of(row.latency_ms, Unit.MS), unit=False),
        fmt.value(optional(row.mean_ms, Unit.MS)),
        fmt.spread(Quantity.of(row.speedup, Unit.TIMES), unit=False),
        fmt.value(optional(row.tokens_per_s, Unit.TOKENS_PER_SECOND)),
        fmt.value(optional(row.peak_memory_mib, Unit.MIB)),
        verdict,
    )


def _with_energy_pass(groups: Sequence[GroupTable]) -> list[tuple[Group, CaseRow]]:
    """Measured cases that have energy or should: none is asked of ceilings and of the interpolation's check."""
    return [
        (table.group, row)
        for table in groups
        for row in table.rows
        if row.rounds and (row.energy is not None or (row.arm.role != "ceiling" and not table.group.held_out))
    ]


def _energy_cells(group: Group, row: CaseRow, found: EnergyRow) -> tuple[str, ...]:
    """Cells of one case's energy."""
    joules = (found.gross_j_per_sequence, found.net_j_per_sequence, found.gross_j_per_1k_tokens)
    return (
        row.arm.label, shape_of(group),
        *(fmt.spread(Quantity.of(estimate, Unit.JOULES), unit=False) for estimate in joules),
        fmt.value(Quantity(found.mean_power_w, Unit.WATTS)),
    )  # fmt: skip


def _energy_notes(found: Sequence[EnergyRow]) -> Iterator[Block]:
    """How the energies were read, and how far two ways of reading them are apart."""
    for source, scope in dict.fromkeys((row.source, row.scope) for row in found):
        alike = [row for row in found if (row.source, row.scope) == (source, scope)]
        idle = [row.idle_w for row in alike if row.idle_w is not None]
        said = statement(
            "energy.source", source=source, scope=scope, idle=_range(idle, Unit.WATTS),
        )  # fmt: skip
        yield Paragraph(text.say(said), "note")
    apart = [100 * (1 + row.disagreement) for row in found if row.disagreement is not None]
    if apart:
        said = statement("energy.disagreement", disagreement=_range(apart, Unit.PERCENT))
        yield Paragraph(text.say(said), "note")


def _range(numbers: Sequence[float], unit: Unit) -> Quantity | None:
    """Least to most of several numbers; None of none."""
    return Quantity(numbers[0], unit, min(numbers), max(numbers)) if numbers else None


def _missing(cases: Sequence[tuple[Group, CaseRow]]) -> Iterator[str]:
    """Cases without energy, by reason."""
    by_reason: dict[str, list[str]] = {}
    for group, row in cases:
        by_reason.setdefault((row.energy_reason or text.WORDS["no_reason"]).rstrip(". "), []).append(
            text.say(statement("configuration", label=row.arm.label, how=shape_of(group)))
        )
    return (text.say(statement("energy.missing", cases=text.named(c), why=why)) for why, c in by_reason.items())


def _memory_cells(group: Group, row: CaseRow) -> tuple[str, ...]:
    """Cells of one case's memory."""
    sizes = (row.peak_memory_mib, row.reserved_memory_mib, row.weights_mib)
    return (row.arm.label, shape_of(group), *(fmt.value(optional(size, Unit.MIB)) for size in sizes))
