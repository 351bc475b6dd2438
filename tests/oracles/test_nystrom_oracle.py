from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from castbench.mechanisms.nystrom.module import NystromAttention
from tests.mechanisms.cases import roused

pytestmark = pytest.mark.extra

CLOSE = {"rtol": 1e-8, "atol": 1e-9}
WIDTH, TAPS = 24, 5


def ours(heads: int, landmarks: int, iterations: int = 6, *, bias: bool = False) -> NystromAttention:
    """Our module in float64 with weights that matter."""
    torch.manual_seed(0)
    module: NystromAttention = roused(
        NystromAttention(WIDTH, heads, landmarks=landmarks, iterations=iterations, convolution=TAPS)
    )
    if not bias:
        module.in_proj.bias.data.zero_()
    return module.double()


def package(module: NystromAttention) -> Any:
    """nystrom-attention's module with the same weights; it has no biases before out_proj."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        published = pytest.importorskip("nystrom_attention")
    theirs = published.NystromAttention(
        WIDTH, WIDTH // module.num_heads, module.num_heads, module.landmarks, module.iterations, True, TAPS
    ).double()
    assert module.taps is not None
    with torch.no_grad():
        theirs.to_qkv.weight.copy_(module.in_proj.weight)
        theirs.to_out[0].load_state_dict(module.out_proj.state_dict())
        theirs.res_conv.weight.copy_(module.taps[:, None, :, None])
    return theirs


def hugging_face(module: NystromAttention, tokens: int, *, each_its_own: bool) -> Any:
    """The self-attention of transformers with the same weights, for rows of so many tokens; it ends before out_proj."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("transformers")
        from transformers import NystromformerConfig
        from transformers.models.nystromformer.modeling_nystromformer import NystromformerSelfAttention
    config = NystromformerConfig(
        hidden_size=WIDTH, num_attention_heads=module.num_heads, num_landmarks=module.landmarks,
        segment_means_seq_len=tokens, conv_kernel_size=TAPS, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    theirs = NystromformerSelfAttention(config).double().eval()
    # Set here, since with inv_coeff_init_option its constructor reads the configuration as a dict and fails.
    theirs.init_option = "exact" if each_its_own else "original"
    assert module.taps is not None
    with torch.no_grad():
        for part, weight, bias in zip(
            (theirs.query, theirs.key, theirs.value), module.in_proj.weight.chunk(3), module.in_proj.bias.chunk(3),
            strict=True,
        ):  # fmt: skip
            part.weight.copy_(weight)
            part.bias.copy_(bias)
        theirs.conv.weight.copy_(module.taps[:, None, :, None])
    return theirs


def texts(rows: int, tokens: int) -> Tensor:
    """Rows of tokens in float64."""
    return torch.randn(rows, tokens, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("tokens", [16, 40])
def test_one_row_with_one_head_is_the_packages(tokens: int) -> None:
    """Where its largest norm of the batch is the row's own, and m divides n, outputs agree."""
    module = ours(1, 8)
    torch.testing.assert_close(module(texts(1, tokens)), package(module)(texts(1, tokens)), **CLOSE)


def test_several_heads_are_the_packages_once_the_inverse_is_reached() -> None:
    """It starts all heads and rows from the largest norm among them: other steps on the way, the same inverse."""
    few, many = ours(3, 8, 2), ours(3, 8, 40)
    x_BNM = texts(2, 40)
    assert float((few(x_BNM) - package(few)(x_BNM)).detach().abs().max()) > 1e-3
    torch.testing.assert_close(many(x_BNM), package(many)(x_BNM), rtol=1e-6, atol=1e-7)


def test_other_lengths_are_padded_by_the_package_and_divided_by_us() -> None:
    """Where m does not divide n it puts zero tokens in front, keys like others; ours cuts real tokens only."""
    module, x_BNM = ours(1, 8), texts(1, 43)
    theirs = package(module)
    padded_BNM = torch.cat([torch.zeros_like(x_BNM[:, :5]), x_BNM], dim=1)
    torch.testing.assert_close(theirs(x_BNM), theirs(padded_BNM)[:, 5:], **CLOSE)
    torch.testing.assert_close(theirs(x_BNM), module(padded_BNM)[:, 5:], **CLOSE)
    assert float((theirs(x_BNM) - module(x_BNM)).detach().abs().max()) > 1e-3


@pytest.mark.parametrize(("rows", "heads"), [(1, 1), (2, 3)])
@pytest.mark.parametrize("tokens", [16, 40, 8])
def test_every_row_and_head_is_transformers_with_their_own_norms(rows: int, heads: int, tokens: int) -> None:
    """With its init option for norms of each matrix, outputs agree; n = m is softmax attention in both."""
    module = ours(heads, 8, bias=True)
    theirs = hugging_face(module, tokens, each_its_own=True)
    x_BNM = texts(rows, tokens)
    torch.testing.assert_close(module(x_BNM), module.out_proj(theirs(x_BNM)[0]), **CLOSE)


def test_one_row_with_one_head_is_transformers_as_configured() -> None:
    """Its default, the largest norm of the batch, is ours where there is one matrix."""
    module = ours(1, 8, bias=True)
    theirs = hugging_face(module, 40, each_its_own=False)
    torch.testing.assert_close(module(texts(1, 40)), module.out_proj(theirs(texts(1, 40))[0]), **CLOSE)
