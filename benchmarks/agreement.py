"""castbench's windows against torch.utils.benchmark and a plain loop on the very same modules, in turn in one process.

process per shape:  build ─▶ warm ─▶ round: [castbench | timer | script], order drawn anew ─▶ round ─▶ …

Between processes, and over minutes, this machine's speed drifts by more than the tools could differ; within a round it
hardly does. What the timer gives is the mean of a block, so castbench's mean of a window is held against it; the script
gives the median of single steps, and castbench's median of a window's steps is held against that.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from time import monotonic

from against_torch import ARMS, CASES, QUICK, WITHIN, Case, asked_of, by_script, by_timer, environment_of, plan_of
from rich.console import Console
from rich.table import Table

from castbench.measure.window_rules import shortest_window_s
from castbench.plan import AnalysisPlan

Seconds = dict[str, float]
"""By tool: seconds per step of one mechanism in one round; castbench's mean and median apart."""
PAIRS = (("castbench mean", "timer"), ("castbench median", "script"))
"""What is held against what."""


def child(case: Case, rounds: int) -> None:
    """Print the seconds per step of every tool, mechanism and round of one shape."""
    import torch

    from castbench.measure.worker import Bench

    plan = plan_of(case, AnalysisPlan().looks[0])
    bench, draw = Bench(torch.device("cpu")), random.Random(f"{case}")
    bench.open(plan, plan.groups[0], one_at_a_time=False)
    for arm in plan.arms:
        bench.prepare(arm)
    window_s = shortest_window_s("cpu", plan.sampling)
    steps = {arm.label: math.ceil(window_s / bench.step_s(arm)) for arm in plan.arms}

    def castbench(label: str) -> Seconds:
        sample = bench.window(plan.arm(label), len(found), 0, steps[label]).sample
        return {"castbench mean": sample.mean_step_s, "castbench median": median(sample.step_times_s)}

    def timer(label: str) -> Seconds:
        return {"timer": by_timer(bench._ready(plan.arm(label)).step)[0]}

    def script(label: str) -> Seconds:
        return {"script": by_script(bench._ready(plan.arm(label)).step)[0]}

    tools: tuple[Callable[[str], Seconds], ...] = (castbench, timer, script)
    found: list[dict[str, Seconds]] = []
    for _ in range(rounds):
        turns = draw.sample([(tool, label) for tool in tools for label in ARMS], len(tools) * len(ARMS))
        times: dict[str, Seconds] = {label: {} for label in ARMS}
        for tool, label in turns:
            times[label] |= tool(label)
        found.append(times)
    print(json.dumps({"rounds": found}))


def ratio(rounds: Sequence[Mapping[str, Seconds]], over: str, under: str) -> float:
    """Geometric mean over the mechanisms of the median over rounds of a ratio taken within each round."""
    return math.exp(fmean(math.log(median(r[arm][over] / r[arm][under] for r in rounds)) for arm in ARMS))


def main() -> None:
    """Measure, print, write; exit code 1 where the median over the shapes of either ratio is too far from 1."""
    from trials import write_result

    asked = parsed()
    if asked.child:
        values, rounds = json.loads(asked.child)
        child(Case(**values), rounds)
        return
    began_s, console, rows = monotonic(), Console(), []
    table = Table(title=f"ratios within rounds, {asked.rounds} rounds on the same modules")
    for name in ("shape", *(f"{over} / {under}" for over, under in PAIRS)):
        table.add_column(name)
    for case in [replace(c, seed=asked.seed) for c in (QUICK if asked.quick else CASES)]:
        rounds = asked_of(__file__, environment_of("castbench"), case, asked.rounds)["rounds"]
        ratios = {f"{over} / {under}": ratio(rounds, over, under) for over, under in PAIRS}
        rows.append({"shape": case.name, **ratios, "rounds": rounds})
        table.add_row(case.name, *(f"{value:.3f}" for value in ratios.values()))
        console.print(f"{monotonic() - began_s:6.0f} s  {case.name}", highlight=False)
    console.print(table)
    medians = {f"{over} / {under}": median(row[f"{over} / {under}"] for row in rows) for over, under in PAIRS}
    is_good = all(abs(math.log(value)) <= math.log1p(WITHIN) for value in medians.values())
    console.print(f"median over {len(rows)} shapes: {medians}; within {WITHIN:.0%}: {is_good}", highlight=False)
    write_result(asked.out, {"seed": asked.seed, "medians": medians, "good": is_good, "shapes": rows})
    sys.exit(0 if is_good else 1)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three shapes instead of twelve")
    parser.add_argument("--rounds", type=int, default=12, help="of every shape")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the result there as JSON, every round kept")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
