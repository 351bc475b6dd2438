from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from castbench.mechanisms.performer import PerformerParams, features_of
from castbench.mechanisms.performer.module import PerformerAttention, mix_by_softmax, orthogonal_gaussians
from castbench.mechanisms.performer.reference import mixed, positive_features
from tests.mechanisms.cases import dense, roused


def built(width: int = 8, heads: int = 2, **params: Any) -> PerformerAttention:
    """A module in float64 with weights drawn from a seed, in training mode."""
    torch.manual_seed(0)
    return roused(PerformerAttention(PerformerParams(**params), width, heads)).double()


def test_features_are_orthogonal_within_blocks_and_as_long_as_gaussian_ones() -> None:
    """Every D features are orthogonal to one another; squared lengths have the mean D and the variance 2·D of χ²."""
    torch.manual_seed(1)
    projection_FD = orthogonal_gaussians(20_003, 16)
    assert projection_FD.shape == (20_003, 16)
    product_GDD = torch.stack([block @ block.T for block in projection_FD[:160].split(16)])
    length_GD = product_GDD.diagonal(dim1=1, dim2=2).sqrt()
    angle_GDD = product_GDD / (length_GD.unsqueeze(1) * length_GD.unsqueeze(2))
    torch.testing.assert_close(angle_GDD, torch.eye(16).expand(10, -1, -1), rtol=0, atol=1e-5)
    square_F = projection_FD.square().sum(1)
    assert float(square_F.mean()) == pytest.approx(16, rel=0.02)
    assert float(square_F.var()) == pytest.approx(32, rel=0.05)


def test_features_point_anywhere_alike() -> None:
    """Each number of ω has mean 0 and variance 1: a QR decomposition without its signs would shift them."""
    torch.manual_seed(2)
    projection_GDD = orthogonal_gaussians(40_000, 4).view(-1, 4, 4)
    assert float(projection_GDD.mean(0).abs().max()) < 0.05
    torch.testing.assert_close(projection_GDD.var(0), torch.ones(4, 4), rtol=0.1, atol=0)


def test_products_of_features_are_the_softmax_kernel_on_average() -> None:
    """The mean of φ(q)·φ(k) over draws is exp(q·k/√D)."""
    torch.manual_seed(3)
    q_NHD, k_NHD = torch.randn(2, 5, 1, 8, dtype=torch.float64)
    projection_FD = orthogonal_gaussians(400_000, 8).double()
    found_N = (positive_features(projection_FD, q_NHD) * positive_features(projection_FD, k_NHD)).sum((1, 2))
    torch.testing.assert_close(found_N, ((q_NHD * k_NHD).sum((1, 2)) / math.sqrt(8)).exp(), rtol=0.05, atol=0)


def test_orthogonal_features_err_less_than_independent_ones() -> None:
    """D features estimate the softmax kernel of small vectors with a mean squared error at least 5 % below that of
    independent Gaussian ones.
    """
    torch.manual_seed(4)
    draws = 20_000
    q_NHD, k_NHD = 0.3 * torch.randn(2, 20, 1, 8, dtype=torch.float64)
    wanted_NHD = ((q_NHD * k_NHD).sum(-1, keepdim=True) / math.sqrt(8)).exp()

    def error(projection_FD: Tensor) -> float:
        product_NHF = positive_features(projection_FD, q_NHD) * positive_features(projection_FD, k_NHD)
        estimate_NHR = draws * product_NHF.unflatten(-1, (draws, 8)).sum(-1)
        return float((estimate_NHR / wanted_NHD - 1).square().mean())

    independent = error(torch.randn(draws * 8, 8, dtype=torch.float64))
    assert error(orthogonal_gaussians(draws * 8, 8).double()) < 0.95 * independent


def test_many_features_converge_to_softmax_attention() -> None:
    """The error against PyTorch's attention falls about as 1/√F, to 2 % of the largest value at 65536 features."""
    torch.manual_seed(5)
    x_BNM = 0.5 * torch.randn(2, 33, 8, dtype=torch.float64)
    errors = []
    for features in (256, 65536):
        module = built(features=features)
        with torch.inference_mode():
            module.in_proj.weight.mul_(0.5)
            module.in_proj.bias.zero_()
            wanted_BNM = dense(module, 2, x_BNM)
            errors.append(float((module(x_BNM) - wanted_BNM).abs().max() / wanted_BNM.abs().max()))
    assert errors[1] < 0.02
    assert errors[1] < errors[0] / 4


def test_features_that_underflow_still_give_the_papers_quotient() -> None:
    """In float32 queries and keys whose features lie below e⁻¹⁰⁰ give what they give in float64."""
    torch.manual_seed(6)
    q_PND, k_PND = 25 * torch.randn(2, 1, 12, 4) / 4 + 8
    v_PND, projection_FD = torch.randn(1, 12, 4), orthogonal_gaussians(16, 4)
    wide_q_NHD, wide_k_NHD, wide_v_NHD = (part.double().transpose(0, 1) for part in (q_PND, k_PND, v_PND))
    logs_NHF = positive_features(projection_FD.double(), wide_k_NHD).log()
    assert float(logs_NHF.min()) < -100
    wanted_NHD = mixed("softmax", projection_FD.double(), wide_q_NHD, wide_k_NHD, wide_v_NHD)
    found_PND = mix_by_softmax(q_PND, k_PND, v_PND, projection_FD, None)
    torch.testing.assert_close(found_PND.transpose(0, 1).double(), wanted_NHD, rtol=1e-3, atol=1e-3)


def test_features_are_drawn_anew_after_their_training_steps() -> None:
    """With redraw_every 2, training passes 1 and 2 share their features, 3 and 4 others; 0 keeps them for good."""
    for every, kept in ((2, [True, False, True, False]), (0, [True] * 4)):
        module = built(features=8, redraw_every=every)
        seen = []
        for _ in range(5):
            module(torch.randn(1, 3, 8, dtype=torch.float64))
            seen.append(module.projection.clone())
        assert [torch.equal(later, earlier) for earlier, later in pairwise(seen)] == kept


def test_only_training_draws() -> None:
    """Passes in evaluation mode or without gradients neither draw nor count, and leave the random numbers alone."""
    module, x_BNM = built(features=8, redraw_every=1), torch.randn(1, 3, 8, dtype=torch.float64)
    module(x_BNM)
    before, state = module.projection.clone(), torch.get_rng_state()
    with torch.no_grad():
        module(x_BNM)
    module.eval()(x_BNM)
    assert torch.equal(module.projection, before)
    assert torch.equal(torch.get_rng_state(), state)
    module.train()(x_BNM)
    assert not torch.equal(module.projection, before)


def test_a_pass_goes_back_after_new_features_were_drawn() -> None:
    """Gradients of a pass are those of its own features, whatever was drawn since."""
    x_BNM = torch.randn(1, 3, 8, dtype=torch.float64, requires_grad=True)
    gradients = []
    for later_passes in (0, 1):
        module = built(features=8, redraw_every=1)
        y_BNM = module(x_BNM)
        for _ in range(later_passes):
            module(x_BNM)
        [gradient_BNM] = torch.autograd.grad(y_BNM.sum(), x_BNM)
        gradients.append(gradient_BNM)
    assert torch.equal(*gradients)


def test_auto_features_are_those_of_the_published_package() -> None:
    """`auto` is the whole part of D·ln D, 266 for heads of width 64, and at least 1; a number is itself."""
    assert [features_of(PerformerParams(), width) for width in (1, 2, 32, 64, 128)] == [1, 1, 110, 266, 621]
    assert features_of(PerformerParams(features=7), 64) == 7
    assert built(width=64, heads=1).projection.shape == (266, 64)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"features": 0}, "features: expected a whole number of at least 1, got 0"),
        ({"redraw_every": -1}, "redraw_every: expected a whole number of at least 0, got -1"),
        ({"kernel": "gelu"}, "kernel: expected 'softmax' or 'relu', got 'gelu'"),
    ],
)
def test_parameters_that_mean_nothing_are_refused(params: dict[str, Any], sentence: str) -> None:
    """Each with a sentence that says what is expected."""
    with pytest.raises(ValueError, match=sentence):
        PerformerParams(**params)
