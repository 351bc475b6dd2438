"""SDPA: PyTorch's fused softmax attention, the usual choice today; described without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from castbench.mechanisms.accounting import four_projections, fused_attention, projections, unfused_attention
from castbench.mechanisms.spec import KernelWork, MechanismSpec, Problem

Backend = Literal["auto", "flash", "efficient", "cudnn", "math"]


@dataclass(frozen=True, slots=True)
class SdpaParams:
    """Parameters of SDPA.

    backend  the kernel: flash (FlashAttention), efficient (memory-
             efficient attention), cudnn or math (unfused); auto leaves
             the choice to PyTorch, and the run records what it was
    """

    backend: Backend = "auto"

    def __post_init__(self) -> None:
        if self.backend not in get_args(Backend):
            raise ValueError(f"backend: expected {' or '.join(map(repr, get_args(Backend)))}, got {self.backend!r}")


def work(params: SdpaParams, problem: Problem) -> KernelWork:
    """Projections, and 4·B·N²·M FLOPs of attention whose scores reach memory only with `backend: math`."""
    attention = unfused_attention if params.backend == "math" else fused_attention
    return projections(problem) + attention(problem)


SPEC = MechanismSpec(
    name="sdpa",
    title="Fused softmax attention (PyTorch SDPA)",
    summary="softmax attention in one fused kernel; scores never reach memory",
    params=SdpaParams,
    build="castbench.mechanisms.sdpa.module:build",
    reference="castbench.mechanisms.dense_reference:reference",
    work=work,
    complexity="O(N²) time, O(N) memory",
    paper="Dao et al., arXiv:2205.14135",
    year=2022,
    exact=True,
    weights=four_projections,
)
