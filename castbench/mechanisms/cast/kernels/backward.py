"""CAST's four backward kernels: what the forward ones never stored is computed again, block by block.

With g = the gradient of R, delta = <g, R> and t[c,n] = <g, R_intra[c,n]>:
    A_sum's logits       A_sum[n,c]·(<g, R_inter[c]> − delta), by tokens; and for the clusters that hold n the rest,
                         A_sum[n,c]·(t − <g, R_inter[c]>), by cells
    R_inter[c]           Σ_n A_sum[n,c]·g over all tokens, less the members'
    within the cluster   as in flash attention, with A_sum[n,c]·g the gradient of R_intra[c,n]
    the summaries        softmax with one query S[c] per cell

Gradients of q, k, v and of the strengths are float32 sums into which each cluster adds atomically; those of S and of
R_inter are written as parts and added up in a fixed order. Suffixes and base 2 as in forward.py.
"""

# Triton has no types, so its decorator takes away those of what it decorates.
# mypy: disable-error-code="import-untyped, import-not-found, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from castbench.mechanisms.cast.kernels.pieces import LOG2E, log_sum, members_at, softmax_step


@triton.jit
def others_to_tokens(
    qkv_BNX: tl.tensor, surrogate_CHD: tl.tensor, strength_BN: tl.tensor, summary_BCHD: tl.tensor, lse_BCH: tl.tensor,
    lse_BHN: tl.tensor, mixed_BNM: tl.tensor, grad_BNM: tl.tensor, d_qkv_BNX: tl.tensor, d_strength_BHN: tl.tensor,
    delta_BHN: tl.tensor, N: tl.tensor, H: tl.tensor, C: tl.tensor,
    D: tl.constexpr, W: tl.constexpr, TOKENS: tl.constexpr, CLUSTERS: tl.constexpr,
) -> None:  # fmt: skip
    """Writes, for a block of tokens and one head, delta and the gradients of q and strength through `others`."""
    b = (tl.program_id(0) // H).to(tl.int64)
    h = tl.program_id(0) % H
    n = tl.program_id(1) * TOKENS + tl.arange(0, TOKENS)
    d = tl.arange(0, W)
    inside = (n < N)[:, None] & (d < D)[None, :]
    token = b * N + n
    of_head = tl.program_id(0).to(tl.int64) * N + n
    q_at = token[:, None] * (3 * H * D) + h * D + d[None, :]
    m_at = token[:, None] * (H * D) + h * D + d[None, :]
    q_TD = tl.load(qkv_BNX + q_at, mask=inside, other=0.0)
    g_TD = tl.load(grad_BNM + m_at, mask=inside, other=0.0)
    mixed_TD = tl.load(mixed_BNM + m_at, mask=inside, other=0.0)
    delta = tl.sum(g_TD.to(tl.float32) * mixed_TD.to(tl.float32), 1)
    strength = tl.load(strength_BN + token, mask=n < N, other=0.0)
    lse = tl.load(lse_BHN + of_head, mask=n < N, other=0.0)
    d_q_TD = tl.zeros([TOKENS, W], tl.float32)
    d_strength = tl.zeros([TOKENS], tl.float32)
    for start in range(0, C, CLUSTERS):
        c = start + tl.arange(0, CLUSTERS)
        known = (c < C)[:, None] & (d < D)[None, :]
        s_CD = tl.load(surrogate_CHD + (c * H + h)[:, None] * D + d[None, :], mask=known, other=0.0)
        cell = (b * C + c) * H + h
        r_CD = tl.load(summary_BCHD + cell[:, None] * D + d[None, :], mask=known, other=0.0)
        full = tl.load(lse_BCH + cell, mask=c < C, other=float("-inf")) > float("-inf")
        affinity = tl.dot(q_TD, tl.trans(s_CD), input_precision="ieee")
        logit = affinity * (strength * LOG2E)[:, None] - lse[:, None]
        share = tl.exp2(tl.where(full[None, :], logit, float("-inf")))
        d_logit = share * (tl.dot(g_TD, tl.trans(r_CD), input_precision="ieee") - delta[:, None])
        d_strength += tl.sum(d_logit * affinity, 1)
        d_q_TD += tl.dot(d_logit.to(s_CD.dtype), s_CD, input_precision="ieee")
    tl.store(d_qkv_BNX + q_at, d_q_TD * strength[:, None], mask=inside)
    tl.store(d_strength_BHN + of_head, d_strength, mask=n < N)
    tl.store(delta_BHN + of_head, delta, mask=n < N)


@triton.jit
def others_to_clusters(
    qkv_BNX: tl.tensor, surrogate_CHD: tl.tensor, strength_BN: tl.tensor, summary_BCHD: tl.tensor, lse_BCH: tl.tensor,
    lse_BHN: tl.tensor, grad_BNM: tl.tensor, delta_BHN: tl.tensor, d_surrogate_PBCHD: tl.tensor,
    d_summary_PBCHD: tl.tensor, N: tl.tensor, H: tl.tensor, C: tl.tensor, SPAN: tl.tensor,
    D: tl.constexpr, W: tl.constexpr, TOKENS: tl.constexpr, CLUSTERS: tl.constexpr,
) -> None:  # fmt: skip
    """Writes, for a block of clusters, one head and a span of tokens, a part of S's and R_inter's gradients."""
    b = (tl.program_id(0) // H).to(tl.int64)
    h = tl.program_id(0) % H
    c = tl.program_id(1) * CLUSTERS + tl.arange(0, CLUSTERS)
    part = tl.program_id(2)
    d = tl.arange(0, W)
    known = (c < C)[:, None] & (d < D)[None, :]
    cell = (b * C + c) * H + h
    s_CD = tl.load(surrogate_CHD + (c * H + h)[:, None] * D + d[None, :], mask=known, other=0.0)
    r_CD = tl.load(summary_BCHD + cell[:, None] * D + d[None, :], mask=known, other=0.0)
    full = tl.load(lse_BCH + cell, mask=c < C, other=float("-inf")) > float("-inf")
    d_s_CD = tl.zeros([CLUSTERS, W], tl.float32)
    d_r_CD = tl.zeros([CLUSTERS, W], tl.float32)
    for start in range(part * SPAN, tl.minimum(N, (part + 1) * SPAN), TOKENS):
        n = start + tl.arange(0, TOKENS)
        there = n < N
        inside = there[:, None] & (d < D)[None, :]
        token = b * N + n
        of_head = tl.program_id(0).to(tl.int64) * N + n
        q_TD = tl.load(qkv_BNX + token[:, None] * (3 * H * D) + h * D + d[None, :], mask=inside, other=0.0)
        g_TD = tl.load(grad_BNM + token[:, None] * (H * D) + h * D + d[None, :], mask=inside, other=0.0)
        strength = tl.load(strength_BN + token, mask=there, other=0.0)
        lse = tl.load(lse_BHN + of_head, mask=there, other=0.0)
        delta = tl.load(delta_BHN + of_head, mask=there, other=0.0)
        logit = tl.dot(s_CD, tl.trans(q_TD), input_precision="ieee") * (strength * LOG2E)[None, :] - lse[None, :]
        share = tl.exp2(tl.where(full[:, None] & there[None, :], logit, float("-inf")))
        value = tl.dot(r_CD, tl.trans(g_TD), input_precision="ieee")
        d_affinity = share * (value - delta[None, :]) * strength[None, :]
        d_s_CD += tl.dot(d_affinity.to(q_TD.dtype), q_TD, input_precision="ieee")
        d_r_CD += tl.dot(share.to(g_TD.dtype), g_TD, input_precision="ieee")
    cells = tl.num_programs(0).to(tl.int64) * C
    at = (part * cells + cell)[:, None] * D + d[None, :]
    tl.store(d_surrogate_PBCHD + at, d_s_CD, mask=known)
    tl.store(d_summary_PBCHD + at, d_r_CD, mask=known)


@triton.jit
def within_to_queries(  # noqa: PLR0915 (one program, read from top to bottom)
    qkv_BNX: tl.tensor, surrogate_CHD: tl.tensor, strength_BN: tl.tensor, index_BCK: tl.tensor, taken_BCK: tl.tensor,
    summary_BCHD: tl.tensor, lse_BHN: tl.tensor, grad_BNM: tl.tensor, d_qkv_BNX: tl.tensor, d_strength_BHN: tl.tensor,
    d_surrogate_PBCHD: tl.tensor, d_summary_PBCHD: tl.tensor, kept_3BCHK: tl.tensor, N: tl.tensor, H: tl.tensor,
    C: tl.tensor, K: tl.tensor, scale: tl.tensor, PARTS: tl.tensor,
    D: tl.constexpr, W: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
) -> None:  # fmt: skip
    """For a block of one cell's members as queries: adds to the gradients of q and strength, writes parts of the rest.

    The first loop finds the log-sum-exp and t, the second uses them; both are kept with A_sum for within_to_keys.
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
    q_at = b * N * (3 * H * D) + h * D
    q_row = q_at + token[:, None] * (3 * H * D) + d[None, :]
    q_QD = tl.load(qkv_BNX + q_row, mask=inside, other=0.0)
    g_QD = tl.load(grad_BNM + (b * N + token)[:, None] * (H * D) + h * D + d[None, :], mask=inside, other=0.0)
    top = tl.full([QUERIES], float("-inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    t = tl.zeros([QUERIES], tl.float32)
    for start in range(0, K, KEYS):
        other = start + tl.arange(0, KEYS)
        read, source = members_at(index_BCK, taken_BCK, row, other, K)
        at = q_at + source[:, None] * (3 * H * D) + d[None, :]
        known = read[:, None] & (d < D)[None, :]
        k_KD = tl.load(qkv_BNX + H * D + at, mask=known, other=0.0)
        v_KD = tl.load(qkv_BNX + 2 * H * D + at, mask=known, other=0.0)
        logit = tl.dot(q_QD, tl.trans(k_KD), input_precision="ieee") * (scale * LOG2E)
        logit = tl.where(read[None, :], logit, float("-inf"))
        weight, fade, top, total = softmax_step(logit, top, total)
        t = t * fade + tl.sum(weight * tl.dot(g_QD, tl.trans(v_KD), input_precision="ieee"), 1)
    divisor, lse = log_sum(top, total)
    t = t / divisor
    s_D = tl.load(surrogate_CHD + (c * H + h) * D + d, mask=d < D, other=0.0).to(tl.float32)
    r_D = tl.load(summary_BCHD + cell.to(tl.int64) * D + d, mask=d < D, other=0.0).to(tl.float32)
    strength = tl.load(strength_BN + b * N + token, mask=held, other=0.0)
    lse_n = tl.load(lse_BHN + (b * H + h) * N + token, mask=held, other=0.0)
    affinity = tl.sum(q_QD.to(tl.float32) * s_D[None, :], 1)
    share = tl.where(held, tl.exp2(affinity * (strength * LOG2E) - lse_n), 0.0)
    d_logit = share * (t - tl.sum(g_QD.to(tl.float32) * r_D[None, :], 1))
    d_affinity = d_logit * strength
    of_place = cell.to(tl.int64) * K + place
    cells = tl.num_programs(0).to(tl.int64)
    tl.store(kept_3BCHK + of_place, lse, mask=place < K)
    tl.store(kept_3BCHK + cells * K + of_place, t, mask=place < K)
    tl.store(kept_3BCHK + 2 * cells * K + of_place, share, mask=place < K)
    part_at = ((PARTS + tl.program_id(1)) * cells + cell) * D + d
    d_s_D = tl.sum(d_affinity[:, None] * q_QD.to(tl.float32), 0)
    tl.store(d_surrogate_PBCHD + part_at, d_s_D, mask=d < D)
    tl.store(d_summary_PBCHD + part_at, -tl.sum(share[:, None] * g_QD.to(tl.float32), 0), mask=d < D)
    d_q_QD = d_affinity[:, None] * s_D[None, :]
    for start in range(0, K, KEYS):
        other = start + tl.arange(0, KEYS)
        read, source = members_at(index_BCK, taken_BCK, row, other, K)
        at = q_at + source[:, None] * (3 * H * D) + d[None, :]
        known = read[:, None] & (d < D)[None, :]
        k_KD = tl.load(qkv_BNX + H * D + at, mask=known, other=0.0)
        v_KD = tl.load(qkv_BNX + 2 * H * D + at, mask=known, other=0.0)
        logit = tl.dot(q_QD, tl.trans(k_KD), input_precision="ieee") * (scale * LOG2E) - lse[:, None]
        weight = tl.exp2(tl.where(read[None, :], logit, float("-inf")))
        value = tl.dot(g_QD, tl.trans(v_KD), input_precision="ieee")
        d_score = weight * (value - t[:, None]) * (share * scale)[:, None]
        d_q_QD += tl.dot(d_score.to(k_KD.dtype), k_KD, input_precision="ieee")
    tl.atomic_add(d_qkv_BNX + q_row, d_q_QD, mask=inside, sem="relaxed")
    tl.atomic_add(d_strength_BHN + (b * H + h) * N + token, d_logit * affinity, mask=held, sem="relaxed")


@triton.jit
def within_to_keys(
    qkv_BNX: tl.tensor, surrogate_CHD: tl.tensor, strength_BN: tl.tensor, index_BCK: tl.tensor, taken_BCK: tl.tensor,
    summary_BCHD: tl.tensor, lse_BCH: tl.tensor, grad_BNM: tl.tensor, d_summary_BCHD: tl.tensor,
    kept_3BCHK: tl.tensor, d_qkv_BNX: tl.tensor, d_strength_BHN: tl.tensor, d_surrogate_PBCHD: tl.tensor,
    N: tl.tensor, H: tl.tensor, C: tl.tensor, K: tl.tensor, scale: tl.tensor, PARTS: tl.tensor,
    D: tl.constexpr, W: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr,
) -> None:  # fmt: skip
    """For a block of one cell's members as keys: adds to the gradients of k, v and of the keys' strength.

    Both of what was read from them: by the members' attention, and by the summary, whose gradient is complete by now.
    """
    cell = tl.program_id(0)
    h = cell % H
    row = cell // H
    b = (row // C).to(tl.int64)
    c = row % C
    d = tl.arange(0, W)
    place = tl.program_id(1) * KEYS + tl.arange(0, KEYS)
    held, token = members_at(index_BCK, taken_BCK, row, place, K)
    inside = held[:, None] & (d < D)[None, :]
    q_at = b * N * (3 * H * D) + h * D
    k_row = q_at + H * D + token[:, None] * (3 * H * D) + d[None, :]
    k_KD = tl.load(qkv_BNX + k_row, mask=inside, other=0.0)
    v_KD = tl.load(qkv_BNX + H * D + k_row, mask=inside, other=0.0)
    d_k_KD = tl.zeros([KEYS, W], tl.float32)
    d_v_KD = tl.zeros([KEYS, W], tl.float32)
    cells = tl.num_programs(0).to(tl.int64)
    for start in range(0, K, QUERIES):
        other = start + tl.arange(0, QUERIES)
        reads, source = members_at(index_BCK, taken_BCK, row, other, K)
        known = reads[:, None] & (d < D)[None, :]
        q_QD = tl.load(qkv_BNX + q_at + source[:, None] * (3 * H * D) + d[None, :], mask=known, other=0.0)
        g_QD = tl.load(grad_BNM + (b * N + source)[:, None] * (H * D) + h * D + d[None, :], mask=known, other=0.0)
        of_place = cell.to(tl.int64) * K + other
        lse = tl.load(kept_3BCHK + of_place, mask=reads, other=0.0)
        t = tl.load(kept_3BCHK + cells * K + of_place, mask=reads, other=0.0)
        share = tl.load(kept_3BCHK + 2 * cells * K + of_place, mask=reads, other=0.0)
        logit = tl.dot(k_KD, tl.trans(q_QD), input_precision="ieee") * (scale * LOG2E) - lse[None, :]
        # No query, no weight: its share is 0. A place without a key makes rows that nobody keeps.
        weight = tl.exp2(logit) * share[None, :]
        d_v_KD += tl.dot(weight.to(g_QD.dtype), g_QD, input_precision="ieee")
        value = tl.dot(v_KD, tl.trans(g_QD), input_precision="ieee")
        d_score = weight * (value - t[None, :]) * scale
        d_k_KD += tl.dot(d_score.to(q_QD.dtype), q_QD, input_precision="ieee")
    s_D = tl.load(surrogate_CHD + (c * H + h) * D + d, mask=d < D, other=0.0).to(tl.float32)
    at_D = cell.to(tl.int64) * D + d
    r_D = tl.load(summary_BCHD + at_D, mask=d < D, other=0.0).to(tl.float32)
    d_r_D = tl.load(d_summary_BCHD + at_D, mask=d < D, other=0.0)
    strength = tl.load(strength_BN + b * N + token, mask=held, other=0.0)
    affinity = tl.sum(k_KD.to(tl.float32) * s_D[None, :], 1)
    logit = affinity * (strength * LOG2E) - tl.load(lse_BCH + cell)
    weight = tl.exp2(tl.where(held, logit, float("-inf")))
    d_logit = weight * (tl.sum(v_KD.to(tl.float32) * d_r_D[None, :], 1) - tl.sum(r_D * d_r_D, 0))
    d_affinity = d_logit * strength
    d_v_KD += weight[:, None] * d_r_D[None, :]
    d_k_KD += d_affinity[:, None] * s_D[None, :]
    d_s_D = tl.sum(d_affinity[:, None] * k_KD.to(tl.float32), 0)
    tl.store(d_surrogate_PBCHD + ((PARTS + tl.program_id(1)) * cells + cell) * D + d, d_s_D, mask=d < D)
    tl.atomic_add(d_qkv_BNX + k_row, d_k_KD, mask=inside, sem="relaxed")
    tl.atomic_add(d_qkv_BNX + H * D + k_row, d_v_KD, mask=inside, sem="relaxed")
    tl.atomic_add(d_strength_BHN + (b * H + h) * N + token, d_logit * affinity, mask=held, sem="relaxed")
