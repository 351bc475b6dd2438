"""Servers and money of configurations, all from the same draws: what each one takes, and what a change gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from castbench.cost.capacity import Fleet, fleet_for
from castbench.cost.cash import cash_usd_per_hour
from castbench.cost.draws import estimate, share
from castbench.cost.spec import Change, Configuration, Price, Running
from castbench.stats import Estimate
from castbench.workload.spec import Demand

if TYPE_CHECKING:
    from castbench.cost.draws import Drawn


@dataclass(frozen=True, slots=True, eq=False)
class Bills:
    """Drawn seconds per request of every measured configuration, and what makes servers and money of them.

    price, demand   None: not known
    today           the configuration whose servers are committed to, where the price is of a kind that commits
    """

    request_s: Mapping[Configuration, Drawn]
    today: Configuration | None
    price: Price | None
    demand: Demand | None

    def fleet(self, configuration: Configuration | None) -> Fleet | None:
        """The servers a configuration needs; None where it or the demand is not known."""
        if configuration is None or self.demand is None:
            return None
        return fleet_for(self.request_s[configuration], self.demand, self.price.devices if self.price else 1)

    def running(self, configuration: Configuration) -> Running:
        """A configuration as it would run."""
        seconds, fleet = self.request_s[configuration], self.fleet(configuration)
        if fleet is None:
            return Running(configuration, estimate(seconds), None, (), None, None)
        return Running(
            configuration, estimate(seconds), fleet.replicas, fleet.replicas_shares, fleet.utilization, self.cost(fleet)
        )  # fmt: skip

    def cost(self, fleet: Fleet | None) -> Estimate | None:
        """USD per hour of a fleet's whole units."""
        return None if fleet is None or self.price is None else estimate(fleet.whole * self.price.usd_per_hour)

    def change(self, before: Configuration | None, after: Configuration | None) -> Change:
        """What it gives to run `after` instead of `before`."""
        here, there = self.fleet(before), self.fleet(after)
        if here is None or there is None:
            return Change()
        released = estimate(here.fractional - there.fractional)
        if self.price is None:
            return Change(released)
        saved, held = here.whole - there.whole, self.fleet(self.today) or here
        cash = [cash_usd_per_hour(fleet.whole, held.whole, self.price) for fleet in (here, there)]
        return Change(
            released, estimate(saved * self.price.usd_per_hour), estimate(cash[0] - cash[1]),
            100 * float(1 - there.whole[0] / here.whole[0]), share(saved > 0, saved),
        )  # fmt: skip
