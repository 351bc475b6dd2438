"""CAST's three forward kernels: summaries of clusters, all summaries for every token, attention within clusters.

Members are read by index from in_proj's output; no gathered copy, no A_q, A_k or A_sum reaches memory. Softmaxes are
online, in float32 and base 2: strengths are multiplied by log2(e), and log-sum-exps are kept in base 2.

Shape suffixes: B batch, N tokens, H heads, D head width, M = H·D, X = 3M, C clusters, K places per cluster; a cell is
one cluster of one row for one head. `W` is D rounded up to a power of two, which block shapes must be.
"""

# Triton has no types, so its decorator takes away those of what it decorates.
# mypy: disable-error-code="import-untyped, import-not-found, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from castbench.mechanisms.cast.kernels.pieces import LOG2E, log_sum, members_at, softmax_step


@triton.jit
def summaries(
    qkv_BNX: tl.tensor, surrogate_CHD: tl.tensor, strength_BN: tl.tensor, index_BCK: tl.tensor, taken_BCK: tl.tensor,
    summary_BCHD: tl.tensor, lse_BCH: tl.tensor, N: tl.tensor, H: tl.tensor, C: tl.tensor, K: tl.tensor,
    D: tl.constexpr, W: tl.constexpr, PLACES: tl.constexpr,
) -> None:  # fmt: skip
    """R_inter of one cell and the log-sum-exp of its weights' logits; 0 and −inf for a cluster without members.

    One row of logits per cell leaves matrix units nothing to do: this kernel reads k and v once and is bound by that.
    """
    cell = tl.program_id(0)
    h = cell % H
    row = cell // H
    b = (row // C).to(tl.int64)
    c = row % C
    d = tl.arange(0, W)
    s_D = tl.load(surrogate_CHD + (c * H + h) * D + d, mask=d < D, other=0.0).to(tl.float32)
    k_at = qkv_BNX + b * N * (3 * H * D) + (H + h) * D
    top = float("-inf")
    total = 0.0
    sum_D = tl.zeros([W], tl.float32)
    for start in range(0, K, PLACES):
        place = start + tl.arange(0, PLACES)
        held, token = members_at(index_BCK, taken_BCK, row, place, K)
        at = token[:, None] * (3 * H * D) + d[None, :]
        inside = held[:, None] & (d < D)[None, :]
        k_PD = tl.load(k_at + at, mask=inside, other=0.0).to(tl.float32)
        v_PD = tl.load(k_at + H * D + at, mask=inside, other=0.0).to(tl.float32)
        strength = tl.load(strength_BN + b * N + token, mask=held, other=0.0) * LOG2E
        logit = tl.where(held, tl.sum(k_PD * s_D[None, :], 1) * strength, float("-inf"))
        higher = tl.maximum(top, tl.max(logit, 0))
        origin = tl.where(higher == float("-inf"), 0.0, higher)
        weight = tl.exp2(logit - origin)
        fade = tl.exp2(top - origin)
        sum_D = sum_D * fade + tl.sum(weight[:, None] * v_PD, 0)
        total = total * fade + tl.sum(weight, 0)
        top = higher
    divisor, lse = log_sum(top, total)
    result_D = (sum_D / divisor).to(summary_BCHD.dtype.element_ty)
    tl.store(summary_BCHD + cell.to(tl.int64) * D + d, result_D, mask=d < D)
    tl.store(lse_BCH + cell, lse)


@triton.jit
def others(
    qkv_BNX: tl.tensor, surrogate_CHD: tl.tensor, strength_BN: tl.tensor, summary_BCHD: tl.tensor, lse_BCH: tl.tensor,
    mixed_BNM: tl.tensor, lse_BHN: tl.tensor, N: tl.tensor, H: tl.tensor, C: tl.tensor,
    D: tl.constexpr, W: tl.constexpr, TOKENS: tl.constexpr, CLUSTERS: tl.constexpr,
) -> None:  # fmt: skip
    """Σ_c A_sum·R_inter over all clusters that have members, for a block of tokens and one head; 0 if none has.

    Also the log-sum-exp over clusters, with which other kernels find any entry of A_sum again.
    """
    b = (tl.program_id(0) // H).to(tl.int64)
    h = tl.program_id(0) % H
    n = tl.program_id(1) * TOKENS + tl.arange(0, TOKENS)
    d = tl.arange(0, W)
    inside = (n < N)[:, None] & (d < D)[None, :]
    token = b * N + n
    q_TD = tl.load(qkv_BNX + token[:, None] * (3 * H * D) + h * D + d[None, :], mask=inside, other=0.0)
    strength = tl.load(strength_BN + token, mask=n < N, other=0.0) * LOG2E
    top = tl.full([TOKENS], float("-inf"), tl.float32)
    total = tl.zeros([TOKENS], tl.float32)
    sum_TD = tl.zeros([TOKENS, W], tl.float32)
    for start in range(0, C, CLUSTERS):
        c = start + tl.arange(0, CLUSTERS)
        known = (c < C)[:, None] & (d < D)[None, :]
        s_CD = tl.load(surrogate_CHD + (c * H + h)[:, None] * D + d[None, :], mask=known, other=0.0)
        cell = (b * C + c) * H + h
        r_CD = tl.load(summary_BCHD + cell[:, None] * D + d[None, :], mask=known, other=0.0)
        full = tl.load(lse_BCH + cell, mask=c < C, other=float("-inf")) > float("-inf")
        logit = tl.dot(q_TD, tl.trans(s_CD), input_precision="ieee") * strength[:, None]
        logit = tl.where(full[None, :], logit, float("-inf"))
        weight, fade, top, total = softmax_step(logit, top, total)
        sum_TD = sum_TD * fade[:, None] + tl.dot(weight.to(r_CD.dtype), r_CD, input_precision="ieee")
    divisor, lse = log_sum(top, total)
    tl.store(mixed_BNM + token[:, None] * (H * D) + h * D + d[None, :], sum_TD / divisor[:, None], mask=inside)
    tl.store(lse_BHN + tl.program_id(0).to(tl.int64) * N + n, lse, mask=n < N)


@triton.jit
def within(
    qkv_BNX: tl.tensor, surrogate_CHD: tl.tensor, strength_BN: tl.tensor, index_BCK: tl.tensor, taken_BCK: tl.tensor,
    summary_BCHD: tl.tensor, lse_BHN: tl.tensor, mixed_BNM: tl.tensor, N: tl.tensor, H: tl.tensor, C: tl.tensor,
    K: tl.tensor, scale: tl.tensor,
    D: tl.constexpr, W: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
) -> None:  # fmt: skip
    """Attention among the members of one cell, for a block of them as queries: adds A_sum·(R_intra − R_inter) to R.

    The addition is atomic because with top_k several clusters may hold a token; their order is not fixed.
    """
    cell = tl.program_id(0)
    h = cell % H
    row = cell // H
    b = (row // C).to(tl.int64)
    c = row % C
    d = tl.arange(0, W)
    place = tl.program_id(1) * QUERIES + tl.arange(0, QUERIES)
    held, token = members_at(index_BCK, taken_BCK, row, place, K)
    inside = held[:, None] & (d < D)[None, :]
    q_at = qkv_BNX + b * N * (3 * H * D) + h * D
    q_QD = tl.load(q_at + token[:, None] * (3 * H * D) + d[None, :], mask=inside, other=0.0)
    top = tl.full([QUERIES], float("-inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    sum_QD = tl.zeros([QUERIES, W], tl.float32)
    for start in range(0, K, KEYS):
        other = start + tl.arange(0, KEYS)
        read, source = members_at(index_BCK, taken_BCK, row, other, K)
        at = source[:, None] * (3 * H * D) + d[None, :]
        known = read[:, None] & (d < D)[None, :]
        k_KD = tl.load(q_at + H * D + at, mask=known, other=0.0)
        logit = tl.dot(q_QD, tl.trans(k_KD), input_precision="ieee") * (scale * LOG2E)
        logit = tl.where(read[None, :], logit, float("-inf"))
        weight, fade, top, total = softmax_step(logit, top, total)
        v_KD = tl.load(q_at + 2 * H * D + at, mask=known, other=0.0)
        sum_QD = sum_QD * fade[:, None] + tl.dot(weight.to(v_KD.dtype), v_KD, input_precision="ieee")
    divisor, _ = log_sum(top, total)
    intra_QD = sum_QD / divisor[:, None]
    s_D = tl.load(surrogate_CHD + (c * H + h) * D + d, mask=d < D, other=0.0).to(tl.float32)
    r_D = tl.load(summary_BCHD + cell.to(tl.int64) * D + d, mask=d < D, other=0.0).to(tl.float32)
    strength = tl.load(strength_BN + b * N + token, mask=held, other=0.0) * LOG2E
    lse = tl.load(lse_BHN + (b * H + h) * N + token, mask=held, other=0.0)
    share = tl.exp2(tl.sum(q_QD.to(tl.float32) * s_D[None, :], 1) * strength - lse)
    own_QD = share[:, None] * (intra_QD - r_D[None, :])
    mixed_at = mixed_BNM + (b * N + token)[:, None] * (H * D) + h * D + d[None, :]
    tl.atomic_add(mixed_at, own_QD, mask=inside, sem="relaxed")
