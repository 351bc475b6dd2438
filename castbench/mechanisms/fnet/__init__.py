"""FNet: tokens mixed by a Fourier transform instead of attention; described without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from castbench.mechanisms.spec import KernelWork, MechanismSpec, Problem

_FP32_BYTES = 4


@dataclass(frozen=True, slots=True)
class FNetParams:
    """FNet has no parameters."""


def fft_flops(params: FNetParams, problem: Problem) -> float:
    """2.5·n·log2(n) per row for n = N·M numbers: the usual 5·n·log2(n) of a complex transform, halved for a real one.

    A convention that FFT libraries compare their speeds by, and no count of what any of them does.
    """
    numbers = problem.seq_len * problem.embed_dim
    return 2.5 * problem.batch_size * numbers * math.log2(numbers)


def work(params: FNetParams, problem: Problem) -> KernelWork:
    """The transform's FLOPs by convention; no projections.

    Bytes: x read, half a complex spectrum written and read by each of the transforms over width and over tokens, its
    real part read, y written; all but x and y in at least float32. Training keeps y alone: the transform is linear.
    """
    numbers = float(problem.batch_size * problem.seq_len * problem.embed_dim)
    wide_bytes, row_bytes = numbers * max(_FP32_BYTES, problem.element_bytes), numbers * problem.element_bytes
    return KernelWork(
        attention_flops=fft_flops(params, problem),
        elementwise_bytes=4 * wide_bytes + 2 * row_bytes,
        launches=8,
        activation_bytes=row_bytes + (0.0 if problem.training else 2 * wide_bytes),
    )


SPEC = MechanismSpec(
    name="fnet",
    title="FNet: Fourier transforms instead of attention",
    summary="real part of an FFT over tokens and width; nothing is learned",
    params=FNetParams,
    build="castbench.mechanisms.fnet.module:build",
    reference="castbench.mechanisms.fnet.reference:reference",
    work=work,
    complexity="O(N·log N) time, O(N) memory",
    paper="Lee-Thorp et al., arXiv:2105.03824",
    year=2021,
    family="replacement",
    remark="Mixes tokens by a fixed transform, without attention, projections or weights: not like for like.",
    right_padding=True,
    uncounted_flops=fft_flops,
)
