"""Judges recorded or simulated windows by castbench's own rule and bounds the rates found; for aa.py and power.py."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from castbench import pipeline, stats
from castbench.measure.runner import Silent
from castbench.plan import AnalysisPlan, make_plan
from castbench.records import RunRecord
from castbench.stats import Estimate, Verdict
from castbench.workload.lengths import from_shares
from castbench.workload.spec import MechanismChoice, SamplingPolicy, Scope

RULES = AnalysisPlan()
SHAPES = (128, 512, 2048)
"""Tokens at batch 1: a step of well under a millisecond, of some milliseconds, of tens of milliseconds."""


@dataclass(frozen=True, slots=True)
class Series:
    """One group's pairs of windows of the same module: what it was, and log seconds by round in the order of time.

    process     number of the worker process, by round
    first       which of the two equal arms ran first, "a" or "b", one letter per round
    log_s       (first window, second window) of the round, log of the mean step in seconds
    """

    tokens: int
    process: tuple[int, ...]
    first: str
    log_s: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """Where the rule stopped, and with what."""

    rounds: int
    log_ratio: Estimate
    verdict: Verdict


def judged(log_ratios: Sequence[float], margin: float, target_ci: float) -> Judged:
    """What castbench would have said of these paired log ratios, had they come in one by one."""
    ends = [look for look in RULES.looks if look <= len(log_ratios)]
    for rounds in ends if ends and ends[-1] == len(log_ratios) else [*ends, len(log_ratios)]:
        error = stats.final_error(rounds, RULES.looks, RULES.look_errors)
        found = stats.signed_rank_estimate(log_ratios[:rounds], error)
        if stats.is_settled(found, margin, target_ci):
            break
    return Judged(rounds, found, stats.judge(found, margin))


def by_round(series: Series, draw: random.Random) -> list[float]:
    """Paired log ratios with the order of every round drawn anew."""
    return [draw.choice((1, -1)) * (second - first) for first, second in series.log_s]


def by_process(series: Series, draw: random.Random) -> list[float]:
    """Paired log ratios as they were run, with the names of the two modules drawn anew in every process.

    It keeps what drawing by round cannot show: that one of two equal modules was built into a luckier place.
    """
    signs = {process: draw.choice((1, -1)) for process in sorted(set(series.process))}
    return [signs[process] * ratio for process, ratio in zip(series.process, as_run(series), strict=True)]


def as_run(series: Series) -> list[float]:
    """Paired log ratios b over a as they were run."""
    return [
        second - first if name == "a" else first - second
        for name, (first, second) in zip(series.first, series.log_s, strict=True)
    ]


def never_shuffled(series: Series, draw: random.Random) -> list[float]:
    """Paired log ratios as if one arm had always run first, from a random round on: what a fixed order would give."""
    start = draw.randrange(len(series.log_s))
    pairs = [*series.log_s[start:], *series.log_s[:start]]
    return [second - first for first, second in pairs]


def false_verdicts(
    noise: Sequence[Series], redraw: Callable[[Series, random.Random], list[float]],
    comparisons: int, margin: float, target_ci: float, seed: int,
) -> int:  # fmt: skip
    """How many of so many comparisons of a module with itself end FASTER or SLOWER."""
    draw, wrong = random.Random(seed), 0
    for number in range(comparisons):
        ratios = redraw(noise[number % len(noise)], draw)
        wrong += judged(ratios, margin, target_ci).verdict in (Verdict.FASTER, Verdict.SLOWER)
    return wrong


def process_share(noise: Sequence[Series]) -> float:
    """Share of the variance of paired log ratios that lies between processes, by one-way analysis of variance;
    below 0 where there is less between processes than chance would leave.
    """
    between, within, effective = 0.0, 0.0, 0.0
    for series in noise:
        groups: dict[int, list[float]] = {}
        for process, ratio in zip(series.process, as_run(series), strict=True):
            groups.setdefault(process, []).append(ratio)
        total, count = len(series.process), len(groups)
        mean = math.fsum(as_run(series)) / total
        means = {process: math.fsum(values) / len(values) for process, values in groups.items()}
        residual = math.fsum((v - means[p]) ** 2 for p, values in groups.items() for v in values) / (total - count)
        if residual == 0:
            continue
        spread = math.fsum(len(values) * (means[p] - mean) ** 2 for p, values in groups.items()) / (count - 1)
        between += spread / residual - 1
        within += 1
        effective += (total - sum(len(v) ** 2 for v in groups.values()) / total) / (count - 1)
    if within == 0:
        return 0.0
    ratio = between / within / (effective / within)
    return ratio / (1 + ratio)


def upper_bound(hits: int, trials: int, level: float = 0.95) -> float:
    """One-sided upper limit of a probability after `hits` of `trials` (Clopper and Pearson 1934)."""
    return _solved(lambda p: _binomial_at_most(hits, trials, p) - (1 - level)) if hits < trials else 1.0


def lower_bound(hits: int, trials: int, level: float = 0.95) -> float:
    """One-sided lower limit, the upper limit of the misses turned round."""
    return 1 - upper_bound(trials - hits, trials, level)


def measured_pairs(
    mechanisms: tuple[MechanismChoice, MechanismChoice], tokens: Sequence[int], scope: Scope, policy: SamplingPolicy,
    rules: AnalysisPlan = RULES, *, device: str = "cpu", threads: int | None = None, seed: int = 0,
) -> RunRecord:  # fmt: skip
    """A run of two mechanisms of the quickstart model, without ceilings, through castbench's front door."""
    profile = replace(
        pipeline.load_profile("quickstart"), mechanisms=mechanisms, baseline=mechanisms[0].label or mechanisms[0].name,
        scope=scope, lengths=from_shares([(n, 1 / len(tokens)) for n in tokens]), measure_lengths=(), batch_sizes=(1,),
        regimes=("eager",), sampling=policy, seed=seed,
    )  # fmt: skip
    full = make_plan(profile)
    plan = replace(full, arms=tuple(arm for arm in full.arms if arm.role != "ceiling"), analysis=rules)
    rig = pipeline.open_rig(device, profile.dtype, seed, threads)
    with TemporaryDirectory() as directory:
        return pipeline.measure(profile, plan, rig, Silent(), out=Path(directory) / "trial.jsonl").record


def series_of(record: RunRecord) -> Iterator[Series]:
    """The pairs of windows of every group of a run of two arms."""
    one = record.header.plan.baseline
    for group in record.header.plan.groups:
        rounds = record.rounds_of(group.key)
        pairs = [sorted(r.samples, key=lambda s: s.order) for r in rounds]
        yield Series(
            group.shape.seq_len,
            tuple(r.epoch for r in rounds),
            "".join("a" if pair[0].label == one else "b" for pair in pairs),
            tuple((round(math.log(x.mean_step_s), 5), round(math.log(y.mean_step_s), 5)) for x, y in pairs),
        )


def read_noise(path: Path) -> tuple[Series, ...]:
    """The series of a file that `write_noise` wrote."""
    return tuple(
        Series(s["tokens"], tuple(s["process"]), s["first"], tuple((x, y) for x, y in s["log_s"]))
        for s in json.loads(path.read_text())["series"]
    )


def write_noise(path: Path, about: dict[str, Any], noise: Sequence[Series]) -> None:
    """A line per series."""
    lines = ",\n".join(json.dumps(asdict(series), separators=(",", ":")) for series in noise)
    path.write_text(f'{{"about": {json.dumps(about)},\n"series": [\n{lines}\n]}}\n')


def write_result(out: Path | None, result: dict[str, Any]) -> None:
    """The result as JSON, where a file was asked for."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=1) + "\n")


def machine_of(record: RunRecord) -> dict[str, Any]:
    """What a reader must know of where a figure comes from."""
    here = record.header.environment
    return {
        "device": here.device_name, "cores": here.cpu_cores, "threads": here.threads, "torch": here.torch,
        "castbench": here.castbench, "recorded_at": record.header.created_at, "code": record.header.code_sha256[:12],
    }  # fmt: skip


def _solved(function: Callable[[float], float]) -> float:
    """Where a falling function crosses 0 between 0 and 1."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) > 0 else (low, middle)
    return high


def _binomial_at_most(hits: int, trials: int, p: float) -> float:
    """Probability of at most `hits` in `trials`."""
    if p in (0.0, 1.0):
        return 1.0 - p
    choose = math.lgamma(trials + 1)
    return math.fsum(
        math.exp(
            choose - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * math.log(p) + (trials - k) * math.log1p(-p)
        )
        for k in range(hits + 1)
    )
