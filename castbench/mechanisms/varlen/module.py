"""Softmax attention of the real tokens alone: unpadded, computed row by row or by a kernel for all rows, padded again.

    x_BNM ─ packed ─▶ x_TM ─ in_proj ─▶ qkv ─ rows | varlen_attn | nested ─▶ out_proj ─ padded ─▶ y_BNM

Shape suffixes: B batch, N tokens, T real tokens of all rows, G rows of one length n, H heads, D head width, M = H·D.
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn import functional

from castbench.mechanisms.packing import Packing, over_real_tokens
from castbench.mechanisms.projected import Projected
from castbench.mechanisms.varlen import Impl, VarlenParams, head_refused

VARLEN_DTYPES = (torch.float16, torch.bfloat16)
OLDEST_ARCH = (8, 0)
"""Compute capability of the oldest GPUs that varlen_attn's kernel runs on."""


class VarlenAttention(Projected):
    """`forward(x_BNM, key_padding_mask_BN=None) -> y_BNM`, mask True = padding, zero there; weights named as in sdpa.

    With a mask the host waits for the row lengths, which on a GPU empties the queue of kernels. Raises
    NotImplementedError where the `impl` named cannot run on the input's device or in its dtype.
    """

    def __init__(self, embed_dim: int, num_heads: int, *, impl: Impl = "auto") -> None:
        super().__init__(embed_dim, num_heads)
        self.impl = impl

    def forward(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
        """y_BNM, with zeros at padding."""
        return over_real_tokens(x_BNM, key_padding_mask_BN, self._over)

    def _over(self, x_BNM: Tensor, packing: Packing) -> Tensor:
        """y_BNM by the implementation for this packing; where no token is real there is nothing to attend to."""
        qkv_T3HD = self.in_proj(packing.packed(x_BNM)).unflatten(-1, (3, self.num_heads, -1))
        self.ran_as = self._chosen(qkv_T3HD, packing)
        mixed_THD = _ATTEND[self.ran_as](qkv_T3HD, packing) if packing.lengths else qkv_T3HD[:, 0]
        return packing.padded(self.out_proj(mixed_THD.flatten(1)))

    def _chosen(self, qkv_T3HD: Tensor, packing: Packing) -> str:
        """The implementation named, or the best one: without padding one call for all rows, on a GPU one kernel."""
        if self.impl not in {"auto", "rows"}:
            reason = why_not(self.impl, qkv_T3HD)
            if reason is not None:
                raise NotImplementedError(f"impl: {self.impl} cannot run here: {reason}")
            return self.impl
        if self.impl == "rows" or not qkv_T3HD.is_cuda or packing.place_T is None:
            return "rows"
        return "nested" if why_not("varlen_attn", qkv_T3HD) else "varlen_attn"


def why_not(impl: str, qkv_T3HD: Tensor) -> str | None:
    """A sentence why an implementation cannot run on these numbers; None if it can."""
    if impl != "varlen_attn":
        return None
    if find_spec("torch.nn.attention.varlen") is None:
        return f"torch {torch.__version__} has no varlen_attn; it came with 2.10"
    if qkv_T3HD.device.type != "cuda":
        return f"varlen_attn needs a CUDA device, not {qkv_T3HD.device.type}"
    if qkv_T3HD.dtype not in VARLEN_DTYPES:
        return f"varlen_attn takes float16 and bfloat16, not {str(qkv_T3HD.dtype).removeprefix('torch.')}"
    capability = torch.cuda.get_device_capability(qkv_T3HD.device)
    if capability < OLDEST_ARCH:
        return f"varlen_attn needs compute capability 8.0, and this GPU has {capability[0]}.{capability[1]}"
    return head_refused(qkv_T3HD.shape[-1])


def _by_rows(qkv_T3HD: Tensor, packing: Packing) -> Tensor:
    """mixed_THD: PyTorch's fused kernel for all rows of one length, and then for those of the next."""
    groups = packing.groups()
    mixed = []
    # Not slices: its backward pass is one copy for all groups.
    parts = torch.split(qkv_T3HD, [rows * length for rows, length in groups])
    for (rows, length), part in zip(groups, parts, strict=True):
        q_GHnD, k_GHnD, v_GHnD = (
            one.transpose(1, 2) for one in part.view(rows, length, *part.shape[1:]).unbind(2)
        )  # fmt: skip
        mixed_GHnD = functional.scaled_dot_product_attention(q_GHnD, k_GHnD, v_GHnD)
        mixed.append(mixed_GHnD.transpose(1, 2).flatten(0, 1))
    return torch.cat(mixed) if len(mixed) != 1 else mixed[0]


def _by_varlen_attn(qkv_T3HD: Tensor, packing: Packing) -> Tensor:
    """mixed_THD by the one kernel PyTorch has for rows of any length."""
    from torch.nn.attention.varlen import varlen_attn

    starts, longest = packing.starts(qkv_T3HD.device), packing.lengths[-1]
    q_THD, k_THD, v_THD = qkv_T3HD.unbind(1)
    mixed_THD: Tensor = varlen_attn(q_THD, k_THD, v_THD, starts, starts, longest, longest)  # type: ignore[assignment]
    return mixed_THD


def _by_nested(qkv_T3HD: Tensor, packing: Packing) -> Tensor:
    """mixed_THD by PyTorch's fused kernels over nested tensors."""
    starts = packing.starts(qkv_T3HD.device)
    shortest, longest = packing.lengths[0], packing.lengths[-1]
    q_GHnD, k_GHnD, v_GHnD = (
        torch.nested.nested_tensor_from_jagged(
            one_THD.contiguous(), starts, min_seqlen=shortest, max_seqlen=longest
        ).transpose(1, 2)
        for one_THD in qkv_T3HD.unbind(1)
    )
    with warnings.catch_warnings():  # on a CPU, whose way leads over nested tensors of the older kind
        warnings.filterwarnings("ignore", message="The PyTorch API of nested tensors is in prototype stage")
        mixed_GHnD = functional.scaled_dot_product_attention(q_GHnD, k_GHnD, v_GHnD)
    return mixed_GHnD.transpose(1, 2).values()


_ATTEND = {"rows": _by_rows, "varlen_attn": _by_varlen_attn, "nested": _by_nested}


def build(params: VarlenParams, *, embed_dim: int, num_heads: int) -> VarlenAttention:
    """VarlenAttention from a profile's parameters."""
    return VarlenAttention(embed_dim, num_heads, impl=params.impl)
