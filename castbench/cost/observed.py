"""How much of what is observed, the bill and the latency, the model of today explains; savings apply to that share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from castbench.cost.capacity import Fleet
from castbench.cost.demand import paid_lengths
from castbench.cost.draws import estimate
from castbench.cost.spec import Price, Reconciled
from castbench.cost.surface import LatencySurface
from castbench.stats import Estimate
from castbench.units import HOURS_PER_MONTH, SECONDS_PER_HOUR, ms
from castbench.workload.spec import Demand, LengthDistribution, Observed

if TYPE_CHECKING:
    from castbench.cost.draws import Drawn

RATE_TOLERANCE = 0.1
"""Relative difference between the demand and the requests observed that is not worth a sentence."""


def reconciled(
    observed: Observed, fleet: Fleet | None, median_s: Drawn | None, demand: Demand | None, price: Price | None
) -> Reconciled:
    """The model held against what is observed.

    fleet      servers of today's configuration at the demand
    median_s   median time that a request takes in the model today; None where no whole request was timed
    """
    devices = price.devices if price else 1
    hours, requests, p50_ms = observed.gpu_hours_per_month, observed.requests_per_month, observed.p50_ms
    paid = None if hours is None else hours / HOURS_PER_MONTH / devices
    needed = fleet.whole if fleet else None
    expected = None if demand is None else demand.requests_per_second * SECONDS_PER_HOUR * HOURS_PER_MONTH
    return Reconciled(
        stated=observed,
        bill_explained=None if paid is None or needed is None else estimate(needed / paid),
        latency_explained=None if p50_ms is None or median_s is None else estimate(ms(1.0) * median_s / p50_ms),
        p50_s=None if median_s is None else estimate(median_s),
        demand_ratio=None if requests is None or expected is None else expected / requests,
        units_paid=paid, bill_usd_per_hour=None if paid is None or price is None else paid * price.usd_per_hour,
        spare_units=None if paid is None or needed is None else max(0, int(paid - float(needed[0]))),
    )  # fmt: skip


def median_seconds(surface: LatencySurface, mix: LengthDistribution) -> Drawn:
    """Drawn time that half of the requests take at most in the model: a request takes as long as its whole batch."""
    import numpy as np

    paid = paid_lengths(surface.configuration, mix)
    times = np.array([surface.seconds_at(tokens) for tokens in paid.tokens])
    order = times.argsort(axis=0)
    reached = np.array(paid.shares)[order].cumsum(axis=0)
    half = (reached < 0.5 - 1e-12).sum(axis=0)
    ranked = np.take_along_axis(times, order, axis=0)
    median: Drawn = np.take_along_axis(ranked, half[None, :], axis=0)[0]
    return median


def is_contradicted(explained: Estimate | None) -> bool:
    """Whether the model explains more than there is: more than all of it, whole range included."""
    if explained is None:
        return False
    return (explained.value if explained.low is None else explained.low) > 1


def is_off(found: Reconciled) -> bool:
    """Whether the demand is another than what is observed."""
    return found.demand_ratio is not None and abs(found.demand_ratio - 1) > RATE_TOLERANCE
