"""Reformer: attention among tokens that hash into the same bucket, in several rounds; described without torch."""

from __future__ import annotations

from dataclasses import dataclass

from castbench.mechanisms.accounting import projection_parameters, projections
from castbench.mechanisms.spec import KernelWork, MechanismSpec, Problem

SLICE_BYTES = {"cpu": 256 * 1024, "cuda": 256 * 1024**2}
"""Scores that are in memory at a time: those of one head of one row and few more on CPUs, few launches on GPUs."""
INDEX_BYTES = 4
"""Places of sorted tokens are kept as int32."""
_FP32_BYTES = 4


@dataclass(frozen=True, slots=True)
class ReformerParams:
    """Parameters of LSH attention.

    bucket_size  m, tokens per chunk of a sorted row; a chunk attends
                 to itself and to the chunk before it, and the row is
                 hashed into 2·n/m buckets
    hashes       hash rounds; the paper finds 8 close to softmax
                 attention, and 4 to cost little quality
    shared_qk    true: one projection makes queries and, at unit
                 length, keys, and a token attends to itself only
                 where there is no other (as published)
    directions   random directions per round, even; a row that wants
                 more than twice as many buckets hashes with two
                 halves of them, up to directions² buckets
    """

    bucket_size: int = 64
    hashes: int = 4
    shared_qk: bool = True
    directions: int = 64

    def __post_init__(self) -> None:
        for name in ("bucket_size", "hashes", "directions"):
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name}: expected a whole number of at least 1, got {value}")
        if self.directions % 2:
            raise ValueError(f"directions: expected an even number, got {self.directions}")

    @property
    def inputs(self) -> int:
        """Parts that in_proj makes: qk and v, or q, k and v."""
        return 2 if self.shared_qk else 3


def factors(chunks: int, directions: int) -> tuple[int, int]:
    """How many directions a row of so many chunks hashes with, in each of two factors (0: there is no second).

    c directions and their opposites are 2·c buckets; a and b of them, taken apart, are 2·a · 2·b.
    """
    if chunks <= directions:
        return chunks, 0
    half = directions // 2
    return half, min(half, -(-chunks // directions))


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of a full row: chunks of `size` tokens, rounds, keys per query and directions that are multiplied with.

    A row of one chunk is all in one place: it needs no hash, one round, and no look back.
    """

    size: int
    chunks: int
    rounds: int
    window: int
    columns: int

    @property
    def places(self) -> int:
        """Places of the sorted row, of which the last may be empty."""
        return self.chunks * self.size

    @property
    def key_places(self) -> int:
        """The same with the chunk that the first one looks back to."""
        return self.places + self.window - self.size


def sizes(params: ReformerParams, length: int) -> Sizes:
    """Of a row of so many tokens."""
    if length <= params.bucket_size:
        return Sizes(length, 1, 1, length, 0)
    chunks = -(-length // params.bucket_size)
    columns = min(chunks, params.directions)
    return Sizes(params.bucket_size, chunks, params.hashes, 2 * params.bucket_size, columns)


def work(params: ReformerParams, problem: Problem) -> KernelWork:
    """Projections, and per token R rounds of 4·2m·M FLOPs of attention and 2·M·J of hashing with J directions.

    Gathered: what a round reads (q, k and v; of shared ones q and v) and its result. Scores cross memory five times.
    Training keeps q, k and v, the order of tokens of every round, and one float32 per query and head, from which
    everything else is computed again.
    """
    known = sizes(params, problem.seq_len)
    width, heads = problem.embed_dim, problem.num_heads
    tokens, places = problem.batch_size * problem.seq_len, problem.batch_size * known.places
    row_bytes = float(tokens * width * problem.element_bytes)
    score_bytes = float(places * known.rounds * known.window * heads * _FP32_BYTES)
    sides = params.inputs - 1
    attention = KernelWork(
        gemm_flops=2.0 * tokens * width * known.rounds * known.columns * sides,
        attention_flops=4.0 * places * known.rounds * known.window * width,
        elementwise_bytes=5 * score_bytes + 2 * row_bytes,
        gather_bytes=2 * (params.inputs + 1) * known.rounds * row_bytes,
        launches=20 * known.rounds + 20,
        activation_bytes=row_bytes + _activation_bytes(params, problem, known),
    )
    return projections(problem, params.inputs) + attention


def _activation_bytes(params: ReformerParams, problem: Problem, known: Sizes) -> float:
    """Memory beyond the rows: the order of tokens, log-sum-exps; in inference also a slice of scores and its copy."""
    pairs = problem.batch_size * problem.num_heads
    placed = known.key_places + (0 if params.shared_qk else known.places)
    kept = float(pairs * (known.rounds * placed * INDEX_BYTES + problem.seq_len * _FP32_BYTES))
    if problem.training:
        return kept
    scores = pairs * known.places * known.window * _FP32_BYTES
    return kept + 2.0 * min(scores, SLICE_BYTES["cuda"])


def weights(params: ReformerParams, embed_dim: int, num_heads: int) -> int:
    """The projections: three with shared queries and keys, else four. Random directions are not learned."""
    return projection_parameters(embed_dim, params.inputs)


SPEC = MechanismSpec(
    name="reformer",
    title="Reformer: attention by locality-sensitive hashing",
    summary="attention within chunks of tokens sorted by hash bucket",
    params=ReformerParams,
    build="castbench.mechanisms.reformer.module:build",
    reference="castbench.mechanisms.reformer.reference:reference",
    work=work,
    complexity="O(R·N·(m + log N))",
    paper="Kitaev et al., arXiv:2001.04451",
    year=2020,
    family="sparsification",
    remark="queries serve as keys, so it holds one projection less and cannot take over a trained softmax attention",
    weights=weights,
)
