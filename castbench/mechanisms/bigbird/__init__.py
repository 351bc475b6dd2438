"""BigBird: attention between blocks of tokens, neighbours, global ones and some at random; described without torch."""

from __future__ import annotations

from dataclasses import dataclass

from castbench.mechanisms.accounting import four_projections, fused_attention, projections
from castbench.mechanisms.spec import KernelWork, MechanismSpec, Problem

SLICE_BYTES = {"cpu": 3 * 1024**2, "cuda": 256 * 1024**2}
"""Gathered keys and values per slice of query blocks: on CPUs small enough to stay in cache and large enough that calls
do not count, on GPUs few launches.
"""
_FP32_BYTES, _INDEX_BYTES = 4, 8


@dataclass(frozen=True, slots=True)
class BigBirdParams:
    """Parameters of BigBird, its internal construction (ITC).

    block_size     tokens per block
    window_blocks  neighbouring blocks a block sees, itself in the middle;
                   odd
    random_blocks  blocks every block sees that are drawn at random,
                   others for every head, when the module is made
    global_blocks  blocks at the ends of a row that see all others and
                   are seen by all; 2 is the first and the last, of an
                   odd number the first end has one more
    """

    block_size: int = 64
    window_blocks: int = 3
    random_blocks: int = 3
    global_blocks: int = 2

    def __post_init__(self) -> None:
        for name, least in (("block_size", 1), ("window_blocks", 1), ("random_blocks", 0), ("global_blocks", 0)):
            value = getattr(self, name)
            if value < least:
                raise ValueError(f"{name}: expected a whole number of at least {least}, got {value}")
        if self.window_blocks % 2 == 0:
            raise ValueError(f"window_blocks: expected an odd number, got {self.window_blocks}")

    @property
    def reach(self) -> int:
        """Neighbours seen on each side."""
        return self.window_blocks // 2

    @property
    def front(self) -> int:
        """Global blocks at the start of a row."""
        return self.global_blocks - self.back

    @property
    def back(self) -> int:
        """Global blocks at the end of a row."""
        return self.global_blocks // 2

    @property
    def seen(self) -> int:
        """Blocks that a block sees."""
        return self.window_blocks + self.random_blocks + self.global_blocks

    def blocks(self, tokens: int) -> int:
        """Blocks of a row, the last of which may be incomplete."""
        return -(-tokens // self.block_size)

    def is_dense(self, tokens: int) -> bool:
        """Whether every block of such a row sees all others: the block beside the first global ones has the fewest
        neighbours that are not global anyway, and those missing are all drawn.
        """
        return self.blocks(tokens) <= self.global_blocks + self.reach + 1 + self.random_blocks


def work(params: BigBirdParams, problem: Problem) -> KernelWork:
    """Projections, and 4·M FLOPs for every query and key: `seen` blocks for each block, all tokens for global ones.

    Rows are filled up to whole blocks before in_proj. Bytes: q, k and v once more where they are put in order, and
    keys and values of the seen blocks read and written. Training keeps q, k and v, not what was gathered.
    """
    batch, width, size = problem.batch_size, problem.embed_dim, problem.element_bytes
    if params.is_dense(problem.seq_len):
        return projections(problem) + fused_attention(problem)
    count = params.blocks(problem.seq_len)
    whole, between = count * params.block_size, count - params.global_blocks
    gathered = batch * between * params.seen * params.block_size
    ends = batch * params.global_blocks * params.block_size
    row_bytes = float(batch * whole * width * size)
    end_bytes = float(ends * (2 * width * size + _FP32_BYTES * problem.num_heads))
    attention = KernelWork(
        gemm_flops=6.0 * batch * (whole - problem.seq_len) * width**2,
        attention_flops=4.0 * width * (gathered * params.block_size + ends * whole),
        elementwise_bytes=8 * row_bytes,
        gather_bytes=4.0 * gathered * width * size,
        launches=16,
        activation_bytes=row_bytes + (end_bytes + _index_bytes(params, problem) if problem.training else 3 * row_bytes),
    )
    return projections(problem) + attention


def _index_bytes(params: BigBirdParams, problem: Problem) -> float:
    """What says which blocks are seen, and which of their tokens are none."""
    blocks = problem.batch_size * problem.num_heads * (params.blocks(problem.seq_len) - params.global_blocks)
    return float(blocks * params.seen * (_INDEX_BYTES + params.block_size * problem.element_bytes))


SPEC = MechanismSpec(
    name="bigbird",
    title="BigBird: window, global and random blocks",
    summary="softmax attention to neighbouring, global and random blocks",
    params=BigBirdParams,
    build="castbench.mechanisms.bigbird.module:build",
    reference="castbench.mechanisms.bigbird.reference:reference",
    work=work,
    complexity="O(N·(w + r + g)·b)",
    paper="Zaheer et al., arXiv:2007.14062",
    year=2020,
    family="sparsification",
    remark="rows of up to 7 blocks (448 tokens by default) get all of softmax attention and save nothing",
    right_padding=True,
    parity_tokens=512,
    weights=four_projections,
)
