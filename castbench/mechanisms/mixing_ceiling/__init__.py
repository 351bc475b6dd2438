"""The mixing ceiling: values projected and nothing mixed, what any drop-in mechanism can at best reach."""

from __future__ import annotations

from dataclasses import dataclass

from castbench.mechanisms.accounting import projection_parameters, projections
from castbench.mechanisms.spec import KernelWork, MechanismSpec, Problem


@dataclass(frozen=True, slots=True)
class MixingCeilingParams:
    """The mixing ceiling has no parameters."""


def work(params: MixingCeilingParams, problem: Problem) -> KernelWork:
    """Two of the four projections: v and the output."""
    return projections(problem, inputs=1)


def weights(params: MixingCeilingParams, embed_dim: int, num_heads: int) -> int:
    """Two projections."""
    return projection_parameters(embed_dim, inputs=1)


SPEC = MechanismSpec(
    name="mixing_ceiling",
    title="Ceiling: no mixing",
    summary="out_proj(v): the speed no mechanism that keeps its projections can pass",
    params=MixingCeilingParams,
    build="castbench.mechanisms.mixing_ceiling.module:build",
    reference="castbench.mechanisms.mixing_ceiling.reference:reference",
    work=work,
    complexity="O(N)",
    hidden=True,
    family="ceiling",
    weights=weights,
)
