"""S4D: a diagonal state space model in place of attention, computed as a convolution; described without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from castbench.mechanisms.spec import KernelWork, MechanismSpec, Problem

_FP32_BYTES = 4


@dataclass(frozen=True, slots=True)
class S4dParams:
    """Parameters of S4D.

    state_size     numbers of state per channel, kept as half as many
                   complex pairs; even
    bidirectional  true: a second filter looks at the tokens to come, for
                   encoders; false: the causal form
    gated          true: the output projection is a gated linear unit, as
                   published; false: a plain one
    """

    state_size: int = 64
    bidirectional: bool = True
    gated: bool = True

    def __post_init__(self) -> None:
        if self.state_size < 2 or self.state_size % 2:
            raise ValueError(f"state_size: expected an even number of at least 2, got {self.state_size}")

    @property
    def directions(self) -> int:
        """Filters per channel."""
        return 1 + self.bidirectional

    @property
    def outputs(self) -> int:
        """Widths of out_proj's output: one for values, one for gates."""
        return 1 + self.gated


def filter_tables(seq_len: int) -> tuple[int, int]:
    """Sizes of the two tables whose products are the powers 0 to N − 1 of a state's decay: steps within, and of, about
    √N.
    """
    within = 1 << (seq_len - 1).bit_length() // 2
    return -(-seq_len // within), within


def transform_length(seq_len: int) -> int:
    """Length of the Fourier transforms: the least product of 2, 3 and 5 with room for all lags, −(N − 1) to N − 1."""
    needed = 2 * seq_len - 1
    best = 1 << (needed - 1).bit_length()
    for fives in range(best.bit_length()):
        for threes in range(best.bit_length()):
            odd = 5**fives * 3**threes
            if odd < best:
                best = min(best, odd << max(0, (-(-needed // odd) - 1).bit_length()))
    return best


def work(params: S4dParams, problem: Problem) -> KernelWork:
    """out_proj, the filters as products of two tables, and the convolution by Fourier transforms.

    A real transform of n numbers is counted as 2.5·n·log2(n) FLOPs, a complex product as 6. Everything but out_proj is
    float32. Training keeps the input, the filters with what they are made of, and what GELU, out_proj and the gate
    start from; tables and spectra are made again.
    """
    batch, length, width = problem.batch_size, problem.seq_len, problem.embed_dim
    tokens, fp32 = batch * length, max(_FP32_BYTES, problem.element_bytes)
    steps, within = filter_tables(length)
    points = transform_length(length)
    row_bytes, wide_bytes = float(tokens * width * problem.element_bytes), float(tokens * width * fp32)
    filter_bytes = float(params.directions * length * width * fp32)
    table_bytes = float(width * params.state_size * (params.directions * steps + within) * fp32)
    spectrum_bytes = float(width * (points // 2 + 1) * 2 * fp32)
    made_of_bytes = width * params.state_size * (5.0 + 2 * params.directions) * fp32
    kept_bytes = wide_bytes + filter_bytes + made_of_bytes + (3 + 2 * params.gated) * row_bytes
    weight_bytes = float(params.outputs * width**2 * problem.element_bytes)
    return KernelWork(
        gemm_flops=2.0 * tokens * width**2 * params.outputs
        + 2.0 * width * params.directions * steps * within * params.state_size,
        attention_flops=uncounted_flops(params, problem),
        elementwise_bytes=(6 + 2 * params.outputs) * row_bytes + 8 * wide_bytes + 4 * table_bytes + 2 * filter_bytes
        + (4 * batch + 2) * spectrum_bytes + weight_bytes,
        launches=40,
        activation_bytes=kept_bytes if problem.training else 2 * wide_bytes + (batch + 1) * spectrum_bytes,
    )  # fmt: skip


def uncounted_flops(params: S4dParams, problem: Problem) -> float:
    """Fourier transforms of inputs, filters and outputs, and the products of spectra."""
    points = transform_length(problem.seq_len)
    transforms = (2 * problem.batch_size + 1) * 2.5 * points * math.log2(points)
    return problem.embed_dim * (transforms + 6.0 * problem.batch_size * (points // 2 + 1))


def weights(params: S4dParams, embed_dim: int, num_heads: int) -> int:
    """A, C for each direction, D and the step of every channel, and out_proj."""
    filters = embed_dim * (params.state_size * (1 + params.directions) + 2)
    return filters + params.outputs * (embed_dim * embed_dim + embed_dim)


SPEC = MechanismSpec(
    name="s4d",
    title="S4D: diagonal state space layer",
    summary="no attention: long filters from a diagonal state space, by FFT",
    params=S4dParams,
    build="castbench.mechanisms.s4d.module:build",
    reference="castbench.mechanisms.s4d.reference:reference",
    work=work,
    complexity="O(N·log N)",
    paper="Gu et al., arXiv:2206.11893",
    year=2022,
    causal=True,
    family="replacement",
    remark="a state space model, not attention: tokens are weighed by their distance, not by what they hold",
    right_padding=True,
    weights=weights,
    uncounted_flops=uncounted_flops,
)
