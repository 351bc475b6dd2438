from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from castbench.mechanisms.linformer import SPEC, LinformerParams, Share, limits, resolve
from castbench.mechanisms.linformer.module import LinformerAttention, build
from castbench.mechanisms.spec import LengthMix, Problem
from tests.mechanisms.cases import dense, roused

CLOSE = {"rtol": 1e-9, "atol": 1e-10}
TOKENS, WIDTH, HEADS = 21, 12, 3


def made(rank: int, share: Share = "headwise", longest: int = TOKENS) -> LinformerAttention:
    """A module in float64 with weights that matter."""
    torch.manual_seed(0)
    module: LinformerAttention = roused(LinformerAttention(WIDTH, HEADS, rank=rank, max_seq_len=longest, share=share))
    return module.double()


def texts(tokens: int = TOKENS) -> Tensor:
    """Two rows of tokens in float64."""
    return torch.randn(2, tokens, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("share", ["headwise", "key_value", "none"])
@pytest.mark.parametrize("tokens", [TOKENS, TOKENS + 5])
def test_a_projection_that_keeps_every_token_is_softmax_attention(share: Share, tokens: int) -> None:
    """With k = N and E = F = 1 all tokens are keys as they are, and Linformer is dense attention."""
    module = made(TOKENS, share, tokens)
    with torch.no_grad():
        module.sequence_proj.copy_(torch.eye(TOKENS, tokens).expand_as(module.sequence_proj))
    torch.testing.assert_close(module(texts()), dense(module, HEADS, texts()), **CLOSE)


@pytest.mark.parametrize("share", ["headwise", "key_value"])
@pytest.mark.parametrize("real", [TOKENS, 13])
def test_both_orders_of_the_products_give_the_same_keys_and_values(share: Share, real: int) -> None:
    """E·(W·x + b) and W·(E·x) + b·(E·1) are equal, padding or not, and the second costs fewer FLOPs where k < N."""
    module, x_BNM = made(5, share, TOKENS + 3), texts()
    mask_BN = None if real == TOKENS else torch.arange(TOKENS).expand(2, -1) >= torch.tensor([[TOKENS], [real]])
    costs = []
    results = []
    for way in (module._sequence_first, module._projections_first):
        with FlopCounterMode(display=False) as counter:
            results.append(way(x_BNM, mask_BN))
        costs.append(counter.get_total_flops())
    for first_BXM, second_BXM in zip(*results, strict=True):
        torch.testing.assert_close(first_BXM, second_BXM, **CLOSE)
    assert costs[0] < costs[1]


@pytest.mark.parametrize(
    ("rank", "share", "ran_as"),
    [
        (5, "headwise", "sequence_first"),
        (5, "none", "projections_first"),
        (TOKENS, "headwise", "projections_first"),
    ],
)
def test_the_order_follows_what_costs_less(rank: int, share: Share, ran_as: str) -> None:
    """The sequence is projected first where heads share E and k < N; the module says which order ran."""
    module = made(rank, share)
    assert module.ran_as is None
    module(texts())
    assert module.ran_as == ran_as


def test_short_rows_use_the_first_columns() -> None:
    """A row of 13 tokens gets from a projection made for 21 what it gets from one made of its first 13 columns."""
    module, short = made(4), made(4, longest=13)
    state = module.state_dict()
    short.load_state_dict({**state, "sequence_proj": state["sequence_proj"][..., :13]})
    torch.testing.assert_close(module(texts(13)), short(texts(13)), **CLOSE)


def test_headwise_sharing_is_every_head_with_the_same_projection() -> None:
    """Copies of E and F for every head (share: none) give what heads that share them do."""
    shared, own = made(6), made(6, "none")
    state = shared.state_dict()
    own.load_state_dict({**state, "sequence_proj": state["sequence_proj"].expand(-1, HEADS, -1, -1)})
    torch.testing.assert_close(own(texts()), shared(texts()), **CLOSE)


def test_key_value_sharing_is_one_projection_for_both() -> None:
    """share: key_value is headwise sharing with E = F, in half the weights."""
    shared, both = made(6, "key_value"), made(6)
    state = shared.state_dict()
    both.load_state_dict({**state, "sequence_proj": state["sequence_proj"].expand(2, -1, -1, -1)})
    torch.testing.assert_close(both(texts()), shared(texts()), **CLOSE)
    assert both.sequence_proj.numel() == 2 * shared.sequence_proj.numel()


def test_order_of_tokens_matters() -> None:
    """Tokens in another order give other keys: the projection is tied to positions, as the remark says."""
    module, x_BNM = made(6), texts()
    turned_BNM = module(x_BNM.flip(1)).flip(1)
    assert float((turned_BNM - module(x_BNM)).detach().abs().max()) > 0.1
    assert "positions" in SPEC.remark


def test_a_row_longer_than_the_projection_is_refused() -> None:
    """What `limits` says before anything is timed, the module says as well."""
    sentence = limits(LinformerParams(max_seq_len=64), Problem(1, 65, WIDTH, HEADS, 4))
    assert sentence is not None
    assert "at most 64 tokens, and this one has 65; set max_seq_len to at least 65" in sentence
    assert limits(LinformerParams(max_seq_len=64), Problem(1, 64, WIDTH, HEADS, 4)) is None
    assert limits(LinformerParams(), Problem(1, 10**6, WIDTH, HEADS, 4)) is None
    with pytest.raises(ValueError, match="at most 21 tokens, and this one has 22"):
        made(4)(texts(22))


@pytest.mark.parametrize(("longest", "columns"), [(1000, 1024), (1024, 1024), (24, 64)])
def test_auto_holds_the_longest_row(longest: int, columns: int) -> None:
    """max_seq_len: auto becomes the longest length of the mix, rounded up; a number stays as it is."""
    mix = LengthMix((20, longest), (0.9, 0.1))
    assert resolve(LinformerParams(), mix).max_seq_len == columns
    assert resolve(LinformerParams(max_seq_len=77), mix).max_seq_len == 77
    with pytest.raises(ValueError, match="max_seq_len: auto must be resolved"):
        build(LinformerParams(), embed_dim=WIDTH, num_heads=HEADS)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"rank": 0}, "rank: expected a whole number of at least 1, got 0"),
        ({"max_seq_len": 0}, "max_seq_len: expected a whole number of at least 1, got 0"),
        ({"share": "layerwise"}, "share: expected 'headwise' or 'key_value' or 'none', got 'layerwise'"),
    ],
)
def test_values_that_mean_nothing_are_refused(given: dict[str, Any], sentence: str) -> None:
    """Ranks and lengths below one and sharing between layers are refused with a sentence."""
    with pytest.raises(ValueError, match=sentence):
        LinformerParams(**given)
