"""Busy: a known answer that holds the device for a stated time, to prove that a harness measures what was put in."""

from __future__ import annotations

import math
from dataclasses import dataclass

from castbench.mechanisms.spec import KernelWork, MechanismSpec, Problem


@dataclass(frozen=True, slots=True)
class BusyParams:
    """ms: milliseconds that every forward pass holds the device."""

    ms: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.ms < math.inf:
            raise ValueError(f"ms: expected a number of milliseconds above zero, got {self.ms!r}")


def work(params: BusyParams, problem: Problem) -> KernelWork:
    """The stated time, at every shape; the backward pass adds none."""
    return KernelWork(wait_s=params.ms / 1e3)


SPEC = MechanismSpec(
    name="busy",
    title="Known answer: a stated time",
    summary="holds the device for `ms` milliseconds and returns its input",
    params=BusyParams,
    build="castbench.mechanisms.busy.module:build",
    reference="castbench.mechanisms.busy.reference:reference",
    work=work,
    complexity="O(1)",
    hidden=True,
    family="known answer",
)
