"""The waterfall: from what runs today, by what needs no new model, to the mechanism that needs one, which comes last.

today ─▶ batching ─▶ batch size ─▶ regime ─▶ (several of these at once) ─▶ another exact mechanism ─▶ new model
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import get_args

from castbench.cost.bills import Bills
from castbench.cost.spec import Configuration, Move, Step, Waterfall
from castbench.plan import Plan
from castbench.said import Statement, statement

_UNPADDED = "varlen"
"""The mechanism that computes no padding."""


def waterfall(
    bills: Bills, today: Configuration, baseline: Configuration, exact: Collection[str], last: Configuration | None
) -> Waterfall:
    """Steps from `today` to `baseline`, the cheapest configuration of the `exact` labels, and on to `last`.

    Each step is the cheapest measured move of its kind from where the one before ended, and stays there where no move
    is cheaper. Moves are chosen by seconds per request, since whole servers hide small gains. A mechanism comes in its
    own best configuration, as it would be run. Values of changes add up; their ranges do not.
    """
    at, steps = today, []
    for move in get_args(Move):
        options = [last] if move == "new_model" and last else list(_options(move, at, bills, baseline, exact))
        if options:
            staying = [] if move == "new_model" else [at]
            there = min((*staying, *options), key=lambda c: float(bills.request_s[c][0]))
            steps.append(Step(move, bills.running(there), bills.change(at, there), len(options)))
            at = there
    tuned = at if last is None else baseline
    return Waterfall(bills.running(today), tuple(steps), bills.change(today, tuned), bills.change(today, at))


def _options(
    move: Move, at: Configuration, bills: Bills, baseline: Configuration, exact: Collection[str]
) -> Iterator[Configuration]:
    """Measured configurations that a step of this kind could lead to from here, without a new model."""
    if move == "together":
        yield from [baseline] if baseline.label == at.label and baseline != at else []
    elif move == "mechanism":
        yield from (c for c in bills.request_s if c.label in exact and c.label != at.label)
    elif move != "new_model":
        yield from (c for c in bills.request_s if _differs_in(c, at) == [move])


def _differs_in(other: Configuration, at: Configuration) -> list[Move | str]:
    """In what two configurations differ; how batches are formed matters only where both hold several requests."""
    several = min(other.batch_size, at.batch_size) > 1
    differences: list[tuple[Move | str, bool]] = [
        ("label", other.label != at.label), ("batch_size", other.batch_size != at.batch_size),
        ("batching", several and other.batching != at.batching), ("regime", other.regime != at.regime),
    ]  # fmt: skip
    return [name for name, differs in differences if differs]


def unmeasured(plan: Plan, device: str) -> Iterator[Statement]:
    """Steps that this run does not cover, with what to do to measure each: first what needs no new model."""
    served, groups = plan.served, [group for group in plan.groups if not group.held_out]
    regimes = {group.regime for group in groups}
    several = [group for group in groups if group.shape.batch_size > 1]
    if len({group.shape.batch_size for group in groups}) == 1:
        yield statement("unmeasured.batch_size")
    elif len({group.batching for group in several}) == 1:
        yield statement("unmeasured.batching")
    if several and not any(arm.mechanism == _UNPADDED for arm in plan.arms):
        yield statement("unmeasured.unpadded", mechanism=_UNPADDED)
    if served.dtype == "fp32":
        yield statement("unmeasured.bf16")
    if "compiled" not in regimes:
        yield statement("unmeasured.compiled")
    if "graph" not in regimes and device.startswith("cuda") and served.phase == "inference":
        yield statement("unmeasured.graph")
    yield statement("unmeasured.gpu" if device.startswith("cuda") else "unmeasured.machine")
    if served.phase == "inference":
        yield from (statement("unmeasured.window"), statement("unmeasured.autoscaling"))
    yield from (statement("unmeasured.truncation"), statement("unmeasured.layers"))
