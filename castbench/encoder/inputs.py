"""The pool of input batches a group's windows go round: drawn from the seed, prepared before anything is timed.

Shape suffixes: B batch, N tokens, M width.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from castbench.plan import Group, ServedModel
from castbench.workload.lengths import draw_rows
from castbench.workload.spec import LengthDistribution

_FIRST_TOKEN = 1
"""Token 0 is padding, so that inputs are never zeros by accident."""
_CLUSTERED_TOKENS = 8
"""Different tokens in a row that is clustered by construction."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Input of one step: tokens_BN (encoder) or x_BNM (attention), and the mask, True = padding, or None."""

    inputs: Tensor
    key_padding_mask_BN: Tensor | None


def make_pool(
    served: ServedModel, mix: LengthDistribution, group: Group, seed: int, size: int,
    device: torch.device, dtype: torch.dtype, *, clustered: bool = False,
) -> tuple[Batch, ...]:  # fmt: skip
    """`size` batches of the group's shape, the same for equal seeds; a padded one for each draw of row lengths.

    clustered: rows made of few distinct tokens (or vectors), for mechanisms whose work depends on their data.
    """
    rng = random.Random(f"{seed}|{group.key}|rows")
    generator = torch.Generator().manual_seed(rng.getrandbits(63))
    pool = []
    for _ in range(size):
        lengths = draw_rows(mix, group.shape, group.batching, rng)
        mask = None if group.batching == "bucketed" else _mask(lengths, group.shape.seq_len)
        inputs = _inputs(served, group, generator, clustered=clustered)
        if mask is not None and inputs.dim() == 2:
            inputs = inputs.masked_fill(mask, 0)
        moved = inputs.to(device, dtype if inputs.is_floating_point() else None)
        pool.append(Batch(moved, None if mask is None else mask.to(device)))
    return tuple(pool)


def _inputs(served: ServedModel, group: Group, generator: torch.Generator, *, clustered: bool) -> Tensor:
    """Random tokens, or hidden states of unit variance in scope attention."""
    shape, model = group.shape, served.model
    size = (shape.batch_size, shape.seq_len)
    kinds = min(_CLUSTERED_TOKENS, model.vocab_size - _FIRST_TOKEN)
    if served.scope == "attention":
        if not clustered:
            return torch.randn(*size, model.embed_dim, generator=generator)
        centres = torch.randn(kinds, model.embed_dim, generator=generator)
        return centres[torch.randint(kinds, size, generator=generator)]
    high = _FIRST_TOKEN + kinds if clustered else model.vocab_size
    return torch.randint(_FIRST_TOKEN, high, size, generator=generator)


def _mask(lengths: tuple[int, ...], seq_len: int) -> Tensor:
    """Padding mask of rows with these real lengths, BN."""
    return torch.arange(seq_len) >= torch.tensor(lengths).unsqueeze(1)
