"""The sections on what lies ahead: another currency, break-even, growth, sensitivity, what to measure next."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from castbench.cost.outlook_nouns import (
    HORIZON_MONTHS,
    BreakEven,
    Factor,
    GrownYear,
    Growth,
    Moved,
    NextMeasurement,
    Outlook,
    Wanted,
)
from castbench.cost.selection import rival
from castbench.cost.spec import ArmProjection
from castbench.cost.surface import configuration_of
from castbench.records import Caveat
from castbench.report import format as fmt
from castbench.report import text
from castbench.report.blocks import Axis, Block, Chart, Column, Heading, Paragraph, Point, Series, Table
from castbench.report.catalogue import Section
from castbench.report.nouns import Report
from castbench.said import Quantity, Statement, Unit, Value, statement
from castbench.stats import Estimate
from castbench.units import HOURS_PER_MONTH, HOURS_PER_YEAR, SECONDS_PER_HOUR
from castbench.workload.spec import Currency, OneOffCosts

_GROWTH_COLUMNS = Section("growth_columns")
_SENSITIVITY_COLUMNS = Section("sensitivity_columns")
_FACTORS = Section("factors")
_HORIZON = Quantity(HORIZON_MONTHS, Unit.MONTHS)
_UNITS = {
    Moved.PRICE: Unit.USD_PER_HOUR, Moved.RATE: Unit.RATE, Moved.UTILIZATION: Unit.PERCENT, Moved.TIMES: Unit.TIMES,
    Moved.LENGTHS: Unit.TIMES, Moved.ATTENTION: Unit.PERCENT,
}  # fmt: skip
_PERCENT = 100.0


def in_currency(report: Report) -> Iterator[Block]:
    """The headline's amounts in the currency that the profile states; nothing without one, or without money."""
    currency, baseline = report.money.currency, report.money.baseline
    if currency is None or baseline is None or report.money.missing is not None:
        return
    base = next((arm for arm in report.mechanisms if arm.configuration == baseline), None)
    if base is None or base.cost_usd_per_hour is None:
        return
    said: dict[str, Value] = {
        "code": currency.code, "rate": Quantity(currency.per_usd, Unit.GIVEN), "baseline": baseline.said,
        "base_cost": _converted(base.cost_usd_per_hour, currency),
    }  # fmt: skip
    subject = rival(report.mechanisms, report.money.today, baseline)
    saving = None if subject is None else subject.saving_usd_per_hour
    if subject is None or subject.configuration is None or saving is None:
        yield Paragraph(text.say(statement("currency.alone", **said)))
        return
    sign = -1 if saving.value < 0 else 1
    key = "currency.saves" if sign > 0 else "currency.costs"
    key = key if any((saving.value, saving.low, saving.high)) else "currency.same"
    yield Paragraph(
        text.say(
            statement(
                key, subject=subject.configuration.said, cost=_converted(subject.cost_usd_per_hour, currency),
                saving=_converted(saving, currency, sign), month=_converted(saving, currency, sign * HOURS_PER_MONTH),
                year=_converted(saving, currency, sign * HOURS_PER_YEAR), **said,
            )
        )
    )  # fmt: skip


def outlook(report: Report) -> Iterator[Block]:
    """What lies ahead of the mechanism that the headline is about; nothing where there is none."""
    ahead = report.outlook
    if ahead is None:
        return
    yield Heading(text.HEADINGS["outlook"])
    yield from _break_even(report, ahead)
    yield from _training(report, ahead)
    if ahead.growth is not None:
        yield from _growth(report, ahead, ahead.growth)
    if ahead.sensitivity:
        yield from _sensitivity(report, ahead)
    yield Heading(text.HEADINGS["next"], 3)
    yield Paragraph(text.say(_next(report, ahead)))


def _converted(estimate: Estimate | None, currency: Currency, factor: float = 1.0) -> Quantity | None:
    """An amount in dollars, in the other currency."""
    return Quantity.of(estimate, Unit.MONEY, factor * currency.per_usd)


def _subject(report: Report, ahead: Outlook) -> ArmProjection:
    """The mechanism that the outlook is about."""
    return next(arm for arm in report.mechanisms if arm.arm.label == ahead.subject)


def _baseline(report: Report) -> str:
    """Label of what savings are counted against; an outlook exists only against one."""
    assert report.money.baseline is not None
    return report.money.baseline.label


def _break_even(report: Report, ahead: Outlook) -> Iterator[Block]:
    """One-off costs and when they have come back, or that nobody stated them where a new model would need them."""
    found, subject = ahead.break_even, _subject(report, ahead)
    if found is None:
        if report.money.missing is None and not subject.arm.exact:
            yield Heading(text.HEADINGS["break_even"], 3)
            yield Paragraph(text.say(statement("one_off.not_stated")))
        return
    yield Heading(text.HEADINGS["break_even"], 3)
    yield Paragraph(text.WORDS["space"].join(map(text.say, _repaid(ahead.subject, found, ahead.growth))))
    if Caveat.FEW_ROUNDS in subject.caveats:
        yield Paragraph(text.say(statement("use.rough")), "note")


def _repaid(label: str, found: BreakEven, growth: Growth | None) -> Iterator[Statement]:
    """The costs, the months that they take to come back, and how sure that is."""
    total = Quantity.of(found.one_off_usd, Unit.USD)
    yield statement("one_off.total", total=total, parts=tuple(_stated(found.stated)))
    cash = Quantity.of(found.cash_usd_per_month, Unit.USD)
    saves = any(end is not None and end > 0 for end in (found.cash_usd_per_month.value, found.cash_usd_per_month.high))
    if saves:
        yield statement("break_even", subject=label, after=_after(found.months), cash=cash)
    else:
        yield statement("break_even.never", subject=label, cash=cash)
    if found.months_growing is not None and growth is not None:
        percent = Quantity(growth.percent_per_year, Unit.PERCENT)
        yield statement("break_even.growing", growth=percent, after=_after(found.months_growing))
    within = [share for _, share in found.within]
    if saves and found.never_probability is not None and None not in within:
        first, second = (Quantity(share or 0.0, Unit.PROBABILITY) for share in within)
        never = Quantity(found.never_probability, Unit.PROBABILITY)
        yield statement("break_even.within", first=first, second=second, never=never, horizon=_HORIZON)


def _stated(costs: OneOffCosts) -> Iterator[Statement]:
    """What one-off costs were stated, each with its amount."""
    amounts = (
        ("one_off.retraining", costs.retraining_usd), ("one_off.validation", costs.validation_usd),
        ("one_off.engineering", costs.engineering_usd),
    )  # fmt: skip
    for key, usd in amounts:
        if usd is not None:
            yield statement(key, usd=Quantity(usd, Unit.USD))
    if costs.dual_running_days is not None:
        yield statement("one_off.dual_running", days=Quantity(costs.dual_running_days, Unit.GIVEN))


def _after(months: Estimate) -> Statement:
    """After how many months, of an estimate whose ends may be infinite: not within the horizon."""
    low, high = months.low, months.high
    earliest = None if low is None else Quantity(low, Unit.MONTHS)
    if math.isinf(months.value):
        if low is None or math.isinf(low):
            return statement("months.not_within", horizon=_HORIZON)
        return statement("months.hardly", horizon=_HORIZON, earliest=earliest)
    if high is not None and math.isinf(high):
        value = Quantity(months.value, Unit.MONTHS)
        return statement("months.open", months=value, earliest=earliest, horizon=_HORIZON)
    return statement("months.after", months=Quantity.of(months, Unit.MONTHS))


def _training(report: Report, ahead: Outlook) -> Iterator[Block]:
    """How many more steps it may need, where steps of training were measured."""
    if ahead.steps_break_even is not None:
        speedup = Quantity.of(ahead.steps_break_even, Unit.TIMES)
        said = statement("training.steps", subject=ahead.subject, baseline=_baseline(report), speedup=speedup)
        yield Paragraph(text.say(said))


def _growth(report: Report, ahead: Outlook, growth: Growth) -> Iterator[Block]:
    """Both fleets after some years."""
    yield Heading(text.HEADINGS["growth"], 3)
    has_money = growth.years[0].saving_usd_per_hour is not None
    labels = (_baseline(report), ahead.subject)
    headings = [_GROWTH_COLUMNS["years"], _GROWTH_COLUMNS["rate"]]
    headings += [_GROWTH_COLUMNS["servers"].format(label=label) for label in labels]
    if has_money:
        headings += [_GROWTH_COLUMNS["cost"].format(label=label) for label in labels] + [_GROWTH_COLUMNS["saving"]]
    columns = tuple(Column(heading) for heading in headings)
    yield Table(columns, tuple(_year(year)[: len(columns)] for year in growth.years))
    percent = Quantity(growth.percent_per_year, Unit.PERCENT)
    yield Paragraph(text.say(statement("growth.note", growth=percent, baseline=_baseline(report))), "note")


def _year(year: GrownYear) -> tuple[str, ...]:
    """Cells of one year."""
    servers = (year.baseline_replicas, year.replicas)
    money = (year.baseline_cost_usd_per_hour, year.cost_usd_per_hour, year.saving_usd_per_hour)
    return (
        fmt.value(Quantity(year.years, Unit.COUNT)), fmt.value(Quantity(year.requests_per_second, Unit.RATE)),
        *(fmt.spread(Quantity.of(count, Unit.COUNT)) for count in servers),
        *(fmt.spread(Quantity.of(usd, Unit.USD_PER_HOUR), unit=False) for usd in money),
    )  # fmt: skip


def _sensitivity(report: Report, ahead: Outlook) -> Iterator[Block]:
    """The tornado, and the same in numbers with the values at which the decision flips."""
    factors = ahead.sensitivity
    now = Quantity(factors[0].now, Unit.USD_PER_HOUR)
    said: dict[str, Value] = {"subject": ahead.subject, "baseline": _baseline(report), "saving": now}
    yield Heading(text.HEADINGS["sensitivity"], 3)
    yield Chart(
        "sensitivity", text.HEADINGS["sensitivity"], text.say(statement("sensitivity.alt", **said)), "tornado",
        Axis(""), Axis(text.WORDS["sensitivity.axis"], unit=Unit.USD_PER_HOUR),
        (Series(ahead.subject, tuple(_bar(factor) for factor in factors), "candidate"),),
    )  # fmt: skip
    names = ("factor", "now", "moved", "saving", "flips")
    columns = tuple(Column(_SENSITIVITY_COLUMNS[name], name != "factor", name == "factor") for name in names)
    yield Table(columns, tuple(_factor(factor) for factor in factors))
    yield Paragraph(text.say(statement("sensitivity.note", **said)), "note")


def _bar(factor: Factor) -> Point:
    """A factor in the tornado."""
    return Point(_FACTORS[factor.moved], factor.now, factor.low, factor.high)


def _factor(factor: Factor) -> tuple[str, ...]:
    """Cells of one factor: its value, how far it moves, the saving at both ends, and where the decision flips."""
    ends = text.word("sensitivity.ends", lower=_saved(factor.at_lower), upper=_saved(factor.at_upper))
    moved = _from_to(factor, factor.lower, factor.upper)
    return _FACTORS[factor.moved], fmt.value(_of_factor(factor, factor.base)), moved, ends, _flips(factor)


def _from_to(factor: Factor, low: float, high: float) -> str:
    """Two values of a factor; no interval, so neither is rounded outward."""
    return text.WORDS["range"].join(fmt.value(_of_factor(factor, end)) for end in (low, high))


def _saved(usd_per_hour: float | None) -> str:
    """A saving, or that the measurements do not reach there."""
    if usd_per_hour is None:
        return text.WORDS["sensitivity.not_covered"]
    return fmt.value(Quantity(usd_per_hour, Unit.USD_PER_HOUR))


def _flips(factor: Factor) -> str:
    """Where it begins or ceases to save, or in which range it does not."""
    if factor.searched is None:
        return text.WORDS["sensitivity.no_value"]
    if factor.flips_at is not None:
        return fmt.value(_of_factor(factor, factor.flips_at))
    return text.word("sensitivity.nowhere", searched=_from_to(factor, *factor.searched))


def _of_factor(factor: Factor, value: float) -> Quantity:
    """A value of a factor in its unit."""
    unit = _UNITS[factor.moved]
    return Quantity(value * (_PERCENT if unit is Unit.PERCENT else 1.0), unit)


def _next(report: Report, ahead: Outlook) -> Statement:
    """What to measure next, with what it costs."""
    wanted = ahead.next_measurement
    label, baseline = ahead.subject, _baseline(report)
    rounds = None if wanted.rounds is None else Quantity(wanted.rounds, Unit.COUNT)
    cost = _cost(wanted)
    match wanted.wanted:
        case Wanted.FIRST_ROUNDS:
            return statement("next.first_rounds", rounds=rounds, cost=cost)
        case Wanted.ROUNDS:
            assert wanted.group is not None
            how = configuration_of(wanted.group, label).manner
            length = Quantity(wanted.group.shape.seq_len, Unit.TOKENS)
            return statement(
                "next.rounds", rounds=rounds, subject=label, baseline=baseline, length=length, how=how, cost=cost
            )
        case Wanted.ALL_ROUNDS:
            return statement("next.all_rounds", rounds=rounds, subject=label, baseline=baseline, cost=cost)
        case Wanted.ENDLESS:
            return statement("next.endless", subject=label)
        case Wanted.LENGTHS:
            return statement("next.lengths", cost=cost)
        case Wanted.FRESH:
            return statement("next.fresh")
        case Wanted.QUALITY:
            return _quality(label, ahead.break_even)
        case Wanted.NOTHING:
            return statement("next.nothing")


def _quality(label: str, found: BreakEven | None) -> Statement:
    """That quality is what matters, with what of its cost was stated."""
    parts: Iterable[Statement] = ()
    if found is not None:
        parts = _stated(OneOffCosts(found.stated.retraining_usd, found.stated.validation_usd))
    known = tuple(parts)
    if not known:
        return statement("next.quality", subject=label)
    return statement("next.quality_costs", subject=label, parts=known)


def _cost(wanted: NextMeasurement) -> Statement | None:
    """Time and money of a measurement; None where it is no matter of rounds."""
    if wanted.seconds is None:
        return None
    is_long = wanted.seconds >= SECONDS_PER_HOUR
    hours, seconds = Quantity(wanted.seconds / SECONDS_PER_HOUR, Unit.HOURS), Quantity(wanted.seconds, Unit.SECONDS)
    time = hours if is_long else seconds
    if wanted.usd is None:
        return statement("next.time", time=time)
    return statement("next.time_money", time=time, usd=Quantity(wanted.usd, Unit.USD))
