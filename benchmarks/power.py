"""What difference castbench finds, and whether its intervals hold the truth (`live`, `replay`, `simulate`).

live      plus(x, percent) against x on this machine: what is put in must come out
replay    the noise that aa.py recorded, order drawn anew, with a stated difference added
simulate  noise that drifts, remembers, jumps or has heavy tails, shared by the arms of a round, with its own on top
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

from trials import (
    RULES,
    Judged,
    by_round,
    judged,
    lower_bound,
    machine_of,
    measured_pairs,
    read_noise,
    write_result,
)

from castbench.findings import case_findings
from castbench.stats import Verdict
from castbench.workload.spec import MechanismChoice, SamplingPolicy

NOISE = Path(__file__).parents[1] / "tests" / "noise" / "windows.json"
DEFAULT = SamplingPolicy()
PERCENTS = (1, 2, 3, 5, 10)
REQUIRED = {3: 0.50, 5: 0.80, 10: 0.99}
"""Least share of trials in which a difference of so many percent must be found."""
COVERED = 0.93
"""Least share of intervals that must hold the truth."""
ARMS = 5
"""Arms of a simulated round: a baseline, a candidate, another and two ceilings."""


def tabled(percent: float, trials: Sequence[Judged], note: str = "") -> dict[str, Any]:
    """Print and return a line: found SLOWER, interval above 0, truth held, rounds."""
    truth, count = math.log1p(percent / 100), len(trials)
    intervals = [(t.log_ratio.low, t.log_ratio.high) for t in trials]
    known = [(low, high) for low, high in intervals if low is not None and high is not None]
    found = sum(t.verdict is Verdict.SLOWER for t in trials)
    apart = sum(low > 0 for low, _ in known)
    held = sum(low <= truth <= high for low, high in known)
    off = median(t.log_ratio.value for t in trials) - truth
    coverage = held / len(known) if known else 0.0
    print(
        f"{percent:4g} %: SLOWER {found / count:7.1%} (at least {lower_bound(found, count):.1%}), "
        f"above 0 {apart / count:7.1%}, truth held {coverage:6.1%}"
        f" ± {math.sqrt(coverage * (1 - coverage) / max(1, len(known))):.1%}, off by {off:+.2%}, "
        f"rounds {median(t.rounds for t in trials):g}, {count} trials{note}",
        flush=True,
    )
    return {
        "percent": percent, "trials": count, "slower": found, "above_zero": apart, "intervals": len(known),
        "held": held, "off": off, "rounds": median(t.rounds for t in trials),
    }  # fmt: skip


def is_good(row: dict[str, Any], margin: float) -> bool:
    """Whether a line is what was promised: of detection at the default margin, and of coverage."""
    enough = REQUIRED.get(row["percent"], 0.0) if margin == DEFAULT.same_within else 0.0
    return bool(row["slower"] >= enough * row["trials"] and row["held"] >= COVERED * row["intervals"])


def live(asked: argparse.Namespace) -> bool:
    """Time plus(of, percent) against `of`, many runs per percentage, by the default rule and within a case's time."""
    policy = SamplingPolicy(max_seconds_per_case=asked.seconds, energy=False, confirm=False)
    rows = []
    for percent in asked.percents:
        trials, took_s = [], []
        for number in range(asked.trials):
            began = monotonic()
            run = measured_pairs(
                (
                    MechanismChoice(asked.of, (), "x"),
                    MechanismChoice("plus", (("of", asked.of), ("percent", float(percent))), "plus"),
                ),
                (asked.tokens,), "attention", policy, device=asked.device, threads=asked.threads, seed=number,
            )  # fmt: skip
            took_s.append(monotonic() - began)
            case = next(f for f in case_findings(run) if f.arm.label == "plus")
            if case.log_ratio is not None and case.verdict is not None:
                trials.append(Judged(case.rounds, case.log_ratio, case.verdict))
        row = tabled(percent, trials, f" of {median(took_s):.1f} s")
        rows.append({**row, "seconds": median(took_s), "longest_s": max(took_s)})
    good = all(is_good(row, policy.same_within) for row in rows)
    write_result(asked.out, {"of": asked.of, "tokens": asked.tokens, "rows": rows, "good": good, **machine_of(run)})
    return good


def replay(asked: argparse.Namespace) -> bool:
    """Add a stated difference to recorded noise, series by series, and judge it as castbench would."""
    noise, draw, rows, good = read_noise(asked.noise), random.Random(asked.seed), [], True
    for margin in (DEFAULT.same_within, 0.0):
        print(f"margin {margin:.0%}")
        for percent in (0, *asked.percents):
            shift = math.log1p(percent / 100)
            trials = [
                judged([v + shift for v in by_round(noise[i % len(noise)], draw)], margin, DEFAULT.target_ci)
                for i in range(asked.trials)
            ]
            rows.append({**tabled(percent, trials), "margin": margin})
            good &= is_good(rows[-1], margin)
    write_result(asked.out, {"rows": rows, "good": good})
    return good


def simulate(asked: argparse.Namespace) -> bool:
    """Judge simulated rounds of five arms with a true difference of 3 %, kind of noise by kind of noise."""
    rows, good = [], True
    for kind in NOISES:
        print(kind.__name__.replace("_", " ") + f": {kind.__doc__}")
        draw = random.Random(asked.seed)
        trials = [
            judged(simulated(kind, math.log1p(0.03), draw), DEFAULT.same_within, DEFAULT.target_ci)
            for _ in range(asked.trials)
        ]
        rows.append({**tabled(3, trials), "noise": kind.__name__})
        good &= rows[-1]["held"] >= COVERED * rows[-1]["intervals"]
    write_result(asked.out, {"rows": rows, "good": good})
    return good


Noise = Callable[[random.Random], Iterator[float]]
"""Log of how much longer each window takes, window after window, whatever runs in it."""


def simulated(kind: Noise, shift: float, draw: random.Random) -> list[float]:
    """Paired log ratios of one comparison: two arms at random places of rounds of five windows."""
    noise, ratios = kind(draw), []
    for _ in range(RULES.looks[-1]):
        windows = [next(noise) for _ in range(ARMS)]
        mine, theirs = draw.sample(range(ARMS), 2)
        ratios.append(shift + windows[mine] - windows[theirs])
    return ratios


def plain(draw: random.Random) -> Iterator[float]:
    """independent, normal, sd 3 %"""
    while True:
        yield draw.gauss(0, 0.03)


def drifting(draw: random.Random) -> Iterator[float]:
    """A random walk of 1 % and a trend of 0.1 % per window, and 2 % of each window's own"""
    level = 0.0
    while True:
        level += 0.001 + draw.gauss(0, 0.01)
        yield level + draw.gauss(0, 0.02)


def autocorrelated(draw: random.Random) -> Iterator[float]:
    """Windows that remember the last one (0.63, sd 5 %, as raw windows did here), and 2 % of each one's own"""
    level = 0.0
    while True:
        level = 0.63 * level + draw.gauss(0, 0.05 * math.sqrt(1 - 0.63**2))
        yield level + draw.gauss(0, 0.02)


def heavy_tailed(draw: random.Random) -> Iterator[float]:
    """Student's t with 2 degrees of freedom, 5 % shared by a round and 2 % of each window's own"""
    while True:
        shared = 0.05 * _student_t(draw, 2)
        for _ in range(ARMS):
            yield shared + 0.02 * _student_t(draw, 2)


def stalling(draw: random.Random) -> Iterator[float]:
    """One window in five stalled by 20 % on average, one-sided, and 2 % of each window's own"""
    while True:
        stall = math.log1p(draw.expovariate(5)) if draw.random() < 0.2 else 0.0
        yield stall + draw.gauss(0, 0.02)


def bimodal(draw: random.Random) -> Iterator[float]:
    """Two levels 20 % apart shared by a round, two levels 8 % apart by window, and 1 % of each window's own"""
    while True:
        shared = 0.2 * (draw.random() < 0.5)
        for _ in range(ARMS):
            yield shared + 0.08 * (draw.random() < 0.3) + draw.gauss(0, 0.01)


NOISES: tuple[Noise, ...] = (plain, drifting, autocorrelated, heavy_tailed, stalling, bimodal)


def _student_t(draw: random.Random, degrees: int) -> float:
    """A number drawn from Student's t."""
    return draw.gauss(0, 1) / math.sqrt(draw.gammavariate(degrees / 2, 2) / degrees)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for run, trials in ((live, 30), (replay, 2000), (simulate, 4000)):
        command = commands.add_parser(run.__name__, help=(run.__doc__ or "").replace("%", "%%"))
        command.set_defaults(run=run)
        command.add_argument("--trials", type=int, default=trials)
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--out", type=Path, help="write the result there as JSON")
        if run is not simulate:
            command.add_argument("--percents", type=float, nargs="+", default=PERCENTS)
    commands.choices["replay"].add_argument("--noise", type=Path, default=NOISE)
    timed = commands.choices["live"]
    timed.add_argument("--of", default="sdpa", help="the mechanism x")
    timed.add_argument("--tokens", type=int, default=2048)
    timed.add_argument("--seconds", type=float, default=DEFAULT.max_seconds_per_case, help="time a case may take")
    timed.add_argument("--device", default="cpu")
    timed.add_argument("--threads", type=int)
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parsed()
    sys.exit(0 if arguments.run(arguments) else 1)
