from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from castbench.mechanisms.nystrom import NystromParams
from castbench.mechanisms.nystrom.module import NystromAttention, convolved, pseudo_inverse, segment_means
from castbench.mechanisms.nystrom.reference import inverse
from tests.mechanisms.cases import dense, roused

CLOSE = {"rtol": 1e-9, "atol": 1e-10}
WIDTH, HEADS = 12, 3


def made(landmarks: int, iterations: int = 6, convolution: int | None = None) -> NystromAttention:
    """A module in float64 with weights that matter."""
    torch.manual_seed(0)
    module: NystromAttention = roused(
        NystromAttention(WIDTH, HEADS, landmarks=landmarks, iterations=iterations, convolution=convolution)
    )
    return module.double()


def texts(tokens: int, rows: int = 2) -> Tensor:
    """Rows of tokens in float64."""
    return torch.randn(rows, tokens, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("tokens", [1, 5, 8])
def test_rows_of_no_more_tokens_than_landmarks_get_softmax_attention(tokens: int) -> None:
    """With n ≤ m every token is its own landmark, and the module is dense attention to rounding."""
    module = made(8)
    torch.testing.assert_close(module(texts(tokens)), dense(module, HEADS, texts(tokens)), **CLOSE)
    assert module.ran_as == "softmax"


@pytest.mark.parametrize("real", [1, 5, 8])
def test_such_rows_get_it_in_a_longer_batch_too(real: int) -> None:
    """A row of n ≤ m real tokens beside a longer one has softmax attention over its own tokens."""
    module, x_BNM = made(8), texts(20)
    mask_BN = torch.arange(20) >= torch.tensor([[20], [real]])
    wanted_BNM = dense(module, HEADS, x_BNM, mask_BN)
    torch.testing.assert_close(module(x_BNM, mask_BN)[1, :real], wanted_BNM[1, :real], **CLOSE)
    assert module.ran_as == "landmarks"


def test_tokens_that_come_in_equal_segments_lose_nothing() -> None:
    """Where all tokens of a segment are equal, landmarks are tokens, and enough steps give softmax attention itself."""
    module, x_BNM = made(4, iterations=30), texts(4).repeat_interleave(5, dim=1)
    wanted_BNM = dense(module, HEADS, x_BNM)
    torch.testing.assert_close(module(x_BNM), wanted_BNM, rtol=1e-7, atol=1e-8)
    few = made(4, iterations=1)
    assert float((few(x_BNM) - wanted_BNM).detach().abs().max()) > 1e-3


@pytest.mark.parametrize("iterations", [1, 6])
def test_the_inverse_is_the_papers_iteration(iterations: int) -> None:
    """After any number of steps all matrices of a batch are where the formula takes each of them alone."""
    matrix = torch.randn(2, 3, 7, 7, dtype=torch.float64).softmax(-1)
    found = pseudo_inverse(matrix, iterations)
    for b in range(2):
        for h in range(3):
            torch.testing.assert_close(found[b, h], inverse(matrix[b, h], iterations), **CLOSE)


def test_enough_steps_reach_the_inverse() -> None:
    """The iteration converges to the inverse that linear algebra knows."""
    matrix = (3 * torch.eye(7, dtype=torch.float64) + torch.randn(2, 7, 7, dtype=torch.float64)).softmax(-1)
    torch.testing.assert_close(pseudo_inverse(matrix, 40), torch.linalg.pinv(matrix), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("tokens", [12, 13, 18, 23])
@pytest.mark.parametrize("masked", [False, True])
def test_segments_are_neighbours_of_near_equal_number(tokens: int, masked: bool) -> None:
    """Segments of a row's real tokens differ by one token at most, the longer ones first, as tensor_split cuts them."""
    x_BNM = texts(30 if masked else tokens)
    mask_BN = (torch.arange(30) >= torch.tensor([[30], [tokens]])) if masked else None
    found_BKM, count_BK = segment_means(x_BNM, 6, mask_BN)
    wanted_KM = torch.stack([part.mean(0) for part in x_BNM[1, :tokens].tensor_split(6)])
    torch.testing.assert_close(found_BKM[1], wanted_KM, **CLOSE)
    if count_BK is not None:
        assert count_BK[1].tolist() == [len(part) for part in x_BNM[1, :tokens].tensor_split(6)]


def test_landmarks_are_means_of_queries_and_keys() -> None:
    """Projecting the means of x is taking the means of its projections, biases included."""
    module, x_BNM = made(6), texts(23)
    of_means_BKX = module.in_proj(segment_means(x_BNM, 6, None)[0])
    torch.testing.assert_close(of_means_BKX, segment_means(module.in_proj(x_BNM), 6, None)[0], **CLOSE)


def test_one_row_does_not_change_anothers_inverse() -> None:
    """Z starts from each matrix's own norm: a row in a batch with any other gives what it gives alone, at any step."""
    module, x_BNM = made(4, iterations=2), torch.cat([texts(20), 30 * texts(20)])
    torch.testing.assert_close(module(x_BNM)[:1], module(x_BNM[:1]), **CLOSE)


@pytest.mark.parametrize("tokens", [3, 40])
def test_the_convolution_adds_neighbouring_values(tokens: int) -> None:
    """A module with a convolution gives what one without gives, plus out_proj of the weighted neighbours' values."""
    module = made(8, convolution=5)
    plain = made(8)
    plain.load_state_dict({name: value for name, value in module.state_dict().items() if name != "taps"})
    v_BNHD = module.in_proj(texts(tokens)).chunk(3, dim=-1)[2].unflatten(-1, (HEADS, -1))
    near_BNHD = torch.zeros_like(v_BNHD)
    assert module.taps is not None
    for n in range(tokens):
        for j in range(5):
            if 0 <= n + j - 2 < tokens:
                near_BNHD[:, n] += module.taps[:, j, None] * v_BNHD[:, n + j - 2]
    added_BNM = near_BNHD.flatten(2) @ module.out_proj.weight.T
    torch.testing.assert_close(module(texts(tokens)), plain(texts(tokens)) + added_BNM, **CLOSE)


def test_nothing_is_convolved_from_beyond_a_rows_tokens() -> None:
    """Values at padding do not reach the last real tokens."""
    v_BNM = torch.randn(1, 9, 8, dtype=torch.float64)
    taps_HW = torch.randn(2, 5, dtype=torch.float64)
    mask_BN = torch.arange(9).unsqueeze(0) >= 6
    wanted = convolved(v_BNM[:, :6], taps_HW, None)
    torch.testing.assert_close(convolved(v_BNM, taps_HW, mask_BN)[:, :6], wanted, **CLOSE)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"landmarks": 0}, "landmarks: expected a whole number of at least 1, got 0"),
        ({"iterations": 0}, "iterations: expected a whole number of at least 1, got 0"),
        ({"convolution": 4}, "convolution: expected an odd number of tokens or null, got 4"),
        ({"convolution": -1}, "convolution: expected an odd number of tokens or null, got -1"),
    ],
)
def test_values_that_mean_nothing_are_refused(given: dict[str, Any], sentence: str) -> None:
    """Numbers below one and widths without a middle are refused with a sentence."""
    with pytest.raises(ValueError, match=sentence):
        NystromParams(**given)
