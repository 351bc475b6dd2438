from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from castbench.mechanisms.bigbird import BigBirdParams
from castbench.mechanisms.bigbird.module import BigBirdAttention, Seen
from tests.mechanisms.cases import roused

pytestmark = pytest.mark.extra
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
TOKENS, SIZE, COUNT = 48, 4, 12


def made(random_blocks: int = 3) -> BigBirdAttention:
    """Our module 32 wide with 4 heads."""
    torch.manual_seed(0)
    params = BigBirdParams(block_size=SIZE, random_blocks=random_blocks)
    module: BigBirdAttention = roused(BigBirdAttention(32, 4, params)).eval()
    return module


def theirs_with(module: BigBirdAttention) -> Any:
    """The BigBirdBlockSparseAttention of transformers with our weights, its random blocks still its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = pytest.importorskip("transformers.models.big_bird.modeling_big_bird")
    config = package.BigBirdConfig(
        hidden_size=32, num_attention_heads=4, block_size=SIZE, num_random_blocks=module.params.random_blocks,
        attention_probs_dropout_prob=0.0, use_bias=True,
    )  # fmt: skip
    theirs = package.BigBirdBlockSparseAttention(config, seed=3)
    for n, name in enumerate(("query", "key", "value")):
        getattr(theirs, name).weight.copy_(module.in_proj.weight.chunk(3)[n])
        getattr(theirs, name).bias.copy_(module.in_proj.bias.chunk(3)[n])
    return theirs


def run(theirs: Any, module: BigBirdAttention, x_BNM: Tensor, mask_BN: Tensor) -> Tensor:
    """Their attention with masks made as their model makes them, our out_proj behind it."""
    package = pytest.importorskip("transformers.models.big_bird.modeling_big_bird")
    blocked, band, rows, columns = package.BigBirdModel.create_masks_for_block_sparse_attn((~mask_BN).float(), SIZE)
    mixed_BNM = theirs(x_BNM, band, rows, columns, blocked, blocked)[0]
    y_BNM: Tensor = module.out_proj(mixed_BNM)
    return y_BNM


@pytest.mark.parametrize("random_blocks", [1, 3])
@torch.no_grad()
def test_big_bird_with_our_random_blocks_is_ours(random_blocks: int) -> None:
    """The BigBird of transformers gives the same outputs where it is given our random blocks."""
    module, x_BNM = made(random_blocks), torch.randn(2, TOKENS, 32)
    theirs, none_BN = theirs_with(module).eval(), torch.zeros(2, TOKENS, dtype=torch.bool)
    drawn_HQR = module.choose(torch.tensor([COUNT]), COUNT).block[0, :, 1:-1].numpy()
    theirs._bigbird_block_rand_mask_with_head = lambda **_: list(drawn_HQR)
    torch.testing.assert_close(module(x_BNM), run(theirs, module, x_BNM, none_BN), **CLOSE)


@torch.no_grad()
def test_ours_with_the_random_blocks_of_big_bird_is_big_bird(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our module gives the same outputs where it is given the random blocks that transformers draws in training."""
    module, x_BNM = made(), torch.randn(2, TOKENS, 32)
    theirs, none_BN = theirs_with(module).train(), torch.zeros(2, TOKENS, dtype=torch.bool)
    drawn: list[Any] = []
    draw = theirs._bigbird_block_rand_mask_with_head
    theirs._bigbird_block_rand_mask_with_head = lambda **given: drawn.extend(draw(**given)) or drawn
    wanted_BNM = run(theirs, module, x_BNM, none_BN)
    chosen_BHQR = torch.from_numpy(np.pad(np.stack(drawn), ((0, 0), (1, 1), (0, 0)))).long().expand(2, -1, -1, -1)
    monkeypatch.setattr(module, "choose", lambda blocks_B, _: Seen(chosen_BHQR, torch.ones_like(chosen_BHQR).bool()))
    torch.testing.assert_close(module(x_BNM), wanted_BNM, **CLOSE)


@torch.no_grad()
def test_big_bird_takes_the_end_of_the_batch_for_the_end_of_a_row() -> None:
    """With padding the last global block of transformers' BigBird is padding, ours is the row's own last block: a full
    row agrees, a shorter one does not.
    """
    module, x_BNM = made(), torch.randn(2, TOKENS, 32)
    theirs, mask_BN = theirs_with(module).eval(), torch.arange(TOKENS) >= torch.tensor([[TOKENS], [38]])
    drawn_HQR = module.choose(torch.tensor([COUNT]), COUNT).block[0, :, 1:-1].numpy()
    theirs._bigbird_block_rand_mask_with_head = lambda **_: list(drawn_HQR)
    ours_BNM, theirs_BNM = module(x_BNM, mask_BN), run(theirs, module, x_BNM, mask_BN)
    torch.testing.assert_close(ours_BNM[0], theirs_BNM[0], **CLOSE)
    assert float((ours_BNM[1, :38] - theirs_BNM[1, :38]).abs().max()) > 1e-2


@torch.no_grad()
def test_big_bird_draws_nothing_in_evaluation() -> None:
    """In evaluation transformers takes the first block for every random one, so that it counts four times; ours sees
    the blocks drawn in training.
    """
    module = made()
    theirs = theirs_with(module).eval()
    drawn = theirs._bigbird_block_rand_mask_with_head(
        from_seq_length=TOKENS, to_seq_length=TOKENS, from_block_size=SIZE, to_block_size=SIZE, num_heads=4,
        plan_from_length=[TOKENS], plan_num_rand_blocks=[3],
    )  # fmt: skip
    assert not np.any(np.stack(drawn))
