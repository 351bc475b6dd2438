"""CAST against the projections alone, fused attention and naive attention: medians of ratios within rounds of one run.

Every round times every module once, in a fresh random order; float32, batch 1, inference, eager.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch
from torch import nn

from castbench.mechanisms.cast import CastAttention
from castbench.mechanisms.naive.module import NaiveAttention
from castbench.mechanisms.sdpa.module import SdpaAttention

SIZES = ((512, 8, 32), (128, 4, 32))
"""Width, heads, clusters."""


class Projections(nn.Module):
    """The four projections that every attention has, and nothing else."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_proj, self.out_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x_BNM: torch.Tensor) -> torch.Tensor:
        """Projects, and drops two thirds of it."""
        return self.out_proj(self.in_proj(x_BNM)[..., : x_BNM.shape[-1]].contiguous())


@torch.inference_mode()
def round_of_times(modules: dict[str, nn.Module], x_BNM: torch.Tensor) -> dict[str, float]:
    """Seconds of one warm forward pass of every module, in random order."""
    order = list(modules)
    random.shuffle(order)
    times = {}
    for name in order:
        run: Callable[[torch.Tensor], torch.Tensor] = modules[name]
        run(x_BNM)
        began = perf_counter()
        run(x_BNM)
        times[name] = perf_counter() - began
    return times


def main() -> None:
    """Print a line per size and ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=4096)
    asked = parser.parse_args()
    for width, heads, clusters in SIZES:
        modules: dict[str, nn.Module] = {
            "projections": Projections(width),
            "naive": NaiveAttention(width, heads),
            "sdpa": SdpaAttention(width, heads),
            "top_k": CastAttention(width, heads, num_clusters=clusters),
            "single_assignment": CastAttention(width, heads, num_clusters=clusters, clustering="single_assignment"),
        }
        x_BNM = torch.randn(1, asked.tokens, width)
        rounds = [round_of_times(modules, x_BNM) for _ in range(asked.rounds)]
        print(f"width {width}, {heads} heads, {clusters} clusters, {asked.tokens} tokens, {asked.rounds} rounds")
        for over, under in (
            ("top_k", "projections"), ("sdpa", "top_k"), ("naive", "top_k"), ("single_assignment", "top_k"),
        ):  # fmt: skip
            ratios = [r[over] / r[under] for r in rounds]
            print(f"  {over} / {under}: {median(ratios):.2f}  ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
