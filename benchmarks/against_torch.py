"""castbench's latencies against torch.utils.benchmark's and a plain script's: same modules, inputs, threads, binding.

per shape and repeat, the tools in an order drawn anew, every one in processes of its own:
    castbench   a run through the front door: a round times sdpa and cast once
    timer       a pair is Timer.blocked_autorange() of sdpa and of cast, order drawn anew; its median each
    script      a pair is a loop around perf_counter over sdpa and over cast, order drawn anew; its median each

Latency is the mean over processes of their medians. Precision is reached by one rule for all: pairs are spread over
processes as castbench spreads rounds, and looked at when castbench looks, with its signed-rank interval of the log
ratio cast / sdpa and its error per look; the first look whose half-width is at most --width ends the count. Seconds
run from the start of the tool's first process, imports and warm-up included; timed seconds are steps alone.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from castbench import pipeline, stats
from castbench.findings import case_findings
from castbench.measure.runner import Progress, Silent
from castbench.measure.threads import thread_settings
from castbench.plan import AnalysisPlan, Plan, make_plan
from castbench.workload.lengths import from_shares
from castbench.workload.spec import MechanismChoice, ModelSpec, SamplingPolicy, Scope, WorkloadProfile

if TYPE_CHECKING:
    from torch import Tensor

RULES = AnalysisPlan()
ARMS = ("sdpa", "cast")
UNBOUND = "script, unbound"
TOOLS = ("castbench", "timer", "script", UNBOUND)
RIVALS = ("timer", "script")
"""What castbench must agree with; the unbound script is shown apart."""
WITHIN = 0.03
"""How far the median ratio of latencies may be from 1."""
BINDING = frozenset({"OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY"})
SCRIPT_WARM_UP_STEPS, SCRIPT_SECONDS, SCRIPT_LEAST_STEPS = 3, 0.2, 5
"""The script's loop is as long as blocked_autorange's by default, so that a pair costs both the same."""


@dataclass(frozen=True, slots=True)
class Case:
    """One shape: what is timed, its size, and the seed of weights and inputs."""

    scope: Scope
    tokens: int
    width: int
    batch: int
    seed: int = 0

    @property
    def name(self) -> str:
        """As in tables."""
        return f"{self.scope} {self.batch} x {self.tokens} x {self.width}"


CASES = (
    Case("attention", 64, 128, 1), Case("attention", 64, 512, 8), Case("attention", 128, 256, 4),
    Case("attention", 256, 128, 8), Case("attention", 256, 512, 1), Case("attention", 512, 256, 2),
    Case("attention", 1024, 128, 1), Case("attention", 1024, 512, 1), Case("attention", 2048, 128, 1),
    Case("encoder", 128, 128, 8), Case("encoder", 512, 128, 1), Case("encoder", 1024, 128, 2),
)  # fmt: skip
QUICK = (CASES[2], CASES[6], CASES[10])


@dataclass(frozen=True, slots=True)
class Reached:
    """Where the interval was narrow enough: pairs, seconds since the tool began, seconds of timed steps."""

    pairs: int
    total_s: float
    timed_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a tool found on one shape: seconds per step by mechanism, and where it was precise enough, if it was."""

    latency_s: dict[str, float]
    reached: Reached | None
    half_width: float
    total_s: float


Repeat = dict[str, Outcome]
"""What every tool found on a shape, in the order they ran."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Both mechanisms timed once: their seconds per step, the process it was, seconds of steps, when it was done."""

    step_s: dict[str, float]
    process: int
    timed_s: float
    done_s: float


def profile_of(case: Case) -> WorkloadProfile:
    """The profile that castbench measures, with the default sampling; only timing, to the last look."""
    model = ModelSpec(2, case.width, case.width // 32, 4 * case.width, 30_000)
    policy = SamplingPolicy(max_seconds_per_case=600.0, energy=False, confirm=False)
    return replace(
        pipeline.load_profile("quickstart"), model=model, mechanisms=tuple(MechanismChoice(name) for name in ARMS),
        baseline=ARMS[0], scope=case.scope, lengths=from_shares([(case.tokens, 1.0)]), measure_lengths=(),
        batch_sizes=(case.batch,), batching=("bucketed",), regimes=("eager",), sampling=policy, seed=case.seed,
    )  # fmt: skip


def plan_of(case: Case, pairs: int) -> Plan:
    """Two arms, no ceilings, one look at the end: where it would have stopped is worked out afterwards."""
    full = make_plan(profile_of(case))
    ends = tuple(end for end in RULES.epoch_ends if end <= pairs)
    rules = replace(RULES, looks=(pairs,), look_errors=(RULES.total_error,), epoch_ends=ends)
    return replace(full, arms=tuple(arm for arm in full.arms if arm.role != "ceiling"), analysis=rules)


def narrow_at(log_ratios: Sequence[float], width: float) -> tuple[int | None, float]:
    """The first of castbench's looks whose interval has at most this half-width (None: none has), and the half-width
    there or at the last look.
    """
    half_width = math.inf
    for look, error in zip(RULES.looks, RULES.look_errors, strict=True):
        if look > len(log_ratios):
            break
        half_width = stats.signed_rank_estimate(log_ratios[:look], error).half_width
        if half_width <= width:
            return look, half_width
    return None, half_width


def judged(pairs: Sequence[Pair], width: float, began_s: float, latency_s: dict[str, float]) -> Outcome:
    """What the pairs of one tool amount to."""
    ratios = [math.log(pair.step_s[ARMS[1]] / pair.step_s[ARMS[0]]) for pair in pairs]
    look, half_width = narrow_at(ratios, width)
    reached = None
    if look is not None:
        reached = Reached(look, pairs[look - 1].done_s - began_s, math.fsum(p.timed_s for p in pairs[:look]))
    return Outcome(latency_s, reached, half_width, pairs[-1].done_s - began_s)


def latency_of(pairs: Sequence[Pair]) -> dict[str, float]:
    """Seconds per step by mechanism: the mean over processes of the median of their pairs."""
    processes = sorted({pair.process for pair in pairs})
    return {arm: fmean(median(p.step_s[arm] for p in pairs if p.process == one) for one in processes) for arm in ARMS}


class Rounds(Silent):
    """Notes when how many rounds were done."""

    def __init__(self) -> None:
        self.done_s: list[float] = []

    def progress(self, progress: Progress) -> None:
        """One more stamp for every round finished since the last call."""
        self.done_s += [monotonic()] * (progress.rounds - len(self.done_s))


def castbench_child(case: Case, pairs: int, threads: int | None) -> None:
    """Print what castbench itself says of the case, with its rounds as pairs."""
    from trials import machine_of

    plan, rounds = plan_of(case, pairs), Rounds()
    rig = pipeline.open_rig("cpu", "fp32", case.seed, threads)
    with TemporaryDirectory() as folder:
        record = pipeline.measure(profile_of(case), plan, rig, rounds, out=Path(folder) / "run.jsonl").record
    latency_s = {f.arm.label: f.latency_s.value for f in case_findings(record) if f.latency_s is not None}
    found = [
        Pair({s.label: s.mean_step_s for s in r.samples}, r.epoch, math.fsum(s.elapsed_s for s in r.samples), done_s)
        for r, done_s in zip(record.rounds_of(plan.groups[0].key), rounds.done_s, strict=True)
    ]
    print(json.dumps({"latency_s": latency_s, "pairs": [asdict(p) for p in found], "machine": machine_of(record)}))


def rival_child(case: Case, tool: str, pairs: int, process: int, threads: int | None) -> None:
    """Print so many pairs of one rival, timed in this process."""
    import torch

    from castbench.encoder.inputs import make_pool
    from castbench.encoder.model import build_timed, make_step

    if threads is not None:
        torch.set_num_threads(threads)
    plan = plan_of(case, RULES.looks[-1])
    pool = make_pool(plan.served, plan.mix, plan.groups[0], plan.served.seed)
    steps = {arm.label: make_step(build_timed(plan.served, arm), pool, "inference") for arm in plan.arms}
    draw, timed = random.Random(f"{case}|{tool}|{process}"), by_timer if tool == "timer" else by_script
    found = []
    for _ in range(pairs):
        order = draw.sample(ARMS, 2)
        times = {arm: timed(steps[arm]) for arm in order}
        step_s = {arm: one for arm, (one, _) in times.items()}
        found.append(Pair(step_s, process, math.fsum(spent for _, spent in times.values()), monotonic()))
    print(json.dumps({"pairs": [asdict(p) for p in found]}))


def by_timer(step: Callable[[int], Tensor]) -> tuple[float, float]:
    """Median seconds of a step, and seconds of all timed steps, by torch.utils.benchmark."""
    import torch
    from torch.utils.benchmark import Timer

    # Timer runs with one thread unless it is told otherwise.
    timer = Timer("step(next(turn))", globals={"step": step, "turn": count()}, num_threads=torch.get_num_threads())
    found = timer.blocked_autorange()
    return found.median, math.fsum(found.raw_times)


def by_script(step: Callable[[int], Tensor]) -> tuple[float, float]:
    """The same by what anyone would write."""
    for index in range(SCRIPT_WARM_UP_STEPS):
        step(index)
    times: list[float] = []
    while len(times) < SCRIPT_LEAST_STEPS or math.fsum(times) < SCRIPT_SECONDS:
        began = perf_counter()
        step(len(times))
        times.append(perf_counter() - began)
    return median(times), math.fsum(times)


def asked_of(script: str, environment: Mapping[str, str], case: Case, *arguments: object) -> dict[str, Any]:
    """What a fresh process of a script prints."""
    command = [sys.executable, script, "--child", json.dumps([asdict(case), *arguments])]
    done = subprocess.run(command, env=dict(environment), stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def run_castbench(case: Case, asked: argparse.Namespace, machine: dict[str, Any]) -> Outcome:
    """One run; what it says of the machine goes into `machine`."""
    began_s = monotonic()
    answer = asked_of(__file__, environment_of("castbench"), case, "castbench", asked.pairs, 0, asked.threads)
    machine.update(answer["machine"])
    return judged([Pair(**pair) for pair in answer["pairs"]], asked.width, began_s, answer["latency_s"])


def run_rival(case: Case, tool: str, asked: argparse.Namespace) -> Outcome:
    """Process after process, until a look is narrow enough or the pairs are used up."""
    began_s, pairs, environment = monotonic(), [], environment_of(tool)
    for process, (start, end) in enumerate(zip((0, *RULES.epoch_ends), RULES.epoch_ends, strict=False)):
        if end > asked.pairs:
            break
        answer = asked_of(__file__, environment, case, tool, end - start, process, asked.threads)
        pairs += [Pair(**pair) for pair in answer["pairs"]]
        found = judged(pairs, asked.width, began_s, latency_of(pairs))
        if found.reached is not None:
            break
    return found


def environment_of(tool: str) -> dict[str, str]:
    """Threads bound as castbench binds them for every tool; not bound for the unbound script."""
    if tool == UNBOUND:
        return {name: value for name, value in os.environ.items() if name not in BINDING}
    return {**os.environ, **dict(thread_settings(os.environ))}


def geometric_ratio(over: Outcome, under: Outcome) -> float:
    """Geometric mean over the mechanisms of a ratio of latencies."""
    return math.exp(fmean(math.log(over.latency_s[arm] / under.latency_s[arm]) for arm in ARMS))


def ratio(repeats: Sequence[Repeat], over: str, under: str) -> float:
    """Median over the repeats of one shape."""
    return median(geometric_ratio(repeat[over], repeat[under]) for repeat in repeats)


def time_to_width(repeats: Sequence[Repeat], tool: str) -> Reached | None:
    """The median repeat by total seconds (the upper of two); None where that one was never narrow enough."""
    ends = [repeat[tool].reached for repeat in repeats]
    return sorted(ends, key=lambda r: math.inf if r is None else r.total_s)[len(ends) // 2]


def summary(found: Mapping[Case, Sequence[Repeat]]) -> dict[str, Any]:
    """Medians over the shapes of castbench / rival, their extremes, and of the seconds needed."""
    lines: dict[str, Any] = {}
    for tool in TOOLS[1:]:
        ratios = [ratio(repeats, "castbench", tool) for repeats in found.values()]
        lines[f"castbench / {tool}"] = {"median": median(ratios), "least": min(ratios), "most": max(ratios)}
    lines["script / timer"] = {"median": median(ratio(repeats, "script", "timer") for repeats in found.values())}
    for tool in TOOLS:
        ends = [time_to_width(repeats, tool) for repeats in found.values()]
        lines[f"seconds of {tool}"] = {
            "shapes_reached": sum(end is not None for end in ends), "of": len(ends),
            "median_total_s": median_reached([end and end.total_s for end in ends]),
            "median_timed_s": median_reached([end and end.timed_s for end in ends]),
        }  # fmt: skip
    lines["good"] = all(abs(math.log(lines[f"castbench / {t}"]["median"])) <= math.log1p(WITHIN) for t in RIVALS)
    return lines


def median_reached(seconds: Sequence[float | None]) -> float | None:
    """Median with None as "longer than all others": None where half or more never got there."""
    middle = median(math.inf if one is None else one for one in seconds)
    return middle if math.isfinite(middle) else None


def table_of(found: Mapping[Case, Sequence[Repeat]], width: float) -> Table:
    """A row per shape."""
    table = Table(title=f"latency ratios, and seconds until cast / sdpa is known to ±{width:.0%} (steps alone)")
    for name in ("shape", "sdpa, cast (ms)", *(f"castbench / {tool}" for tool in TOOLS[1:]), *TOOLS):
        table.add_column(name, justify="left" if name == "shape" else "right")
    for case, repeats in found.items():
        ms = ", ".join(f"{median(r['castbench'].latency_s[arm] for r in repeats) * 1e3:.3g}" for arm in ARMS)
        ratios = [f"{ratio(repeats, 'castbench', tool):.3f}" for tool in TOOLS[1:]]
        table.add_row(case.name, ms, *ratios, *(seconds_text(repeats, tool) for tool in TOOLS))
    return table


def seconds_text(repeats: Sequence[Repeat], tool: str) -> str:
    """Seconds in all and of steps alone, or what was spent in vain."""
    reached = time_to_width(repeats, tool)
    if reached is None:
        return f"> {median(repeat[tool].total_s for repeat in repeats):.0f}"
    return f"{reached.total_s:.1f} ({reached.timed_s:.1f})"


def main() -> None:
    """Measure, print, write; exit code 1 where a median ratio is further from 1 than WITHIN."""
    asked = parsed()
    if asked.child:
        answer_as_child(*json.loads(asked.child))
        return
    began_s, machine, console = monotonic(), dict[str, Any](), Console()
    found = measured(asked, machine, console)
    Console(width=max(console.width, 150)).print(table_of(found, asked.width))
    result = summary(found)
    for name, line in result.items():
        console.print(f"{name}: {line}", highlight=False, soft_wrap=True)
    if asked.out is not None:
        write(asked, machine, found, result, monotonic() - began_s)
    sys.exit(0 if result["good"] else 1)


def answer_as_child(values: dict[str, Any], tool: str, pairs: int, process: int, threads: int | None) -> None:
    """What a process does that `asked_of` started."""
    if tool == "castbench":
        castbench_child(Case(**values), pairs, threads)
    else:
        rival_child(Case(**values), tool, pairs, process, threads)


def measured(asked: argparse.Namespace, machine: dict[str, Any], console: Console) -> dict[Case, list[Repeat]]:
    """Every shape so many times: shapes in an order drawn per repeat, tools in an order drawn per shape."""
    draw, began_s = random.Random(asked.seed), monotonic()
    cases = [replace(case, seed=asked.seed) for case in (QUICK if asked.quick else CASES)]
    found: dict[Case, list[Repeat]] = {case: [] for case in cases}
    for number in range(asked.repeats):
        for case in draw.sample(cases, len(cases)):
            outcomes = {}
            for tool in draw.sample(TOOLS, len(TOOLS)):
                is_ours = tool == "castbench"
                outcomes[tool] = run_castbench(case, asked, machine) if is_ours else run_rival(case, tool, asked)
            found[case].append(outcomes)
            console.print(f"{monotonic() - began_s:6.0f} s  repeat {number + 1}: {case.name}", highlight=False)
    return found


def write(
    asked: argparse.Namespace, machine: dict[str, Any], found: Mapping[Case, Sequence[Repeat]],
    result: dict[str, Any], took_s: float,
) -> None:  # fmt: skip
    """Everything as JSON; the order of the tools within a repeat is the order of their keys."""
    from trials import write_result

    shapes = [
        {"shape": asdict(case), "repeats": [{tool: asdict(o) for tool, o in r.items()} for r in repeats]}
        for case, repeats in found.items()
    ]
    about = {"seed": asked.seed, "repeats": asked.repeats, "pairs": asked.pairs, "width": asked.width, "took_s": took_s}
    settings = dict(thread_settings(os.environ))
    write_result(asked.out, {"machine": machine, "binding": settings, **about, "summary": result, "shapes": shapes})


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three shapes instead of twelve")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=RULES.looks[-1], choices=RULES.looks, help="at most, per tool")
    parser.add_argument("--width", type=float, default=0.03, help="half-width of the log ratio to be reached")
    parser.add_argument("--threads", type=int, help="of every tool; default: torch's own choice")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the result there as JSON")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
