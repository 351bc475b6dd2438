"""Cash: what leaves the invoice when servers go, after what is paid whether or not they are used; pure.

on demand, spot   every hour of a server that is given back is saved
reserved          the servers of today are paid for until the term ends, used or not; more are paid for in full
owned             the servers of today are bought; of an hour only the electricity is saved, where it is stated
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from castbench.cost.owned import PLAN as OWNED
from castbench.cost.spec import Price

if TYPE_CHECKING:
    from castbench.cost.draws import Drawn

RESERVED = "reserved"


def avoidable_usd_per_hour(price: Price) -> float:
    """USD per hour that one server of today no longer costs once it is given back or switched off."""
    if price.plan == RESERVED:
        return 0.0
    if price.plan == OWNED:
        return price.electricity_usd_per_hour or 0.0
    return price.usd_per_hour


def is_committed(price: Price) -> bool:
    """Whether servers of today cost something even when they are not used."""
    return avoidable_usd_per_hour(price) < price.usd_per_hour


def as_committed_as(price: Price, other: Price) -> Price:
    """A price with what another one commits to; one that commits to nothing leaves it as it is."""
    if not is_committed(other):
        return price
    return replace(
        price, plan=other.plan, term_years=other.term_years, electricity_usd_per_hour=other.electricity_usd_per_hour
    )


def cash_usd_per_hour(whole: Drawn, today: Drawn, price: Price) -> Drawn:
    """The part of the invoice that depends on how many servers run:

    avoidable · min(servers, servers today) + price · max(servers − servers today, 0)

    Differences of it are cash: they have the sign of the difference in servers, and never exceed it times the price.
    """
    import numpy as np

    avoidable = avoidable_usd_per_hour(price)
    cash: Drawn = avoidable * np.minimum(whole, today) + price.usd_per_hour * np.maximum(whole - today, 0.0)
    return cash
