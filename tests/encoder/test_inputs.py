from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from castbench.encoder.inputs import KINDS, make_pool
from castbench.plan import Group
from castbench.workload.spec import Shape
from tests.encoder.served import BUCKETED, MIX, PADDED, SERVED, served

SERVED_LARGE = served(model=type(SERVED.model)(2, 32, 4, 64, vocab_size=10_000), max_seq_len=4096)


def test_bucketed_batches_have_no_mask_and_padded_ones_do() -> None:
    """bucketed: full rows, no mask. padded: lengths from the mix, one row full, padding on the right."""
    for batch in make_pool(SERVED, MIX, BUCKETED, 1):
        assert batch.key_padding_mask is None
    for batch in make_pool(SERVED, MIX, PADDED, 1):
        assert batch.key_padding_mask is not None
        real = (~batch.key_padding_mask).sum(1)
        assert set(real.tolist()) <= {8, 24}
        assert int(real.max()) == 24
        assert torch.equal(batch.key_padding_mask, torch.arange(24) >= real.unsqueeze(1))


def test_a_pool_has_at_least_eight_different_batches() -> None:
    """By default eight batches rotate, no two the same, none of zeros."""
    for scope in ("encoder", "attention"):
        pool = make_pool(served(scope=scope), MIX, PADDED, 1)
        assert len(pool) == 8
        assert all(bool(batch.inputs.any()) for batch in pool)
        assert not any(torch.equal(one.inputs, other.inputs) for one, other in pairwise(pool))


def test_pools_depend_on_seed_and_group_alone() -> None:
    """The same seed and group give the same pool for every mechanism; another seed or group another one."""
    one, same, other = (make_pool(SERVED, MIX, PADDED, seed, size=1)[0] for seed in (1, 1, 2))
    assert torch.equal(one.inputs, same.inputs)
    assert not torch.equal(one.inputs, other.inputs)
    assert not torch.equal(one.inputs, make_pool(SERVED, MIX, BUCKETED, 1, size=1)[0].inputs)


def test_tokens_are_as_frequent_as_words_are() -> None:
    """Token numbers lie in the vocabulary and follow Zipf: half of the text is made of the first sqrt(V) tokens."""
    pool = make_pool(SERVED_LARGE, MIX, Group(Shape(4, 4096), "bucketed"), 1, size=1)
    tokens = pool[0].inputs
    assert tokens.dtype == torch.int64
    assert int(tokens.min()) >= 0
    assert int(tokens.max()) < 10_000
    assert float((tokens < 100).float().mean()) == pytest.approx(0.5, abs=0.03)


def test_scope_attention_gets_normal_hidden_states() -> None:
    """Hidden states have the model's width and the asked dtype, and are near mean 0 and deviation 1."""
    states = make_pool(served(scope="attention"), MIX, BUCKETED, 1, size=1, dtype=torch.bfloat16)[0].inputs
    assert states.shape == (4, 24, 32)
    assert states.dtype == torch.bfloat16
    assert float(states.float().mean()) == pytest.approx(0, abs=0.1)
    assert float(states.float().std()) == pytest.approx(1, abs=0.1)


def test_clustered_inputs_have_few_kinds_of_tokens() -> None:
    """Clustered by construction: at most KINDS tokens per row, and hidden states near as few centres."""
    group = Group(Shape(2, 512), "bucketed")
    tokens = make_pool(SERVED_LARGE, MIX, group, 1, size=1, clustered=True)[0].inputs
    plain = make_pool(SERVED_LARGE, MIX, group, 1, size=1)[0].inputs
    assert max(len(row.unique()) for row in tokens) <= KINDS < min(len(row.unique()) for row in plain)
    states = make_pool(served(scope="attention"), MIX, group, 1, size=1, clustered=True)[0].inputs
    distance = torch.cdist(states, states)
    neighbours = (distance < 0.5 * distance.mean()).sum(-1)
    assert int(neighbours.min()) >= 512 // KINDS // 2
