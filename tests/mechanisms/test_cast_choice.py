from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from castbench.mechanisms.cast import choice, too_few_places
from castbench.mechanisms.cast import reference as equations
from castbench.mechanisms.cast.choice import (
    Members,
    assign_greedily,
    best_of_each_cluster,
    choice_keys,
    each_token_once,
    each_token_once_balanced,
)
from tests.mechanisms.cases import Case, cases


@st.composite
def affinities(draw: st.DrawFn) -> Tensor:
    """A_g of one row, NC, on a coarse grid, so that ties are the rule."""
    tokens, clusters = draw(st.integers(1, 14)), draw(st.integers(1, 5))
    levels = draw(st.sampled_from([1, 2, 4, 1000]))
    torch.manual_seed(draw(st.integers(0, 2**31)))
    return torch.randint(levels, (tokens, clusters)).double() / levels


@dataclass(frozen=True)
class Batch:
    """A_g of rows of different lengths, BNC, its padding, and the places of each row's clusters."""

    gated_BNC: Tensor
    mask_BN: Tensor
    sizes_B: Tensor

    @property
    def places(self) -> int:
        """K of the largest row."""
        return int(self.sizes_B.max())

    def keys(self) -> Tensor:
        """What the choosers get."""
        return choice_keys(self.gated_BNC, self.mask_BN)

    def rows(self) -> Iterator[tuple[Tensor, list[int], int]]:
        """A_g of each row's real tokens, where these stand, and the row's K."""
        for gated_NC, mask_N, size in zip(self.gated_BNC, self.mask_BN, self.sizes_B.tolist(), strict=True):
            real = (~mask_N).nonzero().flatten().tolist()
            yield gated_NC[real].double(), real, size


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Rows with padding anywhere, some of padding alone, on a coarse grid or none."""
    batch, tokens, clusters = draw(st.integers(1, 3)), draw(st.integers(1, 20)), draw(st.integers(1, 6))
    levels = draw(st.sampled_from([1, 2, 4, 1000]))
    torch.manual_seed(draw(st.integers(0, 2**31)))
    gated_BNC = (torch.randint(levels, (batch, tokens, clusters)).double() / levels).to(
        draw(st.sampled_from([torch.float32, torch.float64]))
    )
    mask_BN = torch.rand(batch, tokens) < draw(st.sampled_from([0.0, 0.4, 1.0]))
    mask_BN[0] = False
    real_B = (~mask_BN).sum(1)
    return Batch(gated_BNC, mask_BN, (-(-real_B // clusters) + draw(st.integers(0, 2))).minimum(real_B))


def as_lists(members: Members, row: int = 0) -> list[list[int]]:
    """The members of one row, ascending in every cluster."""
    taken = torch.ones_like(members.index, dtype=torch.bool) if members.taken is None else members.taken
    return [sorted(index_K[taken_K].tolist()) for index_K, taken_K in zip(members.index[row], taken[row], strict=True)]


@given(affinities(), st.sampled_from([torch.float32, torch.float64]), st.integers(1, 14), st.booleans())
def test_top_k_breaks_ties_to_the_lower_token(gated_NC: Tensor, dtype: torch.dtype, size: int, by_blocks: bool) -> None:
    """Every cluster takes its K best tokens, among equals the earlier ones, as sorting by hand would; blocks or not."""
    size = min(size, len(gated_NC))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "_BLOCKWISE_FROM", 0 if by_blocks else 10**9)
        members = best_of_each_cluster(choice_keys(gated_NC.to(dtype).unsqueeze(0), None), size, None)
    assert as_lists(members) == [sorted(held) for held in equations.top_k(gated_NC, size)]


@given(batches(), st.integers(1, 20), st.booleans())
def test_top_k_of_a_row_is_the_best_of_its_real_tokens(case: Batch, size: int, by_blocks: bool) -> None:
    """Each row's clusters take the row's own K, whatever the other rows' lengths; free places point at real tokens."""
    sizes_B = (~case.mask_BN).sum(1).clamp(max=size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "_BLOCKWISE_FROM", 0 if by_blocks else 10**9)
        members = best_of_each_cluster(case.keys(), int(sizes_B.max()), sizes_B)
    for row, (gated_NC, real, _) in enumerate(case.rows()):
        wanted = equations.top_k(gated_NC, min(size, len(real)))
        assert as_lists(members, row) == [sorted(real[n] for n in held) for held in wanted]
        assert not real or set(members.index[row].flatten().tolist()) <= set(real)


def test_blocks_lose_no_token_where_the_best_stand_together() -> None:
    """All of a cluster's best in neighbouring tokens, or spread one to a block, or at a length no block divides."""
    torch.manual_seed(0)
    for length in (4096, 4099):
        gated_BNC = torch.rand(1, length, 32)
        gated_BNC[0, 100:228, :16] += 1
        gated_BNC[0, ::32, 16:] += 1
        members = best_of_each_cluster(choice_keys(gated_BNC, None), 128, None)
        assert as_lists(members) == [sorted(held) for held in equations.top_k(gated_BNC[0], 128)]


@given(affinities(), st.sampled_from([torch.float32, torch.float64]), st.integers(0, 3))
@settings(max_examples=150)
def test_single_assignment_is_the_greedy_one(gated_NC: Tensor, dtype: torch.dtype, spare: int) -> None:
    """Deferred acceptance finds what taking all pairs by descending A_g finds, ties included."""
    tokens, clusters = gated_NC.shape
    size = min(tokens, -(-tokens // clusters) + spare)
    members = each_token_once(choice_keys(gated_NC.to(dtype).unsqueeze(0), None), size, None)
    assert as_lists(members) == [sorted(held) for held in equations.single_assignment(gated_NC, size)]


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (1, 2), (2, 2), (3, 2), (2, 3), (4, 2)])
def test_single_assignment_is_the_greedy_one_for_every_small_order(shape: tuple[int, int]) -> None:
    """Every A_g of three values on up to eight pairs, with as few places as hold the tokens and with one more."""
    tokens, clusters = shape
    grid = torch.cartesian_prod(*[torch.arange(3.0)] * (tokens * clusters)).view(-1, tokens, clusters) / 4
    for size in {-(-tokens // clusters), min(tokens, -(-tokens // clusters) + 1)}:
        members = each_token_once(choice_keys(grid, None), size, None)
        for row, gated_NC in enumerate(grid):
            wanted = equations.single_assignment(gated_NC.double(), size)
            assert as_lists(members, row) == [sorted(held) for held in wanted]


@given(batches())
@settings(max_examples=150)
def test_single_assignment_of_a_row_is_the_greedy_one_of_its_real_tokens(case: Batch) -> None:
    """In a batch each row gets what it gets alone without its padding; free places point at real tokens."""
    members = each_token_once(case.keys(), case.places, case.sizes_B)
    for row, (gated_NC, real, size) in enumerate(case.rows()):
        wanted = equations.single_assignment(gated_NC, size) if real else []
        assert as_lists(members, row) == [sorted(real[n] for n in held) for held in wanted] or not real
        assert not real or set(members.index[row].flatten().tolist()) <= set(real)


@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_single_assignment_of_many_tokens_is_the_greedy_one(scale: float) -> None:
    """600 tokens with nearly even and with lopsided affinities, two rows at once."""
    torch.manual_seed(1)
    gated_BNC = (torch.randn(2, 600, 7) + scale * torch.randn(7)).softmax(-1)
    members = each_token_once(choice_keys(gated_BNC, None), 86, None)
    for row, gated_NC in enumerate(gated_BNC):
        wanted = equations.single_assignment(gated_NC.double(), 86)
        assert as_lists(members, row) == [sorted(held) for held in wanted]


def test_a_late_token_displaces_an_equal_later_one() -> None:
    """Token 0, turned away by cluster 0, is as good for cluster 1 as its last member, token 4, and goes before it."""
    gated_NC = torch.tensor([[4, 2, 1], [6, 0, 0], [6, 0, 0], [0, 4, 1], [0, 2, 1], [0, 2, 1]]) / 8
    members = each_token_once(choice_keys(gated_NC.unsqueeze(0), None), 2, None)
    assert as_lists(members) == [[1, 2], [0, 3], [4, 5]]
    assert as_lists(members) == [sorted(held) for held in equations.single_assignment(gated_NC.double(), 2)]


@given(batches())
def test_rounds_are_at_most_one_more_than_clusters(case: Batch) -> None:
    """Deferred acceptance ends within C + 1 rounds."""
    _, rounds = assign_greedily(case.keys(), case.places, case.sizes_B)
    assert rounds <= case.gated_BNC.shape[2] + 1


def test_rounds_grow_with_the_clusters_where_all_tokens_like_the_same() -> None:
    """Tokens that all rank the clusters alike fill them one after the other: C rounds, and the clusters in order."""
    gated_BNC = torch.linspace(1, 0.1, 8).expand(1, 40, 8).contiguous()
    cluster_T, rounds = assign_greedily(choice_keys(gated_BNC, None), 5, None)
    assert rounds == 8
    assert cluster_T.tolist() == [n // 5 for n in range(40)]


@given(batches(), st.integers(1, 4))
@settings(max_examples=150)
def test_balanced_is_what_its_loops_find(case: Batch, rounds: int) -> None:
    """Each row's members are those of the definition in loops, whatever the other rows; free places point at real."""
    members = each_token_once_balanced(case.keys(), case.places, case.sizes_B, rounds)
    for row, (gated_NC, real, size) in enumerate(case.rows()):
        wanted = equations.balanced(gated_NC, size, rounds) if real else []
        assert as_lists(members, row) == [sorted(real[n] for n in held) for held in wanted] or not real
        assert not real or set(members.index[row].flatten().tolist()) <= set(real)


@given(affinities(), st.sampled_from([torch.float32, torch.float64]), st.integers(0, 2), st.integers(1, 4))
def test_balanced_without_padding_is_what_its_loops_find(
    gated_NC: Tensor, dtype: torch.dtype, spare: int, rounds: int
) -> None:
    """The same for full rows, where no sizes are given."""
    tokens, clusters = gated_NC.shape
    size = min(tokens, -(-tokens // clusters) + spare)
    members = each_token_once_balanced(choice_keys(gated_NC.to(dtype).unsqueeze(0), None), size, None, rounds)
    assert as_lists(members) == [sorted(held) for held in equations.balanced(gated_NC, size, rounds)]


@given(batches(), st.integers(1, 4))
def test_balanced_places_every_real_token_once(case: Batch, rounds: int) -> None:
    """Each real token is in exactly one cluster, padding in none, and no cluster holds more than its row's K."""
    members = each_token_once_balanced(case.keys(), case.places, case.sizes_B, rounds)
    for row, (_, real, size) in enumerate(case.rows()):
        held = as_lists(members, row)
        assert not real or sorted(n for cluster in held for n in cluster) == real
        assert not real or max(map(len, held)) <= size


@given(st.integers(1, 60), st.integers(1, 6), st.integers(0, 2**31))
def test_balanced_with_enough_rounds_is_single_assignment(tokens: int, clusters: int, seed: int) -> None:
    """C + 1 rounds settle it, where no two pairs are equal."""
    torch.manual_seed(seed)
    keys = choice_keys(torch.rand(1, tokens, clusters, dtype=torch.float64), None)
    size = -(-tokens // clusters)
    settled = each_token_once_balanced(keys, size, None, clusters + 1)
    assert as_lists(settled) == as_lists(each_token_once(keys, size, None))


def test_balanced_agrees_with_single_assignment_by_default() -> None:
    """Of 1024 random tokens in 32 clusters at least 95 % are where single_assignment puts them."""
    torch.manual_seed(0)
    keys = choice_keys((torch.randn(1, 1024, 32) + 0.3 * torch.randn(32)).softmax(-1), None)
    chosen, exact = (as_lists(chooser(keys, 32, None)) for chooser in (each_token_once_balanced, each_token_once))
    assert sum(len(set(a) & set(b)) for a, b in zip(chosen, exact, strict=True)) >= 0.95 * 1024


def test_balanced_reads_no_value() -> None:
    """It runs on tensors without values, with padding and without: nothing is read from the device."""
    with FakeTensorMode():
        keys = choice_keys(torch.rand(2, 40, 5), torch.zeros(2, 40, dtype=torch.bool))
        for sizes_B in (None, torch.full((2,), 8)):
            assert each_token_once_balanced(keys, 8, sizes_B).index.shape == (2, 5, 8)


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
    assert too_few_places("single_assignment", 10, 3, 3) is not None
    assert too_few_places("single_assignment", 10, 3, 4) is None


def test_only_real_tokens_need_places() -> None:
    """A padded row longer than C·K runs as long as its real tokens have places."""
    case = Case(1, 10, 2, 2, 3, 3, "single_assignment", 1)
    mask_BN = torch.tensor([[False] * 9 + [True]])
    module, x_BNM = case.module(), case.inputs()
    torch.testing.assert_close(module(x_BNM, mask_BN)[:, :9], module(x_BNM[:, :9]))


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ([[0, 1], [1, 2]], "left out or placed twice"),
        ([[0], [1]], "left out or placed twice"),
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
