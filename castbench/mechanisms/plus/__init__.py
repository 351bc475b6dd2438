"""Plus: a known answer that makes another mechanism slower by a stated share, described without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from castbench.mechanisms import registry
from castbench.mechanisms.spec import KernelWork, LengthMix, MechanismSpec, Problem

RESOLVED_FOR_TOKENS = 1024
"""Length that the inner mechanism's `auto` parameters are resolved for; `plus` has no way to name them."""


@dataclass(frozen=True, slots=True)
class PlusParams:
    """of: the mechanism made slower, with its defaults. percent: how much longer its forward pass takes."""

    of: str = "sdpa"
    percent: float = 10.0

    def __post_init__(self) -> None:
        if self.of == "plus":
            raise ValueError("of: plus cannot wrap itself; name another mechanism")
        if registry.find(self.of) is None:
            raise ValueError(f"of: {registry.unknown_sentence(self.of)}")
        if not 0 < self.percent < math.inf:
            raise ValueError(f"percent: expected a number above zero, got {self.percent!r}")


def inner_of(params: PlusParams) -> tuple[MechanismSpec, Any]:
    """The wrapped mechanism and its parameters."""
    spec = registry.get(params.of)
    return spec, spec.resolve(spec.params(), LengthMix((RESOLVED_FOR_TOKENS,), (1.0,)))


def work(params: PlusParams, problem: Problem) -> KernelWork:
    """The inner mechanism's work and the stated share of it once more; memory stays."""
    spec, inner = inner_of(params)
    return spec.work(inner, problem).scaled(1.0 + params.percent / 100.0)


def weights(params: PlusParams, embed_dim: int, num_heads: int) -> int:
    """The inner mechanism's."""
    spec, inner = inner_of(params)
    return spec.weights(inner, embed_dim, num_heads)


def limits(params: PlusParams, problem: Problem) -> str | None:
    """The inner mechanism's."""
    spec, inner = inner_of(params)
    return spec.limits(inner, problem)


SPEC = MechanismSpec(
    name="plus",
    title="Known answer: a stated share slower",
    summary="the mechanism `of`, its forward pass made `percent` longer",
    params=PlusParams,
    build="castbench.mechanisms.plus.module:build",
    reference="castbench.mechanisms.plus.reference:reference",
    work=work,
    complexity="that of the inner mechanism",
    hidden=True,
    family="known answer",
    limits=limits,
    weights=weights,
)
