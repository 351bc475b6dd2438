"""Servers for a rate: seconds per request to billing units, fractional and whole, and what a million tokens cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from castbench.cost.draws import estimate
from castbench.cost.objective import Objective
from castbench.cost.spec import Price
from castbench.stats import Estimate
from castbench.units import SECONDS_PER_HOUR
from castbench.workload.spec import Demand

if TYPE_CHECKING:
    from castbench.cost.draws import Drawn

ROUNDING = 1e-9
"""Relative excess over a whole number of servers that is floating-point noise, not a need for one more."""


@dataclass(frozen=True, slots=True, eq=False)
class Fleet:
    """Billing units that serve a rate: `fractional` as the traffic needs, `whole` as bought; both drawn.

    utilization   share of time the devices of the whole units are busy
    """

    fractional: Drawn
    whole: Drawn
    utilization: float

    @property
    def replicas(self) -> int:
        """Whole billing units."""
        return int(self.whole[0])

    @property
    def replicas_shares(self) -> tuple[tuple[int, float], ...]:
        """Distribution of the whole units over the draws, ascending; empty without draws."""
        import numpy as np

        if np.isnan(self.whole[1:]).any():
            return ()
        values, counts = np.unique(self.whole[1:], return_counts=True)
        total = counts.sum()
        return tuple((int(v), float(c / total)) for v, c in zip(values, counts, strict=True))


def fleet_for(seconds_per_request: Drawn, demand: Demand, devices: int) -> Fleet:
    """Units = bought(ceil(rate * seconds per request / max_utilization)) / devices per unit, rounded up.

    `bought` adds the demand's fewest replicas and its spares (cost/objective.py); a replica is a device. They count in
    `whole` alone: `fractional` is what the traffic needs.
    """
    import numpy as np

    busy_devices = demand.requests_per_second * seconds_per_request
    fractional: Drawn = busy_devices / demand.max_utilization / devices
    replicas = np.ceil(fractional * devices * (1 - ROUNDING))
    whole: Drawn = np.ceil(Objective.of_demand(demand).bought_drawn(replicas) / devices)
    return Fleet(fractional, whole, float(busy_devices[0] / (whole[0] * devices)))


def usd_per_million_tokens(
    seconds_per_request: Drawn, price: Price, mean_tokens: float, max_utilization: float
) -> Estimate:
    """Price of a device second, at this utilisation, times the device seconds of a million real tokens."""
    usd_per_device_s = price.usd_per_hour / (price.devices * SECONDS_PER_HOUR * max_utilization)
    return estimate(usd_per_device_s * seconds_per_request / mean_tokens * 1e6)
