from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from castbench.mechanisms.cast import reference as equations
from castbench.mechanisms.cast import too_few_places
from castbench.mechanisms.cast.choice import Members, best_of_each_cluster, choice_keys, each_token_once
from tests.mechanisms.cases import Case, cases


@st.composite
def affinities(draw: st.DrawFn) -> Tensor:
    """A_g of one row, NC, on a coarse grid, so that ties are the rule."""
    tokens, clusters = draw(st.integers(1, 14)), draw(st.integers(1, 5))
    levels = draw(st.sampled_from([1, 2, 4, 1000]))
    torch.manual_seed(draw(st.integers(0, 2**31)))
    return torch.randint(levels, (tokens, clusters)).double() / levels


def as_lists(members: Members, row: int = 0) -> list[list[int]]:
    """The members of one row, ascending in every cluster."""
    taken = torch.ones_like(members.index, dtype=torch.bool) if members.taken is None else members.taken
    return [sorted(index_K[taken_K].tolist()) for index_K, taken_K in zip(members.index[row], taken[row], strict=True)]


@given(affinities(), st.sampled_from([torch.float32, torch.float64]), st.integers(1, 14))
def test_top_k_breaks_ties_to_the_lower_token(gated_NC: Tensor, dtype: torch.dtype, size: int) -> None:
    """Every cluster takes its K best tokens, among equals the earlier ones, as sorting by hand would."""
    size = min(size, len(gated_NC))
    members = best_of_each_cluster(choice_keys(gated_NC.to(dtype).unsqueeze(0), None), size, None)
    assert as_lists(members) == [sorted(held) for held in equations.top_k(gated_NC, size)]


@given(affinities(), st.sampled_from([torch.float32, torch.float64]), st.integers(0, 3))
@settings(max_examples=150)
def test_single_assignment_is_the_greedy_one(gated_NC: Tensor, dtype: torch.dtype, spare: int) -> None:
    """Deferred acceptance finds what taking all pairs by descending A_g finds, ties included."""
    tokens, clusters = gated_NC.shape
    size = min(tokens, -(-tokens // clusters) + spare)
    members = each_token_once(choice_keys(gated_NC.to(dtype).unsqueeze(0), None), size, None)
    assert as_lists(members) == [sorted(held) for held in equations.single_assignment(gated_NC, size)]


@given(cases("single_assignment"))
def test_single_assignment_places_every_real_token_once(case: Case) -> None:
    """Each real token is in exactly one cluster, padding in none, and no cluster holds more than K."""
    mask_BN = case.mask()
    members = case.module().choose(case.inputs(), mask_BN)
    for row, padding_N in enumerate(mask_BN):
        held = as_lists(members, row)
        real = (~padding_N).nonzero().flatten().tolist()
        assert sorted(n for cluster in held for n in cluster) == real
        largest = -(-len(real) // case.clusters) if case.cluster_size is None else case.cluster_size
        assert max(map(len, held)) <= largest


@given(cases("top_k"))
def test_top_k_fills_every_cluster_with_real_tokens(case: Case) -> None:
    """Each cluster holds K distinct real tokens of the row, all of them where the row has fewer."""
    mask_BN = case.mask()
    members = case.module().choose(case.inputs(), mask_BN)
    for row, padding_N in enumerate(mask_BN):
        real = set((~padding_N).nonzero().flatten().tolist())
        size = -(-len(real) // case.clusters) if case.cluster_size is None else case.cluster_size
        for held in as_lists(members, row):
            assert len(held) == len(set(held)) == min(size, len(real))
            assert set(held) <= real


def test_rows_of_different_lengths_get_clusters_of_their_own_size() -> None:
    """Automatic K is ceil(n / C) of each row's real tokens: 8 and 3 tokens in 2 clusters make 4 and 2 places."""
    case = Case(2, 8, 2, 2, 2, None, "top_k", 1)
    mask_BN = torch.tensor([[False] * 8, [False] * 3 + [True] * 5])
    members = case.module().choose(case.inputs(), mask_BN)
    assert [[len(held) for held in as_lists(members, row)] for row in range(2)] == [[4, 4], [2, 2]]


def test_too_few_places_name_the_smallest_size_that_fits() -> None:
    """single_assignment with C·K below the tokens is refused; the size it names is the smallest that runs."""
    case = Case(1, 10, 2, 2, 3, 3, "single_assignment", 1)
    with pytest.raises(ValueError, match="the smallest cluster_size that holds them is 4"):
        case.module()(case.inputs())
    assert case.module(cluster_size=4)(case.inputs()).shape == (1, 10, 4)
    assert too_few_places(10, 3, 3) is not None
    assert too_few_places(10, 3, 4) is None


def test_only_real_tokens_need_places() -> None:
    """A padded row longer than C·K runs as long as its real tokens have places."""
    case = Case(1, 10, 2, 2, 3, 3, "single_assignment", 1)
    mask_BN = torch.tensor([[False] * 9 + [True]])
    module, x_BNM = case.module(), case.inputs()
    torch.testing.assert_close(module(x_BNM, mask_BN)[:, :9], module(x_BNM[:, :9]))


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ([[0, 1], [1, 2]], "left a token out or placed it twice"),
        ([[0], [1]], "left a token out or placed it twice"),
        ([[0, 1, 2], []], "above 2"),
        ([[1, 2], [0]], "cluster 0 suits it better"),
    ],
)
def test_the_check_of_single_assignment_sees_every_fault(members: list[list[int]], complaint: str) -> None:
    """Tokens left out or doubled, clusters too full, and pairs that would both rather join are each named."""
    gated_NC = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]], dtype=torch.float64)
    equations.check_single(gated_NC, 2, [[0, 1], [2]], 1e-12)
    with pytest.raises(ValueError, match=complaint):
        equations.check_single(gated_NC, 2, members, 1e-12)


@pytest.mark.parametrize(
    ("members", "complaint"), [([[0], [1]], "below"), ([[0, 0], [2, 1]], "holds 1 tokens instead of 2")]
)
def test_the_check_of_top_k_sees_every_fault(members: list[list[int]], complaint: str) -> None:
    """A worse token than the K-th best and a cluster that is short of tokens are each named."""
    gated_NC = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]], dtype=torch.float64)
    with pytest.raises(ValueError, match=complaint):
        equations.check_top_k(gated_NC, len(members[0]), members, 1e-12)
