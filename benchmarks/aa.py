"""A module against itself: how often castbench calls one of two equal things faster (`record`, `replay`, `live`).

record ─▶ tests/noise/windows.json ─▶ replay: thousands of comparisons on real noise, order drawn anew, no device
live: comparisons from end to end through workers, rounds, looks and verdicts
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from trials import (
    RULES,
    SHAPES,
    Series,
    by_process,
    by_round,
    false_verdicts,
    machine_of,
    measured_pairs,
    never_shuffled,
    process_share,
    read_noise,
    series_of,
    upper_bound,
    write_noise,
    write_result,
)

from castbench.findings import case_findings
from castbench.stats import Verdict
from castbench.workload.spec import MechanismChoice, SamplingPolicy

NOISE = Path(__file__).parents[1] / "tests" / "noise" / "windows.json"
TWINS = (MechanismChoice("sdpa", (), "a"), MechanismChoice("sdpa", (), "b"))
TO_THE_END = 1e-6
"""Half-width that no interval reaches: all looks are used, which is where false verdicts are likeliest."""
LIMIT = 0.05
MOST_FALSE_LIVE = 15
"""Of 200: what a true rate of 5 % exceeds with probability 5 % or less."""


def policy(target_ci: float, window_ms: float) -> SamplingPolicy:
    """No margin, and nothing but timing."""
    return SamplingPolicy(
        target_ci=target_ci, max_seconds_per_case=600.0, same_within=0.0, min_window_ms=window_ms, energy=False,
        confirm=False,
    )  # fmt: skip


def record(asked: argparse.Namespace) -> bool:
    """Write pairs of windows of the same module: every shape, `--repeats` times, each over nine processes."""
    last = RULES.looks[-1]
    whole = replace(RULES, looks=(last,), look_errors=(RULES.total_error,))  # never stopped by what it saw
    noise: list[Series] = []
    for repeat in range(asked.repeats):
        run = measured_pairs(
            TWINS, asked.tokens, "encoder", policy(TO_THE_END, asked.window_ms), whole,
            device=asked.device, threads=asked.threads, seed=asked.seed + repeat,
        )  # fmt: skip
        noise += [series for series in series_of(run) if len(series.log_s) == last]
        write_noise(asked.noise, {**machine_of(run), "window_ms": asked.window_ms}, noise)
        print(f"{repeat + 1} of {asked.repeats}: {len(noise)} series", flush=True)
    print(f"{asked.noise}: {asked.noise.stat().st_size / 1e3:.0f} kB")
    return True


def replay(asked: argparse.Namespace) -> bool:
    """Print the rate of false verdicts per way of drawing anew and margin; the first way decides."""
    noise, rows, good = read_noise(asked.noise), [], True
    print(f"{len(noise)} series; variance of log ratios between processes: {process_share(noise):.1%}")
    for name, redraw in (
        ("order by round", by_round),
        ("names by process", by_process),
        ("fixed order", never_shuffled),
    ):
        for margin in (0.0, 0.01):
            wrong = false_verdicts(noise, redraw, asked.comparisons, margin, TO_THE_END, asked.seed)
            bound = upper_bound(wrong, asked.comparisons)
            good &= bound <= LIMIT or redraw is not by_round
            rows.append({"drawn": name, "margin": margin, "false": wrong, "of": asked.comparisons, "at_most": bound})
            rate = wrong / asked.comparisons
            print(
                f"{name:18}  margin {margin:.0%}: {wrong} of {asked.comparisons} false, {rate:.2%}, at most {bound:.2%}"
            )
    write_result(asked.out, {"rows": rows, "process_share": process_share(noise), "good": good})
    return good


def live(asked: argparse.Namespace) -> bool:
    """Compare a module with itself many times, each time a run of its own, and count the verdicts."""
    wrong, total, rows = 0, 0, []
    while total < asked.comparisons:
        run = measured_pairs(
            TWINS, asked.tokens, "encoder", policy(asked.target_ci, asked.window_ms),
            device=asked.device, threads=asked.threads, seed=asked.seed + total,
        )  # fmt: skip
        for found in case_findings(run):
            if found.arm.label == "b" and found.log_ratio is not None and total < asked.comparisons:
                total += 1
                is_wrong = found.verdict in (Verdict.FASTER, Verdict.SLOWER)
                wrong += is_wrong
                rows.append([found.group.shape.seq_len, found.rounds, found.log_ratio.value, is_wrong])
        print(f"{total}: {wrong} false", flush=True)
    good = wrong <= MOST_FALSE_LIVE * asked.comparisons / 200
    bound = upper_bound(wrong, total)
    print(f"{wrong} of {total} false at margin 0, at most {bound:.2%}; allowed {MOST_FALSE_LIVE} of 200")
    result = {"false": wrong, "of": total, "at_most": bound, "target_ci": asked.target_ci, "rows": rows}
    write_result(asked.out, {**result, "machine": machine_of(run), "good": good})
    return good


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for run in (record, replay, live):
        command = commands.add_parser(run.__name__, help=run.__doc__)
        command.set_defaults(run=run)
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--out", type=Path, help="write the result there as JSON")
        if run is not live:
            command.add_argument("--noise", type=Path, default=NOISE)
        if run is not replay:
            command.add_argument("--device", default="cpu")
            command.add_argument("--threads", type=int)
            command.add_argument("--tokens", type=int, nargs="+", default=SHAPES)
            command.add_argument("--window-ms", type=float, default=20.0)
    commands.choices["record"].add_argument("--repeats", type=int, default=10)
    commands.choices["replay"].add_argument("--comparisons", type=int, default=3000)
    commands.choices["live"].add_argument("--comparisons", type=int, default=200)
    commands.choices["live"].add_argument("--target-ci", type=float, default=TO_THE_END, help="default: all 64 rounds")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parsed()
    sys.exit(0 if arguments.run(arguments) else 1)
