"""The waterfall as blocks: from what runs today, step by step, to the mechanism that needs a new model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from castbench.cost.spec import ArmProjection, Change, Configuration, Running, Savings, Step, Waterfall
from castbench.report import format as fmt
from castbench.report import text
from castbench.report.blocks import Axis, Block, Bullets, Chart, Column, Heading, Paragraph, Point, Series, Table
from castbench.report.catalogue import Section
from castbench.report.figures import figure, is_rough
from castbench.report.nouns import Report
from castbench.said import Quantity, Statement, Unit, statement
from castbench.stats import Estimate
from castbench.units import ms

MOVES = Section("moves")
COLUMNS = Section("savings_columns")
_CAST = "cast"
_LEADS = {
    (False, True, True): "waterfall.lead", (False, False, True): "waterfall.lead_exact",
    (False, True, False): "waterfall.lead_unpriced", (False, False, False): "waterfall.lead_exact_unpriced",
    (True, True, True): "waterfall.kept", (True, False, True): "waterfall.kept_exact",
    (True, True, False): "waterfall.kept_unpriced", (True, False, False): "waterfall.kept_exact_unpriced",
}  # fmt: skip
"""The first sentence, by whether today is kept, a new model comes last, and there is money."""


@dataclass(frozen=True, slots=True)
class Path:
    """A waterfall and how to speak of it; `rough`: it rests on too few rounds for ranges."""

    waterfall: Waterfall
    rough: bool

    @property
    def exact_steps(self) -> tuple[Step, ...]:
        """The steps that need no new model."""
        return tuple(step for step in self.waterfall.steps if step.move != "new_model")

    @property
    def tuned(self) -> Running:
        """What runs after them."""
        return self.exact_steps[-1].to if self.exact_steps else self.waterfall.today

    @property
    def new(self) -> Step | None:
        """The step that needs a new model, if there is one."""
        return next((step for step in self.waterfall.steps if step.move == "new_model"), None)

    @property
    def has_money(self) -> bool:
        """Whether anything of it has a price."""
        return self.waterfall.today.cost_usd_per_hour is not None

    @property
    def best(self) -> Configuration:
        """The cheapest end: the new model only where it saves something of what is left without one."""
        return self.new.to.configuration if self.new and self._gain > 0 else self.tuned.configuration

    @property
    def _gain(self) -> float:
        """What the new model saves, in USD per hour, or else in seconds per request."""
        if self.new is None:
            return 0.0
        saving = self.new.change.saving_usd_per_hour
        faster = self.tuned.seconds_per_request.value - self.new.to.seconds_per_request.value
        return faster if saving is None else saving.value


def path_of(report: Report) -> Path | None:
    """The waterfall of a report; None where there is none."""
    savings = report.money.savings
    if savings is None or savings.waterfall is None:
        return None
    found = savings.waterfall
    labels = {used.configuration.label for used in (found.today, *(step.to for step in found.steps))}
    rough = any(is_rough(arm) for arm in report.mechanisms if arm.arm.label in labels)
    return Path(found, rough)


def waterfall(report: Report) -> Iterator[Block]:
    """Table, chart and sentences; nothing where today is not measured."""
    path, savings = path_of(report), report.money.savings
    if path is None or savings is None:
        return
    yield Heading(text.HEADINGS["waterfall"])
    yield Paragraph(text.say(_lead(path)))
    yield _table(path)
    if path.has_money and not path.rough:
        yield from _chart(path)
    yield from (Paragraph(text.say(said)) for said in _answers(path, report.mechanisms))
    if not savings.today_stated:
        label = path.waterfall.today.configuration.label
        yield Paragraph(text.say(statement("waterfall.unstated", label=label)), "note")
    yield Paragraph(text.say(statement("waterfall.note")), "note")
    yield from _unmeasured(savings)


def _lead(path: Path) -> Statement:
    """Today, the best without a new model, and the end."""
    today, tuned = path.waterfall.today, path.tuned
    end = path.new.to if path.new else tuned
    return statement(
        _LEADS[tuned == today, path.new is not None, path.has_money],
        today=today.configuration.said, tuned=tuned.configuration.said, configuration=end.configuration.said,
        cost=_cost(today, path), tuned_cost=_cost(tuned, path), end_cost=_cost(end, path),
    )  # fmt: skip


def _cost(running: Running, path: Path) -> Quantity | None:
    """What a configuration costs per hour; without a range where that would be rough."""
    cost = running.cost_usd_per_hour
    return Quantity.of(Estimate(cost.value) if cost and path.rough else cost, Unit.USD_PER_HOUR)


def _table(path: Path) -> Table:
    """A row for today and for every step; of money only where there is some, of cash only where it is another."""
    kept = ["step", "to", "servers", "time"]
    if path.has_money:
        kept = ["step", "to", "servers", "cost", "saving", *(["cash_hour"] if _has_cash(path.waterfall) else [])]
    rows = [_row(path, MOVES["today"], path.waterfall.today, None)]
    before = path.waterfall.today
    for step in path.waterfall.steps:
        rows.append(_row(path, MOVES[step.move], step.to, step.change, stays=step.to == before))
        before = step.to
    columns = tuple(Column(COLUMNS[name], name not in ("step", "to"), name == "to") for name in kept)
    return Table(columns, tuple(tuple(row[name] for name in kept) for row in rows))


def _has_cash(waterfall: Waterfall) -> bool:
    """Whether the cash of any step is another amount than what it saves."""
    changes = (waterfall.total, *(step.change for step in waterfall.steps))
    return any(change.cash_saving_usd_per_hour != change.saving_usd_per_hour for change in changes)


def _row(path: Path, step: str, to: Running, change: Change | None, *, stays: bool = False) -> dict[str, str]:
    """One row's cells by the names of their columns."""
    servers = None if to.replicas is None else Quantity(to.replicas, Unit.COUNT)
    saving = Quantity.of(change.saving_usd_per_hour, Unit.USD_PER_HOUR) if change else None
    cash = Quantity.of(change.cash_saving_usd_per_hour, Unit.USD_PER_HOUR) if change else None
    return {
        "step": step,
        "to": text.WORDS["stays"] if stays else text.say(to.configuration.said),
        "servers": fmt.value(servers),
        "time": figure(Quantity.of(to.seconds_per_request, Unit.MS, ms(1.0)), rough=path.rough),
        "cost": figure(_cost(to, path), rough=path.rough, ranged=False),
        "saving": figure(saving, rough=path.rough),
        "cash_hour": figure(cash, rough=path.rough),
    }


def _chart(path: Path) -> Iterator[Chart]:
    """Bars from today's cost to the last; steps that change nothing are left out."""
    found = path.waterfall
    end = path.new.to if path.new else path.tuned
    today, last = found.today.cost_usd_per_hour, end.cost_usd_per_hour
    before, points = found.today, []
    for step in found.steps:
        saving = step.change.saving_usd_per_hour
        if step.to != before and saving is not None:
            fall = Quantity.of(saving, Unit.USD_PER_HOUR, -1.0)
            assert fall is not None
            note = text.say(step.to.configuration.said)
            points.append(Point(MOVES[step.move], fall.value, fall.low, fall.high, note))
        before = step.to
    if not points or today is None or last is None:
        return
    first = Point(MOVES["today"], today.value, today.low, today.high, text.say(found.today.configuration.said))
    final = Point(text.WORDS["waterfall.end"], last.value, last.low, last.high, text.say(end.configuration.said))
    costs = {"cost": fmt.text(_cost(found.today, path)), "end_cost": fmt.text(_cost(end, path))}
    title = text.WORDS["waterfall.chart"]
    yield Chart(
        "waterfall", title, text.WORDS["waterfall.alt"].format(**costs), "waterfall",
        Axis(text.WORDS["waterfall.axis"]), Axis(text.WORDS["cost.axis"], unit=Unit.USD_PER_HOUR),
        (Series(title, (first, *points, final)),),
    )  # fmt: skip


def _answers(path: Path, mechanisms: tuple[ArmProjection, ...]) -> Iterator[Statement]:
    """The cheapest answer, whatever it is, and CAST's where it is another."""
    if not path.has_money or path.rough:
        return
    tuned, new = path.tuned.configuration, path.new
    saving = new.change.saving_usd_per_hour if new else None
    if new is None or saving is None:
        yield statement("waterfall.best_exact", configuration=tuned.said)
    elif saving.value > 0:
        said = Quantity.of(saving, Unit.USD_PER_HOUR)
        yield statement("waterfall.best_new", configuration=new.to.configuration.said, saving=said)
    elif saving.value < 0:
        loss = Quantity.of(saving, Unit.USD_PER_HOUR, -1.0)
        other = new.to.configuration.said
        yield statement("waterfall.best_exact_over", configuration=tuned.said, other=other, loss=loss)
    else:
        yield statement("waterfall.best_tied", configuration=tuned.said, other=new.to.configuration.said)
    yield from _cast(path, mechanisms)


def _cast(path: Path, mechanisms: tuple[ArmProjection, ...]) -> Iterator[Statement]:
    """What CAST would cost, where the steps do not end with it."""
    ours = [arm for arm in mechanisms if arm.arm.mechanism == _CAST and arm.cost_usd_per_hour is not None]
    best = next((arm for arm in mechanisms if arm.configuration == path.best), None)
    if not ours or best is None or best.cost_usd_per_hour is None or best in ours:
        return
    cheapest = min(ours, key=lambda arm: arm.cost_usd_per_hour.value if arm.cost_usd_per_hour else 0.0)
    if cheapest.configuration is None or (path.new and path.new.to.configuration.label == cheapest.arm.label):
        return
    assert cheapest.cost_usd_per_hour is not None
    more = cheapest.cost_usd_per_hour.value - best.cost_usd_per_hour.value
    said = {"configuration": cheapest.configuration.said, "best": path.best.said}
    if more:
        cost = Quantity.of(cheapest.cost_usd_per_hour, Unit.USD_PER_HOUR)
        yield statement("waterfall.cast", cost=cost, loss=Quantity(more, Unit.USD_PER_HOUR), **said)
    else:
        yield statement("waterfall.cast_tied", **said)


def _unmeasured(savings: Savings) -> Iterator[Block]:
    """What no measurement of this run covers, with what to do."""
    if savings.unmeasured:
        yield Heading(text.HEADINGS["waterfall.unmeasured"], 3)
        yield Bullets(tuple(map(text.say, savings.unmeasured)))
