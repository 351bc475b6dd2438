"""The module ceiling as a module: the identity in place of attention."""

from __future__ import annotations

from torch import Tensor, nn

from castbench.mechanisms.module_ceiling import ModuleCeilingParams


class ModuleCeiling(nn.Module):
    """`forward(x_BNM, key_padding_mask_BN=None) -> x_BNM`."""

    def __init__(self) -> None:
        super().__init__()
        self.ran_as: str | None = None

    def forward(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
        """The input itself."""
        self.ran_as = "identity"
        return x_BNM


def build(params: ModuleCeilingParams, *, embed_dim: int, num_heads: int) -> ModuleCeiling:
    """ModuleCeiling; it has no parameters to be built from."""
    return ModuleCeiling()
