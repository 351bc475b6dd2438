from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from castbench.mechanisms.routing import RoutingParams, choice, resolve
from castbench.mechanisms.routing.choice import nearest, nearest_centroid
from castbench.mechanisms.routing.module import RoutingAttention, build
from castbench.mechanisms.spec import LengthMix
from tests.mechanisms.cases import roused

WIDTH, HEADS = 16, 2


def made(heads: int = HEADS, seed: int = 0, **params: Any) -> RoutingAttention:
    """A module in float64 with weights drawn from the seed, as evaluated."""
    torch.manual_seed(seed)
    module: RoutingAttention = roused(build(RoutingParams(**params), embed_dim=WIDTH, num_heads=heads)).double()
    return module.eval()


def tokens(length: int, seed: int = 1, batch: int = 1) -> Tensor:
    """x_BNM in float64."""
    return torch.randn(batch, length, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def dense(module: RoutingAttention, x_BNM: Tensor) -> Tensor:
    """Softmax attention of all tokens with queries and keys of mean 0 and variance 1, by PyTorch's own functions."""
    *sides, v_BHND = module.in_proj(x_BNM).unflatten(-1, (-1, module.num_heads, WIDTH // module.num_heads)).unbind(2)
    q_BHND, k_BHND = (functional.layer_norm(side, side.shape[-1:]) for side in (sides[0], sides[-1]))
    mixed_BHND = functional.scaled_dot_product_attention(*(part.transpose(1, 2) for part in (q_BHND, k_BHND, v_BHND)))
    y_BNM: Tensor = module.out_proj(mixed_BHND.transpose(1, 2).flatten(2))
    return y_BNM


@pytest.mark.parametrize("shared_qk", [False, True])
@pytest.mark.parametrize(("clusters", "window"), [(1, None), (3, 40)])
def test_clusters_that_take_all_tokens_are_softmax_attention(
    clusters: int, window: int | None, shared_qk: bool
) -> None:  # fmt: skip
    """One cluster of all tokens, or several, is softmax attention with layer-normed queries and keys."""
    module = made(num_clusters=clusters, window_size=window, shared_qk=shared_qk)
    x_BNM = tokens(21, batch=2)
    torch.testing.assert_close(module(x_BNM), dense(module, x_BNM))


@pytest.mark.parametrize("shared_qk", [False, True])
def test_a_token_depends_on_the_keys_of_its_clusters_and_on_nothing_else(shared_qk: bool) -> None:
    """The Jacobian is zero but for keys of the clusters that take a token's query, and for the query itself."""
    module, x_BNM = made(num_clusters=4, window_size=5, shared_qk=shared_qk), tokens(20)
    jacobian_NMNM = torch.autograd.functional.jacobian(lambda x_NM: module(x_NM.unsqueeze(0))[0], x_BNM[0])
    chosen = module.choose(x_BNM).index_SBHCK
    reads_NN = torch.zeros(20, 20, dtype=torch.bool)
    for query_K, key_K in zip(chosen[0].flatten(0, 2), chosen[-1].flatten(0, 2), strict=True):
        reads_NN[query_K.unsqueeze(1), key_K] = True
        reads_NN[query_K, query_K] = True
    assert not bool(reads_NN.all())
    assert bool(((jacobian_NMNM.abs().amax((1, 3)) > 0) == reads_NN).all())


def test_a_token_that_no_centroid_takes_gets_nothing() -> None:
    """With one head and as many places as tokens, some are left out, and out_proj sees zeros there."""
    module, x_BNM = made(heads=1, num_clusters=4), tokens(32)
    taken = module.choose(x_BNM).index_SBHCK[0].unique()
    left_out = sorted(set(range(32)) - set(taken.tolist()))
    assert len(left_out) > 4
    torch.testing.assert_close(module(x_BNM)[0, left_out], module.out_proj.bias.expand(len(left_out), -1))


def test_a_row_s_window_follows_from_its_own_tokens() -> None:
    """Without a window_size every centroid takes ceil(n / C) of a row's n real tokens, whatever it is batched with."""
    module, x_BNM = made(num_clusters=4), tokens(30, batch=4)
    mask_BN = torch.arange(30) >= torch.tensor([[30], [17], [4], [1]])
    y_BNM, members = module(x_BNM, mask_BN), module.choose(x_BNM, mask_BN)
    assert members.size_B is not None
    assert members.size_B.tolist() == [8, 5, 1, 1]
    for b, real in enumerate((30, 17, 4, 1)):
        torch.testing.assert_close(y_BNM[b, :real], module(x_BNM[b : b + 1, :real])[0])


def test_centroids_stay_in_evaluation_and_follow_in_training() -> None:
    """A pass in evaluation moves nothing, one in training does, and its own result is of the centroids before."""
    module, x_BNM = made(num_clusters=4), tokens(32)
    before_HCD, y_BNM = module.centroids.clone(), module(x_BNM)
    assert torch.equal(module.centroids, before_HCD)
    torch.testing.assert_close(module.train()(x_BNM), y_BNM)
    assert not torch.equal(module.centroids, before_HCD)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shared_qk", [False, True])
def test_centroids_move_towards_the_mean_of_what_is_nearest_to_them(shared_qk: bool, dtype: torch.dtype) -> None:
    """μ ← decay·μ + (1 − decay)·(sum of its queries and keys, at unit length); padding has no part in it."""
    module = made(num_clusters=6, shared_qk=shared_qk, decay=0.75).to(dtype).train()
    x_BNM, before_HCD = tokens(24, batch=2).to(dtype), module.centroids.clone()
    mask_BN = torch.rand(2, 24, generator=torch.Generator().manual_seed(0)) < 0.3
    *sides, _ = module.in_proj(x_BNM).unflatten(-1, (-1, HEADS, WIDTH // HEADS)).unbind(2)
    module(x_BNM, mask_BN)
    for h in range(HEADS):
        token_TD = torch.cat([functional.layer_norm(s[~mask_BN][:, h], (WIDTH // HEADS,)) for s in sides]).detach()
        home_T = (token_TD @ before_HCD[h].T).argmax(-1)
        for c in range(6):
            own_TD = token_TD[home_T == c]
            wanted_D = before_HCD[h, c]
            if len(own_TD):
                wanted_D = 0.75 * wanted_D + 0.25 * functional.normalize(own_TD.sum(0), dim=-1)
            torch.testing.assert_close(module.centroids[h, c], wanted_D)


@given(data=st.data())
@settings(max_examples=60)
def test_the_nearest_are_those_of_a_stable_sort(data: st.DataObject) -> None:
    """In float32, by blocks or at once, ties and −∞ included, the first of a stable sort."""
    length, levels = data.draw(st.integers(1, 80)), data.draw(st.integers(1, 40))
    places = data.draw(st.integers(1, length))
    drawn = torch.randint(-levels, levels + 1, (2, 1, 3, length), generator=torch.Generator().manual_seed(levels))
    score_BHCN = (drawn / levels).masked_fill(drawn == levels, -torch.inf)
    wanted_BHCK = torch.sort(score_BHCN, dim=-1, descending=True, stable=True).indices[..., :places]
    with pytest.MonkeyPatch.context() as patch:
        for threshold in (0, 2**16):
            patch.setattr(choice, "_BLOCKWISE_FROM", threshold)
            assert torch.equal(nearest(score_BHCN, places), wanted_BHCK)


@pytest.mark.parametrize("clusters", [1, 2, 5, 64, 100])
def test_the_nearest_centroid_is_the_argmax(clusters: int) -> None:
    """In float32 by integers the same as in float64 by argmax, ties going to the lower cluster."""
    drawn = torch.randint(-50, 50, (2, 3, clusters, 40), generator=torch.Generator().manual_seed(clusters)).float()
    wanted_BHN = drawn.double().argmax(2)
    assert torch.equal(nearest_centroid(drawn.double()), wanted_BHN)
    assert torch.equal(nearest_centroid(drawn), wanted_BHN)


def test_equal_tokens_are_taken_in_their_order() -> None:
    """Of tokens of one content, a centroid takes the first ones."""
    module = made(num_clusters=2, window_size=3).float()
    x_BNM = tokens(1).float().expand(1, 12, -1).contiguous()
    assert module.choose(x_BNM).index_SBHCK.tolist() == [[[[[0, 1, 2]] * 2] * HEADS]] * 2


@pytest.mark.parametrize(
    ("given_params", "tokens_", "shares", "wanted"),
    [
        ({}, (4096,), (1.0,), 64),
        ({"shared_qk": True}, (4096,), (1.0,), 88),
        ({}, (16, 4096), (0.5, 0.5), 64),
        ({}, (9,), (1.0,), 3),
        ({"window_size": 50}, (100, 1001), (0.5, 0.5), 21),
        ({"num_clusters": 7}, (4096,), (1.0,), 7),
    ],
)
def test_auto_clusters_cost_least_over_the_lengths(
    given_params: dict[str, Any], tokens_: tuple[int, ...], shares: tuple[float, ...], wanted: int
) -> None:
    """C is √(2·E[N²] / (s·E[N])) in steps of 8, or what the longest row's windows are."""
    assert resolve(RoutingParams(**given_params), LengthMix(tokens_, shares)).num_clusters == wanted


def test_auto_must_be_resolved_before_building() -> None:
    """A module has a number of centroids."""
    with pytest.raises(ValueError, match="num_clusters: auto must be resolved to a number"):
        build(RoutingParams(), embed_dim=8, num_heads=2)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"num_clusters": 0}, "num_clusters: expected a whole number of at least 1, got 0"),
        ({"window_size": -2}, "window_size: expected a whole number of at least 1, got -2"),
        ({"decay": 1.5}, "decay: expected a number from 0 to 1, got 1.5"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(params: dict[str, Any], sentence: str) -> None:
    """The sentence names the parameter and what was given."""
    with pytest.raises(ValueError, match=sentence):
        RoutingParams(**params)
