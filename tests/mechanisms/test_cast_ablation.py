from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from castbench.mechanisms.cast import CastAttention, scattered
from castbench.mechanisms.cast.reference import reference
from tests.mechanisms.cases import Case, cases

CLOSE = {"rtol": 1e-9, "atol": 1e-10}

ablations = st.fixed_dictionaries({
    "assignment": st.sampled_from(["learned", "contiguous", "random"]), "summaries": st.booleans(),
    "gates": st.booleans(),
})  # fmt: skip


@given(cases(), ablations)
@settings(max_examples=60)
def test_every_ablation_equals_its_loops(case: Case, changes: dict[str, Any]) -> None:
    """With any part switched off, vectorised and looped CAST agree to rounding, with and without padding."""
    module, x_BNM, mask_BN = case.module(**changes), case.inputs(), case.mask()
    torch.testing.assert_close(module(x_BNM), reference(module, x_BNM), **CLOSE)
    found_BNM, wanted_BNM = module(x_BNM, mask_BN), reference(module, x_BNM, mask_BN)
    torch.testing.assert_close(found_BNM[~mask_BN], wanted_BNM[~mask_BN], **CLOSE)
    with torch.inference_mode():
        torch.testing.assert_close(module(x_BNM, mask_BN)[~mask_BN], wanted_BNM[~mask_BN], **CLOSE)


@given(cases(), ablations)
@settings(max_examples=40)
def test_batching_changes_no_ablation(case: Case, changes: dict[str, Any]) -> None:
    """A row's tokens are put into the same clusters alone and in a padded batch, at random too."""
    module, x_BNM, mask_BN = case.module(**changes), case.inputs(), case.mask()
    y_BNM = module(x_BNM, mask_BN)
    for row, padding_N in enumerate(mask_BN):
        if not bool(padding_N.all()):
            alone_1NM = module(x_BNM[row : row + 1, ~padding_N])
            torch.testing.assert_close(y_BNM[row, ~padding_N], alone_1NM[0], **CLOSE)


def members_of(assignment: str, tokens: int, clusters: int) -> list[list[int]]:
    """Who is in which cluster of one full row."""
    case = Case(1, tokens, 2, 2, clusters, None, "top_k", 3)
    members = case.module(assignment=assignment).choose(case.inputs())
    assert members.taken is not None
    return [index_K[taken_K].tolist() for index_K, taken_K in zip(members.index[0], members.taken[0], strict=True)]


def test_contiguous_clusters_are_neighbouring_tokens() -> None:
    """Eleven tokens in three clusters: the first four, the next four, the last three."""
    assert members_of("contiguous", 11, 3) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]


def test_random_clusters_hold_every_token_once_and_have_no_order() -> None:
    """Every token is in one cluster, and clusters are as mixed as shuffled ones: few of their tokens are neighbours."""
    held = members_of("random", 512, 8)
    assert sorted(n for cluster in held for n in cluster) == list(range(512))
    neighbours = sum(n + 1 in cluster for cluster in map(set, held) for n in cluster)
    assert neighbours < 512 / 8 * 1.5, "by chance a token's neighbour is in the same cluster once in eight times"


@given(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
def test_scattered_places_are_all_different(one: int, other: int) -> None:
    """No two ranks get the same place, and a tensor gets what its numbers get."""
    assert (scattered(one) == scattered(other)) == (one == other)
    assert scattered(torch.tensor([one, other])).tolist() == [scattered(one), scattered(other)]


def test_without_summaries_a_token_in_no_cluster_mixes_nothing() -> None:
    """Two clusters of two leave tokens out; all they get is out_proj's bias, and those in a cluster get more."""
    case = Case(1, 12, 2, 3, 2, 2, "top_k", 5)
    module, x_BNM = case.module(summaries=False), case.inputs()
    held = module.choose(x_BNM).index.flatten().unique()
    left_out = [n for n in range(12) if n not in held.tolist()]
    mixed_NM = (module(x_BNM)[0] - module.out_proj.bias).detach()
    assert float(mixed_NM[left_out].abs().max()) < 1e-12
    assert float(mixed_NM[held].abs().amax(-1).min()) > 1e-6


def test_without_gates_phi_decides_nothing() -> None:
    """With gates off, other weights of the gate change no output; with gates on they do."""
    case = Case(1, 9, 2, 3, 3, 3, "top_k", 7)
    for gates in (True, False):
        module, x_BNM = case.module(gates=gates), case.inputs()
        before = module(x_BNM)
        with torch.no_grad():
            module.gate.weight.mul_(-3.0)
        assert torch.equal(module(x_BNM), before) != gates


@pytest.mark.parametrize("changes", [{"assignment": "random"}, {"summaries": False}, {"gates": False}])
def test_gradients_of_an_ablation_are_those_of_finite_differences(changes: dict[str, Any]) -> None:
    """Gradcheck passes for the input with each part switched off."""
    case = Case(2, 5, 2, 2, 2, 3, "top_k", 7)
    module, mask_BN = case.module(**changes), case.mask()

    def run(x_BNM: torch.Tensor) -> torch.Tensor:
        return module(x_BNM, mask_BN).masked_fill(mask_BN.unsqueeze(-1), 0.0)

    assert torch.autograd.gradcheck(run, (case.inputs().requires_grad_(),), eps=1e-7, atol=1e-5)


def test_an_unknown_assignment_is_refused_with_what_there_is() -> None:
    """A wrong word is a sentence with the right ones."""
    with pytest.raises(ValueError, match="assignment: expected 'learned' or 'contiguous' or 'random', got 'sorted'"):
        CastAttention(8, 2, num_clusters=2, assignment="sorted")  # type: ignore[arg-type]
