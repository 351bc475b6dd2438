"""Linformer: keys and values projected along the sequence to k rows before softmax attention; without torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from castbench.mechanisms.accounting import projection_parameters, projections
from castbench.mechanisms.spec import KernelWork, LengthMix, MechanismSpec, Problem

Share = Literal["headwise", "key_value", "none"]

_LENGTH_STEP = 64
"""Measured lengths are rounded up to at most this, so that a projection made for the longest row holds them all."""


@dataclass(frozen=True, slots=True)
class LinformerParams:
    """Parameters of Linformer.

    rank         k, rows that keys and values are projected to
    max_seq_len  longest row the projection is made for; auto is the
                 workload's longest, rounded up to a multiple of 64
    share        headwise: all heads share one E for keys and one F
                 for values; key_value: E = F as well; none: every
                 head has its own E and F
    """

    rank: int = 256
    max_seq_len: int | Literal["auto"] = "auto"
    share: Share = "headwise"

    def __post_init__(self) -> None:
        if self.share not in get_args(Share):
            raise ValueError(f"share: expected {' or '.join(map(repr, get_args(Share)))}, got {self.share!r}")
        for name in ("rank", "max_seq_len"):
            value = getattr(self, name)
            if isinstance(value, int) and value < 1:
                raise ValueError(f"{name}: expected a whole number of at least 1, got {value}")


def resolve(params: LinformerParams, mix: LengthMix) -> LinformerParams:
    """`max_seq_len: auto` as the longest row of the mix, rounded up as measured lengths are."""
    if params.max_seq_len != "auto":
        return params
    return replace(params, max_seq_len=-(-max(mix.tokens) // _LENGTH_STEP) * _LENGTH_STEP)


def projections_held(share: Share, num_heads: int) -> tuple[int, int]:
    """How many of E and F there are, and how many heads each of them has of its own."""
    return (1 if share == "key_value" else 2), (num_heads if share == "none" else 1)


def sequence_first(share: Share, rank: int, seq_len: int) -> bool:
    """Whether E·x is computed before keys and values are: the same product in the order that costs less."""
    return share != "none" and rank < seq_len


def too_long(max_seq_len: int, seq_len: int) -> str | None:
    """Why a row has no place in the projection; None where it has."""
    if seq_len <= max_seq_len:
        return None
    return (
        f"its projection is made for rows of at most {max_seq_len} tokens, and this one has {seq_len}; "
        f"set max_seq_len to at least {seq_len}"
    )


def work(params: LinformerParams, problem: Problem) -> KernelWork:
    """4·T·k·M FLOPs of attention for T = B·N tokens, and the cheaper order of making its k keys and values per row.

    Sequence first (heads share E, k < N): q and y cost 4·T·M², each of E·x and F·x (one where E = F) 2·T·k·M, and
    keys and values of k rows 4·B·k·M². Else all four projections are made of T rows, and E·K and F·V cost 4·T·k·M.
    Every head with its own E takes keys and values in another layout, a copy of both unless B = 1.
    """
    tokens, width, rank = problem.batch_size * problem.seq_len, problem.embed_dim, params.rank
    held, heads = projections_held(params.share, problem.num_heads)
    row_bytes, short_bytes = (float(n * width * problem.element_bytes) for n in (tokens, problem.batch_size * rank))
    first = sequence_first(params.share, rank, problem.seq_len)
    short_flops = 4.0 * problem.batch_size * rank * width**2 if first else 0.0
    weight_bytes = (held * heads * rank * problem.seq_len + 2 * width**2 * first) * problem.element_bytes
    copies = 2 if params.share == "none" and problem.batch_size > 1 else 0
    kept_bytes = (2 + held * first) * short_bytes + (copies * row_bytes + 4.0 * tokens * problem.num_heads)
    mixing = KernelWork(
        gemm_flops=2.0 * (held if first else 2) * tokens * rank * width + short_flops,
        attention_flops=4.0 * tokens * rank * width,
        elementwise_bytes=(3 if first else 4) * row_bytes + (2 + 2 * held) * short_bytes + weight_bytes,
        gather_bytes=2 * copies * row_bytes,
        launches=8 if first else 3,
        activation_bytes=row_bytes + (kept_bytes if problem.training else 2 * short_bytes),
    )
    return projections(problem, 1 if first else 3) + mixing


def weights(params: LinformerParams, embed_dim: int, num_heads: int) -> int:
    """The four projections, and k × max_seq_len for every E and F; those of `auto` length are not counted."""
    held, heads = projections_held(params.share, num_heads)
    length = 0 if params.max_seq_len == "auto" else params.max_seq_len
    return projection_parameters(embed_dim) + held * heads * params.rank * length


def limits(params: LinformerParams, problem: Problem) -> str | None:
    """A sentence where a row is longer than the projection."""
    return None if params.max_seq_len == "auto" else too_long(params.max_seq_len, problem.seq_len)


SPEC = MechanismSpec(
    name="linformer",
    title="Linformer: self-attention with linear complexity",
    summary="keys and values projected along the sequence to k rows",
    params=LinformerParams,
    build="castbench.mechanisms.linformer.module:build",
    reference="castbench.mechanisms.linformer.reference:reference",
    work=work,
    complexity="O(N·k)",
    paper="Wang et al., arXiv:2006.04768",
    year=2020,
    family="approximation",
    remark="its projection is learned for fixed positions: the longest row must be known when the model is trained",
    right_padding=True,
    limits=limits,
    resolve=resolve,
    parity_tokens=320,
    weights=weights,
)
