"""Our mechanisms against the published packages of them: seconds of one forward pass, as ratios within one process.

each round, in fresh order: ours, theirs  ─▶ ratio within the round ─▶ median; above 1.05 ours would be an unfair rival

Both are whole attention modules with projections of the same width and the parameters that both call the same. What
differs in meaning stands in the READMEs of the mechanisms. Needs the packages of the test group `oracles`.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from trials import write_result

import castbench
from castbench.hardware.cpu import read_host
from castbench.measure.threads import bound_threads
from castbench.mechanisms import params as mechanism_params
from castbench.mechanisms import registry
from castbench.mechanisms.spec import LengthMix

WIDTH, HEADS, HEAD_DIM = 256, 4, 64
SLOWEST = 1.05
"""Ours may take this much longer, which is about what the machine cannot tell apart."""


@dataclass(frozen=True, slots=True)
class Duel:
    """A mechanism with parameters, and how the published package is built for rows of so many tokens."""

    name: str
    package: str
    params: dict[str, Any]
    theirs: Callable[[int], nn.Module]


class Between(nn.Module):
    """An attention that knows only heads, between projections like ours."""

    def __init__(self, mix: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.in_proj, self.out_proj, self.mix = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH), mix

    def forward(self, x_BNM: Tensor) -> Tensor:
        """Projections, the package's attention on contiguous heads, projection."""
        q, k, v = (
            part.unflatten(-1, (HEADS, -1)).transpose(1, 2).contiguous() for part in self.in_proj(x_BNM).chunk(3, -1)
        )
        y_BNM: Tensor = self.out_proj(self.mix(q, k, v).transpose(1, 2).flatten(2))
        return y_BNM


class First(nn.Module):
    """What a module returns first."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x_BNM: Tensor) -> Tensor:
        """Only the result, not what is told beside it."""
        found = self.module(x_BNM)
        result: Tensor = found[0] if isinstance(found, tuple) else found
        return result


def performer(_: int) -> nn.Module:
    """performer-pytorch with as many features as ours has by default."""
    from performer_pytorch import SelfAttention

    features = registry.load("castbench.mechanisms.performer:features_of")
    made = mechanism_params.make(registry.get("performer"), {})
    theirs: nn.Module = SelfAttention(
        WIDTH, heads=HEADS, dim_head=HEAD_DIM, nb_features=features(made, HEAD_DIM), qkv_bias=True
    )
    return theirs


def linear(_: int) -> nn.Module:
    """performer-pytorch's linear attention with elu + 1."""
    from performer_pytorch.performer_pytorch import linear_attention

    elu = nn.functional.elu
    return Between(lambda q, k, v: linear_attention(elu(q) + 1, elu(k) + 1, v))


def linformer(tokens: int) -> nn.Module:
    """The package linformer."""
    from linformer import LinformerSelfAttention

    theirs: nn.Module = LinformerSelfAttention(WIDTH, tokens, k=256, heads=HEADS)
    return theirs


def nystrom(_: int) -> nn.Module:
    """The package nystrom-attention with 64 landmarks, 6 iterations and its convolution of 33 taps."""
    from nystrom_attention import NystromAttention

    theirs: nn.Module = NystromAttention(WIDTH, HEAD_DIM, HEADS, 64, 6, True, 33)
    return theirs


def local(_: int) -> nn.Module:
    """The package local-attention, told to keep to the window."""
    from local_attention import LocalAttention

    window = registry.get("local").params().window
    return Between(
        LocalAttention(window, look_backward=1, look_forward=1, exact_windowsize=True, use_rotary_pos_emb=False)
    )


def reformer(_: int) -> nn.Module:
    """The package reformer-pytorch with ours' bucket size and rounds."""
    from reformer_pytorch import LSHSelfAttention

    ours = registry.get("reformer").params()
    return First(
        LSHSelfAttention(WIDTH, heads=HEADS, bucket_size=ours.bucket_size, n_hashes=ours.hashes, full_attn_thres=0)
    )


def routing(tokens: int) -> nn.Module:
    """The package routing-transformer's k-means attention with ours' clusters and window."""
    from routing_transformer.routing_transformer import KmeansAttention

    spec = registry.get("routing")
    ours = spec.resolve(spec.params(), LengthMix((tokens,), (1.0,)))
    clusters, window = ours.num_clusters, ours.window_size or tokens // ours.num_clusters
    theirs = KmeansAttention(clusters, window, HEADS, HEAD_DIM)
    theirs.eval()
    return Between(lambda q, k, v: theirs(q, k, v)[0])


def bigbird(_: int) -> nn.Module:
    """Transformers' block-sparse BigBird with ours' defaults, between its own three projections and one of ours."""
    from transformers.models.big_bird import modeling_big_bird as package

    ours = registry.get("bigbird").params()
    config = package.BigBirdConfig(
        hidden_size=WIDTH, num_attention_heads=HEADS, block_size=ours.block_size,
        num_random_blocks=ours.random_blocks, attention_probs_dropout_prob=0.0, use_bias=True,
    )  # fmt: skip
    attention, out_proj = package.BigBirdBlockSparseAttention(config, seed=0), nn.Linear(WIDTH, WIDTH)

    class BigBird(nn.Module):
        """Their masks are made once, as a model makes them once for all its layers."""

        def __init__(self) -> None:
            super().__init__()
            self.attention, self.out_proj, self.masks = attention, out_proj, {}

        def forward(self, x_BNM: Tensor) -> Tensor:
            """Their attention, our projection."""
            batch, tokens, _ = x_BNM.shape
            if tokens not in self.masks:
                make = package.BigBirdModel.create_masks_for_block_sparse_attn
                self.masks[tokens] = make(torch.ones(batch, tokens), ours.block_size)
            blocked, band, rows, columns = self.masks[tokens]
            y_BNM: Tensor = self.out_proj(self.attention(x_BNM, band, rows, columns, blocked, blocked)[0])
            return y_BNM

    return BigBird()


def fnet(_: int) -> nn.Module:
    """Transformers' FNet mixing."""
    from transformers.models.fnet.modeling_fnet import FNetBasicFourierTransform, FNetConfig

    return First(FNetBasicFourierTransform(FNetConfig(hidden_size=WIDTH, use_tpu_fourier_optimizations=False)))


DUELS = (
    Duel("performer", "performer-pytorch", {}, performer),
    Duel("reformer", "reformer-pytorch", {}, reformer),
    Duel("linformer", "linformer", {"rank": 256}, linformer),
    Duel("nystrom", "nystrom-attention", {}, nystrom),
    Duel("local", "local-attention", {}, local),
    Duel("bigbird", "transformers", {}, bigbird),
    Duel("linear", "performer-pytorch", {}, linear),
    Duel("routing", "routing-transformer", {}, routing),
    Duel("fnet", "transformers", {}, fnet),
)


@dataclass(frozen=True, slots=True)
class Row:
    """Seconds of both sides by round, and the median of their ratios; None where theirs cannot run, with its reason."""

    name: str
    package: str
    tokens: int
    ours_s: tuple[float, ...]
    theirs_s: tuple[float, ...]
    ratio: float | None
    reason: str | None = None


def ours_for(duel: Duel, tokens: int) -> nn.Module:
    """Our module as a profile would build it."""
    spec = registry.get(duel.name)
    params = spec.resolve(mechanism_params.make(spec, duel.params), LengthMix((tokens,), (1.0,)))
    made: nn.Module = registry.load(spec.build)(params, embed_dim=WIDTH, num_heads=HEADS)
    return made


def seconds(module: nn.Module, x_BNM: Tensor) -> float:
    """One warm forward pass."""
    module(x_BNM)
    began_s = time.perf_counter()
    module(x_BNM)
    return time.perf_counter() - began_s


@torch.inference_mode()
def raced(duel: Duel, tokens: int, rounds: int, draw: random.Random) -> Row:
    """Both sides in every round, in fresh order."""
    x_BNM = torch.randn(1, tokens, WIDTH)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sides = {"ours": ours_for(duel, tokens).eval(), "theirs": duel.theirs(tokens).eval()}
            for side in sides.values():
                side(x_BNM)
    except ImportError as error:
        return Row(duel.name, duel.package, tokens, (), (), None, f"not installed: {error.name}")
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(rounds):
        for side in draw.sample(list(sides), 2):
            times[side].append(seconds(sides[side], x_BNM))
    ratio = median(mine / theirs for mine, theirs in zip(times["ours"], times["theirs"], strict=True))
    return Row(duel.name, duel.package, tokens, tuple(times["ours"]), tuple(times["theirs"]), ratio)


def shown(rows: Sequence[Row]) -> None:
    """A line per mechanism and length."""
    table = Table(title=f"ours / published package, {WIDTH} wide, {HEADS} heads, batch 1, fp32, forward")
    for heading in ("mechanism", "package", "tokens", "ours ms", "theirs ms", "ratio"):
        table.add_column(heading)
    for row in rows:
        if row.ratio is None:
            table.add_row(row.name, row.package, str(row.tokens), "", "", row.reason)
            continue
        mine, theirs = (f"{1e3 * median(times):.2f}" for times in (row.ours_s, row.theirs_s))
        table.add_row(row.name, row.package, str(row.tokens), mine, theirs, f"{row.ratio:.2f}")
    Console().print(table)


def here() -> dict[str, Any]:
    """What a reader must know of where the figures come from."""
    host = read_host()
    return {
        "device": host.cpu_model, "threads": torch.get_num_threads(), "torch": str(torch.__version__),
        "castbench": castbench.__version__, "recorded_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip


def main() -> int:
    """Race, print, write; 1 where one of ours is slower than the package."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[duel.name for duel in DUELS], help="these mechanisms")
    parser.add_argument("--tokens", type=int, nargs="+", default=[2048, 4096])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the result there as JSON")
    asked = parser.parse_args()
    draw, wanted = random.Random(asked.seed), [d for d in DUELS if asked.only is None or d.name in asked.only]
    torch.manual_seed(asked.seed)
    with bound_threads():
        rows = [raced(duel, tokens, asked.rounds, draw) for duel in wanted for tokens in asked.tokens]
    shown(rows)
    write_result(asked.out, {"rows": [asdict(row) for row in rows], **here()})
    return int(any(row.ratio is not None and row.ratio > SLOWEST for row in rows))


if __name__ == "__main__":
    sys.exit(main())
