"""The input in float64, at once: the oracle of module.py."""

from __future__ import annotations

from torch import Tensor

from castbench.mechanisms.busy.module import Busy


def reference(module: Busy, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
    """The input in float64."""
    return x_BNM.double()
