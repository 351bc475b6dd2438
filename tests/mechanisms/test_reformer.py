from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from castbench.mechanisms.reformer import ReformerParams, factors, rounds, sizes
from castbench.mechanisms.reformer.module import ReformerAttention, build
from castbench.mechanisms.reformer.reference import in_chunks, keys_of
from tests.mechanisms.cases import dense, roused

WIDTH, HEADS = 16, 2


def made(seed: int = 0, **params: Any) -> ReformerAttention:
    """A module in float64 with weights drawn from the seed."""
    torch.manual_seed(seed)
    module: ReformerAttention = roused(build(ReformerParams(**params), embed_dim=WIDTH, num_heads=HEADS)).double()
    return module.eval()


def tokens(length: int, seed: int = 1, batch: int = 1) -> Tensor:
    """x_BNM in float64."""
    return torch.randn(batch, length, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def shared_attention(module: ReformerAttention, x_BNM: Tensor) -> Tensor:
    """Softmax attention of all tokens with queries as keys of unit length, no token with itself, written anew."""
    qk_BNM, v_BNM = module.in_proj(x_BNM).chunk(2, -1)
    q_BHND, v_BHND = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (qk_BNM, v_BNM))
    score_BHNN = q_BHND @ torch.nn.functional.normalize(q_BHND, dim=-1).transpose(-1, -2) / q_BHND.shape[-1] ** 0.5
    score_BHNN = score_BHNN - torch.diag(torch.full((x_BNM.shape[1],), torch.inf, dtype=x_BNM.dtype))
    mixed_BNM: Tensor = (score_BHNN.softmax(-1) @ v_BHND).transpose(1, 2).flatten(2)
    y_BNM: Tensor = module.out_proj(mixed_BNM)
    return y_BNM


@pytest.mark.parametrize("length", [2, 7, 16])
def test_a_row_of_one_chunk_is_softmax_attention_with_queries_as_keys(length: int) -> None:
    """Where the row fits a chunk nothing is left out but a token itself, however many rounds were asked for."""
    module, x_BNM = made(bucket_size=16, hashes=3), tokens(length)
    torch.testing.assert_close(module(x_BNM), shared_attention(module, x_BNM))
    assert module.ran_as == "one_chunk"


def test_two_chunks_are_softmax_attention_too() -> None:
    """Both chunks read each other, in a ring, so that nothing is left out."""
    module, x_BNM = made(bucket_size=8, hashes=1), tokens(16)
    torch.testing.assert_close(module(x_BNM), shared_attention(module, x_BNM))
    assert module.ran_as == "chunks"


@pytest.mark.parametrize("length", [7, 16])
def test_separate_queries_and_keys_in_two_chunks_are_softmax_attention(length: int) -> None:
    """Without shared_qk a chunk and the one before are, of two, plain softmax attention, a token with itself too."""
    module, x_BNM = made(bucket_size=8, hashes=1, shared_qk=False), tokens(length)
    torch.testing.assert_close(module(x_BNM), dense(module, HEADS, x_BNM))


def test_a_token_alone_reads_itself() -> None:
    """A row of one token has no other to attend to, alone or in a batch with longer rows."""
    module, x_BNM = made(bucket_size=4, hashes=2), tokens(12, batch=2)
    mask_BN = torch.arange(12) >= torch.tensor([[12], [1]])
    wanted_M = module.out_proj(module.in_proj(x_BNM[1, 0])[WIDTH:])
    torch.testing.assert_close(module(x_BNM[1:, :1])[0, 0], wanted_M)
    torch.testing.assert_close(module(x_BNM, mask_BN)[1, 0], wanted_M)


@pytest.mark.parametrize("shared_qk", [True, False])
def test_a_token_depends_on_what_its_chunks_hold_and_on_nothing_else(shared_qk: bool) -> None:
    """The Jacobian is zero outside the token's own chunk and the one before, in any round and head, and only there."""
    module, x_BNM = made(bucket_size=4, hashes=2, shared_qk=shared_qk), tokens(26)
    jacobian_NMNM = torch.autograd.functional.jacobian(lambda x_NM: module(x_NM.unsqueeze(0))[0], x_BNM[0])
    depends_NN = jacobian_NMNM.abs().amax((1, 3)) > 0
    buckets = module.choose(x_BNM)
    reads_NN = torch.eye(26, dtype=torch.bool)
    for h in range(HEADS):
        queries, keys = (in_chunks(of_side[0, h].tolist(), 4) for of_side in (buckets[0], buckets[-1]))
        for n in range(26):
            for r in range(2):
                reads_NN[n, keys_of(n, r, queries, keys)] = True
    assert not bool(reads_NN.all())
    assert bool((depends_NN == reads_NN).all())


def test_more_rounds_come_nearer_to_softmax_attention() -> None:
    """The paper's figure 4: what one round leaves out, eight find most of."""
    x_BNM, errors = tokens(128, batch=4), []
    for hashes in (1, 2, 8):
        module = made(bucket_size=8, hashes=hashes)
        with torch.no_grad():
            errors.append(float((module(x_BNM) - shared_attention(module, x_BNM)).norm()))
    assert errors[0] > 1.2 * errors[1] > 1.2 * 1.2 * errors[2]


def test_opposite_tokens_are_in_opposite_buckets_and_length_does_not_count() -> None:
    """h(−x) is h(x) moved by the number of directions, and h(2·x) is h(x)."""
    module = made(bucket_size=4, hashes=3)
    with torch.no_grad():
        module.in_proj.bias.zero_()
    x_BNM = tokens(24)
    [bucket], [opposite], [longer] = module.choose(x_BNM), module.choose(-x_BNM), module.choose(2 * x_BNM)
    directions = sizes(module.params, 24).columns
    assert torch.equal(opposite, (bucket + directions) % (2 * directions))
    assert torch.equal(longer, bucket)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_tokens_share_their_buckets(dtype: torch.dtype) -> None:
    """Tokens of equal content are in one bucket in every round, whatever is between them."""
    module, x_BNM = made(bucket_size=4, hashes=4).to(dtype), tokens(40).to(dtype)
    x_BNM[0, [3, 17, 30]] = x_BNM[0, 8].clone()
    [bucket] = module.choose(x_BNM)
    assert bool((bucket[..., [3, 17, 30]] == bucket[..., [8]]).all())


@pytest.mark.parametrize(
    ("chunks", "wanted"), [(2, (2, 0)), (64, (64, 0)), (65, (32, 2)), (2048, (32, 32)), (9999, (32, 32))]
)
def test_buckets_are_twice_the_chunks_in_one_factor_or_two(chunks: int, wanted: tuple[int, int]) -> None:
    """2·n/m buckets as published; beyond twice the directions as a product of two, and at last no more than that."""
    assert factors(chunks, 64) == wanted
    first, second = wanted
    buckets = 2 * first * (2 * second or 1)
    assert buckets >= min(2 * chunks, 64 * 64)


def test_two_factors_tell_more_buckets_apart() -> None:
    """With four directions and 32 chunks, tokens fall into more than 8 buckets and not into more than 4·4."""
    module = made(bucket_size=2, hashes=2, directions=4)
    [bucket] = module.choose(tokens(64))
    assert 8 < len(bucket.unique()) <= 16
    assert int(bucket.max()) < 16


@pytest.mark.parametrize("params", [{}, {"shared_qk": False}], ids=["shared", "separate"])
@pytest.mark.parametrize("masked", [False, True])
def test_slices_change_nothing(params: dict[str, Any], masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs and gradients are the same head by head and all at once."""
    module, x_BNM = made(bucket_size=4, hashes=2, **params), tokens(23, batch=3).requires_grad_()
    mask_BN = torch.arange(23) >= torch.tensor([[23], [9], [0]]) if masked else None
    found = []
    for slice_bytes in (1, 8 * 24 * 8, 10**9):
        monkeypatch.setattr(rounds, "SLICE_BYTES", {"cpu": slice_bytes})
        y_BNM = module(x_BNM, mask_BN)
        gradients = torch.autograd.grad(y_BNM.sin().sum(), [x_BNM, *module.parameters()])
        found.append((y_BNM, *gradients))
    for one, other in zip(found[0], found[2], strict=True):
        torch.testing.assert_close(one, other)
    for one, other in zip(found[0], found[1], strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("bucket_size", [8, 16])
def test_gradients_are_those_of_autograd(bucket_size: int) -> None:
    """The module's own gradient is that of autograd through softmax attention, where both compute the same."""
    module, x_BNM = made(bucket_size=bucket_size, hashes=1), tokens(16).requires_grad_()
    inputs = [x_BNM, *module.parameters()]
    ours = torch.autograd.grad(module(x_BNM).sin().sum(), inputs)
    wanted = torch.autograd.grad(shared_attention(module, x_BNM).sin().sum(), inputs)
    for one, other in zip(ours, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_a_lone_token_passes_its_gradient_to_its_value_alone() -> None:
    """Where a token reads itself, its score is a constant."""
    module, x_BNM = made(bucket_size=4, hashes=2), tokens(12, batch=2).requires_grad_()
    mask_BN = torch.arange(12) >= torch.tensor([[12], [1]])
    module(x_BNM, mask_BN)[1, 0].sum().backward()
    weight = module.in_proj.weight.grad
    assert weight is not None
    assert float(weight[:WIDTH].abs().max()) == 0
    torch.testing.assert_close(weight[WIDTH:], module.out_proj.weight.sum(0).outer(x_BNM[1, 0]).detach())


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"bucket_size": 0}, "bucket_size: expected a whole number of at least 1, got 0"),
        ({"hashes": -1}, "hashes: expected a whole number of at least 1, got -1"),
        ({"directions": 7}, "directions: expected an even number, got 7"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(params: dict[str, int], sentence: str) -> None:
    """The sentence names the parameter and what was given."""
    with pytest.raises(ValueError, match=sentence):
        ReformerParams(**params)


@pytest.mark.parametrize("shared_qk", [True, False])
def test_gradients_with_an_unfilled_chunk_are_those_of_finite_differences(shared_qk: bool) -> None:
    """Gradcheck passes where rows fill their last chunk only in part, and where padding is between the tokens."""
    module, x_BNM = made(bucket_size=4, hashes=2, shared_qk=shared_qk), tokens(10, batch=2).requires_grad_()
    mask_BN = torch.zeros(2, 10, dtype=torch.bool)
    mask_BN[1, [1, 4, 5]] = True
    assert torch.autograd.gradcheck(lambda x_BNM: module(x_BNM, mask_BN)[~mask_BN], (x_BNM,), fast_mode=True)


def test_outputs_at_padding_are_constants() -> None:
    """They mix to zero, and no gradient passes through them."""
    module, x_BNM = made(bucket_size=4, hashes=2), tokens(10, batch=2).requires_grad_()
    mask_BN = torch.arange(10) >= torch.tensor([[7], [0]])
    y_BNM = module(x_BNM, mask_BN)
    torch.testing.assert_close(y_BNM[mask_BN], module.out_proj.bias.expand(13, -1))
    y_BNM[mask_BN].sin().sum().backward()
    assert x_BNM.grad is not None
    assert float(x_BNM.grad.abs().max()) == 0
