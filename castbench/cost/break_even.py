"""When the saving has paid back what changing over costs once; and servers and cost as the traffic grows; pure.

month m of the new fleet  ─▶ rate · (1 + growth)^(m/12) ─▶ whole servers of both ─▶ cash saved ─▶ added up
the month in which the sum reaches the one-off costs is the break-even
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from castbench.cost.contest import Contest, at_rate
from castbench.cost.draws import estimate, share
from castbench.cost.outlook_nouns import HORIZON_MONTHS, BreakEven, GrownYear, Growth
from castbench.stats import Estimate
from castbench.units import HOURS_PER_MONTH
from castbench.workload.spec import OneOffCosts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from castbench.cost.draws import Drawn

    Monthly = NDArray[np.float64]

HOURS_PER_DAY = 24.0
MONTHS_PER_YEAR = 12
LOOKED_AT_MONTHS = (12, 24)
"""Within how many months the probability of breaking even is given."""
LOOKED_AT_YEARS = (1, 2, 3)
"""After how many years servers and cost are given."""


def break_even(contest: Contest, stated: OneOffCosts | None) -> BreakEven | None:
    """The break-even of a contest; None where no one-off costs are stated, none arise because the subject is exact and
    needs no new model, or no money is known.
    """
    if stated is None or contest.subject.arm.exact or contest.price is None or contest.demand is None:
        return None
    one_off = one_off_usd(contest, stated)
    percent = contest.demand.growth_percent_per_year
    cash = monthly_cash_usd(contest, 0.0)
    flat = months_to_repay(one_off, cash)
    growing = None if percent is None else months_to_repay(one_off, monthly_cash_usd(contest, percent))
    expected = flat if growing is None else growing
    return BreakEven(
        stated, estimate(one_off), estimate(cash[0]), _range(flat), None if growing is None else _range(growing),
        tuple((months, share(expected <= months, expected)) for months in LOOKED_AT_MONTHS),
        share(expected > HORIZON_MONTHS, expected),
    )  # fmt: skip


def growth(contest: Contest) -> Growth | None:
    """Both fleets in years to come; None where no growth is stated."""
    if contest.demand is None or contest.demand.growth_percent_per_year is None:
        return None
    percent = contest.demand.growth_percent_per_year
    return Growth(percent, tuple(_grown(contest, percent, years) for years in LOOKED_AT_YEARS))


def one_off_usd(contest: Contest, stated: OneOffCosts) -> Drawn:
    """Drawn USD: retraining + validation + engineering + days of dual running · 24 h · the new fleet's cost."""
    assert contest.price is not None
    assert contest.demand is not None
    _, fleet = contest.fleets(contest.demand)
    amounts = (stated.retraining_usd, stated.validation_usd, stated.engineering_usd)
    hours = (stated.dual_running_days or 0.0) * HOURS_PER_DAY
    total: Drawn = math.fsum(usd or 0.0 for usd in amounts) + fleet.whole * contest.price.usd_per_hour * hours
    return total


def monthly_cash_usd(contest: Contest, growth_percent: float) -> Monthly:
    """Cash saved in each month of the horizon (rows) and draw (columns)."""
    import numpy as np

    months = range(HORIZON_MONTHS if growth_percent else 1)
    rows = [contest.cash_usd_per_hour(grown(growth_percent, m / MONTHS_PER_YEAR)) * HOURS_PER_MONTH for m in months]
    return np.broadcast_to(np.array(rows), (HORIZON_MONTHS, len(contest.subject_s)))


def grown(percent_per_year: float, years: float) -> float:
    """The rate after so many years, over the rate today."""
    return float((1 + percent_per_year / 100) ** years)


def months_to_repay(one_off: Drawn, monthly: Monthly) -> Drawn:
    """Months until the added-up cash first reaches the one-off costs, evenly within a month; infinite where it does
    not within the horizon, or where no cash is saved at all; not a number without draws.
    """
    import numpy as np

    ends = np.cumsum(monthly, axis=0)
    reached = (ends >= one_off) & (ends > 0)
    first = reached.argmax(axis=0)
    draws = np.arange(len(one_off))
    cash = monthly[first, draws]
    before = ends[first, draws] - cash
    comes = reached.any(axis=0)
    within = np.divide(one_off - before, cash, out=np.zeros(len(one_off)), where=comes)
    months: Drawn = np.where(comes, first + within, np.inf)
    return np.where(np.isnan(ends[-1]), np.nan, months)


def _grown(contest: Contest, percent: float, years: int) -> GrownYear:
    """Both fleets after so many years."""
    assert contest.demand is not None
    demand = at_rate(contest.demand, grown(percent, years))
    base, fleet = contest.fleets(demand)
    usd = contest.price.usd_per_hour if contest.price else None
    return GrownYear(
        years, demand.requests_per_second, estimate(base.whole), estimate(fleet.whole),
        None if usd is None else estimate(base.whole * usd), None if usd is None else estimate(fleet.whole * usd),
        None if usd is None else estimate((base.whole - fleet.whole) * usd),
    )  # fmt: skip


def _range(months: Drawn) -> Estimate:
    """Months with their 95 % interval, of draws that may be infinite: its ends are draws, never between two."""
    import numpy as np

    value = float(months[0])
    if np.isnan(months[1:]).any():
        return Estimate(value)
    ends = np.quantile(months[1:], (0.025, 0.975), method="inverted_cdf")
    low, high = float(ends[0]), float(ends[1])
    return Estimate(value, min(low, value), max(high, value))
