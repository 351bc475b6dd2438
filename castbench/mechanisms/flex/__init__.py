"""FlexAttention: softmax attention compiled for the very padding, blocks of it skipped; described without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from castbench.mechanisms.accounting import four_projections, fused_attention, projections, unfused_attention
from castbench.mechanisms.spec import KernelWork, MechanismSpec, Problem

Impl = Literal["auto", "compiled", "eager"]


@dataclass(frozen=True, slots=True)
class FlexParams:
    """Parameters of FlexAttention.

    impl  compiled: the kernel torch.compile makes of it, before the
          first step, once per shape; eager: PyTorch's unfused form,
          all scores in memory, to look into; auto is compiled
    """

    impl: Impl = "auto"

    def __post_init__(self) -> None:
        if self.impl not in get_args(Impl):
            raise ValueError(f"impl: expected {' or '.join(map(repr, get_args(Impl)))}, got {self.impl!r}")


def work(params: FlexParams, problem: Problem) -> KernelWork:
    """That of sdpa, or uncompiled that of scores in memory; blocks of padding are skipped, and a problem names none."""
    attention = unfused_attention if params.impl == "eager" else fused_attention
    return projections(problem) + attention(problem)


SPEC = MechanismSpec(
    name="flex",
    title="FlexAttention (PyTorch, compiled)",
    summary="softmax attention compiled with its mask; skips blocks of padding",
    params=FlexParams,
    build="castbench.mechanisms.flex.module:build",
    reference="castbench.mechanisms.dense_reference:reference",
    work=work,
    complexity="O(N²) time, O(N) memory",
    paper="Dong et al., arXiv:2412.05496",
    year=2024,
    exact=True,
    remark="its kernel is compiled before anything is timed, once per shape; on CPUs it has no backward pass",
    compiles=True,
    weights=four_projections,
)
