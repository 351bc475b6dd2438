from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from castbench.mechanisms.linformer.module import LinformerAttention
from tests.mechanisms.cases import roused

pytestmark = pytest.mark.extra

CLOSE = {"rtol": 1e-9, "atol": 1e-10}
WIDTH, HEADS, LONGEST = 24, 3, 40


@pytest.fixture(scope="module")
def package() -> Any:
    """The published package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("linformer")


def pair(package: Any, rank: int, *, share_kv: bool) -> tuple[LinformerAttention, Any]:
    """Our module and theirs with equal weights, in float64; theirs has no biases before out_proj."""
    torch.manual_seed(0)
    share = "key_value" if share_kv else "headwise"
    ours = roused(LinformerAttention(WIDTH, HEADS, rank=rank, max_seq_len=LONGEST, share=share)).double()
    theirs = package.LinformerSelfAttention(WIDTH, LONGEST, k=rank, heads=HEADS, share_kv=share_kv).double()
    with torch.no_grad():
        ours.in_proj.bias.zero_()
        if share_kv:  # theirs has no values but the keys
            ours.in_proj.weight[2 * WIDTH :].copy_(ours.in_proj.weight[WIDTH : 2 * WIDTH])
        q, k, v = ours.in_proj.weight.chunk(3)
        theirs.to_q.weight.copy_(q)
        theirs.to_k.weight.copy_(k)
        theirs.proj_k.copy_(ours.sequence_proj[0, 0].T)
        if not share_kv:
            theirs.to_v.weight.copy_(v)
            theirs.proj_v.copy_(ours.sequence_proj[1, 0].T)
        theirs.to_out.load_state_dict(ours.out_proj.state_dict())
    return ours, theirs


def texts(tokens: int) -> Tensor:
    """Two rows in float64."""
    return torch.randn(2, tokens, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("rank", [7, LONGEST + 3])
@pytest.mark.parametrize("tokens", [LONGEST, 29, 1])
def test_headwise_sharing_is_the_packages(package: Any, rank: int, tokens: int) -> None:
    """With its weights our module gives the package's outputs, at full length and with the first columns of E."""
    ours, theirs = pair(package, rank, share_kv=False)
    torch.testing.assert_close(ours(texts(tokens)), theirs(texts(tokens)), **CLOSE)


def test_key_value_sharing_is_the_packages_where_values_are_its_keys(package: Any) -> None:
    """Its share_kv also drops W_V: ours, which shares E = F alone as the paper does, agrees where W_V is W_K."""
    ours, theirs = pair(package, 7, share_kv=True)
    torch.testing.assert_close(ours(texts(29)), theirs(texts(29)), **CLOSE)


def test_gradients_are_the_packages(package: Any) -> None:
    """Gradients of the input, of the projections and of E and F agree as well."""
    ours, theirs = pair(package, 7, share_kv=False)
    given = [texts(29).requires_grad_() for _ in range(2)]
    for module, x_BNM in zip((ours, theirs), given, strict=True):
        module(x_BNM).square().sum().backward()
    torch.testing.assert_close(given[0].grad, given[1].grad, **CLOSE)
    assert ours.sequence_proj.grad is not None
    torch.testing.assert_close(ours.sequence_proj.grad[0, 0].T, theirs.proj_k.grad, **CLOSE)
    torch.testing.assert_close(ours.sequence_proj.grad[1, 0].T, theirs.proj_v.grad, **CLOSE)
