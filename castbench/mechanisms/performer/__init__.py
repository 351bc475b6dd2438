"""Performer: softmax attention approximated by random features of queries and keys; described without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from castbench.mechanisms.accounting import four_projections, projections
from castbench.mechanisms.spec import KernelWork, MechanismSpec, Problem

Kernel = Literal["softmax", "relu"]

RELU_EPSILON = 1e-3
"""Added to every ReLU feature, as published, so that no query is without a key."""
_FP32_BYTES = 4


@dataclass(frozen=True, slots=True)
class PerformerParams:
    """Parameters of Performer.

    features      random features per head; auto is the whole part of
                  D·ln D for heads of width D, as in performer-pytorch
    redraw_every  training steps for which the features stay; then new
                  ones are drawn. 0: they are never drawn anew
    kernel        softmax: positive features that approximate softmax;
                  relu: ReLU features, which are another attention
    """

    features: int | Literal["auto"] = "auto"
    redraw_every: int = 0
    kernel: Kernel = "softmax"

    def __post_init__(self) -> None:
        if self.kernel not in get_args(Kernel):
            raise ValueError(f"kernel: expected {' or '.join(map(repr, get_args(Kernel)))}, got {self.kernel!r}")
        if isinstance(self.features, int) and self.features < 1:
            raise ValueError(f"features: expected a whole number of at least 1, got {self.features}")
        if self.redraw_every < 0:
            raise ValueError(f"redraw_every: expected a whole number of at least 0, got {self.redraw_every}")


def features_of(params: PerformerParams, head_dim: int) -> int:
    """F, the random features of a head of that width."""
    return max(1, int(head_dim * math.log(head_dim))) if params.features == "auto" else params.features


def work(params: PerformerParams, problem: Problem) -> KernelWork:
    """Projections, and 8·T·F·M FLOPs for T = B·N tokens: features of queries, features of keys, values summed by
    feature, and sums read by queries; `relu` spends 2·T·H·F more on its denominators.

    Features are at least float32, those of queries and of keys written and read twice each. Training keeps them, the
    sums by feature before and after their division, q, k and v in the features' precision, and the result; `relu`
    keeps every feature with and without its epsilon, and the result before its division too.
    """
    relu, features = params.kernel == "relu", features_of(params, problem.head_dim)
    tokens, width, wide_bytes = problem.batch_size * problem.seq_len, problem.embed_dim, _wide_bytes(problem)
    row_bytes = float(tokens * width * wide_bytes)
    feature_bytes = float(tokens * problem.num_heads * features * wide_bytes)
    widened_bytes = 3.0 * tokens * width * (wide_bytes - problem.element_bytes)
    sum_bytes = float((1 if relu else 2) * problem.batch_size * features * width * wide_bytes)
    kept_bytes = (4 if relu else 2) * feature_bytes + (2 if relu else 1) * row_bytes
    mixing = KernelWork(
        gemm_flops=8.0 * tokens * features * width + (2.0 * tokens * problem.num_heads * features if relu else 0.0),
        elementwise_bytes=8 * feature_bytes + 4 * row_bytes + 2 * widened_bytes,
        launches=14 if relu else 20,
        activation_bytes=widened_bytes
        + sum_bytes
        + (kept_bytes if problem.training else 2 * feature_bytes + row_bytes),
    )
    return projections(problem) + mixing


def _wide_bytes(problem: Problem) -> int:
    """Bytes per number of what is exponentiated."""
    return max(_FP32_BYTES, problem.element_bytes)


SPEC = MechanismSpec(
    name="performer",
    title="Performer: FAVOR+, attention by positive orthogonal random features",
    summary="softmax attention approximated by random features, never N×N",
    params=PerformerParams,
    build="castbench.mechanisms.performer.module:build",
    reference="castbench.mechanisms.performer.reference:reference",
    work=work,
    complexity="O(N·F) time and memory, F features per head",
    paper="Choromanski et al., arXiv:2009.14794",
    year=2020,
    family="approximation",
    remark="Approximates softmax attention at random: outputs differ from one draw of the features to the next.",
    weights=four_projections,
)
