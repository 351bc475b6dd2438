"""Naive attention: softmax attention with its scores in memory, the original Transformer; described without torch."""

from __future__ import annotations

from dataclasses import dataclass

from castbench.mechanisms.accounting import four_projections, projections
from castbench.mechanisms.spec import KernelWork, MechanismSpec, Problem


@dataclass(frozen=True, slots=True)
class NaiveParams:
    """Naive attention has no parameters."""


def work(params: NaiveParams, problem: Problem) -> KernelWork:
    """Projections, 4·B·N²·M FLOPs of attention, and the B·H·N² scores written and read twice each.

    Scores and softmax lie in memory together at the peak, with the result; training keeps the softmax of every layer.
    """
    tokens = problem.batch_size * problem.seq_len
    row_bytes = float(tokens * problem.embed_dim * problem.element_bytes)
    score_bytes = float(tokens * problem.seq_len * problem.num_heads * problem.element_bytes)
    attention = KernelWork(
        attention_flops=4.0 * tokens * problem.seq_len * problem.embed_dim,
        elementwise_bytes=4 * score_bytes + 4 * row_bytes,
        launches=4,
        activation_bytes=(1 if problem.training else 2) * score_bytes + row_bytes,
    )
    return projections(problem) + attention


SPEC = MechanismSpec(
    name="naive",
    title="Unfused softmax attention (original Transformer)",
    summary="softmax attention step by step; all N×N scores are kept in memory",
    params=NaiveParams,
    build="castbench.mechanisms.naive.module:build",
    reference="castbench.mechanisms.dense_reference:reference",
    work=work,
    complexity="O(N²) time and memory",
    paper="Vaswani et al., arXiv:1706.03762",
    year=2017,
    exact=True,
    weights=four_projections,
)
