"""What an hour of a server that was bought costs, so that owned and rented servers compare; pure."""

from __future__ import annotations

from castbench.cost.spec import Price
from castbench.units import HOURS_PER_YEAR
from castbench.workload.spec import OwnedHardware

WATTS_PER_KW = 1000.0
PLAN = "owned"


def owned_usd_per_hour(owned: OwnedHardware) -> float:
    """USD per hour in which one server serves:

    (purchase / years + purchase · maintenance share) / (8760 h · utilization) + power in kW · PUE · USD per kWh

    Straight-line write-off: purchase and maintenance are spread evenly over the hours of use of `years`; there is no
    interest and no value left at the end. What is not stated (None) is left out, and `owned_source` says so.
    """
    return capital_usd_per_hour(owned) + (electricity_usd_per_hour(owned) or 0.0)


def capital_usd_per_hour(owned: OwnedHardware) -> float:
    """USD per hour of use for purchase and maintenance: what is paid whether or not the server serves."""
    per_year = owned.purchase_usd / owned.years + owned.purchase_usd * (owned.maintenance_share or 0.0)
    return per_year / (HOURS_PER_YEAR * owned.utilization)


def electricity_usd_per_hour(owned: OwnedHardware) -> float | None:
    """USD per hour of use for electricity, cooling included; None where it is not stated."""
    if owned.power_w is None or owned.pue is None or owned.usd_per_kwh is None:
        return None
    return owned.power_w / WATTS_PER_KW * owned.pue * owned.usd_per_kwh


def owned_price(owned: OwnedHardware, gpus: int, vcpus: int | None) -> Price:
    """The price of a billing unit that is one such server with that many GPUs (0: a CPU server).

    It is the user's own, as a contract price is, and is left out of redacted reports.
    """
    return Price(
        owned_usd_per_hour(owned), "a server of your own", PLAN, gpus, None, owned_source(owned),
        host_included=True, contract=True, vcpus=vcpus, electricity_usd_per_hour=electricity_usd_per_hour(owned),
    )  # fmt: skip


def owned_source(owned: OwnedHardware) -> str:
    """The formula with its numbers, and what it leaves out, as the source of the price."""
    yearly = f"{owned.purchase_usd:.12g} USD / {owned.years:g} years"
    if owned.maintenance_share is not None:
        yearly = f"({yearly} + {owned.maintenance_share:.6g} of it per year for maintenance)"
    said = f"{yearly} / ({HOURS_PER_YEAR:g} h * {owned.utilization:.6g} used)"
    if electricity_usd_per_hour(owned) is not None:
        said += f" + {owned.power_w:.12g} W * PUE {owned.pue:.6g} * {owned.usd_per_kwh:.6g} USD per kWh"
    missing = [
        what
        for what, known in (("maintenance", owned.maintenance_share), ("electricity", electricity_usd_per_hour(owned)))
        if known is None
    ]
    without = f", without {' and '.join(missing)} (not stated)" if missing else ""
    return f"stated by you: {said}{without}"
