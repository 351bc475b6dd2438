"""The identity in float64: the oracle of module.py."""

from __future__ import annotations

from torch import Tensor

from castbench.mechanisms.module_ceiling.module import ModuleCeiling


def reference(module: ModuleCeiling, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
    """The input in float64."""
    return x_BNM.double()
