"""Work that several mechanisms share, counted in one place: the projections around an attention."""

from __future__ import annotations

from typing import Any

from castbench.mechanisms.spec import KernelWork, Problem


def projections(problem: Problem, inputs: int = 3) -> KernelWork:
    """Work of in_proj (M to `inputs`·M) and out_proj (M to M) with their activations.

    2·T·M² FLOPs per projection for T = B·N tokens. Bytes: x, the inputs, the attention's result and y cross memory
    once each, and so do the weights. Activations: the inputs and y; training also keeps x.
    """
    tokens, width = problem.batch_size * problem.seq_len, problem.embed_dim
    row_bytes = tokens * width * problem.element_bytes
    weight_bytes = (inputs + 1) * width * width * problem.element_bytes
    return KernelWork(
        gemm_flops=2.0 * (inputs + 1) * tokens * width**2,
        elementwise_bytes=float((inputs + 3) * row_bytes + weight_bytes),
        launches=2,
        activation_bytes=float((inputs + 1 + problem.training) * row_bytes),
    )


def fused_attention(problem: Problem) -> KernelWork:
    """Softmax attention between projections whose scores never reach memory: 4·B·N²·M FLOPs.

    Bytes: q, k, v and the result, once each. Training keeps one float32 per query and head beside the result, from
    which the scores are computed again.
    """
    tokens = problem.batch_size * problem.seq_len
    row_bytes = float(tokens * problem.embed_dim * problem.element_bytes)
    return KernelWork(
        attention_flops=4.0 * tokens * problem.seq_len * problem.embed_dim,
        elementwise_bytes=4 * row_bytes,
        launches=1,
        activation_bytes=row_bytes + 4.0 * tokens * problem.num_heads * problem.training,
    )


def unfused_attention(problem: Problem) -> KernelWork:
    """Softmax attention between projections with its N×N scores in memory: as many FLOPs as fused_attention.

    Bytes: the scores written and read twice each. Scores and softmax lie in memory together at the peak, with the
    result; training keeps the softmax, and q and k as they were scaled.
    """
    tokens = problem.batch_size * problem.seq_len
    row_bytes = float(tokens * problem.embed_dim * problem.element_bytes)
    score_bytes = float(tokens * problem.seq_len * problem.num_heads * problem.element_bytes)
    return KernelWork(
        attention_flops=4.0 * tokens * problem.seq_len * problem.embed_dim,
        elementwise_bytes=4 * score_bytes + 4 * row_bytes,
        launches=6,
        activation_bytes=(score_bytes + 2 * row_bytes if problem.training else 2 * score_bytes) + row_bytes,
    )


def projection_parameters(embed_dim: int, inputs: int = 3) -> int:
    """Parameters of in_proj and out_proj, biases included."""
    return (inputs + 1) * (embed_dim * embed_dim + embed_dim)


def four_projections(params: Any, embed_dim: int, num_heads: int) -> int:
    """A `weights` for mechanisms that learn nothing but in_proj, of q, k and v, and out_proj."""
    return projection_parameters(embed_dim)
