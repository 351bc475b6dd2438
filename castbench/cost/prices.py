"""The price of a billing unit: a contract's, or a row of the shipped catalogue; the only file here that reads one."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import cache
from importlib.resources import files
from statistics import median
from typing import Literal

from castbench.cost.spec import Price
from castbench.errors import InputError
from castbench.records import Caveat
from castbench.workload.spec import PriceChoice

DeviceKind = Literal["cpu", "cuda", "fake"]

OLD_DAYS = 90
LOWEST_OF_MEDIAN, HIGHEST_OF_MEDIAN = 0.8, 1.25
LEAST_OVER_SPOT = 1.1
"""On demand at most this times the spot price: one of the two is probably another product's."""


@cache
def load_catalogue() -> tuple[Price, ...]:
    """Every row of the shipped prices.csv at its on-demand price, suspect rows flagged."""
    text = (files("castbench.cost") / "prices.csv").read_text("utf-8")
    prices = tuple(_row(row) for row in csv.DictReader(text.splitlines()))
    return tuple(_checked(price, prices) for price in prices)


def resolve_price(
    choice: PriceChoice | None, *, device_kind: DeviceKind, gpu: str | None, on_date: date
) -> tuple[Price | None, str | None]:
    """The price of a run and, where there is none, a sentence that says why and what to do.

    A contract price wins. A run on the CPU takes only a CPU server's price, one on a GPU only a GPU server's.
    InputError: the catalogue has no such row, or it is of the other kind. Prices that are old on the date of the run
    or look wrong are flagged, not refused.
    """
    if choice is None:
        return None, _nothing_stated(device_kind, gpu)
    if choice.usd_per_hour is not None:
        gpus = 0 if device_kind == "cpu" else choice.gpus
        stated = Price(choice.usd_per_hour, "a server", choice.plan, gpus, None, "stated by you", contract=True)
        return replace(stated, vcpus=choice.vcpus), None
    price = _at_plan(_looked_up(choice, device_kind), choice.plan)
    _require_kind(price, device_kind)
    return _aged(_of_gpu(price, gpu), on_date), None


def _row(row: Mapping[str, str]) -> Price:
    """One line of prices.csv."""
    where = f" ({row['region']})" if row["region"] else ""
    return Price(
        float(row["on_demand_usd_per_hour"]), f"{row['cloud']} {row['instance']}{where}", "on_demand",
        int(row["gpus"]), row["as_of"], row["source"], row["cloud"], row["region"] or None, row["accelerator"] or None,
        row["host_included"] == "yes", instance=row["instance"],
        vcpus=int(row["vcpus"]) if row["vcpus"] else None,
        memory_gib=float(row["memory_gib"]) if row["memory_gib"] else None,
        spot_usd_per_hour=float(row["spot_usd_per_hour"]) if row["spot_usd_per_hour"] else None,
        note=row["note"] or None,
    )  # fmt: skip


def _checked(price: Price, catalogue: Iterable[Price]) -> Price:
    """The row with what looks wrong about it beside its neighbours."""
    flags = tuple(_suspicions(price, catalogue))
    return replace(price, flags=flags, caveats=(Caveat.PRICE_SUSPECT,)) if flags else price


def _suspicions(price: Price, catalogue: Iterable[Price]) -> Iterable[str]:
    """Why a row may be wrong."""
    if price.usd_per_hour == 0:
        yield "the catalogue says 0"
    spot = price.spot_usd_per_hour
    if spot is not None and price.usd_per_hour <= LEAST_OVER_SPOT * spot:
        yield f"{price.usd_per_hour:g} on demand is hardly above {spot:g} spot"
    if price.accelerator is None:
        return
    alike = [p for p in catalogue if (p.cloud, p.accelerator) == (price.cloud, price.accelerator)]
    middle = median(p.usd_per_hour / p.devices for p in alike)
    own = price.usd_per_hour / price.devices
    if not LOWEST_OF_MEDIAN * middle <= own <= HIGHEST_OF_MEDIAN * middle:
        yield f"{own:g} per GPU is far from {middle:g}, the median of {price.cloud} for {price.accelerator}"


def _looked_up(choice: PriceChoice, device_kind: DeviceKind) -> Price:
    """The catalogue row asked for; InputError with near names where there is none."""
    catalogue = load_catalogue()
    asked = f"{choice.cloud} {choice.instance}"
    rows = [p for p in catalogue if (p.cloud, p.instance) == (choice.cloud, choice.instance)]
    found = next((p for p in rows if choice.region in (None, p.region)), None)
    if found is not None:
        return found
    key = _key(device_kind)
    if rows:
        regions = ", ".join(str(p.region) for p in rows)
        raise InputError(f"{key}: the catalogue has {asked} in {regions}, not in {choice.region}; "
                         f"leave region out, or give a contract price with {key}.usd_per_hour")  # fmt: skip
    near = _near(asked, catalogue)
    raise InputError(f"{key}: the catalogue has no {asked}; near it are {near}; "
                     f"choose one, or give a contract price with {key}.usd_per_hour")  # fmt: skip


def _near(asked: str, catalogue: Sequence[Price]) -> str:
    """The names of the catalogue most like the one asked for, whatever the case it was written in."""
    names = {f"{p.cloud} {p.instance}".lower(): f"{p.cloud} {p.instance}" for p in catalogue}
    return ", ".join(names[name] for name in difflib.get_close_matches(asked.lower(), names, n=4, cutoff=0.0))


def _at_plan(price: Price, plan: str) -> Price:
    """The row at its on-demand or spot price; InputError for a plan the catalogue does not know."""
    if plan == "on_demand":
        return price
    if plan == "spot" and price.spot_usd_per_hour is not None:
        return replace(price, usd_per_hour=price.spot_usd_per_hour, plan="spot")
    raise InputError(f"the catalogue has no {plan} price for {price.name}; "
                     "use on_demand, or give the contract price with usd_per_hour")  # fmt: skip


def _require_kind(price: Price, device_kind: DeviceKind) -> None:
    """InputError where a CPU run was given a GPU server's price, or the other way round."""
    if device_kind == "cpu" and price.gpus:
        raise InputError(f"price_cpu: {price.name} is a GPU server; a run on the CPU takes the price of a CPU server")
    if device_kind == "cuda" and not price.gpus:
        raise InputError(f"price: {price.name} is a CPU server; a run on a GPU takes the price of a GPU server")


def _of_gpu(price: Price, gpu: str | None) -> Price:
    """The price, flagged where it is of another GPU than the profile names."""
    if gpu is None or price.accelerator is None or gpu == price.accelerator:
        return price
    flag = f"{price.name} has {price.accelerator}, the profile names {gpu}"
    return replace(price, flags=(*price.flags, flag), caveats=(Caveat.PRICE_SUSPECT,))


def _aged(price: Price, on_date: date) -> Price:
    """The price, flagged where it is older than 90 days on that date."""
    if price.as_of is None or (days := (on_date - date.fromisoformat(price.as_of)).days) <= OLD_DAYS:
        return price
    flag = f"it was {days} days old on the day of the run"
    return replace(price, flags=(*price.flags, flag), caveats=(*price.caveats, Caveat.PRICE_OLD))


def _nothing_stated(device_kind: DeviceKind, gpu: str | None) -> str:
    """Why there is no price, and how to state one."""
    rows = [p for p in load_catalogue() if (p.accelerator is None if device_kind == "cpu" else p.accelerator == gpu)]
    known = ", ".join(f"{p.cloud} {p.instance}" for p in rows[:3])
    such = f" such as {known}" if known else ""
    server = "CPU server" if device_kind == "cpu" else "GPU server"
    return (f"no price of a {server} is stated; give --price 0.10 (USD per hour), "
            f"or add {_key(device_kind)} to the profile: usd_per_hour, or cloud and instance{such}")  # fmt: skip


def _key(device_kind: DeviceKind) -> str:
    """The profile's key for the price of this kind of device."""
    return "price_cpu" if device_kind == "cpu" else "price"
