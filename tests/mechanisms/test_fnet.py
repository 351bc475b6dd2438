from __future__ import annotations

import pytest
import torch

from castbench.mechanisms.fnet.module import FNetMixing, transformed

SIZES = [(1, 4), (2, 1), (2, 2), (5, 7), (6, 7), (7, 6), (8, 12), (33, 24)]


@pytest.mark.parametrize(("tokens", "width"), SIZES)
def test_fnet_is_the_real_part_of_the_complex_transform(tokens: int, width: int) -> None:
    """The half that is computed and the half that mirrors it are Re(FFT) whole, at even and odd sizes."""
    x_BNM = torch.randn(3, tokens, width, dtype=torch.float64)
    wanted_BNM = torch.fft.fftn(x_BNM.to(torch.complex128), dim=(1, 2)).real
    torch.testing.assert_close(FNetMixing(1)(x_BNM), wanted_BNM, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize(("tokens", "width"), SIZES)
def test_fnet_twice_is_the_even_part_of_its_input(tokens: int, width: int) -> None:
    """Two passes give N·M times the mean of x[n, m] and x[−n, −m]: all that the real part keeps of x."""
    x_BNM = torch.randn(2, tokens, width, dtype=torch.float64)
    mirrored_BNM = x_BNM.flip(1, 2).roll((1, 1), (1, 2))
    twice_BNM = transformed(transformed(x_BNM))
    torch.testing.assert_close(twice_BNM, tokens * width * (x_BNM + mirrored_BNM) / 2, rtol=1e-9, atol=1e-9)


def test_every_row_is_transformed_at_its_own_length() -> None:
    """A padded row is the transform of its real tokens alone, and zero after them."""
    x_BNM = torch.randn(4, 9, 6, dtype=torch.float64)
    lengths = [5, 9, 0, 5]
    y_BNM = FNetMixing(1)(x_BNM, torch.arange(9) >= torch.tensor(lengths).unsqueeze(1))
    for x_NM, y_NM, length in zip(x_BNM, y_BNM, lengths, strict=True):
        if length:
            wanted_NM = torch.fft.fft2(x_NM[:length]).real
            torch.testing.assert_close(y_NM[:length], wanted_NM, rtol=1e-10, atol=1e-11)
        assert not y_NM[length:].any()


def test_a_batch_of_padding_alone_goes_back_too() -> None:
    """Without a real token anywhere outputs and gradients are zero."""
    x_BNM = torch.randn(2, 3, 4, requires_grad=True)
    y_BNM = FNetMixing(1)(x_BNM, torch.ones(2, 3, dtype=torch.bool))
    y_BNM.sum().backward()
    assert x_BNM.grad is not None
    assert not y_BNM.detach().any()
    assert not x_BNM.grad.any()


def test_fnet_holds_no_weights() -> None:
    """There is nothing to learn, to save or to load."""
    assert FNetMixing(4).state_dict() == {}
    assert FNetMixing(4).num_heads == 4
