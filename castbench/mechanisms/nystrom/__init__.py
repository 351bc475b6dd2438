"""Nyströmformer: softmax attention by way of a few landmarks, means of segments of the row; without torch."""

from __future__ import annotations

from dataclasses import dataclass

from castbench.mechanisms.accounting import fused_attention, projection_parameters, projections
from castbench.mechanisms.spec import KernelWork, MechanismSpec, Problem

_FP32_BYTES = 4


@dataclass(frozen=True, slots=True)
class NystromParams:
    """Parameters of Nyströmformer.

    landmarks    m, segments of a row whose means stand for it; rows
                 of at most m tokens get softmax attention itself
    iterations   steps towards the pseudo-inverse of the landmarks'
                 own attention
    convolution  width, in tokens and odd, of the convolution over
                 values that is added; null leaves it out
    """

    landmarks: int = 64
    iterations: int = 6
    convolution: int | None = 33

    def __post_init__(self) -> None:
        for name in ("landmarks", "iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected a whole number of at least 1, got {getattr(self, name)}")
        if self.convolution is not None and (self.convolution < 1 or self.convolution % 2 == 0):
            raise ValueError(f"convolution: expected an odd number of tokens or null, got {self.convolution}")


def convolution_block(taps: int) -> int:
    """Tokens that are convolved by one product: about as many as there are taps, so that half the band is taps."""
    return max(16, taps - 1)


def work(params: NystromParams, problem: Problem) -> KernelWork:
    """8·T·m·M FLOPs of attention for T = B·N tokens: landmarks to all keys, and all queries to landmarks.

    Beside the projections: 4·B·m·M² for the landmarks' queries and keys, 4·B·m²·M for their scores and for what the
    inverse is applied to, and 8·m³ per step of the inverse for every row and head; about 4·w·T·M, half of it zeros,
    for a convolution of width w. Training keeps five m × m matrices per step in fp32, and every token in the two
    blocks it is convolved in. Rows of at most m tokens: 4·T·N·M of softmax attention.
    """
    tokens, width = problem.batch_size * problem.seq_len, problem.embed_dim
    row_bytes = float(tokens * width * problem.element_bytes)
    own = fused_attention(problem) if problem.seq_len <= params.landmarks else _by_landmarks(params, problem)
    total = projections(problem) + own
    if params.convolution is not None:
        block = convolution_block(params.convolution)
        window, blocks = block + params.convolution - 1, -(-problem.seq_len // block)
        window_bytes = float(problem.batch_size * blocks * window * width * problem.element_bytes)
        total += KernelWork(
            gemm_flops=2.0 * problem.batch_size * blocks * block * window * width,
            elementwise_bytes=6 * row_bytes,
            gather_bytes=2 * window_bytes,
            launches=6,
            activation_bytes=row_bytes + window_bytes,
        )
    return total


def _by_landmarks(params: NystromParams, problem: Problem) -> KernelWork:
    """Landmarks, the three kernels and the pseudo-inverse."""
    batch, width, heads, marks = problem.batch_size, problem.embed_dim, problem.num_heads, params.landmarks
    tokens, steps = batch * problem.seq_len, params.iterations
    row_bytes, short_bytes = (float(n * width * problem.element_bytes) for n in (tokens, batch * marks))
    square_bytes = float(_FP32_BYTES * batch * heads * marks**2)
    kept_bytes = 4.0 * (tokens + batch * marks) * heads + 7 * short_bytes + (5 * steps + 4) * square_bytes
    return KernelWork(
        gemm_flops=4.0 * batch * marks * width**2 + 4.0 * batch * marks**2 * width
        + 8.0 * steps * batch * heads * marks**3,
        attention_flops=8.0 * tokens * marks * width,
        elementwise_bytes=5 * row_bytes + 8 * short_bytes + (12 * steps + 6) * square_bytes,
        launches=14 + 4 * steps,
        activation_bytes=row_bytes + (kept_bytes if problem.training else 4 * short_bytes + 4 * square_bytes),
    )  # fmt: skip


def weights(params: NystromParams, embed_dim: int, num_heads: int) -> int:
    """The four projections, and one number per head and place of the convolution."""
    return projection_parameters(embed_dim) + num_heads * (params.convolution or 0)


SPEC = MechanismSpec(
    name="nystrom",
    title="Nyströmformer: Nyström approximation of softmax attention",
    summary="softmax attention by way of m landmarks, means of segments",
    params=NystromParams,
    build="castbench.mechanisms.nystrom.module:build",
    reference="castbench.mechanisms.nystrom.reference:reference",
    work=work,
    complexity="O(N·m + m³)",
    paper="Xiong et al., arXiv:2102.03902",
    year=2021,
    family="approximation",
    remark="its landmarks are means of neighbours: what it loses depends on how alike neighbouring tokens are",
    right_padding=True,
    parity_tokens=160,
    weights=weights,
)
