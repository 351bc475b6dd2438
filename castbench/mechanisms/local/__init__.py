"""Local attention: every token attends to a window around itself, and to a few global tokens; without torch."""

from __future__ import annotations

from dataclasses import dataclass, replace

from castbench.mechanisms.accounting import projection_parameters, projections
from castbench.mechanisms.spec import KernelWork, MechanismSpec, Problem

SLICE_BYTES = {"cpu": 3 * 512 * 1024, "cuda": 256 * 1024**2}
"""Keys and values joined with global ones at a time: about a core's L2 on CPUs, few launches on GPUs."""
_BLOCK, _LARGEST_BLOCK = 64, 256
"""Queries computed together. The more, the more of their keys lie outside a single query's window; but where there are
global tokens, every block has a copy of its keys, so that a block is as large as the window.
"""
_FP32_BYTES = 4


@dataclass(frozen=True, slots=True)
class LocalParams:
    """Parameters of local attention.

    window              tokens seen on each side; Longformer's published
                        models take 256, half of their attention_window
    global_tokens       the first tokens of a row, which see all others
                        and are seen by all
    global_projections  true: global queries, and the keys and values they
                        see, have projections of their own (Longformer)
    block_size          queries computed together, which changes no
                        result; null chooses it by the window
    """

    window: int = 256
    global_tokens: int = 0
    global_projections: bool = False
    block_size: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("window", 1), ("global_tokens", 0), ("block_size", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}: expected a whole number of at least {least}, got {value}")
        if self.global_projections and not self.global_tokens:
            raise ValueError("global_projections: true needs global_tokens of at least 1, got 0")

    @property
    def queries(self) -> int:
        """Queries of a block."""
        if self.block_size is not None:
            return self.block_size
        return min(_LARGEST_BLOCK, max(_BLOCK, self.window)) if self.global_tokens else _BLOCK


@dataclass(frozen=True, slots=True)
class Block:
    """Queries `start` to `stop` and the keys `first` to `last` that hold their windows, global ones left out; both ends
    exclude the last. The next `count` − 1 blocks are the same, each as many tokens on as a block has queries.
    """

    start: int
    stop: int
    first: int
    last: int
    count: int = 1

    @property
    def queries(self) -> int:
        """Queries of one block."""
        return self.stop - self.start

    @property
    def keys(self) -> int:
        """Keys of one block."""
        return self.last - self.first


def blocks(params: LocalParams, seq_len: int, at_once: int | None = None) -> tuple[Block, ...]:
    """The tokens after the global ones in blocks, the last of which is what remains; blocks of the same shape together,
    at most `at_once` of them.
    """
    found: list[Block] = []
    for start in range(params.global_tokens, seq_len, params.queries):
        stop = min(start + params.queries, seq_len)
        first, last = max(params.global_tokens, start - params.window), min(seq_len, stop + params.window)
        if found and found[-1].count != at_once and _continues(found[-1], start, stop, first, last):
            found[-1] = replace(found[-1], count=found[-1].count + 1)
        else:
            found.append(Block(start, stop, first, last))
    return tuple(found)


def _continues(block: Block, *ends: int) -> bool:
    """Whether the block with these ends is the next one of the same shape."""
    shift = block.count * block.queries
    return ends == tuple(end + shift for end in (block.start, block.stop, block.first, block.last))


def work(params: LocalParams, problem: Problem) -> KernelWork:
    """Projections, and 4·M FLOPs for every query and key of a block: b + 2·w keys for each of b queries, with global
    ones.

    Global queries see all N keys. Bytes: q, k, v and the result once, keys again for every block that sees them.
    Training keeps the blocks' results and these put together, a float32 per query and head, and the keys and values
    of every block that were joined with global ones.
    """
    batch, width, size = problem.batch_size, problem.embed_dim, problem.element_bytes
    row_bytes = float(batch * problem.seq_len * width * size)
    plan, seen = blocks(params, problem.seq_len), min(params.global_tokens, problem.seq_len)
    keys = sum(block.count * (seen + block.keys) for block in plan)
    pairs = sum(block.count * block.queries * (seen + block.keys) for block in plan)
    joined = sum(b.count * (seen + b.keys) for b in plan if seen and (b.first > seen or b.count > 1))
    joined_bytes = 2.0 * batch * joined * width * size
    log_bytes = float(_FP32_BYTES * batch * problem.seq_len * problem.num_heads)
    attention = KernelWork(
        attention_flops=4.0 * batch * width * pairs,
        elementwise_bytes=2 * row_bytes + 2.0 * batch * width * size * keys,
        gather_bytes=2 * joined_bytes,
        launches=float(len(plan) + 1),
        activation_bytes=2 * row_bytes + (log_bytes + joined_bytes if problem.training else 0.0),
    )
    return projections(problem) + attention + _seeing_all(params, problem, seen)


def _seeing_all(params: LocalParams, problem: Problem, tokens: int) -> KernelWork:
    """Global queries over all keys; with projections of their own these are applied to queries and results instead of
    to every key and value (module.py), which is less to compute while g·H is below M.
    """
    batch, width = problem.batch_size, problem.embed_dim
    if not params.global_projections:
        return KernelWork(attention_flops=4.0 * batch * tokens * problem.seq_len * width, launches=1)
    wide = problem.num_heads * width
    kept = (3 * width + 3 * wide) * tokens * batch * problem.element_bytes
    return KernelWork(
        gemm_flops=6.0 * batch * tokens * width**2,
        attention_flops=4.0 * batch * tokens * problem.seq_len * wide,
        elementwise_bytes=3.0 * width**2 * problem.element_bytes,
        launches=4,
        activation_bytes=float(kept * problem.training),
    )


def weights(params: LocalParams, embed_dim: int, num_heads: int) -> int:
    """The four projections, and three more for global tokens where they have their own."""
    own = 3 * (embed_dim * embed_dim + embed_dim) if params.global_projections else 0
    return projection_parameters(embed_dim) + own


SPEC = MechanismSpec(
    name="local",
    title="Local attention: a sliding window, and global tokens (Longformer)",
    summary="softmax attention within a sliding window, and to global tokens",
    params=LocalParams,
    build="castbench.mechanisms.local.module:build",
    reference="castbench.mechanisms.local.reference:reference",
    work=work,
    complexity="O(N·(w + g))",
    paper="Beltagy et al., arXiv:2004.05150",
    year=2020,
    family="sparsification",
    remark="a layer sees no further than its window; distant tokens meet through depth or global tokens",
    right_padding=True,
    parity_tokens=320,
    weights=weights,
)
