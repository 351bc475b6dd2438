"""What cast_limit.py works out from what it measured: ratios, targets, bounds, kinds of operations; no torch.

rounds of seconds ─▶ ratio within rounds ─▶ target met or not ─▶ if not: what the machine's bound would give
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from castbench.mechanisms.cast import CastParams, resolve, work
from castbench.mechanisms.spec import LengthMix, Problem

Round = Mapping[str, float]
"""Seconds (or bytes) by run; a slow run is in some rounds only."""

ELEMENT_BYTES = {"fp32": 4, "bf16": 2}
CLUSTER_STEP = 8
"""Candidates for C are rounded to this, as castbench's own rule does."""
CANDIDATES_FOR = 4096
"""Tokens that the candidates on the command line are meant for; others scale with √N."""
TRAINING_FLOPS = 3.0
"""A forward and a backward pass cost three forward passes, as everywhere in castbench."""
RIVALS = ("projections", "sdpa", "naive")
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True, slots=True)
class Ratio:
    """Median of the ratios within rounds, and their range."""

    value: float
    low: float
    high: float
    rounds: int


@dataclass(frozen=True, slots=True)
class Target:
    """A ratio that CAST is to reach: runs named by templates of {cast}, {short} and {long}.

    of        which measurement: "forward", "training" or "peak_bytes"
    limits    by width of the model
    at_most   whether smaller is better
    """

    text: str
    of: str
    over: str
    under: str
    at_most: bool
    limits: Mapping[int, float]

    def runs(self, cast: str, short: int, long: int) -> tuple[str, str]:
        """Names of the two runs for one kind of CAST."""
        names = {"cast": cast, "short": short, "long": long}
        return self.over.format(**names), self.under.format(**names)

    def is_met(self, value: float, width: int) -> bool:
        """Whether the value is on the right side of the limit, or on it."""
        return value <= self.limits[width] if self.at_most else value >= self.limits[width]

    def limit_text(self, width: int) -> str:
        """The limit with its sign."""
        return f"{'≤' if self.at_most else '≥'} {self.limits[width]:g}"

    @property
    def is_growth(self) -> bool:
        """Whether CAST is compared with itself, so that no bound of its time says anything."""
        return "{cast}" in self.over and "{cast}" in self.under


TARGETS = (
    Target("CAST / projections, N={short}", "forward", "{cast}@{short}", "projections@{short}", True,
           {512: 1.30, 128: 2.2}),
    Target("SDPA / CAST, N={short}", "forward", "sdpa@{short}", "{cast}@{short}", False, {512: 4.0, 128: 9.0}),
    Target("SDPA / CAST, N={long}", "forward", "sdpa@{long}", "{cast}@{long}", False, {512: 13.0, 128: 25.0}),
    Target("naive / CAST, N={short}", "forward", "naive@{short}", "{cast}@{short}", False, {512: 17.0, 128: 35.0}),
    Target("peak memory CAST / SDPA, N={short}", "peak_bytes", "{cast}@{short}", "sdpa@{short}", True,
           {512: 1.25, 128: 1.25}),
    Target("peak memory CAST / naive, N={short}", "peak_bytes", "{cast}@{short}", "naive@{short}", True,
           {512: 0.05, 128: 0.05}),
    Target("forward + backward SDPA / CAST, N={short}", "training", "sdpa@{short}", "{cast}@{short}", False,
           {512: 4.5, 128: 8.0}),
    Target("CAST grows N={short} → {long} by", "forward", "{cast}@{long}", "{cast}@{short}", True,
           {512: 6.0, 128: 6.5}),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rates:
    """What the machine was seen to do at best: in matrix products, in fused attention, in copying (read + write)."""

    gemm_flops_per_s: float
    attention_flops_per_s: float
    bytes_per_s: float


@dataclass(frozen=True, slots=True)
class Bound:
    """What a layer cannot be faster than: arithmetic at the matmul rate, compulsory bytes at the copy bandwidth.

    attention_s   of the arithmetic, what attention takes beyond that at the fused kernel's own rate on long rows
    """

    compute_s: float
    transfer_s: float
    attention_s: float = 0.0

    @property
    def overlapped_s(self) -> float:
        """The strict bound: transfers hidden behind arithmetic, or the other way round."""
        return max(self.compute_s, self.transfer_s)

    @property
    def serial_s(self) -> float:
        """One after the other."""
        return self.compute_s + self.transfer_s

    @property
    def practical_s(self) -> float:
        """One after the other, and attention no faster than PyTorch's fused kernel is on long rows."""
        return self.serial_s + self.attention_s

    def times(self, factor: float) -> Bound:
        """A multiple, for a backward pass."""
        return Bound(self.compute_s * factor, self.transfer_s * factor, self.attention_s * factor)


def ratio_of(rounds: Iterable[Round], over: str, under: str) -> Ratio | None:
    """The ratio within those rounds that hold both; None where there are none."""
    ratios = [r[over] / r[under] for r in rounds if over in r and under in r]
    return Ratio(median(ratios), min(ratios), max(ratios), len(ratios)) if ratios else None


def medians(rounds: Sequence[Round]) -> dict[str, float]:
    """Median of every run over the rounds it is in."""
    return {name: median(r[name] for r in rounds if name in r) for name in {name for r in rounds for name in r}}


def turns(rounds: int, count: int) -> frozenset[int]:
    """Which rounds a run takes part in that can afford only `count`: spread over all, and part of any larger choice.

    Multiples of the golden section, the smallest remainders first: any two slow runs share as many rounds as the
    slower one has.
    """
    return frozenset(sorted(range(rounds), key=lambda r: r * _GOLDEN % 1)[:count])


def affordable(rounds: int, budget_s: float, round_s: float, least: int) -> int:
    """How many rounds a run gets whose turn takes so long: what its budget pays for, but `least`, and at most all."""
    return min(rounds, max(least, int(budget_s / round_s)))


def auto_clusters(tokens: int) -> int:
    """C that castbench's `num_clusters: auto` takes for rows of this length."""
    return int(resolve(CastParams(), LengthMix((tokens,), (1.0,))).num_clusters)


def candidates(asked: Sequence[int], tokens: int, *, wide: bool) -> list[int]:
    """Candidates for C: those asked for scaled by √(N / 4096) to multiples of 8, and auto's; `wide` adds both ends."""
    scale = math.sqrt(tokens / CANDIDATES_FOR)
    wanted = [*asked, min(asked) / 2, max(asked) * 2] if wide else asked
    scaled = {max(CLUSTER_STEP, CLUSTER_STEP * round(c * scale / CLUSTER_STEP)) for c in wanted}
    return sorted(c for c in scaled | {auto_clusters(tokens)} if c <= tokens)


def best_of(rounds: Sequence[Round]) -> str:
    """The run of least median: what a search chooses. Its time here is never reported: the least of many is too low."""
    found = medians(rounds)
    return min(found, key=found.__getitem__)


def rates_of(result: Mapping[str, Any], width: int) -> Rates:
    """The fastest seen of each: a bound may not be made of a slow moment."""
    seen = result["rates"]
    return Rates(
        max(f for rates in seen for product in rates["products"] for f in product["flops_per_s"]),
        max(f for rates in seen for one in rates["attention"] if one["width"] == width for f in one["flops_per_s"]),
        max(b for rates in seen for b in rates["copy_bytes_per_s"]),
    )


def problem_of(row: Mapping[str, Any], dtype: str) -> Problem:
    """The problem that a row of a result is about."""
    return Problem(1, row["tokens"], row["width"], row["heads"], ELEMENT_BYTES[dtype])


def compulsory_bytes(problem: Problem) -> float:
    """Input read, q, k, v written and read once (none attends before all have chosen), result written, weights read."""
    row_bytes = problem.batch_size * problem.seq_len * problem.embed_dim * problem.element_bytes
    return float(8 * row_bytes + 4 * problem.embed_dim**2 * problem.element_bytes)


def least_peak_bytes(problem: Problem) -> float:
    """q, k, v and the result: in_proj's output must be whole before the choice."""
    return 4.0 * problem.batch_size * problem.seq_len * problem.embed_dim * problem.element_bytes


def cast_bound(problem: Problem, clusters: int, rates: Rates) -> Bound:
    """Bound of a CAST layer with so many clusters."""
    flops = work(CastParams(num_clusters=clusters), problem)
    slower_s = flops.attention_flops * (1 / rates.attention_flops_per_s - 1 / rates.gemm_flops_per_s)
    return Bound(
        flops.flops / rates.gemm_flops_per_s, compulsory_bytes(problem) / rates.bytes_per_s, max(0.0, slower_s)
    )


def least_bound(problem: Problem, rates: Rates) -> Bound:
    """The lowest bound that any number of clusters has, strict and practical each: what may forbid a target."""
    highest = max(CLUSTER_STEP, int(4 * math.sqrt(problem.seq_len)))
    tried = [cast_bound(problem, c, rates) for c in range(CLUSTER_STEP, highest + 1, CLUSTER_STEP)]
    compute_s, practical_s = min(b.compute_s for b in tried), min(b.practical_s for b in tried)
    return Bound(compute_s, tried[0].transfer_s, practical_s - compute_s - tried[0].transfer_s)


def with_kernels(
    rows: Iterable[Mapping[str, Any]], width: int, tokens: int, mode: str, runs: tuple[str, str]
) -> float | None:
    """A target's ratio were CAST nothing but PyTorch's kernels one after the other, at its best number of clusters;
    `runs` are the names over and under the line, of which one is a rival.

    Kernels and rivals are timed in the same rounds. The rival is the same whatever the number of clusters, so its
    median is over the rounds of all of them: one slow minute is then no bound. None where they were not timed.
    """
    over, under = (name.partition("@")[0] for name in runs)
    rival = over if over in RIVALS else under
    rounds = [row["rounds"] for row in rows if (row["width"], row["tokens"], row["mode"]) == (width, tokens, mode)]
    rival_s = [r[rival] for each in rounds for r in each if rival in r]
    if not rival_s:
        return None
    ratio = median(rival_s) / min(median(map(together_s, each)) for each in rounds)
    return ratio if rival == over else 1 / ratio


def together_s(times: Mapping[str, float]) -> float:
    """All kernels of a round, one after the other."""
    return math.fsum(seconds for name, seconds in times.items() if name not in RIVALS)


def value_with(runs: tuple[str, str], measured: Round, instead: Round) -> float:
    """The target's ratio from medians, with some runs' figures replaced: what it would be were CAST at its bound."""
    over, under = (instead.get(name, measured[name]) for name in runs)
    return over / under


def why_missed(
    target: Target, width: int, value: float, strict: float, practical: float, share: float,
    kernels: float | None = None,
) -> str:  # fmt: skip
    """A sentence on a missed target: forbidden by the bound, out of the fused kernel's reach, or short of what can be.

    strict      the ratio were CAST at its strict bound
    practical   the ratio were CAST at the serial bound with the fused kernel's own rate
    share       the strict bound over CAST's figure
    kernels     the ratio were CAST nothing but PyTorch's kernels (with_kernels); None where they were not timed
    """
    wanted = f"{value:.3g} where {target.limit_text(width)} is wanted"
    if target.is_growth:
        return f"{wanted}; at its bounds CAST would grow by {strict:.3g}"
    if target.of == "peak_bytes":
        least = "it cannot be" if not target.is_met(strict, width) else "it could be"
        return f"{wanted}; q, k, v and the result alone are {strict:.3g}: {least}"
    reached = f"CAST is at {share:.0%} of its strict bound"
    if not target.is_met(strict, width):
        return f"{wanted}; the bound forbids it: {strict:.3g} at best; {reached}"
    if not target.is_met(practical, width):
        return f"{wanted}; not with this machine's attention kernel and copies: {practical:.3g}; {reached}"
    if kernels is not None and not target.is_met(kernels, width):
        return f"{wanted}; not by PyTorch's kernels for these shapes, nothing between them: {kernels:.3g}; {reached}"
    alone = "" if kernels is None else f"{kernels:.3g} by PyTorch's kernels with nothing between them, "
    return f"{wanted}; it can be: {alone}{practical:.3g} with the fused kernel's rate, {strict:.3g} at most; {reached}"


GEMMS = frozenset({"addmm", "mm", "bmm", "baddbmm", "linear", "addmv", "mv", "mkldnn_linear", "_linear_pointwise"})
GATHERS = frozenset({"index_select", "gather", "index", "take", "take_along_dim", "embedding"})
SCATTERS = frozenset({"index_add", "scatter", "scatter_add", "scatter_reduce", "index_put", "index_copy"})
SORTS = frozenset({"topk", "sort", "argsort", "kthvalue", "unique_consecutive", "_unique2", "searchsorted"})
COPIES = frozenset({"clone", "copy", "_to_copy", "cat", "stack", "repeat", "contiguous", "constant_pad_nd"})
FILLS = frozenset(
    {"zeros", "new_zeros", "zero", "fill", "full", "full_like", "new_full", "arange", "ones", "zeros_like"}
)
NOTHING_MOVED = frozenset({"empty", "empty_like", "new_empty", "empty_strided", "_unsafe_view", "_reshape_alias"})
ATTENTION = "fused attention"


def part_of(op: str, shapes: Sequence[Sequence[int]], width: int) -> str:
    """The part of a forward pass that an operation belongs to, by its name and its tensors' shapes.

    A product with a matrix of M × (2M and more) is in_proj, one with M × M out_proj. What is not PyTorch's own goes
    by its name.
    """
    space, _, name = op.rpartition("::")
    name = name.removesuffix("_")
    if space != "aten":
        return op
    if name in GEMMS:
        return _gemm_part(shapes, width)
    if name.startswith(("_scaled_dot_product", "scaled_dot_product", "_flash_attention", "_efficient_attention")):
        return ATTENTION
    kinds = {
        "gather / scatter": GATHERS | SCATTERS,
        "sort / topk": SORTS,
        "copies, fills": COPIES | FILLS | NOTHING_MOVED,
    }
    return next((part for part, names in kinds.items() if name in names), "softmax, element-wise")


def _gemm_part(shapes: Sequence[Sequence[int]], width: int) -> str:
    """in_proj, out_proj or another product; the last matrix is the weight."""
    matrices = [shape for shape in shapes if len(shape) == 2]
    if not matrices or any(len(shape) > 3 for shape in shapes):
        return "other products"
    weight = sorted(matrices[-1])
    if weight == [width, width]:
        return "out_proj"
    return "in_proj" if weight[0] == width and weight[1] >= 2 * width else "other products"


def moved_bytes(op: str, inputs_bytes: Sequence[int], output_bytes: int) -> int:
    """Bytes an operation reads and writes if no cache helps it: of gathered and scattered sources what is touched."""
    name = op.rpartition("::")[2]
    plain = name.removesuffix("_")
    if plain in NOTHING_MOVED:
        return 0
    if plain in FILLS:
        return output_bytes
    if plain in GATHERS:
        return sum(inputs_bytes[1:]) + 2 * output_bytes
    if plain in SCATTERS and name != plain:
        return sum(inputs_bytes[1:-1]) + 3 * inputs_bytes[-1]
    if name == "copy_":
        return inputs_bytes[-1] + output_bytes
    return sum(inputs_bytes) + output_bytes


def attention_flops(query: Sequence[int], key: Sequence[int]) -> int:
    """Two products for scores and results: 4·(batch and heads)·queries·keys·width."""
    return 4 * math.prod(query) * key[-2]
