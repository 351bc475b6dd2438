"""Routing Transformer: attention within clusters that k-means centroids gather; described without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from castbench.mechanisms.accounting import projection_parameters, projections
from castbench.mechanisms.spec import KernelWork, LengthMix, MechanismSpec, Problem

_FP32_BYTES = 4
_INDEX_BYTES = 4
_CLUSTER_STEP = 8
"""Numbers of clusters are rounded to this, which matrix units like."""


@dataclass(frozen=True, slots=True)
class RoutingParams:
    """Parameters of the Routing Transformer's attention.

    num_clusters  C, centroids per head; auto is resolved once per
                  profile by its lengths, near their square root
    window_size   w, queries and keys that a centroid takes; null
                  means ceil(n / C) for a row of n real tokens
    shared_qk     true: one projection makes queries and keys, as
                  published for causal models
    decay         what a training step leaves of a centroid's mean
    """

    num_clusters: int | Literal["auto"] = "auto"
    window_size: int | None = None
    shared_qk: bool = False
    decay: float = 0.999

    def __post_init__(self) -> None:
        for name in ("num_clusters", "window_size"):
            value = getattr(self, name)
            if isinstance(value, int) and value < 1:
                raise ValueError(f"{name}: expected a whole number of at least 1, got {value}")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay: expected a number from 0 to 1, got {self.decay}")

    @property
    def inputs(self) -> int:
        """Parts that in_proj makes: qk and v, or q, k and v."""
        return 2 if self.shared_qk else 3


def row_window(real_tokens: int, num_clusters: int, window_size: int | None) -> int:
    """Tokens a centroid takes in a row of n real ones: the size given or ceil(n / C), never above n."""
    return min(real_tokens, window_size or -(-real_tokens // num_clusters))


def resolve(params: RoutingParams, mix: LengthMix) -> RoutingParams:
    """`num_clusters: auto` as a number.

    A layer costs N·M·(4·N/C + 2·s·C) FLOPs beyond its projections, with s = 2 sides to route (1 where they are
    shared). The mean over the mix is least at C = √(2·E[N²] / (s·E[N])), rounded to a multiple of 8 (below 8 to a
    whole number). With a `window_size` given, C is what the longest row needs so that C·w = N, as published.
    """
    if params.num_clusters != "auto":
        return params
    if params.window_size is not None:
        return replace(params, num_clusters=-(-max(mix.tokens) // params.window_size))
    total = math.fsum(mix.shares)
    mean = math.fsum(n * share for n, share in zip(mix.tokens, mix.shares, strict=True)) / total
    mean_square = math.fsum(n * n * share for n, share in zip(mix.tokens, mix.shares, strict=True)) / total
    best = math.sqrt(2 * mean_square / ((params.inputs - 1) * mean))
    rounded = _CLUSTER_STEP * round(best / _CLUSTER_STEP) if best >= _CLUSTER_STEP else round(best)
    return replace(params, num_clusters=max(1, rounded))


def sizes(params: RoutingParams, length: int) -> tuple[int, int]:
    """C and w for full rows; an unresolved `auto` is resolved for this very length."""
    known = resolve(params, LengthMix((length,), (1.0,)))
    clusters = int(known.num_clusters)
    return clusters, row_window(length, clusters, known.window_size)


def work(params: RoutingParams, problem: Problem) -> KernelWork:
    """Projections, and per row 2·N·C·M FLOPs of routing for queries and for keys, and 4·C·w²·M of attention.

    Gathered: q, k and v of the members read and written, their results written and added. Scores of routing are
    float32. Training keeps the members' q, k, v and result, their indices, and three float32 per token, head and
    side: what the layer norms and the softmax need.
    """
    clusters, window = sizes(params, problem.seq_len)
    width, sides = problem.embed_dim, params.inputs - 1
    tokens, members = problem.batch_size * problem.seq_len, problem.batch_size * clusters * window
    score_bytes = float(sides * tokens * problem.num_heads * clusters * _FP32_BYTES)
    row_bytes, member_bytes = (float(rows * width * problem.element_bytes) for rows in (tokens, members))
    attention = KernelWork(
        gemm_flops=2.0 * sides * tokens * width * clusters,
        attention_flops=4.0 * members * window * width,
        elementwise_bytes=6 * score_bytes + (2 * sides + 2) * row_bytes,
        gather_bytes=(2 * params.inputs + 4) * member_bytes,
        launches=14 + 10 * sides,
        activation_bytes=row_bytes + _activation_bytes(params, problem, members, score_bytes, member_bytes),
    )
    return projections(problem, params.inputs) + attention


def _activation_bytes(
    params: RoutingParams, problem: Problem, members: int, score_bytes: float, member_bytes: float
) -> float:  # fmt: skip
    """Memory beyond the rows: in inference normed sides, then the gathered ones and two results, or the scores."""
    heads, sides = problem.num_heads, params.inputs - 1
    tokens = problem.batch_size * problem.seq_len
    if problem.training:
        indices = (2 * sides if sides > 1 else 2) * members * heads * _INDEX_BYTES
        per_token = (2 * sides + 1) * tokens
        return (params.inputs + 1) * member_bytes + indices + (per_token + members) * heads * _FP32_BYTES
    normed_bytes = float(sides * tokens * problem.embed_dim * problem.element_bytes)
    return normed_bytes + max((params.inputs + 1) * member_bytes, 3 * score_bytes / sides)


def weights(params: RoutingParams, embed_dim: int, num_heads: int) -> int:
    """The projections; centroids are means of what was seen and not learned by gradients."""
    return projection_parameters(embed_dim, params.inputs)


SPEC = MechanismSpec(
    name="routing",
    title="Routing Transformer: attention within k-means clusters",
    summary="every centroid's nearest queries attend to its nearest keys",
    params=RoutingParams,
    build="castbench.mechanisms.routing.module:build",
    reference="castbench.mechanisms.routing.reference:reference",
    work=work,
    complexity="O(N·(w + C)), which is O(N^1.5) with C ∝ √N",
    paper="Roy et al., arXiv:2003.05997",
    year=2020,
    family="clustering",
    remark="a token that no centroid takes gets nothing; the paper gives half of the heads to local attention",
    resolve=resolve,
    weights=weights,
)
