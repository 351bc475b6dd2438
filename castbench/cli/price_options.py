"""The options that say which price list counts, the same for every command that prices something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from castbench.cost.prices import PriceBook

PriceList = Annotated[
    str | None,
    typer.Option(
        "--prices", metavar="FILE", envvar="CASTBENCH_PRICES",
        help="Price list instead of the shipped one: a CSV file or an https address.",
    ),
]  # fmt: skip
AcceptSuspect = Annotated[
    bool, typer.Option("--accept-suspect", help="Use a price that looks wrong beside its neighbours.")
]


def book_of(price_list: str | None, *, accept_suspect: bool) -> PriceBook:
    """The price list that the options ask for; InputError where it cannot be read."""
    from castbench.pipeline import price_book

    return price_book(price_list, accept_suspect=accept_suspect)
