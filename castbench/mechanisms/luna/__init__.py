"""Luna: a few learned vectors attend to the tokens, and the tokens to what these packed; described without torch."""

from __future__ import annotations

from dataclasses import dataclass

from castbench.mechanisms.accounting import projection_parameters, projections
from castbench.mechanisms.spec import KernelWork, MechanismSpec, Problem

_FP32_BYTES = 4


@dataclass(frozen=True, slots=True)
class LunaParams:
    """Parameters of Luna.

    length  p, context vectors that a row is packed into
    tied    keys and values are one projection, in both attentions
    """

    length: int = 16
    tied: bool = False

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ValueError(f"length: expected a whole number of at least 1, got {self.length}")


def inputs(params: LunaParams) -> int:
    """Projections of the tokens beside out_proj: queries, keys and values, or queries and both in one."""
    return 2 if params.tied else 3


def folds(params: LunaParams, seq_len: int, embed_dim: int, num_heads: int) -> bool:
    """Whether products are folded into the p·H vectors instead of being made of every token, since that costs less.

    A row saves its token projections (2·N·M² each) and both attentions over D wide heads (8·N·p·M), and pays four
    products of N × M with p·H columns and three more small ones of 2·p·M².
    """
    plain = 2 * (inputs(params) + 1) * seq_len * embed_dim + 8 * seq_len * params.length
    return 8 * seq_len * params.length * num_heads + 6 * params.length * embed_dim < plain


def work(params: LunaParams, problem: Problem) -> KernelWork:
    """4·T·p·M FLOPs for each of two attentions between T = B·N tokens and p vectors, or 4·T·H·p·M where folded.

    Beside the projections: 2·p·M² for the vectors' queries and 2·B·p·M² for each of their keys and values. Folded
    there are no projections of tokens, but 2·p·M² for keys and 6·B·p·M² for queries, values and the result.
    """
    batch, width, heads, length = problem.batch_size, problem.embed_dim, problem.num_heads, params.length
    rows, parts = batch * length, inputs(params) - 1
    small_flops = 2.0 * length * width**2 + 2.0 * parts * rows * width**2
    if folds(params, problem.seq_len, width, heads):
        return _folded(params, problem) + KernelWork(gemm_flops=small_flops)
    tokens, short_bytes = batch * problem.seq_len, float(rows * width * problem.element_bytes)
    row_bytes = float(tokens * width * problem.element_bytes)
    kept_bytes = _FP32_BYTES * float((tokens + rows) * heads) + (1 + parts) * short_bytes
    attention = KernelWork(
        gemm_flops=small_flops,
        attention_flops=8.0 * tokens * length * width,
        elementwise_bytes=4 * row_bytes + 6 * short_bytes + float(3 * width**2 * problem.element_bytes),
        launches=4,
        activation_bytes=row_bytes + (kept_bytes if problem.training else (1 + parts) * short_bytes),
    )
    return projections(problem, inputs(params)) + attention


def _folded(params: LunaParams, problem: Problem) -> KernelWork:
    """Two products of every token with p·H vectors, and two of the weights with the tokens or with p·H vectors."""
    batch, width, heads, length = problem.batch_size, problem.embed_dim, problem.num_heads, params.length
    tokens, rows = batch * problem.seq_len, batch * length
    row_bytes, score_bytes, wide_bytes, short_bytes = (
        float(numbers * problem.element_bytes)
        for numbers in (tokens * width, tokens * length * heads, rows * heads * width, rows * width)
    )
    parts = inputs(params) - 1
    return KernelWork(
        gemm_flops=2.0 * length * width**2 + 6.0 * rows * width**2,
        attention_flops=8.0 * tokens * length * heads * width,
        elementwise_bytes=4 * row_bytes + 6 * score_bytes + 8 * wide_bytes + 7.0 * width**2 * problem.element_bytes,
        launches=16,
        activation_bytes=(1 + problem.training) * row_bytes + 2 * score_bytes
        + (3 * wide_bytes + (1 + parts) * short_bytes) * (1 if problem.training else 0.5),
    )  # fmt: skip


def weights(params: LunaParams, embed_dim: int, num_heads: int) -> int:
    """Projections of tokens and of the result, of the vectors to queries and to keys and values; the vectors."""
    square, parts = embed_dim * embed_dim + embed_dim, inputs(params) - 1
    return projection_parameters(embed_dim, inputs(params)) + (1 + parts) * square + params.length * embed_dim


SPEC = MechanismSpec(
    name="luna",
    title="Luna: linear unified nested attention",
    summary="p vectors attend to the tokens, the tokens to the p vectors",
    params=LunaParams,
    build="castbench.mechanisms.luna.module:build",
    reference="castbench.mechanisms.luna.reference:reference",
    work=work,
    complexity="O(N·p)",
    paper="Ma et al., arXiv:2106.01540",
    year=2021,
    family="approximation",
    remark="as published its vectors pass from layer to layer; here every layer has its own and passes none on",
    weights=weights,
)
