from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from castbench.mechanisms.reformer import ReformerParams
from castbench.mechanisms.reformer.module import ReformerAttention, build
from tests.mechanisms.cases import roused

pytestmark = pytest.mark.extra

WIDTH, HEADS, SIZE = 16, 2, 4


def made(hashes: int, seed: int = 0) -> ReformerAttention:
    """Ours in float64; the published in_proj have no biases."""
    torch.manual_seed(seed)
    params = ReformerParams(bucket_size=SIZE, hashes=hashes)
    module: ReformerAttention = roused(build(params, embed_dim=WIDTH, num_heads=HEADS)).double().eval()
    with torch.no_grad():
        module.in_proj.bias.zero_()
    return module


def padded(length: int, real: int, seed: int) -> tuple[Tensor, Tensor]:
    """x_BNM in float64, and its mask, True = padding."""
    x_BNM = torch.randn(2, length, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return x_BNM, (torch.arange(length) >= real).expand(2, -1)


def numbered(module: ReformerAttention, x_BNM: Tensor, mask_BN: Tensor) -> Tensor:
    """Our buckets, padding in one of its own behind all others, and numbered on from round to round, B H R·N."""
    [bucket_BHRN] = module.choose(x_BNM, mask_BN)
    behind = int(bucket_BHRN.max()) + 1
    bucket_BHRN = bucket_BHRN.masked_fill(mask_BN[:, None, None, :], behind)
    rounds = torch.arange(bucket_BHRN.shape[2]).unsqueeze(-1) * (behind + 1)
    return (bucket_BHRN + rounds).flatten(2)


def lucidrains() -> Any:
    """reformer-pytorch, which warns on import."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("reformer_pytorch.reformer_pytorch")


@pytest.mark.parametrize(("length", "real"), [(16, 16), (32, 32), (32, 29), (24, 21)])
@pytest.mark.parametrize("hashes", [1, 3])
def test_reformer_pytorch_gives_the_same_for_the_same_buckets(length: int, real: int, hashes: int) -> None:
    """LSHSelfAttention agrees to rounding, in several rounds, and with padding that fills up its last chunk."""
    ours, package = made(hashes), lucidrains()
    theirs = package.LSHSelfAttention(
        WIDTH, heads=HEADS, bucket_size=SIZE, n_hashes=hashes, full_attn_thres=0
    ).double().eval()  # fmt: skip
    with torch.no_grad():
        qk_MM, v_MM = ours.in_proj.weight.chunk(2)
        theirs.toqk.weight.copy_(qk_MM)
        theirs.tov.weight.copy_(v_MM)
        theirs.to_out.load_state_dict(ours.out_proj.state_dict())
        x_BNM, mask_BN = padded(length, real, seed=hashes)
        bucket_BHX = numbered(ours, x_BNM, mask_BN)
        theirs.lsh_attn.hash_vectors = lambda *_, **__: bucket_BHX.flatten(0, 1)
        wanted_BNM = theirs(x_BNM, input_mask=~mask_BN)
        found_BNM = ours(x_BNM, mask_BN)
    torch.testing.assert_close(found_BNM[:, :real], wanted_BNM[:, :real], rtol=1e-9, atol=1e-10)


def test_reformer_pytorch_hashes_alike() -> None:
    """Given our number of buckets and the same random numbers, its hash is ours."""
    package, ours = lucidrains(), made(3)
    x_BNM, _ = padded(32, 32, seed=5)
    theirs = package.LSHAttention(bucket_size=SIZE, n_hashes=3).double()
    directions = 32 // SIZE
    torch.manual_seed(7)
    ours.directions[..., :directions] = torch.randn(1, WIDTH // HEADS, 3, directions, dtype=torch.float64)[0]
    torch.manual_seed(7)
    qk_BNM, _ = ours.in_proj(x_BNM).chunk(2, -1)
    qk_GND = qk_BNM.unflatten(-1, (HEADS, -1)).transpose(1, 2).flatten(0, 1)
    wanted = theirs.hash_vectors(2 * directions, qk_GND).view(2, HEADS, 3, 32)
    [found] = ours.choose(x_BNM)
    assert torch.equal(found, wanted - 2 * directions * torch.arange(3).view(1, 1, 3, 1))


@pytest.mark.parametrize(("length", "real"), [(16, 16), (32, 30), (20, 17)])
@pytest.mark.parametrize("hashes", [1, 3])
def test_transformers_gives_the_same_for_the_same_buckets(length: int, real: int, hashes: int) -> None:
    """Hugging Face's LSHSelfAttention agrees to rounding where its queries are divided by √D.

    It multiplies queries with keys of unit length and does not divide the scores by √D, as the paper does.
    """
    pytest.importorskip("transformers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import ReformerConfig
        from transformers.models.reformer.modeling_reformer import LSHSelfAttention
    ours = made(hashes)
    x_BNM, mask_BN = padded(length, real, seed=hashes + 10)
    theirs = LSHSelfAttention(ReformerConfig(
        attention_head_size=WIDTH // HEADS, num_attention_heads=HEADS, hidden_size=WIDTH, lsh_attn_chunk_length=SIZE,
        lsh_num_chunks_before=1, lsh_num_chunks_after=0, num_hashes=hashes, num_buckets=2 * length // SIZE,
        lsh_attention_probs_dropout_prob=0.0, is_decoder=False,
    )).double().eval()  # fmt: skip
    own_norm = theirs._len_norm
    theirs._len_norm = lambda x, epsilon=0.0: own_norm(x, epsilon)  # theirs is 1e-6, of the mean square
    with torch.no_grad():
        qk_MM, v_MM = ours.in_proj.weight.chunk(2)
        theirs.query_key.weight.copy_(qk_MM / (WIDTH // HEADS) ** 0.5)
        theirs.value.weight.copy_(v_MM)
        mixed_BNM = theirs(
            x_BNM, attention_mask=(~mask_BN).long(), buckets=numbered(ours, x_BNM, mask_BN)
        ).hidden_states  # fmt: skip
        found_BNM, wanted_BNM = ours(x_BNM, mask_BN), ours.out_proj(mixed_BNM)
    torch.testing.assert_close(found_BNM[:, :real], wanted_BNM[:, :real], rtol=1e-9, atol=1e-10)
