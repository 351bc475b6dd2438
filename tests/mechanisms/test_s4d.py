from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from castbench.mechanisms.s4d import S4dParams, filter_tables, transform_length
from castbench.mechanisms.s4d.module import STEP_RANGE, S4dLayer
from castbench.mechanisms.s4d.reference import filtered, reference
from tests.mechanisms.cases import roused

CLOSE = {"rtol": 1e-9, "atol": 1e-10}
BOTH = pytest.mark.parametrize("bidirectional", [False, True])


def made(**parameters: Any) -> S4dLayer:
    """A layer of 6 channels as it is initialised, in float64."""
    torch.manual_seed(0)
    return S4dLayer(6, 2, S4dParams(**parameters)).double()


def double_weights(layer: S4dLayer) -> dict[str, Tensor]:
    """Its parameters by name, without gradient."""
    return {name: value.detach().double() for name, value in layer.named_parameters()}


def test_the_filter_is_a_state_space_under_a_held_input() -> None:
    """K[l] is what ẋ = A·x + u, y = 2·Re C·x gives l steps after an input held at 1 for one step: the exponential of
    the whole system's matrix, which knows nothing of Ā and B̄.
    """
    layer = made(state_size=8)
    weights, filter_RML = double_weights(layer), layer.filters(7)
    for m in range(6):
        step = float(weights["log_step"][m].exp())
        a_S = torch.complex(-weights["log_decay"][m].exp(), weights["frequency"][m])
        system = torch.zeros(5, 5, dtype=torch.complex128)
        system[:4, :4], system[:4, 4] = torch.diag(a_S), 1
        state_S = torch.linalg.matrix_exp(step * system)[:4, 4]
        for lag in range(7):
            for direction in range(2):
                wanted = 2 * (torch.view_as_complex(weights["readout"])[direction, m] * state_S).sum().real
                torch.testing.assert_close(filter_RML[direction, m, lag], wanted, **CLOSE)
            state_S = torch.linalg.matrix_exp(step * torch.diag(a_S)) @ state_S


@given(st.integers(1, 70), st.sampled_from([2, 6]))
@settings(max_examples=30)
def test_the_filter_is_the_table_of_all_powers(length: int, state_size: int) -> None:
    """Two small tables give K[l] = 2·Re Σ C·B̄·Ā^l for every lag of every length."""
    layer = made(state_size=state_size)
    roused(layer)
    weights = double_weights(layer)
    a_MS = torch.complex(-weights["log_decay"].exp(), weights["frequency"])
    log_MS = weights["log_step"].exp().unsqueeze(-1) * a_MS
    power_MSL = torch.exp(log_MS.unsqueeze(-1) * torch.arange(length))
    c_RMS = torch.view_as_complex(weights["readout"]) * (log_MS.exp() - 1) / a_MS
    wanted_RML = 2 * torch.einsum("rms,msl->rml", c_RMS, power_MSL).real
    torch.testing.assert_close(layer.filters(length), wanted_RML, **CLOSE)


@BOTH
def test_the_filters_are_the_answers_of_the_recurrence_to_an_impulse(bidirectional: bool) -> None:
    """Token k gets K[0][k − j] of a token j before it or itself, and K[1][j − k − 1] of a later one; none twice."""
    layer = made(bidirectional=bidirectional)
    weights = double_weights(layer) | {"skip": torch.zeros(6, dtype=torch.float64)}
    filter_RML = layer.filters(9)
    for j in range(9):
        impulse_NM = torch.zeros(9, 6, dtype=torch.float64)
        impulse_NM[j] = 1
        answer_NM = filtered(weights, impulse_NM)
        for k in range(9):
            late = filter_RML[1, :, j - k - 1] if bidirectional and k < j else torch.zeros(6, dtype=torch.float64)
            torch.testing.assert_close(answer_NM[k], filter_RML[0, :, k - j] if k >= j else late, **CLOSE)


@BOTH
def test_only_the_causal_form_is_causal(bidirectional: bool) -> None:
    """Tokens to come change a token's output in the bidirectional form, and leave it as it was in the causal one."""
    layer, x_BNM = made(bidirectional=bidirectional), torch.randn(1, 12, 6, dtype=torch.float64)
    later_BNM = torch.cat((x_BNM[:, :7], torch.randn(1, 5, 6, dtype=torch.float64)), 1)
    change_NM = (layer(later_BNM) - layer(x_BNM))[0].abs()
    assert bool((change_NM[7:].amax(1) > 1e-6).all())
    assert bool((change_NM[:7].amax(1) > 1e-9).all()) == bidirectional


@torch.no_grad()
def test_it_starts_as_published() -> None:
    """S4D-Lin: A_n = −½ + iπn in every channel, and steps between 0.001 and 0.1 with even logarithms."""
    torch.manual_seed(0)
    layer = S4dLayer(2000, 1, S4dParams(state_size=8))
    assert torch.allclose(-layer.log_decay.exp(), torch.tensor(-0.5))
    assert torch.allclose(layer.frequency, math.pi * torch.arange(4.0))
    low, high = map(math.log, STEP_RANGE)
    assert low <= float(layer.log_step.min()) < float(layer.log_step.max()) <= high
    assert float(layer.log_step.mean()) == pytest.approx((low + high) / 2, abs=0.1)
    assert float(torch.view_as_complex(layer.readout).abs().square().mean()) == pytest.approx(1, abs=0.05)


@torch.no_grad()
def test_float32_filters_are_right_to_their_last_token() -> None:
    """At 4096 tokens the float32 filter is within 1e-4 of its float64 self, relative to its largest value per
    channel.
    """
    torch.manual_seed(0)
    layer = S4dLayer(64, 1, S4dParams())
    found_RML = layer.filters(4096).double()
    wanted_RML = layer.double().filters(4096)
    error_RM = (found_RML - wanted_RML).abs().amax(-1) / wanted_RML.abs().amax(-1)
    assert float(error_RM.max()) < 1e-4


@torch.no_grad()
def test_small_steps_lose_no_digits() -> None:
    """B̄ = (exp(Δ·A) − 1) / A with a step of 1e-3 is as exact in float32 as the dtype is, where exp(Δ·A) is almost 1."""
    torch.manual_seed(0)
    layer = S4dLayer(32, 1, S4dParams(state_size=2))
    layer.log_step.fill_(math.log(1e-3))
    found_RM1 = layer.filters(1).double()
    torch.testing.assert_close(found_RM1, layer.double().filters(1), rtol=1e-6, atol=0)


@pytest.mark.parametrize("gated", [False, True])
def test_gradients_of_weights_are_those_of_the_recurrence(gated: bool) -> None:
    """Autograd through the recurrence gives every weight the gradient that the convolution gives it, with padding."""
    layer, x_BNM = made(gated=gated, state_size=6), torch.randn(2, 11, 6, dtype=torch.float64)
    mask_BN = torch.arange(11) >= torch.tensor([[11], [6]])
    scale_XM = torch.randn(17, 6, dtype=torch.float64)
    found, wanted = (
        torch.autograd.grad((y_BNM[~mask_BN] * scale_XM).sum(), list(layer.parameters()))
        for y_BNM in (layer(x_BNM, mask_BN), reference(layer, x_BNM, mask_BN))
    )
    for (name, _), one, other in zip(layer.named_parameters(), found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")


@given(st.integers(1, 5000))
def test_transforms_are_the_shortest_that_hold_all_lags(length: int) -> None:
    """A transform has at least 2·N − 1 points, only 2, 3 and 5 as factors, and no shorter one has."""

    def smooth(number: int) -> bool:
        for factor in (2, 3, 5):
            while number % factor == 0:
                number //= factor
        return number == 1

    points = transform_length(length)
    assert points == next(n for n in range(2 * length - 1, 10**5) if smooth(n))


@given(st.integers(1, 10**6))
def test_tables_hold_every_lag(length: int) -> None:
    """The products of the two tables are the lags 0 to N − 1 and fewer than one row more, both tables about √N long."""
    steps, within = filter_tables(length)
    assert length <= steps * within < length + within
    assert max(steps, within) <= 2 * math.sqrt(length) + 1


@pytest.mark.parametrize("state_size", [0, 3, -2])
def test_parameters_that_do_not_fit_are_refused(state_size: int) -> None:
    """The refusal names the parameter and what it takes."""
    with pytest.raises(ValueError, match=f"state_size: expected an even number of at least 2, got {state_size}"):
        S4dParams(state_size=state_size)
