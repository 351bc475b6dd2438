"""From what a profile says of a price to the price: a contract's, a bought server's, or a row of a price list; pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

from castbench.cost.owned import owned_price
from castbench.cost.price_doubts import aged
from castbench.cost.spec import Price
from castbench.errors import InputError
from castbench.records import Caveat
from castbench.said import Statement, statement
from castbench.workload.spec import PriceChoice

DeviceKind = Literal["cpu", "cuda", "fake"]


@dataclass(frozen=True, slots=True)
class PriceBook:
    """The rows that prices are looked up in, doubts and all.

    name             what errors call them: "the catalogue", or a file's name
    accept_suspect   whether a row that looks wrong may be used; without it, it is refused
    """

    rows: tuple[Price, ...]
    name: str = "the catalogue"
    accept_suspect: bool = False


def resolve_price(
    choice: PriceChoice | None, *, book: PriceBook, device_kind: DeviceKind, gpu: str | None, on_date: date
) -> tuple[Price | None, Statement | None]:
    """The price of a run and, where there is none, why and what to do.

    A contract price wins over everything, then a server of one's own, then a row of the book. A run on the CPU takes
    only a CPU server's price, one on a GPU only a GPU server's. InputError: the book has no such row, it is of the
    other kind, it has no such plan, or it looks wrong and suspect rows are not accepted. Prices that are old on the
    date of the run, or of another GPU than the profile names, are flagged and used.
    """
    if choice is None:
        return None, _nothing_stated(device_kind, gpu, book)
    gpus = 0 if device_kind == "cpu" else choice.gpus
    if choice.usd_per_hour is not None:
        stated = Price(choice.usd_per_hour, "a server", choice.plan, gpus, None, "stated by you", contract=True)
        return replace(stated, vcpus=choice.vcpus, term_years=choice.term_years), None
    if choice.owned is not None:
        return owned_price(choice.owned, gpus, choice.vcpus), None
    row = _looked_up(choice, device_kind, book)
    _require_kind(row, device_kind)
    _require_sound(row, device_kind, book)
    return aged(_of_gpu(_at_plan(row, choice), gpu), on_date), None


def _looked_up(choice: PriceChoice, device_kind: DeviceKind, book: PriceBook) -> Price:
    """The row asked for, the first of its instance where no region is named; InputError with near names if none is."""
    asked = f"{choice.cloud} {choice.instance}"
    rows = [p for p in book.rows if (p.cloud, p.instance) == (choice.cloud, choice.instance)]
    found = next((p for p in rows if choice.region in (None, p.region)), None)
    if found is not None:
        return found
    key = _key(device_kind)
    if rows:
        regions = ", ".join(str(p.region) for p in rows)
        raise InputError(f"{key}: {book.name} has {asked} in {regions}, not in {choice.region}; "
                         f"leave region out, or give a contract price with {key}.usd_per_hour")  # fmt: skip
    raise InputError(f"{key}: {book.name} has no {asked}; near it are {_near(asked, book.rows)}; "
                     f"choose one, or give a contract price with {key}.usd_per_hour")  # fmt: skip


def _near(asked: str, rows: Sequence[Price]) -> str:
    """The names of rows most like the one asked for, whatever the case it was written in."""
    names = {f"{p.cloud} {p.instance}".lower(): f"{p.cloud} {p.instance}" for p in rows}
    return ", ".join(names[name] for name in difflib.get_close_matches(asked.lower(), names, n=4, cutoff=0.0))


def _require_kind(price: Price, device_kind: DeviceKind) -> None:
    """InputError where a CPU run was given a GPU server's price, or the other way round."""
    if device_kind == "cpu" and price.gpus:
        raise InputError(f"price_cpu: {price.name} is a GPU server; a run on the CPU takes the price of a CPU server")
    if device_kind == "cuda" and not price.gpus:
        raise InputError(f"price: {price.name} is a CPU server; a run on a GPU takes the price of a GPU server")


def _require_sound(price: Price, device_kind: DeviceKind, book: PriceBook) -> None:
    """InputError naming the reasons and the option where the row looks wrong and was not accepted as it is."""
    if price.flags and not book.accept_suspect:
        key = _key(device_kind)
        raise InputError(f"{key}: the price of {price.name} in {book.name} looks wrong: {'; '.join(price.flags)}; "
                         f"give a contract price with {key}.usd_per_hour, or use it all the same with "
                         "--accept-suspect")  # fmt: skip


def _at_plan(price: Price, choice: PriceChoice) -> Price:
    """The row at the on-demand, spot or reserved price; InputError for one that neither it nor the profile states."""
    if choice.plan == "on_demand":
        return price
    if choice.plan == "spot" and price.spot_usd_per_hour is not None:
        return replace(price, usd_per_hour=price.spot_usd_per_hour, plan="spot")
    if choice.plan == "reserved" and choice.discount_percent is not None:
        return _reserved(price, choice.discount_percent, choice.term_years)
    how = "state the discount_percent of your reservation, " if choice.plan == "reserved" else ""
    raise InputError(f"there is no {choice.plan} price for {price.name}; {how}"
                     "use on_demand, or give the contract price with usd_per_hour")  # fmt: skip


def _reserved(price: Price, discount_percent: float, term_years: int | None) -> Price:
    """The on-demand price less the discount that the user states; the user's own terms, as a contract price is."""
    term = "" if term_years is None else f" for {term_years} year{'' if term_years == 1 else 's'}"
    source = (f"{price.usd_per_hour:g} USD per hour on demand less {discount_percent:g} %{term}, stated by you; "
              f"{price.source}")  # fmt: skip
    return replace(
        price, usd_per_hour=price.usd_per_hour * (1 - discount_percent / 100), plan="reserved", source=source,
        contract=True, term_years=term_years,
    )  # fmt: skip


def _of_gpu(price: Price, gpu: str | None) -> Price:
    """The price, flagged where it is of another GPU than the profile names."""
    if gpu is None or price.accelerator is None or gpu == price.accelerator:
        return price
    flag = f"{price.name} has {price.accelerator}, the profile names {gpu}"
    return replace(price, flags=(*price.flags, flag), caveats=(Caveat.PRICE_SUSPECT,))


def _nothing_stated(device_kind: DeviceKind, gpu: str | None, book: PriceBook) -> Statement:
    """Why there is no price, and how to state one."""
    known = _distinct(
        f"{p.cloud} {p.instance}"
        for p in book.rows
        if not p.flags and (p.accelerator is None if device_kind == "cpu" else p.accelerator == gpu)
    )
    if not known:
        return statement("no_money.cpu_price" if device_kind == "cpu" else "no_money.gpu_price")
    key = "no_money.cpu_price_such_as" if device_kind == "cpu" else "no_money.gpu_price_such_as"
    return statement(key, known=tuple(known[:3]))


def _distinct(names: Iterable[str]) -> list[str]:
    """The names in their order, each once."""
    return list(dict.fromkeys(names))


def _key(device_kind: DeviceKind) -> str:
    """The profile's key for the price of this kind of device."""
    return "price_cpu" if device_kind == "cpu" else "price"
