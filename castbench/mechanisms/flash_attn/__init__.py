"""The package flash-attn: its dense and its unpadded softmax attention on CUDA; described without torch."""

from __future__ import annotations

from dataclasses import dataclass

from castbench.mechanisms.accounting import four_projections, fused_attention, projections
from castbench.mechanisms.spec import KernelWork, MechanismSpec, Problem

WIDEST_HEAD = 256
_FP32_BYTES = 4


@dataclass(frozen=True, slots=True)
class FlashAttnParams:
    """flash-attn has no parameters: flash_attn_func runs without
    padding, flash_attn_varlen_func with it.
    """


def head_refused(head_dim: int) -> str | None:
    """Why the package cannot take heads of that width; None if it can."""
    return None if head_dim <= WIDEST_HEAD else f"flash-attn takes heads of at most {WIDEST_HEAD}, not {head_dim}"


def work(params: FlashAttnParams, problem: Problem) -> KernelWork:
    """That of sdpa for rows without padding, all of N tokens: padding costs nothing, and a problem names none."""
    return projections(problem) + fused_attention(problem)


def limits(params: FlashAttnParams, problem: Problem) -> str | None:
    """A sentence where the package knows no such numbers or no such heads."""
    if problem.element_bytes == _FP32_BYTES:
        return "flash-attn computes in fp16 and bf16 only; use dtype: bf16"
    refused = head_refused(problem.head_dim)
    return refused and f"{refused}; use sdpa, or a model with more heads"


SPEC = MechanismSpec(
    name="flash_attn",
    title="FlashAttention (the package flash-attn)",
    summary="softmax attention by the package flash-attn, an extra; CUDA only",
    params=FlashAttnParams,
    build="castbench.mechanisms.flash_attn.module:build",
    reference="castbench.mechanisms.dense_reference:reference",
    work=work,
    complexity="O(N²) time, O(N) memory",
    paper="Dao, arXiv:2307.08691",
    year=2023,
    exact=True,
    remark="with padding, every layer unpads its input and pads its output; a server that never pads saves that",
    limits=limits,
    weights=four_projections,
)
