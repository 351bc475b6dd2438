"""What savings consist of, as blocks: the waterfall, capacity and cash apart, how many servers, the bill, memory."""

from __future__ import annotations

from collections.abc import Iterator

from castbench.cost.spec import Change, Headroom, Running
from castbench.report import format as fmt
from castbench.report import text
from castbench.report.blocks import Block, Bullets, Column, Heading, Paragraph, Table
from castbench.report.figures import figure
from castbench.report.nouns import Report
from castbench.report.observed_page import observed
from castbench.report.waterfall_page import COLUMNS, MOVES, Path, path_of, waterfall
from castbench.said import Quantity, Statement, Unit, statement
from castbench.units import GIB, HOURS_PER_MONTH, HOURS_PER_YEAR, mib

_PERIODS = (1.0, HOURS_PER_MONTH, HOURS_PER_YEAR)
_LEAST_SHARE = 0.005
"""Numbers of servers that are less probable than this have no row of their own."""


def savings(report: Report) -> Iterator[Block]:
    """All sections on savings; each is left out where there is nothing to say."""
    yield from waterfall(report)
    path = path_of(report)
    if path is not None and path.has_money:
        yield from _released(path)
    if path is not None and path.waterfall.today.replicas is not None and not path.rough:
        yield from _staircase(report, path)
    yield from observed(report)


def _released(path: Path) -> Iterator[Block]:
    """Capacity released, what it is worth, and the cash it saves: three figures, never merged."""
    rows = [row for change in _changes(path) for row in _change_rows(path, *change)]
    if not rows:
        return
    yield Heading(text.HEADINGS["capacity_cash"])
    names = ("change", "what", "hour", "month", "year")
    yield Table(tuple(Column(COLUMNS[n], n not in ("change", "what"), n == "change") for n in names), tuple(rows))
    yield Paragraph(text.say(statement("released.note")), "note")


def _changes(path: Path) -> Iterator[tuple[str, Change]]:
    """From today to the best without a new model, from that to the new model, and both together."""
    is_tuned = path.tuned.configuration != path.waterfall.today.configuration
    if is_tuned:
        yield text.WORDS["released.tuned"], path.waterfall.tuned
    if path.new is not None:
        yield text.WORDS["released.new"], path.new.change
        if is_tuned:
            yield text.WORDS["released.total"], path.waterfall.total


def _change_rows(path: Path, what: str, change: Change) -> Iterator[tuple[str, ...]]:
    """Three rows of one change, and one with its probability."""
    figures = (
        ("released", change.capacity_released_units_per_hour, Unit.HOURS),
        ("worth", change.saving_usd_per_hour, Unit.USD), ("cash", change.cash_saving_usd_per_hour, Unit.USD),
    )  # fmt: skip
    for name, amount, unit in figures:
        cells = [figure(Quantity.of(amount, unit, hours), rough=path.rough) for hours in _PERIODS]
        yield (what if name == "released" else "", COLUMNS[name], *cells)
    if change.probability_saving_positive is not None and not path.rough:
        positive = fmt.value(Quantity(change.probability_saving_positive, Unit.PROBABILITY))
        yield ("", COLUMNS["positive"], positive, "", "")


def _staircase(report: Report, path: Path) -> Iterator[Block]:
    """With which probability how many servers are needed, and where the range of the saving comes from."""
    yield Heading(text.HEADINGS["staircase"])
    runs = _distinct(path)
    shares = [dict(run.replicas_shares) for _, run in runs]
    counts = sorted({n for found in shares for n, share in found.items() if share >= _LEAST_SHARE})
    if counts:
        columns = (Column(COLUMNS["count"]), *(Column(name, flexible=True) for name, _ in runs))
        yield Table(columns, tuple((fmt.value(Quantity(n, Unit.COUNT)), *_probabilities(shares, n)) for n in counts))
    yield from (Paragraph(text.say(said)) for said in _parts(report))


def _distinct(path: Path) -> list[tuple[str, Running]]:
    """What runs today, the best without a new model where it is another, and the new model."""
    found = [(MOVES["today"], path.waterfall.today)]
    if path.tuned != path.waterfall.today:
        found.append((path.tuned.configuration.label, path.tuned))
    if path.new is not None:
        found.append((path.new.to.configuration.label, path.new.to))
    return found


def _probabilities(shares: list[dict[int, float]], count: int) -> Iterator[str]:
    """The probability of so many servers, in each column; nothing where it never happens."""
    for found in shares:
        share = found.get(count)
        yield fmt.NOTHING if share is None else fmt.value(Quantity(share, Unit.PROBABILITY))


def _parts(report: Report) -> Iterator[Statement]:
    """Which part the range of the saving comes from."""
    parts = report.money.savings.range_parts if report.money.savings else None
    if parts is None:
        return
    width, fractional = (
        Quantity(found, Unit.USD_PER_HOUR) for found in (parts.width_usd_per_hour, parts.fractional_usd_per_hour)
    )
    if parts.dominant is None:
        yield statement("range.point", label=parts.label)
    elif parts.dominant == "whole_servers":
        yield statement("range.whole_servers", label=parts.label, width=width, fractional=fractional)
    else:
        without = Quantity(dict(parts.without)[parts.dominant], Unit.USD_PER_HOUR)
        key = "range.rounds" if parts.dominant == "rounds" else "range.interpolation"
        yield statement(key, label=parts.label, fractional=fractional, without=without)


def headroom(report: Report) -> Iterator[Block]:
    """Memory against the device and against smaller GPUs, of the baseline and the mechanisms the report speaks of."""
    path, savings = path_of(report), report.money.savings
    if path is None or savings is None:
        return
    found = {needs.label: needs for needs in savings.headroom}
    base = found.get(path.tuned.configuration.label)
    new = found.get(path.new.to.configuration.label) if path.new else None
    told = [needs for needs in (base, new) if needs is not None]
    if not told:
        return
    yield Heading(text.HEADINGS["headroom"])
    yield Bullets(tuple(text.say(_needs(needs)) for needs in told))
    yield Paragraph(text.say(_worth(told)))


def _needs(found: Headroom) -> Statement:
    """What one mechanism needs, and the smallest GPU that would do."""
    needed, device = Quantity(mib(found.needed_bytes), Unit.MIB), _gib(found.device_bytes)
    if found.gpu is None or found.gpu_bytes is None:
        return statement("headroom.arm", label=found.label, needed=needed, device=device)
    size = _gib(found.gpu_bytes)
    return statement("headroom.arm_fits", label=found.label, needed=needed, device=device, size=size, gpu=found.gpu)


def _worth(told: list[Headroom]) -> Statement:
    """What the memory saved is worth: nothing below the size of a GPU."""
    base, new = told[0], told[-1]
    device = _gib(base.device_bytes)
    if base.gpu_bytes is None or new.gpu_bytes is None:
        return statement("headroom.anyway", device=device)
    if new.gpu_bytes == base.gpu_bytes:
        return statement("headroom.same", device=device)
    return statement(
        "headroom.smaller" if new.gpu_bytes < base.gpu_bytes else "headroom.larger",
        label=new.label, baseline=base.label, size=_gib(new.gpu_bytes), base_size=_gib(base.gpu_bytes),
    )  # fmt: skip


def _gib(size_bytes: int) -> Quantity:
    """Bytes in GiB."""
    return Quantity(size_bytes / GIB, Unit.GIB)
