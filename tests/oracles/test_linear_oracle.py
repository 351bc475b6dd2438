from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch.nn import functional

from castbench.mechanisms.linear.module import LinearAttention
from tests.mechanisms.cases import roused

pytestmark = pytest.mark.extra


@pytest.fixture
def package() -> Any:
    """performer-pytorch, whose attention by features of any kind is the same arithmetic."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("performer_pytorch.performer_pytorch")


@pytest.mark.parametrize("tokens", [1, 33])
def test_linear_attention_is_performer_pytorchs_with_other_features(package: Any, tokens: int) -> None:
    """With φ(x) = elu(x) + 1 for its features, performer-pytorch's attention agrees with ours to rounding."""
    torch.manual_seed(0)
    module = roused(LinearAttention(24, 3)).double()
    x_BNM = torch.randn(2, tokens, 24, dtype=torch.float64)
    with torch.inference_mode():
        q_BHND, k_BHND, v_BHND = module.in_proj(x_BNM).unflatten(-1, (3, 3, 8)).permute(2, 0, 3, 1, 4)
        mixed_BHND = package.linear_attention(functional.elu(q_BHND) + 1, functional.elu(k_BHND) + 1, v_BHND)
        wanted_BNM = module.out_proj(mixed_BHND.transpose(1, 2).flatten(2))
        torch.testing.assert_close(module(x_BNM), wanted_BNM, rtol=1e-11, atol=1e-12)
