"""Linear attention: similarities of elu(q) + 1 and elu(k) + 1, summed over keys first; described without torch."""

from __future__ import annotations

from dataclasses import dataclass

from castbench.mechanisms.accounting import four_projections, projections
from castbench.mechanisms.spec import KernelWork, MechanismSpec, Problem

_FP32_BYTES = 4


@dataclass(frozen=True, slots=True)
class LinearParams:
    """Linear attention has no parameters."""


def work(params: LinearParams, problem: Problem) -> KernelWork:
    """Projections, and 4·T·M·D FLOPs for T = B·N tokens: keys times values, and queries times that.

    Features are at least float32; both are written and read once, and so are q, k, v and the result. Training keeps
    them, the result before its division and the one laid out for out_proj; in half precision also what features are
    made of, in float32, and their copies for the products.
    """
    tokens, width = problem.batch_size * problem.seq_len, problem.embed_dim
    wide_bytes = max(_FP32_BYTES, problem.element_bytes)
    row_bytes, wide_row_bytes = (float(tokens * width * size) for size in (problem.element_bytes, wide_bytes))
    copied = wide_bytes != problem.element_bytes
    kept = copied and problem.training
    mixing = KernelWork(
        gemm_flops=4.0 * tokens * width * problem.head_dim,
        elementwise_bytes=4 * wide_row_bytes + (6 + 4 * copied) * row_bytes,
        launches=12 + 4 * copied,
        activation_bytes=(2 + 2 * kept) * (wide_row_bytes + row_bytes),
    )
    return projections(problem) + mixing


SPEC = MechanismSpec(
    name="linear",
    title="Linear attention (Transformers are RNNs)",
    summary="elu(q) + 1 times elu(k) + 1 in place of softmax, never N×N",
    params=LinearParams,
    build="castbench.mechanisms.linear.module:build",
    reference="castbench.mechanisms.linear.reference:reference",
    work=work,
    complexity="O(N·D) time per head, O(N) memory",
    paper="Katharopoulos et al., arXiv:2006.16236",
    year=2020,
    family="replacement",
    remark="Its similarities are not those of softmax attention nor an approximation of them.",
    weights=four_projections,
)
