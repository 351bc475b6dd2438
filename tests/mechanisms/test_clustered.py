from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from castbench.mechanisms.clustered import ClusteredParams, hashing, sizes
from castbench.mechanisms.clustered.hashing import bits_of, grouped
from castbench.mechanisms.clustered.module import ClusteredAttention, Groups, blocks, build
from castbench.mechanisms.clustered.reference import lloyd
from tests.mechanisms.cases import dense, roused

WIDTH, HEADS = 16, 2


def made(heads: int = HEADS, seed: int = 0, **params: Any) -> ClusteredAttention:
    """A module in float64 with weights drawn from the seed."""
    torch.manual_seed(seed)
    module: ClusteredAttention = roused(build(ClusteredParams(**params), embed_dim=WIDTH, num_heads=heads)).double()
    return module.eval()


def tokens(length: int, seed: int = 1, batch: int = 1) -> Tensor:
    """x_BNM in float64."""
    return torch.randn(batch, length, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def in_heads(module: ClusteredAttention, x_BNM: Tensor) -> list[Tensor]:
    """q, k and v, each BHND."""
    return [part.unflatten(-1, (module.num_heads, -1)).transpose(1, 2) for part in module.in_proj(x_BNM).chunk(3, -1)]


def written_anew(module: ClusteredAttention, x_BNM: Tensor) -> Tensor:
    """The attention with its whole N×N matrix, from the module's clusters."""
    q_BHND, k_BHND, v_BHND = in_heads(module, x_BNM)
    cluster_BHN = module.choose(x_BNM).cluster_BHN
    same_BHNN = (cluster_BHN.unsqueeze(-1) == cluster_BHN.unsqueeze(-2)).to(q_BHND.dtype)
    mean_BHND = same_BHNN @ q_BHND / same_BHNN.sum(-1, keepdim=True)
    scale = 1 / math.sqrt(q_BHND.shape[-1])
    share_BHNN = (mean_BHND @ k_BHND.transpose(-1, -2) * scale).softmax(-1)
    if module.params.improved:
        bar_BHN1 = share_BHNN.topk(min(module.params.topk, x_BNM.shape[1]), dim=-1).values[..., -1:]
        top_BHNN = share_BHNN >= bar_BHN1
        own_BHNN = (q_BHND @ k_BHND.transpose(-1, -2) * scale).masked_fill(~top_BHNN, -torch.inf).softmax(-1)
        mass_BHN1 = (share_BHNN * top_BHNN).sum(-1, keepdim=True)
        share_BHNN = torch.where(top_BHNN, own_BHNN * mass_BHN1, share_BHNN)
    y_BNM: Tensor = module.out_proj((share_BHNN @ v_BHND).transpose(1, 2).flatten(2))
    return y_BNM


@pytest.mark.parametrize("length", [5, 40, 67])
@pytest.mark.parametrize("improved", [False, True])
def test_it_is_what_the_whole_matrix_of_its_clusters_gives(improved: bool, length: int) -> None:
    """Centroids' shares, and for the k best keys the query's own ones in their place, as the paper's equations say."""
    module, x_BNM = made(clusters=6, topk=7, improved=improved), tokens(length, batch=2)
    torch.testing.assert_close(module(x_BNM), written_anew(module, x_BNM))
    assert module.ran_as == ("improved" if improved else "clustered")


def test_a_cluster_for_every_query_is_softmax_attention() -> None:
    """Where all hashes differ and everyone is the centroid it began as, nothing is shared."""
    module, x_BNM = made(clusters=20, bits=63, iterations=1, improved=False), tokens(20, batch=2)
    assert len(module.choose(x_BNM).cluster_BHN[0, 0].unique()) == 20
    torch.testing.assert_close(module(x_BNM), dense(module, HEADS, x_BNM))


def test_all_keys_read_anew_are_softmax_attention() -> None:
    """With k = N the centroids' shares add up to one, and queries share it out themselves."""
    module, x_BNM = made(clusters=3, topk=30), tokens(30, batch=2)
    torch.testing.assert_close(module(x_BNM), dense(module, HEADS, x_BNM))


def test_members_of_a_cluster_get_one_result() -> None:
    """Without `improved`, with one head, tokens of one cluster have equal outputs, those of others have not."""
    module, x_BNM = made(heads=1, clusters=5, improved=False), tokens(24)
    cluster_N, y_NM = module.choose(x_BNM).cluster_BHN[0, 0], module(x_BNM)[0]
    same_NN = (y_NM.unsqueeze(0) - y_NM.unsqueeze(1)).abs().amax(-1) < 1e-12
    assert torch.equal(same_NN, cluster_N.unsqueeze(0) == cluster_N.unsqueeze(1))
    assert len(cluster_N.unique()) > 1


@torch.no_grad()
def test_keys_read_anew_bring_it_nearer_to_softmax_attention() -> None:
    """The paper's proposition 2, for the sum of all tokens: i-clustered errs less, and less with more keys."""
    x_BNM, errors = tokens(128, batch=4), []
    for params in ({"improved": False}, {"topk": 8}, {"topk": 64}):
        module = made(clusters=12, **params)
        errors.append(float((module(x_BNM) - dense(module, HEADS, x_BNM)).norm()))
    assert errors[0] > errors[1] > errors[2]


def test_queries_of_two_kinds_are_kept_apart() -> None:
    """Two bundles of queries, mixed up in the row, become two clusters."""
    module = made(clusters=2)
    kind_N = torch.rand(40, generator=torch.Generator().manual_seed(2)) < 0.5
    x_BNM = torch.where(kind_N.unsqueeze(-1), tokens(1, 3), tokens(1, 4)) + 0.05 * tokens(40, 5)
    for cluster_N in module.choose(x_BNM).cluster_BHN[0]:
        assert torch.equal(cluster_N == cluster_N[0], kind_N == kind_N[0])


def test_bits_differ_with_the_angle() -> None:
    """Planes through the origin part two vectors with a probability of their angle over π."""
    generator = torch.Generator().manual_seed(0)
    q_GND, plane_Db = torch.randn(1, 30, 8, generator=generator), torch.randn(8, 20_000, generator=generator)
    sign_Nb = bits_of(q_GND, plane_Db, torch.zeros(20_000))[0].float() * 2 - 1
    apart_NN = (1 - sign_Nb @ sign_Nb.T / 20_000) / 2
    unit_ND = torch.nn.functional.normalize(q_GND[0], dim=-1)
    angle_NN = (unit_ND @ unit_ND.T).clamp(-1, 1).arccos()
    assert float((apart_NN - angle_NN / math.pi).abs().max()) < 0.02


@given(data=st.data())
@settings(max_examples=60)
def test_groups_are_those_of_lloyd_s_algorithm(data: st.DataObject) -> None:
    """By products of ±1, all pairs at once or one by one, with padding anywhere, the same as by counting bits."""
    length, bits = data.draw(st.integers(1, 24)), data.draw(st.integers(1, 9))
    count, iterations, seed = (
        data.draw(st.integers(1, 12)),
        data.draw(st.integers(1, 5)),
        data.draw(st.integers(0, 999)),
    )
    generator = torch.Generator().manual_seed(seed)
    bit_GNb = torch.rand(3, length, bits, generator=generator) < 0.5
    spare_Cb = (torch.rand(count, bits, generator=generator) < 0.5).float() * 2 - 1
    padding_GN = torch.rand(3, length, generator=generator) < 0.3
    padding_GN[0] = False
    with pytest.MonkeyPatch.context() as patch:
        for slice_bytes in (1, 10**6):
            patch.setattr(hashing, "SLICE_BYTES", {"cpu": slice_bytes})
            found_GN = grouped(bit_GNb, padding_GN, min(count, length), iterations, spare_Cb)
            assert torch.equal(grouped(bit_GNb[:1], None, min(count, length), iterations, spare_Cb), found_GN[:1])
            for bit_Nb, padding_N, found_N in zip(bit_GNb, padding_GN, found_GN, strict=True):
                codes = [tuple(map(int, row)) for row in bit_Nb[~padding_N].tolist()]
                spare = [tuple(int(bit > 0) for bit in row) for row in spare_Cb.tolist()]
                wanted = lloyd(codes, min(count, len(codes)), iterations, spare) if codes else []
                assert found_N[~padding_N].tolist() == wanted


@given(data=st.data())
@settings(max_examples=60)
def test_blocks_hold_every_query_among_its_own_kind(data: st.DataObject) -> None:
    """However queries are shared out, each has a slot of its own in a block of its cluster, and the blocks suffice."""
    length, count = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 20))
    known = sizes(ClusteredParams(clusters=count), length)
    kinds = data.draw(st.integers(1, known.clusters))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 999)))
    cluster_GN = torch.randint(0, kinds, (2, length), generator=generator)
    slot_GN, query_GS, cluster_GL = blocks(Groups(cluster_GN, None, known.clusters), known)
    assert query_GS.shape == (2, known.slots)
    for cluster_N, slot_N, query_S, cluster_L in zip(cluster_GN, slot_GN, query_GS, cluster_GL, strict=True):
        assert len(slot_N.unique()) == length
        assert torch.equal(query_S[slot_N], torch.arange(length))
        assert torch.equal(cluster_L[slot_N // known.block], cluster_N)


def test_outputs_at_padding_are_constants() -> None:
    """They mix to zero, and no gradient passes through them."""
    for improved in (False, True):
        module, x_BNM = made(clusters=4, topk=3, improved=improved), tokens(10, batch=2).requires_grad_()
        mask_BN = torch.arange(10) >= torch.tensor([[7], [0]])
        y_BNM = module(x_BNM, mask_BN)
        torch.testing.assert_close(y_BNM[mask_BN], module.out_proj.bias.expand(13, -1))
        y_BNM[mask_BN].sin().sum().backward()
        assert x_BNM.grad is not None
        assert float(x_BNM.grad.abs().max()) == 0


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"clusters": 0}, "clusters: expected a whole number of at least 1, got 0"),
        ({"topk": -3}, "topk: expected a whole number of at least 1, got -3"),
        ({"bits": 64}, "bits: expected at most 63, got 64"),
        ({"clusters": 100_000}, "clusters: expected at most 65536, got 100000"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(params: dict[str, int], sentence: str) -> None:
    """The sentence names the parameter and what was given."""
    with pytest.raises(ValueError, match=sentence):
        ClusteredParams(**params)
