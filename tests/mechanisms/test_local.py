from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from castbench.mechanisms.local import SPEC, LocalParams, blocks
from castbench.mechanisms.local.module import LocalAttention
from castbench.mechanisms.local.reference import reference, sees
from castbench.mechanisms.spec import Problem
from tests.mechanisms.cases import dense, roused

CLOSE = {"rtol": 1e-9, "atol": 1e-10}
PATTERNS = [
    LocalParams(window=2, block_size=4), LocalParams(window=5, block_size=3), LocalParams(window=1, block_size=1),
    LocalParams(window=2, block_size=4, global_tokens=2),
    LocalParams(window=3, block_size=5, global_tokens=3, global_projections=True),
]  # fmt: skip


def made(params: LocalParams, seed: int = 0) -> LocalAttention:
    """A module 8 wide with 2 heads, in float64, all weights drawn."""
    torch.manual_seed(seed)
    module: LocalAttention = roused(LocalAttention(8, 2, params)).double()
    return module


def rows(tokens: int, batch: int = 2, seed: int = 1) -> Tensor:
    """x_BNM."""
    return torch.randn(batch, tokens, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("params", [LocalParams(window=12), LocalParams(window=1, global_tokens=13)], ids=str)
@pytest.mark.parametrize("padded", [False, True])
def test_a_window_as_long_as_the_row_is_softmax_attention(params: LocalParams, padded: bool) -> None:
    """Where every token sees all others, by its window or because all are global, PyTorch's own attention agrees."""
    module, x_BNM = made(params), rows(13)
    mask_BN = torch.arange(13) >= torch.tensor([[13], [9]]) if padded else torch.zeros(2, 13, dtype=torch.bool)
    wanted_BNM = dense(module, 2, x_BNM, mask_BN if padded else None)
    found_BNM = module(x_BNM, mask_BN if padded else None)
    torch.testing.assert_close(found_BNM[~mask_BN], wanted_BNM[~mask_BN], **CLOSE)


@pytest.mark.parametrize("params", PATTERNS, ids=str)
def test_a_token_depends_on_those_it_sees_and_no_others(params: LocalParams) -> None:
    """The output of token i changes with token j where |i − j| is at most the window or one of them is global, else
    not.
    """
    module = made(params)
    slope_NMNM = torch.autograd.functional.jacobian(lambda x_NM: module(x_NM.unsqueeze(0))[0], rows(17, batch=1)[0])
    for query in range(17):
        for key in range(17):
            moved = bool(slope_NMNM[query, :, key].abs().max() > 0)
            assert moved == sees(query, key, params.window, params.global_tokens), (query, key)


@given(st.integers(1, 9), st.integers(0, 4), st.integers(1, 12), st.integers(1, 30), st.data())
@settings(max_examples=40)
def test_blocks_change_no_result(window: int, seen: int, size: int, tokens: int, data: st.DataObject) -> None:
    """Queries taken together in any number give what one block of all of them gives."""
    own = bool(seen) and data.draw(st.booleans())
    some, all_at_once = (made(LocalParams(window, seen, own, queries)) for queries in (size, 30))
    torch.testing.assert_close(some(rows(tokens)), all_at_once(rows(tokens)), **CLOSE)


@given(
    st.integers(1, 9), st.integers(0, 4), st.none() | st.integers(1, 12), st.integers(1, 300), st.none() | st.just(3)
)
def test_blocks_hold_every_query_once_and_its_whole_window(
    window: int, seen: int, size: int | None, tokens: int, at_once: int | None
) -> None:  # fmt: skip
    """Every token that is not global is in one block, whose keys are those that its queries see, and no others."""
    params = LocalParams(window, seen, block_size=size)
    queries: list[int] = []
    for block in blocks(params, tokens, at_once):
        for shift in range(0, block.count * block.queries, block.queries):
            own = range(block.start + shift, block.stop + shift)
            wanted = [key for key in range(own[0] - window, own[-1] + window + 1) if seen <= key < tokens]
            assert [block.first + shift, block.last + shift] == [wanted[0], wanted[-1] + 1]
            queries += own
    assert queries == list(range(seen, tokens))


def test_own_projections_equal_to_the_common_ones_change_nothing() -> None:
    """With global_proj a copy of in_proj, global tokens get what they get without projections of their own."""
    common, own = (made(LocalParams(2, 3, owned, 4)) for owned in (False, True))
    assert own.global_proj is not None
    own.load_state_dict({**common.state_dict(), "global_proj.weight": common.in_proj.weight,
                         "global_proj.bias": common.in_proj.bias})  # fmt: skip
    torch.testing.assert_close(own(rows(11)), common(rows(11)), **CLOSE)


@pytest.mark.parametrize("params", PATTERNS, ids=str)
def test_gradients_of_weights_are_those_of_the_reference(params: LocalParams) -> None:
    """Autograd through the loops over tokens gives every weight the gradient that the blocks give it, with padding."""
    module, x_BNM = made(params), rows(15)
    mask_BN = torch.arange(15) >= torch.tensor([[15], [10]])
    scale_XM = torch.randn(25, 8, dtype=torch.float64)
    found, wanted = (
        torch.autograd.grad((y_BNM[~mask_BN] * scale_XM).sum(), list(module.parameters()))
        for y_BNM in (module(x_BNM, mask_BN), reference(module, x_BNM, mask_BN))
    )
    for (name, _), one, other in zip(module.named_parameters(), found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")


def test_work_grows_with_the_length_and_not_with_its_square() -> None:
    """Twice the tokens are twice the FLOPs of attention and twice the memory."""
    short, long = (SPEC.work(LocalParams(64), Problem(1, n, 64, 4, 4, training=True)) for n in (4096, 8192))
    assert long.attention_flops / short.attention_flops == pytest.approx(2, rel=0.02)
    assert long.activation_bytes == pytest.approx(2 * short.activation_bytes)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"window": 0}, "window: expected a whole number of at least 1, got 0"),
        ({"global_tokens": -1}, "global_tokens: expected a whole number of at least 0, got -1"),
        ({"block_size": 0}, "block_size: expected a whole number of at least 1, got 0"),
        ({"global_projections": True}, "global_projections: true needs global_tokens of at least 1, got 0"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(arguments: dict[str, Any], sentence: str) -> None:
    """Every refusal names the parameter and what it takes."""
    with pytest.raises(ValueError, match=sentence):
        LocalParams(**arguments)
