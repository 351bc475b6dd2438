"""Softmax attention by the package flash-attn: flash_attn_func without padding, flash_attn_varlen_func with it.

    x_BNM ─ packed ─▶ x_TM ─ in_proj ─▶ q k v ─ flash-attn ─▶ out_proj ─ padded ─▶ y_BNM

Shape suffixes: B batch, N tokens, T real tokens of all rows, H heads, D head width, M = H·D.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

from castbench.mechanisms.flash_attn import FlashAttnParams, head_refused
from castbench.mechanisms.packing import Packing, over_real_tokens
from castbench.mechanisms.projected import Projected

DTYPES = (torch.float16, torch.bfloat16)
OLDEST_ARCH = (8, 0)
"""Compute capability of the oldest GPUs the package's kernels run on."""


class FlashAttnAttention(Projected):
    """`forward(x_BNM, key_padding_mask_BN=None) -> y_BNM`, mask True = padding, zero there; weights named as in sdpa.

    With a mask the host waits for the row lengths, which empties the queue of kernels. Raises NotImplementedError
    where the package is missing or cannot run on the input's device or in its dtype.
    """

    def forward(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
        """y_BNM, with zeros at padding."""
        if not torch.compiler.is_compiling():  # what parity's check has asked before, and a graph cannot ask
            self._require_kernels(x_BNM)
        return over_real_tokens(x_BNM, key_padding_mask_BN, self._over)

    def _over(self, x_BNM: Tensor, packing: Packing) -> Tensor:
        """y_BNM by the package's function for this packing."""
        qkv_T3HD = self.in_proj(packing.packed(x_BNM)).unflatten(-1, (3, self.num_heads, -1))
        mixed_THD = self._dense(qkv_T3HD, packing) if packing.place_T is None else self._varlen(qkv_T3HD, packing)
        return packing.padded(self.out_proj(mixed_THD.flatten(1)))

    def _dense(self, qkv_T3HD: Tensor, packing: Packing) -> Tensor:
        """mixed_THD of rows of one length."""
        self.ran_as = "flash_attn_func"
        from flash_attn import flash_attn_func

        mixed_BNHD: Tensor = flash_attn_func(*qkv_T3HD.view(*packing.shape, *qkv_T3HD.shape[1:]).unbind(2))
        return mixed_BNHD.flatten(0, 1)

    def _varlen(self, qkv_T3HD: Tensor, packing: Packing) -> Tensor:
        """mixed_THD of rows of any length; none where no token is real."""
        self.ran_as = "flash_attn_varlen_func"
        from flash_attn import flash_attn_varlen_func

        if not packing.lengths:
            return qkv_T3HD[:, 0]
        starts, longest = packing.starts(qkv_T3HD.device), packing.lengths[-1]
        mixed_THD: Tensor = flash_attn_varlen_func(*qkv_T3HD.unbind(1), starts, starts, longest, longest)
        return mixed_THD

    def _require_kernels(self, x_BNM: Tensor) -> None:
        """NotImplementedError where the package cannot run on such inputs; autocast's dtype is what counts."""
        device = x_BNM.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x_BNM.dtype
        reason = why_not(x_BNM.device, dtype, x_BNM.shape[-1] // self.num_heads)
        if reason is not None:
            raise NotImplementedError(f"flash-attn cannot run here: {reason}")


def why_not(device: torch.device, dtype: torch.dtype, head_dim: int) -> str | None:
    """A sentence why the package cannot run there; None if it can."""
    if find_spec("flash_attn") is None:
        return "the package is not installed; pip install --no-build-isolation 'castbench[flash-attn]' builds it"
    if device.type != "cuda":
        return f"it needs a CUDA device, not {device.type}"
    if dtype not in DTYPES:
        return f"it takes float16 and bfloat16, not {str(dtype).removeprefix('torch.')}"
    capability = torch.cuda.get_device_capability(device)
    if capability < OLDEST_ARCH:
        return f"it needs compute capability 8.0, and this GPU has {capability[0]}.{capability[1]}"
    return head_refused(head_dim)


def build(params: FlashAttnParams, *, embed_dim: int, num_heads: int) -> FlashAttnAttention:
    """FlashAttnAttention; it has no parameters to be built from."""
    return FlashAttnAttention(embed_dim, num_heads)
