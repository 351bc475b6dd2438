"""PyTorch's fused softmax attention between two projections, and which of its kernels really ran.

Shape suffixes: B batch, N tokens, H heads, D head width, M = H·D.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from castbench.mechanisms.projected import Projected
from castbench.mechanisms.sdpa import Backend, SdpaParams

KERNELS: dict[Backend, SDPBackend] = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
_FOR_GPUS = ("efficient", "cudnn")


class SdpaAttention(Projected):
    """`forward(x_BNM, key_padding_mask_BN=None) -> y_BNM`, mask True = padding; weights named as in cast and naive.

    Without a mask none is handed on, so that PyTorch is free to take the kernels that know none. Raises
    NotImplementedError where the `backend` named cannot run on an input.
    """

    def __init__(self, embed_dim: int, num_heads: int, *, backend: Backend = "auto") -> None:
        super().__init__(embed_dim, num_heads)
        self.backend = backend
        self._kernels: dict[object, str] = {}

    def forward(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
        """y_BNM; rows of padding only attend to their padding, so that they stay finite."""
        q_BHND, k_BHND, v_BHND = (
            part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in self.in_proj(x_BNM).chunk(3, dim=-1)
        )
        read_B11N = None
        if key_padding_mask_BN is not None:
            read_B11N = (~key_padding_mask_BN | key_padding_mask_BN.all(1, keepdim=True))[:, None, None, :]
        self.ran_as = self._kernel(q_BHND, k_BHND, v_BHND, read_B11N)
        if self.backend == "auto":
            mixed_BHND = functional.scaled_dot_product_attention(q_BHND, k_BHND, v_BHND, attn_mask=read_B11N)
        else:
            with sdpa_kernel(KERNELS[self.backend]):
                mixed_BHND = functional.scaled_dot_product_attention(q_BHND, k_BHND, v_BHND, attn_mask=read_B11N)
        y_BNM: Tensor = self.out_proj(mixed_BHND.transpose(1, 2).flatten(2))
        return y_BNM

    def _kernel(self, q_BHND: Tensor, k_BHND: Tensor, v_BHND: Tensor, read_B11N: Tensor | None) -> str:
        """The kernel PyTorch chooses for these very tensors; asked once per kind of input, so that it costs no time."""
        kind = (q_BHND.shape, q_BHND.dtype, q_BHND.device, q_BHND.requires_grad, read_B11N is None)
        if torch.compiler.is_compiling():
            return _chosen_while_compiling(self.backend, *kind)
        if kind not in self._kernels:
            self._kernels[kind] = _chosen(self.backend, q_BHND, k_BHND, v_BHND, read_B11N)
        return self._kernels[kind]


def _chosen(
    backend: Backend, q_BHND: Tensor, k_BHND: Tensor, v_BHND: Tensor, read_B11N: Tensor | None
) -> str:  # fmt: skip
    """PyTorch's name of the kernel it takes; NotImplementedError with its reasons where the one named cannot run."""
    if backend == "auto":
        return _name(torch._fused_sdp_choice(q_BHND, k_BHND, v_BHND, read_B11N))
    if backend in _FOR_GPUS and q_BHND.device.type == "cpu":
        raise NotImplementedError(f"backend: {backend} cannot run here: PyTorch has this kernel for GPUs only")
    with warnings.catch_warnings(record=True) as reasons, sdpa_kernel(KERNELS[backend]):
        warnings.simplefilter("always")
        try:
            return _name(torch._fused_sdp_choice(q_BHND, k_BHND, v_BHND, read_B11N))
        except RuntimeError as error:
            failure = str(error)
    said = [*(str(reason.message) for reason in reasons), failure]
    raise NotImplementedError(f"backend: {backend} cannot run here: {_in_one_sentence(said)}")


def _chosen_while_compiling(
    backend: Backend, shape: Any, dtype: torch.dtype, device: torch.device, with_gradient: bool, unmasked: bool
) -> str:  # fmt: skip
    """The same for tensors that torch.compile is only tracing, by others of their kind: a graph cannot hold the choice.

    torch.compile runs this while it traces, and keeps the result as a constant.
    """
    batch, heads, length, head_dim = shape
    layout = batch, length, 3, heads, head_dim
    qkv_BN3HD = torch.empty(layout, dtype=dtype, device=device, requires_grad=with_gradient)
    q_BHND, k_BHND, v_BHND = (part.transpose(1, 2) for part in qkv_BN3HD.unbind(2))
    read_B11N = None if unmasked else torch.ones(batch, 1, 1, length, dtype=torch.bool, device=device)
    return _chosen(backend, q_BHND, k_BHND, v_BHND, read_B11N)


# What torch.compiler.assume_constant_result sets: that would import the compiler, which takes as long as torch itself.
_chosen_while_compiling._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _name(number: int) -> str:
    """PyTorch's name of a kernel by its number."""
    return SDPBackend(number).name.lower()


def _in_one_sentence(said: list[str]) -> str:
    """What PyTorch says of the kernel asked for, without headings, source lines and the kernels switched off."""
    plain = [text.partition(" (Triggered internally")[0].strip().rstrip(".") for text in said]
    empty = ("not used because:", "runtime disabled")
    return "; ".join(dict.fromkeys(text for text in plain if not text.endswith(empty)))


def build(params: SdpaParams, *, embed_dim: int, num_heads: int) -> SdpaAttention:
    """SdpaAttention with the kernel that was asked for."""
    return SdpaAttention(embed_dim, num_heads, backend=params.backend)
