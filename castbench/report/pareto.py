"""Cost against latency of several runs: what each mechanism would cost where, how long its longest request takes, and
which offers nothing beats in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from castbench.cost.spec import ArmProjection, Configuration
from castbench.cost.surface import configuration_of
from castbench.records import Caveat
from castbench.report import text
from castbench.report.blocks import Axis, Block, Chart, Paragraph, Point, Series
from castbench.report.nouns import CaseRow, GroupTable
from castbench.said import Unit, statement
from castbench.stats import Estimate

_MOST_NAMED = 12
"""Points that are all named in a picture; of more, only those that nothing beats."""

Percentile = Literal["p50", "p99"]


@dataclass(frozen=True, slots=True)
class Offer:
    """One mechanism on one of the runs, in its cheapest configuration there.

    run       place of the run among those compared
    p50, p99  milliseconds of a step at the longest length measured so; waiting is not in them. None: not known
    """

    run: int
    configuration: Configuration
    cost_usd_per_hour: Estimate
    p50: Estimate | None
    p99: Estimate | None

    def latency(self, percentile: Percentile) -> Estimate | None:
        """The latency at one of both percentiles."""
        return self.p99 if percentile == "p99" else self.p50


def offers(run: int, arms: Sequence[ArmProjection], groups: Sequence[GroupTable]) -> Iterator[Offer]:
    """What a run offers: every mechanism with a cost, ceilings left out; ranges on too few rounds are none."""
    for arm in arms:
        used, cost = arm.configuration, arm.cost_usd_per_hour
        if arm.arm.role == "ceiling" or used is None or cost is None:
            continue
        row = _longest(groups, used)
        few = Caveat.FEW_ROUNDS in arm.caveats
        p50 = None if row is None else row.latency_ms
        p99 = None if row is None or row.step_p99_ms is None else Estimate(row.step_p99_ms)
        yield Offer(run, used, Estimate(cost.value) if few else cost, _point_only(p50) if few else p50, p99)


def percentile_of(found: Sequence[Offer]) -> Percentile:
    """p99 where every offer has one, else the median: a picture does not mix them."""
    return "p99" if found and all(offer.p99 is not None for offer in found) else "p50"


def front(found: Sequence[Offer], percentile: Percentile) -> tuple[Offer, ...]:
    """The offers that none is at least as cheap and as fast as, and better in one of both; cheapest first."""
    known = [(offer, at.value) for offer in found if (at := offer.latency(percentile)) is not None]
    kept = [
        (offer, ms)
        for offer, ms in known
        if not any(_beats(other.cost_usd_per_hour.value, other_ms, offer, ms) for other, other_ms in known)
    ]
    return tuple(offer for offer, _ in sorted(kept, key=lambda one: one[0].cost_usd_per_hour.value))


def picture(found: Sequence[Offer], runs: Sequence[str]) -> Iterator[Block]:
    """A point per offer, and the front in words; nothing where there is no choice. `runs`: what each run is called."""
    percentile = percentile_of(found)
    known = [offer for offer in found if offer.latency(percentile) is not None]
    if len(known) < 2:
        return
    best = front(known, percentile)
    series = tuple(
        Series(name, tuple(points), "candidate", place)
        for place, name in enumerate(runs)
        if (points := [_point(o, percentile, o in best or len(known) <= _MOST_NAMED) for o in known if o.run == place])
    )
    axis = text.CHARTS[f"axis.{percentile}"]
    yield Chart(
        "cost-against-latency", text.CHARTS["pareto"], text.say(statement("chart.pareto", axis=axis)), "scatter",
        Axis(axis, unit=Unit.MS), Axis(text.CHARTS["axis.cost"], unit=Unit.USD_PER_HOUR), series,
    )  # fmt: skip
    names = tuple(statement("compare.on", configuration=o.configuration.said, run=runs[o.run]) for o in best)
    yield Paragraph(text.say(statement("chart.front", names=names, axis=axis)))


def _beats(cost: float, ms: float, offer: Offer, offer_ms: float) -> bool:
    """Whether a cost and a latency are no worse than an offer's, and one of them is better."""
    own = (offer.cost_usd_per_hour.value, offer_ms)
    return cost <= own[0] and ms <= own[1] and (cost, ms) != own


def _point(offer: Offer, percentile: Percentile, is_named: bool) -> Point:
    """An offer in the picture."""
    at, cost = offer.latency(percentile), offer.cost_usd_per_hour
    assert at is not None
    return Point(at.value, cost.value, cost.low, cost.high, offer.configuration.label if is_named else "")


def _longest(groups: Sequence[GroupTable], used: Configuration) -> CaseRow | None:
    """The case of a configuration at the longest length."""
    cases = [
        (table.group.shape.seq_len, row)
        for table in groups
        if not table.group.held_out and configuration_of(table.group, used.label) == used
        for row in table.rows
        if row.arm.label == used.label
    ]
    return max(cases, key=lambda case: case[0])[1] if cases else None


def _point_only(estimate: Estimate | None) -> Estimate | None:
    """An estimate without its interval."""
    return None if estimate is None else Estimate(estimate.value)
