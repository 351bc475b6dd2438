"""CAST as its equations say, in plain loops over tokens and clusters, in float64: the oracle of module.py.

A row at a time, its padding taken away first. Shape suffixes: N real tokens, H heads, D head width, M = H·D,
C clusters; `members` lists the tokens of each cluster. Equations as we understand them from arXiv:2402.04239; those
marked † have not been checked against its text.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from castbench.mechanisms.cast import BALANCED_ROUNDS, scattered

if TYPE_CHECKING:
    from castbench.mechanisms.cast.choice import Members as ChosenMembers
    from castbench.mechanisms.cast.module import CastAttention

CHOICE_TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""How far below a better token's A_g (a probability) a member's may lie, by the dtype that chose it."""

Members = list[list[int]]
Weights = dict[str, Tensor]


def reference(module: CastAttention, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
    """y_BNM in float64 from the module's own weights; padding gets R = 0.

    Below float64 the module's choice of members is taken over, since rounding alone moves members about, and checked
    apart: ValueError where a member's A_g lies below a better token's by more than CHOICE_TOLERANCE.
    """
    weights = {name: value.double().cpu() for name, value in module.named_parameters()}
    chosen = None if x_BNM.dtype == torch.float64 else module.choose(x_BNM, key_padding_mask_BN)
    rows = []
    for b, x_NM in enumerate(x_BNM.double().cpu()):
        real = list(range(len(x_NM))) if key_padding_mask_BN is None else _real_tokens(key_padding_mask_BN[b])
        mixed_NM = torch.zeros_like(x_NM)
        if real:
            members = None if chosen is None else _members_of_row(chosen, b, real)
            mixed_NM[real] = mixed_row(module, weights, x_NM[real], members, CHOICE_TOLERANCE[x_BNM.dtype])
        rows.append(mixed_NM @ weights["out_proj.weight"].T + weights["out_proj.bias"])
    return torch.stack(rows).to(x_BNM.device)


def mixed_row(
    module: CastAttention, weights: Weights, x_NM: Tensor, members: Members | None, tolerance: float
) -> Tensor:
    """R of one row of real tokens, NM; `members` are checked if given, else chosen."""
    heads, width = module.num_heads, module.head_dim
    qkv_NX = x_NM @ weights["in_proj.weight"].T + weights["in_proj.bias"]
    q_NHD, k_NHD, v_NHD = (part.view(-1, heads, width) for part in qkv_NX.chunk(3, dim=-1))
    phi_N = (x_NM @ weights["gate.weight"].T + weights["gate.bias"])[:, 0]
    query_NHC = affinities(q_NHD, weights["surrogate_tokens"])
    key_NHC = affinities(k_NHD, weights["surrogate_tokens"])
    lean_N, query_strength_N, key_strength_N = gates(phi_N) if module.gates else without_gates(phi_N)
    gated_NC = gated_affinity(query_NHC, key_NHC, lean_N).detach()
    size = min(len(x_NM), module.cluster_size or math.ceil(len(x_NM) / module.num_clusters))
    members = checked_members(module, gated_NC, size, members, tolerance)
    shares = cluster_shares if module.summaries else own_cluster_shares
    shares_NHC = shares(query_NHC, query_strength_N, members, width)
    mixed_NHD = torch.zeros_like(v_NHD)
    for c, held in enumerate(members):
        summary_HD = inter(key_NHC[:, :, c], v_NHD, key_strength_N, held)
        for n in range(len(x_NM)):
            answer_HD = intra(n, held, q_NHD, k_NHD, v_NHD) if n in held else summary_HD
            mixed_NHD[n] += shares_NHC[n, :, c, None] * answer_HD
    return mixed_NHD.flatten(1)


def checked_members(
    module: CastAttention, gated_NC: Tensor, size: int, members: Members | None, tolerance: float
) -> Members:
    """The members that were chosen, if they could be, or else the right ones; ValueError where they could not."""
    if module.assignment != "learned":
        right = by_place(module.assignment, len(gated_NC), module.num_clusters, size)
        if members is not None and members != right:
            raise ValueError(f"assignment {module.assignment} put tokens {members}, not {right}")
        return right
    choose, check = {
        "top_k": (top_k, check_top_k), "single_assignment": (single_assignment, check_single),
        "balanced": (balanced, check_once),
    }[module.clustering]  # fmt: skip
    chosen = choose(gated_NC, size) if members is None else members
    check(gated_NC, size, chosen, tolerance)
    return chosen


def by_place(assignment: str, tokens: int, clusters: int, size: int) -> Members:
    """Tokens in their own order, or scattered, cut into clusters of `size`."""
    order = sorted(range(tokens), key=scattered) if assignment == "random" else list(range(tokens))
    return [order[c * size : (c + 1) * size] for c in range(clusters)]


def gates(phi_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """sigmoid(phi), and the strengths g(phi) of queries and g(−phi) of keys.  †"""
    return torch.sigmoid(phi_N), functional.softplus(phi_N) + 1, functional.softplus(-phi_N) + 1


def without_gates(phi_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The ablation: queries and keys count alike for the choice, and every strength is 1."""
    return torch.full_like(phi_N, 0.5), torch.ones_like(phi_N), torch.ones_like(phi_N)


def affinities(token_NHD: Tensor, surrogate_CHD: Tensor) -> Tensor:
    """A[n,h,c] = <token[n,h], S[c,h]>, NHC."""
    return torch.stack([
        torch.stack([(token_HD * surrogate_HD).sum(-1) for surrogate_HD in surrogate_CHD], dim=-1)
        for token_HD in token_NHD
    ])  # fmt: skip


def gated_affinity(query_NHC: Tensor, key_NHC: Tensor, lean_N: Tensor) -> Tensor:
    """A_g = sigmoid(phi)·f(Σ_h A_q) + (1 − sigmoid(phi))·f(Σ_h A_k), f the softmax over clusters, NC.  †"""
    lean_N1 = lean_N[:, None]
    return lean_N1 * query_NHC.sum(1).softmax(-1) + (1 - lean_N1) * key_NHC.sum(1).softmax(-1)


def top_k(gated_NC: Tensor, size: int) -> Members:
    """Every cluster's `size` tokens of largest A_g; ties go to the lower token."""
    columns = gated_NC.T.tolist()
    return [sorted(range(len(column)), key=lambda n: (-column[n], n))[:size] for column in columns]


def single_assignment(gated_NC: Tensor, size: int) -> Members:
    """All (token, cluster) pairs by descending A_g, taken where both are free; ties: lower token, lower cluster."""
    values = gated_NC.tolist()
    tokens, clusters = gated_NC.shape
    if clusters * size < tokens:
        raise ValueError(
            f"{clusters} clusters of {size} cannot hold {tokens} tokens; use {math.ceil(tokens / clusters)}"
        )
    members: Members = [[] for _ in range(clusters)]
    placed: set[int] = set()
    pairs = [(n, c) for n in range(tokens) for c in range(clusters)]
    for n, c in sorted(pairs, key=lambda pair: (-values[pair[0]][pair[1]], pair)):
        if n not in placed and len(members[c]) < size:
            members[c].append(n)
            placed.add(n)
    return members


def check_top_k(gated_NC: Tensor, size: int, members: Members, tolerance: float) -> None:
    """ValueError unless every cluster holds `size` tokens, none of them clearly worse than its size-th best."""
    for c, held in enumerate(members):
        if len(set(held)) != size:
            raise ValueError(f"cluster {c} holds {len(set(held))} tokens instead of {size}")
        bar = float(gated_NC[:, c].topk(size).values[-1]) - tolerance
        for n in held:
            if float(gated_NC[n, c]) < bar:
                raise ValueError(f"token {n} is in cluster {c} with A_g = {float(gated_NC[n, c]):.4g}, below {bar:.4g}")


def balanced(gated_NC: Tensor, size: int, rounds: int = BALANCED_ROUNDS) -> Members:
    """A token asks the cluster it likes best (ties: the lower) of those whose bar its A_g reaches.

    A cluster asked by `size` or more puts its bar to the A_g of the size-th best (ties: lower tokens are better).
    After the last round the `size` best stay; the others, by cluster and there the best first, fill up the clusters.
    """
    values, clusters = gated_NC.tolist(), gated_NC.shape[1]
    bars: list[float] = [-1.0] * clusters
    asking: Members = []
    for _ in range(rounds):
        asking = [[] for _ in range(clusters)]
        for n, row in enumerate(values):
            liked = max((value, -c) for c, value in enumerate(row) if value >= bars[c])
            asking[-liked[1]].append(n)
        for c, tokens in enumerate(asking):
            tokens.sort(key=lambda n, c=c: (-values[n][c], n))  # type: ignore[misc]  # c of this very turn
            if len(tokens) >= size:
                bars[c] = values[tokens[size - 1]][c]
    members = [tokens[:size] for tokens in asking]
    for n in [n for tokens in asking for n in tokens[size:]]:
        next(held for held in members if len(held) < size).append(n)
    return members


def check_once(gated_NC: Tensor, size: int, members: Members, tolerance: float) -> None:
    """ValueError unless every token is in one cluster and none holds more than `size`."""
    if sorted(n for held in members for n in held) != list(range(len(gated_NC))):
        raise ValueError("a token was left out or placed twice")
    for c, held in enumerate(members):
        if len(held) > size:
            raise ValueError(f"cluster {c} holds {len(held)} tokens, above {size}")


def check_single(gated_NC: Tensor, size: int, members: Members, tolerance: float) -> None:
    """ValueError unless every token is in one cluster, none above `size`, and no pair clearly rather joined.

    A token would rather be in another cluster, and that cluster rather had the token, only where it has room or a
    member worse than the token: the greedy assignment has no such pair.
    """
    check_once(gated_NC, size, members, tolerance)
    home = {n: c for c, held in enumerate(members) for n in held}
    for c, held in enumerate(members):
        worst = min((float(gated_NC[n, c]) for n in held), default=0.0) if len(held) == size else 0.0
        for n in range(len(gated_NC)):
            if float(gated_NC[n, c]) > max(worst, float(gated_NC[n, home[n]])) + tolerance:
                raise ValueError(
                    f"token {n} is in cluster {home[n]} although cluster {c} suits it better and had a place"
                )


def own_cluster_shares(query_NHC: Tensor, strength_N: Tensor, members: Members, width: int) -> Tensor:
    """The ablation without summaries: the same softmax over the clusters that hold the token; 0 for a token in none."""
    shares_NHC = torch.zeros_like(query_NHC)
    for n in range(len(query_NHC)):
        own = [c for c, tokens in enumerate(members) if n in tokens]
        shares_NHC[n][:, own] = (query_NHC[n][:, own] * strength_N[n] / math.sqrt(width)).softmax(-1)
    return shares_NHC


def cluster_shares(query_NHC: Tensor, strength_N: Tensor, members: Members, width: int) -> Tensor:
    """A_sum = softmax over the clusters that have members of A_q·g(phi)/√D, NHC; 0 for the others.  †"""
    held = [c for c, tokens in enumerate(members) if tokens]
    logits_NHC = query_NHC[:, :, held] * strength_N[:, None, None] / math.sqrt(width)
    shares_NHC = torch.zeros_like(query_NHC)
    shares_NHC[:, :, held] = logits_NHC.softmax(-1)
    return shares_NHC


def intra(n: int, held: list[int], q_NHD: Tensor, k_NHD: Tensor, v_NHD: Tensor) -> Tensor:
    """R_intra[c,n] = softmax over the members of q_n·k/√D, times their v, HD."""
    score_HK = (q_NHD[n] * k_NHD[held]).sum(-1).T / math.sqrt(q_NHD.shape[-1])
    return torch.einsum("hk,khd->hd", score_HK.softmax(-1), v_NHD[held])


def inter(key_NH: Tensor, v_NHD: Tensor, strength_N: Tensor, held: list[int]) -> Tensor:
    """R_inter[c] = softmax over the members i of A_k[i,h,c]·g(−phi_i)/√D, times their v, HD; 0 without members.  †"""
    logits_KH = key_NH[held] * strength_N[held][:, None] / math.sqrt(v_NHD.shape[-1])
    return torch.einsum("kh,khd->hd", logits_KH.softmax(0), v_NHD[held])


def _real_tokens(padding_N: Tensor) -> list[int]:
    """Places of a row's real tokens."""
    return [n for n, padding in enumerate(padding_N.tolist()) if not padding]


def _members_of_row(chosen: ChosenMembers, b: int, real: list[int]) -> Members:
    """The module's members of row `b`, counted among its real tokens; ValueError where padding was chosen."""
    number = {place: n for n, place in enumerate(real)}
    index_CK = chosen.index[b]
    taken_CK = torch.ones_like(index_CK, dtype=torch.bool) if chosen.taken is None else chosen.taken[b]
    members = [index_K[taken_K].tolist() for index_K, taken_K in zip(index_CK, taken_CK, strict=True)]
    strangers = sorted({place for held in members for place in held} - set(number))
    if strangers:
        raise ValueError(f"padding was put into a cluster: tokens {strangers}")
    return [[number[place] for place in held] for held in members]
