from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from castbench.mechanisms.local import LocalParams
from castbench.mechanisms.local.module import LocalAttention
from tests.mechanisms.cases import roused

pytestmark = pytest.mark.extra
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def made(params: LocalParams) -> LocalAttention:
    """Our module 32 wide with 4 heads."""
    torch.manual_seed(0)
    module: LocalAttention = roused(LocalAttention(32, 4, params)).eval()
    return module


def local_attention(module: LocalAttention, x_BNM: Tensor, mask_BN: Tensor, **options: Any) -> Tensor:
    """local-attention between our projections, without rotary positions; it knows only which tokens are real."""
    package = pytest.importorskip("local_attention")
    theirs = package.LocalAttention(
        module.params.window, look_backward=1, look_forward=1, autopad=True, use_rotary_pos_emb=False, **options
    )
    q, k, v = (part.unflatten(-1, (4, -1)).transpose(1, 2) for part in module.in_proj(x_BNM).chunk(3, -1))
    y_BNM: Tensor = module.out_proj(theirs(q, k, v, mask=~mask_BN).transpose(1, 2).flatten(2))
    return y_BNM


@pytest.mark.parametrize("window", [4, 7, 16])
@torch.inference_mode()
def test_local_attention_with_exact_windows_is_ours(window: int) -> None:
    """The package local-attention gives the same outputs where it is told to keep to the window (exact_windowsize)."""
    module, x_BNM = made(LocalParams(window, block_size=8)), torch.randn(2, 50, 32)
    mask_BN = torch.arange(50) >= torch.tensor([[50], [37]])
    wanted_BNM = local_attention(module, x_BNM, mask_BN, exact_windowsize=True)
    torch.testing.assert_close(module(x_BNM, mask_BN)[~mask_BN], wanted_BNM[~mask_BN], **CLOSE)


@torch.inference_mode()
def test_local_attention_by_default_sees_whole_blocks() -> None:
    """Without exact_windowsize the package shows every token its own block and both neighbouring ones, up to twice as
    many tokens: those outputs are not ours.
    """
    module, x_BNM = made(LocalParams(8)), torch.randn(1, 48, 32)
    mask_BN = torch.zeros(1, 48, dtype=torch.bool)
    theirs_BNM = local_attention(module, x_BNM, mask_BN)
    assert float((module(x_BNM) - theirs_BNM).abs().max()) > 1e-2


def longformer(module: LocalAttention, x_BNM: Tensor, mask_BN: Tensor) -> Tensor:
    """The LongformerSelfAttention of transformers with our weights, the first tokens global, our out_proj behind it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = pytest.importorskip("transformers.models.longformer.modeling_longformer")
    config = package.LongformerConfig(
        hidden_size=32, num_attention_heads=4, attention_window=[2 * module.params.window],
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    theirs = package.LongformerSelfAttention(config, layer_id=0).eval()
    seen, own = module.params.global_tokens, module.global_proj or module.in_proj
    for linear, ending in ((module.in_proj, ""), (own, "_global")):
        for n, name in enumerate(("query", "key", "value")):
            getattr(theirs, name + ending).weight.copy_(linear.weight.chunk(3)[n])
            getattr(theirs, name + ending).bias.copy_(linear.bias.chunk(3)[n])
    is_global_BN = (torch.arange(x_BNM.shape[1]) < seen) & ~mask_BN
    kind_BN = torch.zeros(mask_BN.shape).masked_fill(mask_BN, -10000.0).masked_fill(is_global_BN, 10000.0)
    mixed_BNM = theirs(
        x_BNM, attention_mask=kind_BN, is_index_masked=mask_BN, is_index_global_attn=is_global_BN,
        is_global_attn=seen > 0,
    )[0]  # fmt: skip
    y_BNM: Tensor = module.out_proj(mixed_BNM)
    return y_BNM


@pytest.mark.parametrize(
    "params",
    [
        LocalParams(4), LocalParams(4, block_size=16), LocalParams(6, global_tokens=1, block_size=5),
        LocalParams(4, global_tokens=3), LocalParams(4, global_tokens=3, global_projections=True, block_size=7),
    ],
    ids=str,
)  # fmt: skip
@torch.no_grad()
def test_longformer_is_ours(params: LocalParams) -> None:
    """The Longformer of transformers gives the same outputs, with global tokens, their own projections, padding."""
    module, x_BNM = made(params), torch.randn(2, 48, 32)
    mask_BN = torch.arange(48) >= torch.tensor([[48], [37]])
    wanted_BNM = longformer(module, x_BNM, mask_BN)
    torch.testing.assert_close(module(x_BNM, mask_BN)[~mask_BN], wanted_BNM[~mask_BN], **CLOSE)
