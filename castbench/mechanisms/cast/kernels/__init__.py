"""CAST in Triton: reads members by index, so that no gathered copy and no affinity is ever written to memory."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from castbench.mechanisms.cast.choice import Members

WIDEST_HEAD = 128
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
OLDEST_ARCH = (8, 0)
"""Compute capability of the oldest GPUs the kernels are compiled and inspected for."""


def why_not(device: torch.device, dtype: torch.dtype, head_dim: int) -> str | None:
    """A sentence why the Triton implementation cannot run there; None if it can.

    Under TRITON_INTERPRET=1 it runs without a GPU, slowly, which is for tests.
    """
    if find_spec("triton") is None:
        return "Triton is not installed; pip install 'castbench[kernels]' brings it"
    if dtype not in DTYPES:
        return f"the Triton kernels take float32, float16 and bfloat16, not {_plain(dtype)}"
    if head_dim > WIDEST_HEAD:
        return f"the Triton kernels take heads of at most {WIDEST_HEAD}, not {head_dim}"
    if os.environ.get("TRITON_INTERPRET") == "1":
        if dtype == torch.bfloat16:
            return "Triton's interpreter computes bfloat16 products wrongly; use float32 or float16"
        return None
    if device.type != "cuda":
        return f"the Triton kernels need a CUDA device, not {device.type}"
    capability = torch.cuda.get_device_capability(device)
    if capability < OLDEST_ARCH:
        return f"the Triton kernels need compute capability 8.0, and this GPU has {capability[0]}.{capability[1]}"
    return None


def mix(
    qkv_BNX: Tensor,
    surrogate_CHD: Tensor,
    query_strength_BN: Tensor,
    key_strength_BN: Tensor,
    members: Members,
) -> Tensor:
    """R_BNM in qkv's dtype, with gradients of qkv, S and both strengths.

    Strengths are what raw affinities are multiplied by: g(phi)/√D for queries, g(−phi)/√D for keys. S is rounded to
    qkv's dtype, which differs under autocast. Where several clusters hold a token, their results are added in no
    fixed order, so the last bits may differ from run to run; where each token is in at most one, they do not.
    """
    from castbench.mechanisms.cast.kernels.launch import mix_op

    mixed_BNM: Tensor = mix_op(
        qkv_BNX.contiguous(),
        surrogate_CHD.to(qkv_BNX.dtype).contiguous(),
        query_strength_BN.float().contiguous(),
        key_strength_BN.float().contiguous(),
        members.index.contiguous(),
        None if members.taken is None else members.taken.contiguous(),
    )[0]
    return mixed_BNM


def _plain(dtype: torch.dtype) -> str:
    """float64 for torch.float64."""
    return str(dtype).removeprefix("torch.")
