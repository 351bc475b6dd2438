from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from castbench.mechanisms.linear.module import LinearAttention, features, mix
from tests.mechanisms.cases import roused


def test_linear_attention_is_a_matrix_of_similarities_normalised_by_rows() -> None:
    """The same as φ(q)·φ(k)ᵀ written out N×N, every row divided by its sum, times v."""
    torch.manual_seed(0)
    module = roused(LinearAttention(12, 3)).double()
    x_BNM = torch.randn(2, 17, 12, dtype=torch.float64)
    q_BHND, k_BHND, v_BHND = (
        part.unflatten(-1, (3, 4)).transpose(1, 2) for part in module.in_proj(x_BNM).chunk(3, dim=-1)
    )
    score_BHNN = (functional.elu(q_BHND) + 1) @ (functional.elu(k_BHND) + 1).transpose(-1, -2)
    mixed_BHND = score_BHNN / score_BHNN.sum(-1, keepdim=True) @ v_BHND
    wanted_BNM = module.out_proj(mixed_BHND.transpose(1, 2).flatten(2))
    torch.testing.assert_close(module(x_BNM), wanted_BNM, rtol=1e-10, atol=1e-11)


def test_a_query_whose_features_underflow_reads_nothing() -> None:
    """It gives zeros and finite gradients instead of 0/0."""
    query_PND = features(torch.full((1, 2, 4), -200.0)).requires_grad_()
    mixed_PND = mix(query_PND, features(torch.randn(1, 2, 4)), torch.randn(1, 2, 4))
    assert torch.equal(mixed_PND, torch.zeros(1, 2, 4))
    mixed_PND.sum().backward()
    assert query_PND.grad is not None
    assert bool(torch.isfinite(query_PND.grad).all())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_small_features(dtype: torch.dtype) -> None:
    """φ(−6) is e⁻⁶ to a thousandth; elu(−6) + 1 in half precision is nowhere near."""
    x = torch.tensor(-6.0, dtype=dtype)
    assert float(features(x)) == pytest.approx(math.exp(-6), rel=1e-3)
    assert float(functional.elu(x) + 1) != pytest.approx(math.exp(-6), rel=1e-3)


def test_half_precision_holds_the_sums_over_many_keys() -> None:
    """16384 keys whose values add up to more than float16 can hold give their mean."""
    key_PND = torch.full((1, 16384, 8), 3.0)
    v_PND = torch.full((1, 16384, 8), 5.0, dtype=torch.float16)
    mixed_PND = mix(torch.ones(1, 4, 8), key_PND, v_PND)
    torch.testing.assert_close(mixed_PND, torch.full((1, 4, 8), 5.0, dtype=torch.float16), rtol=1e-2, atol=0)
