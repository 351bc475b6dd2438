"""Figures as cells: with their range, and marked where they rest on too few rounds for one."""

from __future__ import annotations

from castbench.cost.spec import ArmProjection
from castbench.records import Caveat
from castbench.report import format as fmt
from castbench.report import text
from castbench.said import Quantity


def is_rough(arm: ArmProjection) -> bool:
    """Whether an arm's figures rest on too few rounds for a verdict and a valid range."""
    return Caveat.FEW_ROUNDS in arm.caveats


def figure(quantity: Quantity | None, *, rough: bool, ranged: bool = True) -> str:
    """A cell with its range; a rough one is a marked point."""
    if quantity is None:
        return fmt.NOTHING
    if rough:
        return text.ROUGH + fmt.value(Quantity(quantity.value, quantity.unit))
    return fmt.spread(quantity, unit=False) if ranged else fmt.value(quantity)
