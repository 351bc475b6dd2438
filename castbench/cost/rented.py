"""A server of one's own beside the same GPU rented: what an hour of one GPU costs either way; pure."""

from __future__ import annotations

from collections.abc import Iterable

from castbench.cost.outlook_nouns import Rented
from castbench.cost.owned import capital_usd_per_hour, electricity_usd_per_hour
from castbench.cost.spec import Price
from castbench.workload.spec import OwnedHardware


def rented_twin(owned: OwnedHardware, price: Price, gpu: str | None, rows: Iterable[Price]) -> Rented | None:
    """The row with this GPU that rents it for the least on demand, beside the `price` of a server of one's own.

    Rows that look wrong are passed over. None where no row has the GPU, or nothing says which GPU it is.
    """
    alike = (row for row in rows if gpu is not None and row.accelerator == gpu and row.gpus and not row.flags)
    row = min(alike, key=lambda row: row.usd_per_hour / row.gpus, default=None)
    if row is None or gpu is None:
        return None
    rented = row.usd_per_hour / row.gpus
    return Rented(
        gpu, row.name, row.source, row.as_of, rented, price.usd_per_hour / price.devices,
        even_share(owned, rented * price.devices),
    )  # fmt: skip


def even_share(owned: OwnedHardware, rented_usd_per_hour: float) -> float | None:
    """Share of the hours in use from which on the own server costs less than renting for just those hours:

    (purchase / years + maintenance) / 8760 h / (rent - electricity);    None where that is above 1, or the rent does
    not even cover the electricity.
    """
    margin = rented_usd_per_hour - (electricity_usd_per_hour(owned) or 0.0)
    if margin <= 0:
        return None
    share = capital_usd_per_hour(owned) * owned.utilization / margin
    return share if share <= 1 else None
