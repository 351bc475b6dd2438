"""The arm that a headline speaks of against the baseline, with everything that the saving between them follows from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from castbench.cost.bills import Bills
from castbench.cost.capacity import Fleet, fleet_for
from castbench.cost.cash import cash_usd_per_hour
from castbench.cost.selection import rival
from castbench.cost.spec import ArmProjection, Configuration, Price, Projection
from castbench.cost.surface import LatencySurface, Surfaces
from castbench.records import RunRecord
from castbench.workload.spec import Demand

if TYPE_CHECKING:
    from castbench.cost.draws import Drawn


@dataclass(frozen=True, slots=True, eq=False)
class Contest:
    """A subject and the baseline it is held against, both in their own configuration.

    attention_share   share of a request today that attention modules take, where only they were timed
    """

    record: RunRecord
    subject: ArmProjection
    configuration: Configuration
    baseline: Configuration
    bills: Bills
    surfaces: Surfaces
    attention_share: float | None

    @property
    def price(self) -> Price | None:
        """The price of a billing unit."""
        return self.bills.price

    @property
    def demand(self) -> Demand | None:
        """The traffic as stated."""
        return self.bills.demand

    @property
    def subject_s(self) -> Drawn:
        """The subject's drawn seconds per request."""
        return self.bills.request_s[self.configuration]

    @property
    def baseline_s(self) -> Drawn:
        """The baseline's."""
        return self.bills.request_s[self.baseline]

    @property
    def today_s(self) -> Drawn:
        """Those of what runs today, or of the baseline where nothing is known of it."""
        return self.bills.request_s[self.bills.today or self.baseline]

    @property
    def surface(self) -> LatencySurface:
        """The subject's measured times over length."""
        return self.surfaces.complete[self.configuration]

    @property
    def baseline_surface(self) -> LatencySurface:
        """The baseline's."""
        return self.surfaces.complete[self.baseline]

    def fleets(self, demand: Demand) -> tuple[Fleet, Fleet]:
        """Servers of the baseline and of the subject at a demand."""
        devices = self.price.devices if self.price else 1
        return fleet_for(self.baseline_s, demand, devices), fleet_for(self.subject_s, demand, devices)

    def cash_usd_per_hour(self, rate_factor: float) -> Drawn:
        """Drawn cash that leaves the invoice at so many times the rate; demand and price must be known.

        What is committed are the servers of today, at the rate of today.
        """
        assert self.demand is not None
        assert self.price is not None
        base, fleet = self.fleets(at_rate(self.demand, rate_factor))
        today = fleet_for(self.today_s, self.demand, self.price.devices).whole
        paid, kept = (cash_usd_per_hour(servers.whole, today, self.price) for servers in (base, fleet))
        return paid - kept


def at_rate(demand: Demand, factor: float) -> Demand:
    """The demand at so many times its rate."""
    return replace(demand, requests_per_second=demand.requests_per_second * factor)


def contest_of(
    record: RunRecord, projection: Projection, bills: Bills, surfaces: Surfaces, attention_share: float | None
) -> Contest | None:
    """The contest of a projection; None where there is nothing to compare."""
    subject = rival(projection.arms, projection.today, projection.baseline)
    if subject is None or subject.configuration is None or projection.baseline is None:
        return None
    return Contest(record, subject, subject.configuration, projection.baseline, bills, surfaces, attention_share)
