"""What several of CAST's kernels do: finding the members at some places, and a step of an online softmax."""

# Triton has no types, so its decorator takes away those of what it decorates.
# mypy: disable-error-code="import-untyped, import-not-found, untyped-decorator"

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
"""Softmaxes are in base 2, which is what GPUs have an instruction for."""


@triton.jit
def members_at(index_BCK: tl.tensor, taken_BCK: tl.tensor, row: tl.tensor, place: tl.tensor, K: tl.tensor) -> Any:
    """Which of some places of one cluster are taken, and their tokens, 0 where not; `row` counts clusters of all rows.

    taken_BCK None means that all are, and is known when the kernel is compiled.
    """
    held = place < K
    if taken_BCK is not None:
        held = held & (tl.load(taken_BCK + row.to(tl.int64) * K + place, mask=held, other=0) != 0)
    return held, tl.load(index_BCK + row.to(tl.int64) * K + place, mask=held, other=0)


@triton.jit
def softmax_step(logit: tl.tensor, top: tl.tensor, total: tl.tensor) -> Any:
    """More columns for rows of a softmax: their weights, what earlier sums fade by, the new maximum and sum of weights.

    A row of nothing but −inf so far has the origin 0, where its weights are the 0 that is meant: −inf − (−inf) is NaN.
    """
    higher = tl.maximum(top, tl.max(logit, 1))
    origin = tl.where(higher == float("-inf"), 0.0, higher)
    weight = tl.exp2(logit - origin[:, None])
    fade = tl.exp2(top - origin)
    return weight, fade, higher, total * fade + tl.sum(weight, 1)


@triton.jit
def log_sum(top: tl.tensor, total: tl.tensor) -> Any:
    """What a finished softmax's sums are divided by, and its log-sum-exp: 1 and −inf where nothing was summed."""
    some = total > 0
    divisor = tl.where(some, total, 1.0)
    return divisor, tl.where(some, top + tl.log2(divisor), float("-inf"))
