"""The inner mechanism's own reference: the oracle of module.py."""

from __future__ import annotations

from torch import Tensor

from castbench.mechanisms import registry
from castbench.mechanisms.plus.module import Plus


def reference(module: Plus, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
    """y_BNM of the inner mechanism in float64."""
    y_BNM: Tensor = registry.load(module.inner_reference)(module.inner, x_BNM, key_padding_mask_BN)
    return y_BNM
