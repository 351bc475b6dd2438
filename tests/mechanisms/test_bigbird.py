from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from castbench.mechanisms import bigbird
from castbench.mechanisms.bigbird import SPEC, BigBirdParams
from castbench.mechanisms.bigbird.module import BigBirdAttention
from castbench.mechanisms.bigbird.reference import common_blocks, random_blocks, reference
from castbench.mechanisms.spec import Problem
from tests.mechanisms.cases import dense, roused

CLOSE = {"rtol": 1e-9, "atol": 1e-10}
PATTERNS = [
    BigBirdParams(block_size=2, random_blocks=1), BigBirdParams(block_size=3, window_blocks=1, random_blocks=2),
    BigBirdParams(block_size=2, window_blocks=5, random_blocks=0, global_blocks=3),
    BigBirdParams(block_size=1, random_blocks=2, global_blocks=0),
]  # fmt: skip
any_params = st.builds(
    BigBirdParams, block_size=st.integers(1, 3), window_blocks=st.sampled_from([1, 3, 5]),
    random_blocks=st.integers(0, 3), global_blocks=st.integers(0, 4),
)  # fmt: skip


def made(params: BigBirdParams, seed: int = 0) -> BigBirdAttention:
    """A module 8 wide with 2 heads, in float64, all weights drawn."""
    torch.manual_seed(seed)
    module: BigBirdAttention = roused(BigBirdAttention(8, 2, params)).double()
    return module


def rows(tokens: int, batch: int = 2, seed: int = 1) -> Tensor:
    """x_BNM."""
    return torch.randn(batch, tokens, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("tokens", [1, 13, 28])
def test_rows_of_few_blocks_get_softmax_attention(tokens: int) -> None:
    """Up to 7 blocks of the published pattern, alone or in a batch of longer rows, PyTorch's own attention agrees."""
    module, x_BNM = made(BigBirdParams(block_size=4)), rows(40)
    mask_BN = torch.arange(40) >= torch.tensor([[40], [tokens]])
    wanted_NM = dense(module, 2, x_BNM[1:, :tokens])[0]
    torch.testing.assert_close(module(x_BNM[1:, :tokens])[0], wanted_NM, **CLOSE)
    assert module.ran_as == "dense"
    torch.testing.assert_close(module(x_BNM, mask_BN)[1, :tokens], wanted_NM, **CLOSE)
    assert module.ran_as == "blocks"


@given(any_params, st.integers(1, 40))
def test_rows_are_dense_exactly_where_the_pattern_holds_all_blocks(params: BigBirdParams, tokens: int) -> None:
    """A row is computed as softmax attention where no block of it misses more blocks than are drawn."""
    count = params.blocks(tokens)
    missed = max(count - len(common_blocks(params, query, count)) for query in range(count))
    assert params.is_dense(tokens) == (missed <= params.random_blocks or count <= params.global_blocks)


@pytest.mark.parametrize("params", PATTERNS, ids=str)
def test_a_token_depends_on_the_blocks_it_sees_and_no_others(params: BigBirdParams) -> None:
    """The output of a token changes with those in its neighbours, in global blocks and in blocks drawn for one of the
    heads, and with no others; tokens of global blocks change with all.
    """
    module, size, tokens = made(params), params.block_size, 13 * params.block_size - params.block_size // 2
    slope_NMNM = torch.autograd.functional.jacobian(lambda x_NM: module(x_NM.unsqueeze(0))[0], rows(tokens, 1)[0])
    assert module.ran_as == "blocks"
    drawn = random_blocks(module, 13)
    for query in range(tokens):
        seen = common_blocks(params, query // size, 13).union(*(head[query // size] for head in drawn))
        for key in range(tokens):
            assert bool(slope_NMNM[query, :, key].abs().max() > 0) == (key // size in seen), (query, key)


@given(any_params, st.integers(1, 30), st.integers(0, 20), st.integers(0, 2**31))
def test_random_blocks_do_not_depend_on_the_batch(params: BigBirdParams, count: int, more: int, seed: int) -> None:
    """A row draws the same blocks alone and beside longer ones."""
    module = made(params, seed)
    alone = module.choose(torch.tensor([count]), count)
    beside = module.choose(torch.tensor([count + more, count]), count + more)
    for query in range(count):
        for head in range(2):
            one = {
                int(b) for b, real in zip(alone.block[0, head, query], alone.valid[0, head, query], strict=True) if real
            }
            other = {
                int(b)
                for b, real in zip(beside.block[1, head, query], beside.valid[1, head, query], strict=True)
                if real
            }
            assert one == other


def test_random_blocks_are_spread_evenly() -> None:
    """Over 300 modules every block is drawn by every head about as often as any other: within 5 standard deviations."""
    params, count, modules = BigBirdParams(block_size=1), 20, 300
    times_HQJ = torch.zeros(2, count, count)
    for seed in range(modules):
        for head, blocks in enumerate(random_blocks(made(params, seed), count)):
            for query, drawn in enumerate(blocks):
                times_HQJ[head, query, list(drawn)] += 1
    for query in range(1, count - 1):
        left = sorted(set(range(count)) - common_blocks(params, query, count))
        share = 3 / len(left)
        allowed = 5 * (modules * share * (1 - share)) ** 0.5
        assert float((times_HQJ[:, query, left] - modules * share).abs().max()) < allowed


def test_heads_and_modules_draw_different_blocks() -> None:
    """Random blocks differ from head to head and from seed to seed, and go with a state dict."""
    params = BigBirdParams(block_size=1)
    one, other = made(params, 1), made(params, 2)
    first, second = random_blocks(one, 30)
    assert first != second
    assert random_blocks(other, 30) != [first, second]
    other.load_state_dict(one.state_dict())
    assert random_blocks(other, 30) == [first, second]


@given(any_params, st.integers(0, 2**31))
@settings(max_examples=20)
def test_slices_change_no_result(params: BigBirdParams, seed: int) -> None:
    """Gathered in slices of one block or all at once, outputs and gradients are the same."""
    assume(not params.is_dense(31))
    module, found = made(params, seed), []
    for slice_bytes in (1, 2**40):
        with pytest.MonkeyPatch.context() as patched:
            patched.setitem(bigbird.SLICE_BYTES, "cpu", slice_bytes)
            x_BNM = rows(31).requires_grad_()
            y_BNM = module(x_BNM)
            found.append((y_BNM, *torch.autograd.grad(y_BNM.square().sum(), (x_BNM, *module.parameters()))))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("params", PATTERNS, ids=str)
@pytest.mark.parametrize("short", [26, 25, 20, 3, 1])
def test_gradients_of_weights_are_those_of_the_reference(params: BigBirdParams, short: int) -> None:
    """Autograd through the loops over tokens gives every weight the gradient that the blocks give it, wherever the
    padding begins.
    """
    module, x_BNM = made(params), rows(27)
    mask_BN = torch.arange(27) >= torch.tensor([[27], [short]])
    scale_XM = torch.randn(27 + short, 8, dtype=torch.float64)
    found, wanted = (
        torch.autograd.grad((y_BNM[~mask_BN] * scale_XM).sum(), list(module.parameters()))
        for y_BNM in (module(x_BNM, mask_BN), reference(module, x_BNM, mask_BN))
    )
    for (name, _), one, other in zip(module.named_parameters(), found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")


def test_the_reference_refuses_blocks_that_must_not_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that draws a neighbour, or too few, is named by its reference."""
    module, x_BNM = made(BigBirdParams(block_size=1)), rows(20)
    drawn = module.choose(torch.tensor([20]), 20)
    monkeypatch.setattr(module, "choose", lambda *_: drawn._replace(block=drawn.block.clamp(max=0)))
    with pytest.raises(ValueError, match="head 0, block 1: drew"):
        reference(module, x_BNM)


def test_work_grows_with_the_length() -> None:
    """Twice the tokens are twice the FLOPs of attention, but for the ends that see everything."""
    short, long = (SPEC.work(BigBirdParams(), Problem(1, n, 256, 4, 4)) for n in (8192, 16384))
    assert long.attention_flops / short.attention_flops == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"block_size": 0}, "block_size: expected a whole number of at least 1, got 0"),
        ({"random_blocks": -1}, "random_blocks: expected a whole number of at least 0, got -1"),
        ({"global_blocks": -1}, "global_blocks: expected a whole number of at least 0, got -1"),
        ({"window_blocks": 0}, "window_blocks: expected a whole number of at least 1, got 0"),
        ({"window_blocks": 2}, "window_blocks: expected an odd number, got 2"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(arguments: dict[str, Any], sentence: str) -> None:
    """Every refusal names the parameter and what it takes."""
    with pytest.raises(ValueError, match=sentence):
        BigBirdParams(**arguments)
