"""Clustered attention: queries that hash alike share a centroid, and the centroids attend; described without torch."""

from __future__ import annotations

from dataclasses import dataclass

from castbench.mechanisms.accounting import four_projections, projections
from castbench.mechanisms.spec import KernelWork, MechanismSpec, Problem

SLICE_BYTES = {"cpu": 1024**2, "cuda": 256 * 1024**2}
"""Hash codes that are clustered at a time: about a core's L2 on CPUs, few launches on GPUs."""
MOST_BITS = 63
MOST_CLUSTERS = 2**16
"""With so many, distances and numbers of clusters are together exact in float32."""
_FP32_BYTES, _INDEX_BYTES, _LONG_BYTES = 4, 4, 8
_SMALLEST_BLOCK = 8


@dataclass(frozen=True, slots=True)
class ClusteredParams:
    """Parameters of clustered attention.

    clusters    C, groups of queries per head and row, 100 as
                published; a row of fewer tokens has as many as tokens
    bits        bits of the hash in whose distance queries are grouped
    iterations  of Lloyd's algorithm, counted by assignments
    improved    true (the paper's i-clustered): every query attends by
                itself to the keys its centroid likes best; false:
                it gets its centroid's result
    topk        how many keys these are
    """

    clusters: int = 100
    bits: int = MOST_BITS
    iterations: int = 10
    improved: bool = True
    topk: int = 32

    def __post_init__(self) -> None:
        for name in ("clusters", "bits", "iterations", "topk"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name}: expected a whole number of at least 1, got {value}")
        for name, most in (("bits", MOST_BITS), ("clusters", MOST_CLUSTERS)):
            if getattr(self, name) > most:
                raise ValueError(f"{name}: expected at most {most}, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of a full row: clusters, keys that are read anew, and blocks of queries that each have one cluster."""

    clusters: int
    topk: int
    block: int
    blocks: int

    @property
    def slots(self) -> int:
        """Places for queries in blocks; those of a cluster fill its last block in part."""
        return self.block * self.blocks


def sizes(params: ClusteredParams, length: int) -> Sizes:
    """Of a row of so many tokens.

    A block has about as many places as a cluster has queries. Clusters of n₁ + n₂ + … = N queries need
    Σ ⌈nᵢ/block⌉ ≤ (N + C·(block − 1))/block blocks, however they are shared out.
    """
    clusters = min(params.clusters, length)
    block = max(_SMALLEST_BLOCK, 1 << ((length // clusters).bit_length() - 1))
    return Sizes(clusters, min(params.topk, length), block, (length + clusters * (block - 1)) // block)


def work(params: ClusteredParams, problem: Problem) -> KernelWork:
    """Projections; per head and row 2·N·bits·D FLOPs of hashing, 2·N·(bits + 1)·C per iteration, and the attention.

    Attention: 4·C·N·M of centroids to all keys; improved, also 4·k·M per place of the blocks of queries, where k
    keys are gathered once per block. Scores of the centroids cross memory four times, eight times where improved.
    """
    known = sizes(params, problem.seq_len)
    batch, width, heads = problem.batch_size, problem.embed_dim, problem.num_heads
    tokens = batch * problem.seq_len
    slots = batch * known.slots * params.improved
    row_bytes = float(tokens * width * problem.element_bytes)
    score_bytes = float(tokens * known.clusters * heads * _FP32_BYTES)
    code_bytes = float(tokens * heads * (params.bits + 1) * _FP32_BYTES)
    block_rows = batch * known.blocks * known.topk * params.improved
    attention = KernelWork(
        gemm_flops=2.0 * tokens * width * params.bits
        + 2.0 * tokens * heads * (params.bits + 1) * known.clusters * params.iterations,
        attention_flops=4.0 * tokens * known.clusters * width + 4.0 * slots * known.topk * width,
        elementwise_bytes=(8 if params.improved else 4) * score_bytes
        + params.iterations * (2 * code_bytes + 2 * score_bytes)
        + 8 * row_bytes,
        gather_bytes=3 * row_bytes + (4 * block_rows + 4 * slots) * width * float(problem.element_bytes),
        launches=6 * params.iterations + (50 if params.improved else 25),
        activation_bytes=row_bytes + _activation_bytes(params, problem, known),
    )
    return projections(problem) + attention


def _activation_bytes(params: ClusteredParams, problem: Problem, known: Sizes) -> float:
    """Memory beyond the rows. Training: centroids, and improved both versions of their shares, blocks and indices."""
    pairs, length = problem.batch_size * problem.num_heads, problem.seq_len
    head_bytes = problem.head_dim * problem.element_bytes
    shares = known.clusters * length * _FP32_BYTES
    blocks = known.blocks * known.topk * (2 * head_bytes + _INDEX_BYTES)
    slots = known.slots * (2 * head_bytes + _INDEX_BYTES + _FP32_BYTES)
    if not problem.training:
        return float(pairs * (3 * shares + blocks + slots if params.improved else shares))
    kept = known.clusters * (2 * head_bytes + 2 * _FP32_BYTES) + length * _INDEX_BYTES
    if params.improved:
        kept += 2 * shares + blocks + slots + known.clusters * known.topk * _LONG_BYTES
        kept += length * (head_bytes + _FP32_BYTES + _INDEX_BYTES) - known.clusters * head_bytes
    return float(pairs * kept)


SPEC = MechanismSpec(
    name="clustered",
    title="Clustered attention (fast Transformers)",
    summary="queries in hash clusters; a centroid attends for its members",
    params=ClusteredParams,
    build="castbench.mechanisms.clustered.module:build",
    reference="castbench.mechanisms.clustered.reference:reference",
    work=work,
    complexity="O(N·C·(D + bits·iterations))",
    paper="Vyas et al., arXiv:2007.04825",
    year=2020,
    family="clustering",
    weights=four_projections,
)
