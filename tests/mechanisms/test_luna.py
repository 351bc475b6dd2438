from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from castbench.mechanisms.luna import LunaParams, folds
from castbench.mechanisms.luna.module import LunaAttention
from tests.mechanisms.cases import roused

CLOSE = {"rtol": 1e-9, "atol": 1e-10}
WIDTH, HEADS, TOKENS = 12, 3, 21


def made(length: int, *, tied: bool = False) -> LunaAttention:
    """A module in float64 with weights that matter."""
    torch.manual_seed(0)
    module: LunaAttention = roused(LunaAttention(WIDTH, HEADS, length=length, tied=tied))
    return module.double()


def texts(tokens: int = TOKENS) -> Tensor:
    """Two rows of tokens in float64."""
    return torch.randn(2, tokens, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def multihead(query: nn.Linear, keys: Tensor, values: Tensor, biases: tuple[Tensor, Tensor]) -> nn.MultiheadAttention:
    """PyTorch's attention with these projections and none behind."""
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([query.weight[:WIDTH], keys, values]))
        theirs.in_proj_bias.copy_(torch.cat([query.bias[:WIDTH], *biases]))
        theirs.out_proj.weight.copy_(torch.eye(WIDTH))
        theirs.out_proj.bias.zero_()
    return theirs


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("length", [1, 4, 30])
@pytest.mark.parametrize("masked", [False, True])
def test_it_is_two_of_pytorchs_attentions_nested(tied: bool, length: int, masked: bool) -> None:
    """Y_P = Attn(P, X) and y = out_proj(Attn(X, Y_P)), each by nn.MultiheadAttention with the module's weights."""
    module, x_BNM = made(length, tied=tied), texts()
    mask_BN = torch.arange(TOKENS) >= torch.tensor([[TOKENS], [9]]) if masked else torch.zeros(2, TOKENS).bool()
    keys, values = slice(WIDTH, 2 * WIDTH), slice(-WIDTH, None)
    inner, outer = module.in_proj, module.unpack_proj
    pack = multihead(
        module.pack_query, inner.weight[keys], inner.weight[values], (inner.bias[keys], inner.bias[values])
    )
    unpack = multihead(
        inner, outer.weight[:WIDTH], outer.weight[values], (outer.bias[:WIDTH], outer.bias[values])
    )  # fmt: skip
    context_BPM = module.context.expand(2, -1, -1)
    packed_BPM, _ = pack(context_BPM, x_BNM, x_BNM, key_padding_mask=mask_BN, need_weights=False)
    wanted_BNM = module.out_proj(unpack(x_BNM, packed_BPM, packed_BPM, need_weights=False)[0])
    found_BNM = module(x_BNM, mask_BN if masked else None)
    torch.testing.assert_close(found_BNM[~mask_BN], wanted_BNM[~mask_BN], **CLOSE)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("length", [1, 4, 30])
def test_folding_changes_no_result(tied: bool, length: int) -> None:
    """Both ways give the same outputs and gradients, whichever costs less."""
    module, read_BN = made(length, tied=tied), torch.arange(TOKENS) < torch.tensor([[TOKENS], [9]])
    gradients = []
    for way in (module._folded, module._plain):
        x_BNM = texts().requires_grad_()
        module.zero_grad()
        y_BNM = way(x_BNM, read_BN)
        (y_BNM * torch.linspace(-1, 1, WIDTH, dtype=torch.float64)).sum().backward()
        gradients.append([y_BNM, x_BNM.grad, *(parameter.grad for parameter in module.parameters())])
    for folded, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(folded, plain, **CLOSE)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("length", "tokens", "heads"), [(2, 64, 4), (16, 64, 4), (5, 16, 2), (40, 64, 1), (7, 8, 4)])
def test_the_way_taken_is_the_one_of_fewer_flops(tied: bool, length: int, tokens: int, heads: int) -> None:
    """`folds` says what torch's counter says of the two ways, for one row with the vectors' own queries left out."""
    module, x_BNM = LunaAttention(32, heads, length=length, tied=tied), torch.randn(1, tokens, 32)
    counts = []
    for way in (module._folded, module._plain):
        with (
            FlopCounterMode(display=False) as counter,
            torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
            torch.inference_mode(),
        ):
            way(x_BNM, None)
        counts.append(counter.get_total_flops())
    once = 2 * length * 32 * 32
    assert folds(LunaParams(length, tied), tokens, 32, heads) == (counts[0] - once < counts[1])
    module(x_BNM)
    assert module.ran_as == ("folded" if counts[0] - once < counts[1] else "torch")


def test_tied_keys_are_values() -> None:
    """tied: true is the untied module with equal projections for keys and for values, in fewer weights."""
    tied, untied = made(4, tied=True), made(4)
    state = dict(tied.state_dict())
    for name in ("in_proj.weight", "in_proj.bias", "unpack_proj.weight", "unpack_proj.bias"):
        state[name] = torch.cat([state[name], state[name][-WIDTH:]])
    untied.load_state_dict(state)
    torch.testing.assert_close(untied(texts()), tied(texts()), **CLOSE)


def test_order_of_tokens_does_not_matter() -> None:
    """Tokens in another order get the same outputs: nothing in it is tied to positions."""
    module, x_BNM = made(4), texts()
    torch.testing.assert_close(module(x_BNM.flip(1)).flip(1), module(x_BNM), **CLOSE)


def test_tokens_meet_only_in_the_packed_vectors() -> None:
    """With one context vector all tokens of a row get the same output: the values of what it packed."""
    y_BNM = made(1)(texts())
    torch.testing.assert_close(y_BNM, y_BNM[:, :1].expand_as(y_BNM), **CLOSE)


@pytest.mark.parametrize("length", [0, -3])
def test_lengths_that_mean_nothing_are_refused(length: Any) -> None:
    """Fewer than one context vector is refused with a sentence."""
    with pytest.raises(ValueError, match=f"length: expected a whole number of at least 1, got {length}"):
        LunaParams(length)
