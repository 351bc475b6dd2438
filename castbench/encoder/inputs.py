"""Inputs for timed steps: a rotating pool of batches drawn from the workload's lengths, made before anything is timed.

Shape suffixes: B batch, N tokens, M width.
"""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import dataclass

import torch
from torch import Tensor

from castbench.plan import Group, ServedModel
from castbench.workload.lengths import draw_rows
from castbench.workload.spec import LengthDistribution

KINDS = 16
"""Kinds of tokens in inputs that are clustered by construction."""
_NOISE_WITHIN_KIND = 0.1


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch: token numbers BN or hidden states BNM, and the mask BN, True = padding (None: no padding)."""

    inputs: Tensor
    key_padding_mask: Tensor | None


def make_pool(
    served: ServedModel,
    mix: LengthDistribution,
    group: Group,
    seed: int,
    size: int = 8,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    clustered: bool = False,
) -> tuple[Batch, ...]:
    """`size` batches of the group's shape, the same for every mechanism and every device.

    Tokens for scope encoder, normal hidden states in `dtype` for scope attention. With `clustered`, each row is made
    of KINDS kinds of tokens: the other extreme for mechanisms whose work depends on their data.
    """
    digest = hashlib.sha256(f"{seed}|{group.key}|{clustered}".encode()).digest()
    rows_rng = random.Random(digest)
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    pool = []
    for _ in range(size):
        real_tokens = draw_rows(mix, group.shape, group.batching, rows_rng)
        inputs = _inputs(served, (len(real_tokens), group.shape.seq_len), generator, clustered)
        mask_BN = _mask(real_tokens, group.shape.seq_len).to(device) if group.batching == "padded" else None
        pool.append(Batch(inputs.to(device, dtype if inputs.is_floating_point() else None), mask_BN))
    return tuple(pool)


def _inputs(served: ServedModel, shape: tuple[int, int], generator: torch.Generator, clustered: bool) -> Tensor:
    """Token numbers, or hidden states as a layer norm leaves them, of any or of few kinds."""
    kinds_BN = torch.randint(KINDS, shape, generator=generator)
    if served.scope == "encoder":
        return _some_tokens(shape[0], kinds_BN, served, generator) if clustered else _tokens(shape, served, generator)
    width = served.model.embed_dim
    noise_BNM = torch.randn(*shape, width, generator=generator)
    if not clustered:
        return noise_BNM
    centre_BKM = torch.randn(shape[0], KINDS, width, generator=generator)
    return centre_BKM.gather(1, kinds_BN.unsqueeze(-1).expand(-1, -1, width)) + _NOISE_WITHIN_KIND * noise_BNM


def _tokens(shape: tuple[int, int], served: ServedModel, generator: torch.Generator) -> Tensor:
    """Token numbers whose frequencies fall as those of words do: the n-th about in proportion to 1/n (Zipf)."""
    even = torch.rand(shape, generator=generator, dtype=torch.float64)
    drawn = (even * math.log(served.model.vocab_size + 1)).exp().long() - 1
    return drawn.clamp(0, served.model.vocab_size - 1)


def _some_tokens(rows: int, kinds_BN: Tensor, served: ServedModel, generator: torch.Generator) -> Tensor:
    """Rows made of KINDS token numbers each."""
    return torch.randint(served.model.vocab_size, (rows, KINDS), generator=generator).gather(1, kinds_BN)


def _mask(real_tokens: tuple[int, ...], length: int) -> Tensor:
    """Padding behind the real tokens of each row, BN."""
    return torch.arange(length) >= torch.tensor(real_tokens).unsqueeze(1)
