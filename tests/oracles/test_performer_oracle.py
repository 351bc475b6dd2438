from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from castbench.mechanisms.performer import PerformerParams, features_of
from castbench.mechanisms.performer.module import PerformerAttention
from tests.mechanisms.cases import roused

pytestmark = pytest.mark.extra


@pytest.fixture
def package() -> Any:
    """performer-pytorch, which warns of what its dependencies will drop."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("performer_pytorch.performer_pytorch")


def pair(package: Any, width: int, heads: int, params: PerformerParams) -> tuple[PerformerAttention, Any]:
    """Ours and theirs with the same weights and random features, float64."""
    torch.manual_seed(0)
    ours = PerformerAttention(params, width, heads).double().eval()
    theirs = package.SelfAttention(
        width, heads=heads, dim_head=width // heads, nb_features=features_of(params, width // heads),
        generalized_attention=params.kernel == "relu", qkv_bias=True,
    ).double().eval()  # fmt: skip
    with torch.no_grad():
        weights, biases = ours.in_proj.weight.chunk(3), ours.in_proj.bias.chunk(3)
        for part, weight, bias in zip((theirs.to_q, theirs.to_k, theirs.to_v), weights, biases, strict=True):
            part.weight.copy_(weight)
            part.bias.copy_(bias)
        theirs.to_out.load_state_dict(ours.out_proj.state_dict())
        theirs.fast_attention.projection_matrix.copy_(ours.projection)
    return ours, theirs


def difference(ours: Any, theirs: Any, x_BNM: Tensor) -> float:
    """Largest difference relative to the largest value."""
    with torch.inference_mode():
        wanted_BNM = theirs(x_BNM)
        return float((ours(x_BNM) - wanted_BNM).abs().max() / wanted_BNM.abs().max())


@pytest.mark.parametrize(("tokens", "features"), [(1, 8), (33, 24), (128, 3)])
def test_performer_is_the_package_without_its_epsilon(
    package: Any, monkeypatch: pytest.MonkeyPatch, tokens: int, features: int
) -> None:
    """With performer-pytorch's epsilon at zero both agree to rounding, although they stabilise differently."""
    monkeypatch.setattr(package, "softmax_kernel", partial(package.softmax_kernel, eps=0.0))
    ours, theirs = pair(package, 24, 3, PerformerParams(features=features))
    assert difference(ours, theirs, torch.randn(2, tokens, 24, dtype=torch.float64)) < 1e-12


@pytest.mark.parametrize(("scale", "least", "most"), [(0.25, 0.0, 1e-3), (1.0, 0.1, 1.0)])
def test_the_packages_epsilon_is_nothing_for_small_keys_only(
    package: Any, scale: float, least: float, most: float
) -> None:
    """As shipped it moves outputs by less than 0.1 % for inputs of size 1/4, and by more than 10 % at unit size."""
    ours, theirs = pair(package, 256, 4, PerformerParams())
    assert least <= difference(ours, theirs, scale * torch.randn(1, 512, 256, dtype=torch.float64)) < most


def test_the_packages_epsilon_makes_every_query_read_the_mean_of_all_values(package: Any) -> None:
    """At inputs of size 2 typical features are far below 1e-4 of the largest: as shipped, 2 % of attention are left."""
    ours, theirs = pair(package, 256, 4, PerformerParams())
    x_BNM = 2 * torch.randn(1, 512, 256, dtype=torch.float64)
    with torch.inference_mode():
        mean_BNM = ours.out_proj(ours.in_proj(x_BNM)[..., 512:].mean(1, keepdim=True))
        spread = [float((module(x_BNM) - mean_BNM).square().mean()) ** 0.5 for module in (theirs, ours)]
    assert spread[0] < 0.02 * spread[1]


@pytest.mark.parametrize("tokens", [1, 33])
def test_relu_features_are_the_packages(package: Any, tokens: int) -> None:
    """`kernel: relu` is its generalized attention with the default kernel, epsilon included, to rounding."""
    ours, theirs = pair(package, 24, 3, PerformerParams(features=16, kernel="relu"))
    assert difference(ours, theirs, torch.randn(2, tokens, 24, dtype=torch.float64)) < 1e-12


@pytest.mark.parametrize("width", [16, 32, 64, 96, 128])
def test_auto_features_are_as_many_as_the_packages(package: Any, width: int) -> None:
    """`features: auto` is its default."""
    assert features_of(PerformerParams(), width) == package.FastAttention(width).nb_features


def test_the_package_lets_padding_count(package: Any) -> None:
    """Its mask blanks the values of padding but not its keys: their content moves its real tokens, and not ours."""
    ours, theirs = pair(package, 24, 3, PerformerParams(features=16))
    roused(ours)
    mask_BN = torch.arange(9).unsqueeze(0) >= 6
    x_BNM = torch.randn(1, 9, 24, dtype=torch.float64)
    other_BNM = torch.where(mask_BN.unsqueeze(-1), 2 * torch.randn_like(x_BNM), x_BNM)
    with torch.inference_mode():
        assert float((theirs(x_BNM, mask=~mask_BN) - theirs(other_BNM, mask=~mask_BN))[:, :6].abs().max()) > 1e-2
        assert float((ours(x_BNM, mask_BN) - ours(other_BNM, mask_BN))[:, :6].abs().max()) < 1e-12
