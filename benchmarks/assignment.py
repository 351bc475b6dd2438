"""Choices of CAST's members: rounds, time over top_k's choice, and how far `balanced` agrees with the exact one.

A_g comes from the weights of a fresh CastAttention. Every round draws new inputs, so that no branch is learnt, and
times every choice once, in a fresh random order; CPU time of this thread's process, with one thread. Inputs:

random     independent tokens
clustered  16 centres, and noise of half their spread
offset     a common vector as large as the noise
lopsided   a common vector about three times as large: nearly all tokens like the same clusters
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, median
from time import process_time

import torch
from torch import Tensor
from trials import write_result

from castbench.mechanisms.cast import CastAttention
from castbench.mechanisms.cast.choice import (
    Members,
    assign_greedily,
    best_of_each_cluster,
    choice_keys,
    each_token_once,
    each_token_once_balanced,
)

WIDTHS = ((512, 8), (128, 4))
"""Width, heads."""
SIZES = ((1024, 32), (4096, 32), (4096, 64), (4096, 128), (16384, 32), (16384, 128))
"""Tokens, clusters; 128 clusters at width 512 only."""
KINDS = ("random", "clustered", "offset", "lopsided")
ROUNDS_OF_BALANCED = (2, 3, 4, 5, 6, 8, 10)


@dataclass(frozen=True, slots=True)
class Row:
    """One shape and kind of input; times are medians over rounds, the rest are means.

    top_k_ms                top_k's choice, keys included
    single_over_top_k       the exact single_assignment over it
    balanced_over_top_k     `balanced` at its default number of rounds over it
    rounds                  rounds of the exact one
    agreement               share of tokens in the same cluster as the exact one puts them, by rounds of `balanced`
    relative_affinity       mean A_g of tokens with their clusters over that of the exact one, by rounds
    """

    width: int
    tokens: int
    clusters: int
    kind: str
    top_k_ms: float
    single_over_top_k: float
    balanced_over_top_k: float
    rounds: float
    agreement: dict[int, float]
    relative_affinity: dict[int, float]


@torch.no_grad()
def gated_affinity(width: int, heads: int, tokens: int, clusters: int, kind: str) -> Tensor:
    """A_g of a fresh module and fresh inputs, BNC with B = 1."""
    module = CastAttention(width, heads, num_clusters=clusters)
    x_BNM = torch.randn(1, tokens, width)
    if kind == "clustered":
        x_BNM = torch.randn(16, width)[torch.randint(16, (1, tokens))] + 0.5 * x_BNM
    elif kind != "random":
        x_BNM = torch.randn(width) + (1.0 if kind == "offset" else 0.3) * x_BNM
    s_MC = module.surrogate_tokens.flatten(1).T
    query_BNC, key_BNC = ((half @ s_MC).softmax(-1) for half in module.in_proj(x_BNM).chunk(3, -1)[:2])
    return torch.lerp(key_BNC, query_BNC, module.gate(x_BNM).sigmoid())


def clusters_of(members: Members, tokens: int) -> Tensor:
    """Cluster of every token of a row, N."""
    taken_BCK = torch.ones_like(members.index, dtype=torch.bool) if members.taken is None else members.taken
    cluster_BCK = torch.arange(members.index.shape[1]).view(1, -1, 1).expand_as(members.index)
    cluster_N = torch.empty(tokens, dtype=torch.int64)
    cluster_N[members.index[taken_BCK]] = cluster_BCK[taken_BCK]
    return cluster_N


def times_of(choosers: dict[str, Callable[[], object]]) -> dict[str, float]:
    """CPU seconds of every choice, once each, in random order."""
    times = {}
    for name in random.sample(list(choosers), len(choosers)):
        began = process_time()
        choosers[name]()
        times[name] = process_time() - began
    return times


def measured(width: int, heads: int, tokens: int, clusters: int, kind: str, rounds: int) -> Row:
    """The row of one shape and kind."""
    places = -(-tokens // clusters)
    times, found = [], []
    for number in range(rounds + 1):
        gated_BNC = gated_affinity(width, heads, tokens, clusters, kind)
        choosers = {
            chooser.__name__: partial(lambda choose, gated: choose(choice_keys(gated, None), places, None), chooser,
                                      gated_BNC)
            for chooser in (best_of_each_cluster, each_token_once, each_token_once_balanced)
        }  # fmt: skip
        here = times_of(choosers)
        if number:  # the first warms up
            times.append(here)
            found.append(compared(gated_BNC, places))
    return Row(
        width, tokens, clusters, kind, 1e3 * median(t["best_of_each_cluster"] for t in times),
        median(t["each_token_once"] / t["best_of_each_cluster"] for t in times),
        median(t["each_token_once_balanced"] / t["best_of_each_cluster"] for t in times),
        fmean(f[0] for f in found),
        {r: fmean(f[1][r] for f in found) for r in ROUNDS_OF_BALANCED},
        {r: fmean(f[2][r] for f in found) for r in ROUNDS_OF_BALANCED},
    )  # fmt: skip


def compared(gated_BNC: Tensor, places: int) -> tuple[int, dict[int, float], dict[int, float]]:
    """Rounds of the exact choice; agreement and relative affinity by rounds of `balanced`."""
    keys = choice_keys(gated_BNC, None)
    exact_N, rounds = assign_greedily(keys, places, None)
    reached = gated_BNC[0].gather(1, exact_N.unsqueeze(1)).mean()
    agreement, affinity = {}, {}
    for number in ROUNDS_OF_BALANCED:
        cluster_N = clusters_of(each_token_once_balanced(keys, places, None, number), len(exact_N))
        agreement[number] = float((cluster_N == exact_N).float().mean())
        affinity[number] = float(gated_BNC[0].gather(1, cluster_N.unsqueeze(1)).mean() / reached)
    return rounds, agreement, affinity


def said(row: Row) -> str:
    """A line of the table."""
    shares = "  ".join(
        f"{number}: {100 * share:.1f} % ({row.relative_affinity[number]:.3f})"
        for number, share in row.agreement.items()
    )
    return (
        f"width {row.width}, {row.tokens} tokens, {row.clusters} clusters, {row.kind}: top_k {row.top_k_ms:.2f} ms, "
        f"single × {row.single_over_top_k:.1f} in {row.rounds:.0f} rounds, balanced × {row.balanced_over_top_k:.1f}\n"
        f"    agreement (A_g) by rounds  {shares}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print two lines per shape and kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=16384, help="no shape longer than this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="also write the figures there, as JSON")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(asked.seed)
    random.seed(asked.seed)
    rows = []
    for width, heads in WIDTHS:
        for tokens, clusters in SIZES:
            if tokens > asked.tokens or (width < 512 and clusters > 64):
                continue
            for kind in KINDS:
                rows.append(measured(width, heads, tokens, clusters, kind, asked.rounds))
                print(said(rows[-1]), flush=True)
    about = {"rounds": asked.rounds, "seed": asked.seed, "torch": torch.__version__, "threads": 1}
    write_result(asked.out, {"about": about, "rows": [asdict(row) for row in rows]})


if __name__ == "__main__":
    main()
