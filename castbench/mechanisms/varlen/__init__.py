"""Unpadded softmax attention: the real tokens of a batch and no others are computed; described without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from castbench.mechanisms.accounting import four_projections, fused_attention, projections
from castbench.mechanisms.spec import KernelWork, MechanismSpec, Problem

Impl = Literal["auto", "rows", "nested", "varlen_attn"]

WIDEST_HEAD = 256
"""Widest head of PyTorch's kernel for rows of any length."""
_HEAD_STEP = 8
_FP32_BYTES = 4


@dataclass(frozen=True, slots=True)
class VarlenParams:
    """Parameters of unpadded attention.

    impl  how rows of unequal length are computed: rows (rows of one
          length at a time), varlen_attn (one kernel for all, CUDA,
          fp16 and bf16) or nested (nested tensors); auto is rows on
          a CPU, and on CUDA varlen_attn where it can, else nested
    """

    impl: Impl = "auto"

    def __post_init__(self) -> None:
        if self.impl not in get_args(Impl):
            raise ValueError(f"impl: expected {' or '.join(map(repr, get_args(Impl)))}, got {self.impl!r}")


def head_refused(head_dim: int) -> str | None:
    """Why the kernel for rows of any length cannot take heads of that width; None if it can."""
    if head_dim <= WIDEST_HEAD and head_dim % _HEAD_STEP == 0:
        return None
    return f"varlen_attn takes heads of at most {WIDEST_HEAD}, in multiples of {_HEAD_STEP}, not {head_dim}"


def work(params: VarlenParams, problem: Problem) -> KernelWork:
    """That of sdpa for rows without padding, all of N tokens: padding costs nothing, and a problem names none."""
    return projections(problem) + fused_attention(problem)


def limits(params: VarlenParams, problem: Problem) -> str | None:
    """A sentence where the kernel named knows no such numbers or no such heads."""
    if params.impl != "varlen_attn":
        return None
    if problem.element_bytes == _FP32_BYTES:
        return "varlen_attn computes in fp16 and bf16 only; use dtype: bf16, or impl: auto"
    refused = head_refused(problem.head_dim)
    return refused and f"{refused}; use impl: auto"


SPEC = MechanismSpec(
    name="varlen",
    title="Unpadded softmax attention (variable lengths)",
    summary="softmax attention of the real tokens alone; no work on padding",
    params=VarlenParams,
    build="castbench.mechanisms.varlen.module:build",
    reference="castbench.mechanisms.dense_reference:reference",
    work=work,
    complexity="O(Σn²) time, O(Σn) memory over rows of n real tokens",
    paper="Zhai et al., arXiv:2210.03052",
    year=2022,
    exact=True,
    remark="every layer unpads its input and pads its output; a server that never pads saves that too",
    limits=limits,
    weights=four_projections,
)
