"""The module ceiling: the attention module left out, what an encoder without attention would reach."""

from __future__ import annotations

from dataclasses import dataclass

from castbench.mechanisms.spec import KernelWork, MechanismSpec, Problem


@dataclass(frozen=True, slots=True)
class ModuleCeilingParams:
    """The module ceiling has no parameters."""


def work(params: ModuleCeilingParams, problem: Problem) -> KernelWork:
    """Nothing at all."""
    return KernelWork()


SPEC = MechanismSpec(
    name="module_ceiling",
    title="Ceiling: no attention module",
    summary="the identity: the encoder's time without any attention",
    params=ModuleCeilingParams,
    build="castbench.mechanisms.module_ceiling.module:build",
    reference="castbench.mechanisms.module_ceiling.reference:reference",
    work=work,
    complexity="O(1)",
    hidden=True,
    family="ceiling",
)
