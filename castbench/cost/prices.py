"""Where price lists come from: the shipped catalogue, a file or an address; the only file of this room that reads."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from castbench.cost.price_choice import DeviceKind, PriceBook, resolve_price
from castbench.cost.price_doubts import doubted
from castbench.cost.price_rows import read_rows
from castbench.cost.spec import Price
from castbench.workload.text_source import name_of, read_source

if TYPE_CHECKING:
    from castbench.workload.address import Reach

__all__ = ["DeviceKind", "PriceBook", "load_catalogue", "price_book", "read_prices", "resolve_price"]

MOST_BYTES = 4 * 1024**2


@cache
def load_catalogue() -> tuple[Price, ...]:
    """Every row of the shipped prices.csv at its on-demand price, with what is doubtful about it."""
    text = (files("castbench.cost") / "prices.csv").read_text("utf-8")
    return doubted(read_rows(text, "castbench/cost/prices.csv"))


def read_prices(source: str, *, reach: Reach | None = None) -> tuple[Price, ...]:
    """Every row of a price list in a file or at an https address, with what is doubtful about it.

    The rows are the user's own, as contract prices are: redacted reports leave them out. An address is read anew on
    every call and nothing of it is kept. InputError where it cannot be read or is no price list.
    """
    text = read_source(source, most_bytes=MOST_BYTES, reach=reach)
    return doubted(tuple(replace(price, contract=True) for price in read_rows(text, name_of(source))))


def price_book(source: str | None = None, *, accept_suspect: bool = False) -> PriceBook:
    """The rows of a price list, or of the shipped catalogue where none is named."""
    if source is None:
        return PriceBook(load_catalogue(), accept_suspect=accept_suspect)
    return PriceBook(read_prices(source), name_of(source), accept_suspect)
