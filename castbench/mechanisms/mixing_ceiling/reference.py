"""Both projections in float64: the oracle of module.py."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from castbench.mechanisms.mixing_ceiling.module import MixingCeiling


def reference(module: MixingCeiling, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
    """y_BNM in float64 from the module's own weights."""
    value_BNM = functional.linear(x_BNM.double(), module.in_proj.weight.double(), module.in_proj.bias.double())
    return functional.linear(value_BNM, module.out_proj.weight.double(), module.out_proj.bias.double())
