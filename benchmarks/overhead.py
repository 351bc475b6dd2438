"""What castbench itself costs beside what it times: per step, per window, per round, per process, and the sampler's.

bare loop ─▶ clock ─▶ worker's window (settling, counters) ─▶ parent's command ─▶ round ─▶ worker process ─▶ run
sampler thread, in the parent, all the while: through the real pynvml and the scripted library of tests/nvml

Every difference is between neighbours in time, their order drawn anew; the interval is the signed-rank one at 95 %.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from castbench import pipeline, stats
from castbench.hardware import nvml
from castbench.hardware.gpu import GpuReading
from castbench.hardware.scheduling import read_scheduling
from castbench.measure.gpu_watch import Looks
from castbench.measure.runner import Progress, Silent
from castbench.measure.sampler import PERIOD_S, RealClock, Sampler
from castbench.measure.threads import bound_threads
from castbench.measure.torch_rig import START_TIMEOUT_S, Worker
from castbench.measure.window_rules import settle_s, shortest_window_s
from castbench.plan import Plan, make_plan
from castbench.records import RunRecord
from castbench.workload.lengths import from_shares
from castbench.workload.spec import MechanismChoice, SamplingPolicy, Scope, WorkloadProfile

ROOT = Path(__file__).parents[1]
ERROR = 0.05
EMPTY_STEPS = 10_000
BUSY_MS = 1.0
STEP_NS = BUSY_MS * 1e6
"""Shares are of a step this long."""
MOST_CPU_SHARE = 0.01
"""Of one core, for the sampler's thread."""
DEFAULT = SamplingPolicy(energy=False, confirm=False)


@dataclass(frozen=True, slots=True)
class Row:
    """A measured figure with its interval, where it has one."""

    what: str
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is measured: pairs of windows, seconds of sampling, rounds of a run."""

    pairs: int
    sampled_s: float
    rounds: int


FULL, QUICK = Amount(64, 30.0, 32), Amount(12, 5.0, 8)


def centre(what: str, values: Sequence[float], unit: str, note: str = "") -> Row:
    """Pseudo-median of the values with its interval."""
    found = stats.signed_rank_estimate(values, ERROR)
    return Row(what, found.value, unit, found.low, found.high, note)


def ratio(what: str, log_ratios: Sequence[float], note: str = "") -> Row:
    """Pseudo-median of log ratios, turned back into a difference in percent."""
    found = stats.signed_rank_estimate(log_ratios, ERROR)
    low, high = (None if x is None else math.expm1(x) * 1e2 for x in (found.low, found.high))
    return Row(what, math.expm1(found.value) * 1e2, "%", low, high, note)


def paired(draw: random.Random, pairs: int, **arms: Callable[[], float]) -> dict[str, list[float]]:
    """What every arm returned, pair by pair; the order within a pair is drawn for it alone."""
    found: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(pairs):
        for name in draw.sample(list(arms), len(arms)):
            found[name].append(arms[name]())
    return found


def seconds_of(call: Callable[[], object]) -> float:
    """Wall time of a call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def bare(step: Callable[[int], object], steps: int) -> float:
    """Seconds per step of a loop that does nothing else."""
    began = time.perf_counter()
    for index in range(steps):
        step(index)
    return (time.perf_counter() - began) / steps


def clock_rows(amount: Amount, draw: random.Random) -> Iterator[Row]:
    """The CPU clock around a step that does nothing and one that is busy for a known time, against a bare loop."""
    import torch

    from castbench.measure.cpu_clock import CpuClock
    from castbench.mechanisms.busy.module import hold

    clock, output, cpu = CpuClock(), torch.zeros(1), torch.device("cpu")

    def empty(_: int) -> torch.Tensor:
        return output

    def busy(_: int) -> torch.Tensor:
        hold(cpu, BUSY_MS / 1e3)
        return output

    told: list[float] = []

    def whole() -> float:
        began = time.perf_counter()
        told.append(clock.time_window(empty, EMPTY_STEPS).elapsed_s / EMPTY_STEPS)
        return (time.perf_counter() - began) / EMPTY_STEPS

    found = paired(draw, amount.pairs, bare=lambda: bare(empty, EMPTY_STEPS), whole=whole)
    inside = [(t - b) * 1e9 for t, b in zip(told, found["bare"], strict=True)]
    after = [(w - t) * 1e9 for w, t in zip(found["whole"], told, strict=True)]
    share = f"{median(inside) / STEP_NS:.4%} of a step of {BUSY_MS:g} ms"
    yield centre("clock, inside the times it reports, per step", inside, "ns", share)
    yield centre("clock, after the last stamp, per step", after, "ns", "in no time that is reported")
    steps = round(shortest_window_s("cpu", DEFAULT) / BUSY_MS * 1e3)
    held = paired(
        draw, amount.pairs,
        bare=lambda: bare(busy, steps), clock=lambda: clock.time_window(busy, steps).elapsed_s / steps,
    )  # fmt: skip
    yield ratio(
        f"clock's window / bare loop, steps busy for {BUSY_MS:g} ms",
        [math.log(c / b) for c, b in zip(held["clock"], held["bare"], strict=True)],
    )
    off = [math.log(one * 1e3 / BUSY_MS) for one in held["clock"]]
    yield ratio("clock's window / what the steps were told to take", off, "spinning never ends early")
    reads = [seconds_of(read_scheduling) * 1e6 for _ in range(20 * amount.pairs)]
    yield centre("reading the scheduling counters, once", reads[:: len(reads) // amount.pairs], "µs", "2 per window")


def plan_of(profile: WorkloadProfile, rounds: int) -> Plan:
    """Arms without ceilings, looked at once."""
    full = make_plan(profile)
    ends = tuple(end for end in full.analysis.epoch_ends if end <= rounds)
    rules = replace(full.analysis, looks=(rounds,), look_errors=(full.analysis.total_error,), epoch_ends=ends)
    return replace(full, arms=tuple(arm for arm in full.arms if arm.role != "ceiling"), analysis=rules)


def profile_of(mechanisms: Sequence[MechanismChoice], scope: Scope, tokens: int) -> WorkloadProfile:
    """The quickstart model with these mechanisms on one length, sampled by default."""
    return replace(
        pipeline.load_profile("quickstart"), mechanisms=tuple(mechanisms), baseline=mechanisms[0].name, scope=scope,
        lengths=from_shares([(tokens, 1.0)]), measure_lengths=(), batch_sizes=(1,), regimes=("eager",),
        sampling=replace(DEFAULT, max_seconds_per_case=600.0),
    )  # fmt: skip


def worker_rows(amount: Amount, threads: int | None) -> Iterator[Row]:
    """Starting workers, opening an epoch in one, and what a window costs beside its steps."""
    cold_s = seconds_of(lambda: started(threads).close())
    yield Row("first worker, until it has answered and ended", cold_s, "s", note="the fork server imports torch")
    warm = []
    for _ in range(max(6, amount.pairs // 4)):
        began = time.perf_counter()
        worker = started(threads)
        warm.append((time.perf_counter() - began) * 1e3)
        worker.close()
    yield centre("every further worker, until it answers", warm, "ms")
    encoder = plan_of(profile_of([MechanismChoice("sdpa"), MechanismChoice("cast")], "encoder", 512), 8)
    yield centre("epoch: worker, two encoders of 512 tokens built and warm, ended", [
        seconds_of(lambda: epoch(encoder, threads).close()) * 1e3 for _ in range(max(6, amount.pairs // 8))
    ], "ms")  # fmt: skip
    plan = plan_of(
        profile_of([MechanismChoice("sdpa"), MechanismChoice("busy", (("ms", BUSY_MS),), "busy")], "attention", 512), 8
    )
    steps = round(shortest_window_s("cpu", DEFAULT) / BUSY_MS * 1e3)
    with closing(epoch(plan, threads)) as worker:
        walls = []
        for index in range(amount.pairs):
            began_s = time.monotonic()
            timed = worker.ask("window", 60.0, arm=plan.arm("busy"), round_index=index, order=0, steps=steps)
            walls.append((time.monotonic() - began_s, timed.ended_s - timed.began_s, timed.sample.elapsed_s))
    settling_s = settle_s("cpu", DEFAULT, BUSY_MS / 1e3)
    command = [(wall - inside) * 1e6 for wall, inside, _ in walls]
    counters = [(inside - elapsed - settling_s) * 1e6 for _, inside, elapsed in walls]
    share = f"{median(command) / 1e6 / steps / BUSY_MS * 1e3:.3%} of its steps' time, outside every time reported"
    yield centre("command from the parent and its answer, per window", command, "µs", share)
    yield centre("counters and the end of settling, per window", counters, "µs", "settling ends with a whole step")


def started(threads: int | None) -> Worker:
    """A worker that has answered."""
    worker = Worker("cpu", threads)
    worker.ask("cuda_devices", START_TIMEOUT_S)
    return worker


def epoch(plan: Plan, threads: int | None) -> Worker:
    """A worker with the arms of the plan's first group built, warm and calibrated."""
    worker = Worker("cpu", threads)
    worker.ask("open", START_TIMEOUT_S, plan=plan, group=plan.groups[0], one_at_a_time=False)
    for command in ("prepare", "step_s"):
        for arm in plan.arms:
            worker.ask(command, START_TIMEOUT_S, arm=arm)
    return worker


class Rounds(Silent):
    """Notes when how many rounds were done."""

    def __init__(self) -> None:
        self.done_s: list[float] = []

    def progress(self, progress: Progress) -> None:
        """One more stamp for every round finished since the last call."""
        self.done_s += [time.monotonic()] * (progress.rounds - len(self.done_s))


def run_rows(amount: Amount, threads: int | None) -> tuple[list[Row], RunRecord]:
    """Where the wall time of a run goes: two mechanisms on encoders of 512 tokens, default windows."""
    profile = profile_of([MechanismChoice("sdpa"), MechanismChoice("cast")], "encoder", 512)
    plan, watcher = plan_of(profile, amount.rounds), Rounds()
    with TemporaryDirectory() as folder, closing(pipeline.open_rig("cpu", profile.dtype, 0, threads)) as rig:
        began_s = time.monotonic()
        record = pipeline.measure(profile, plan, rig, watcher, out=Path(folder) / "run.jsonl").record
        wall_s = time.monotonic() - began_s
    rounds = record.rounds_of(plan.groups[0].key)
    timed = [math.fsum(sample.elapsed_s for sample in r.samples) for r in rounds]
    settling_s = len(plan.arms) * settle_s("cpu", plan.sampling, 0.0)
    ends = {i for i, (r, later) in enumerate(zip(rounds, [*rounds[1:], None], strict=True))
            if later is None or later.epoch != r.epoch}  # fmt: skip
    beyond = [
        (watcher.done_s[i] - watcher.done_s[i - 1] - timed[i]) * 1e3
        for i in range(1, len(rounds)) if i not in ends and i - 1 not in ends
    ]  # fmt: skip
    total, settled = math.fsum(timed), len(rounds) * settling_s
    about = f"{len(rounds)} rounds, {len(ends)} workers, {wall_s:.1f} s in all"
    rows = [
        centre(
            "round beyond its windows",
            beyond,
            "ms",
            f"{settling_s * 1e3:.0f} ms of it settling by plan; windows: {median(timed) * 1e3:.0f} ms",
        ),
        Row("run: timed windows", total / wall_s * 1e2, "% of wall", note=about),
        Row("run: settling", settled / wall_s * 1e2, "% of wall", note="by plan; each ends with a whole step"),
        Row("run: workers, parity, memory, commands", (wall_s - total - settled) / wall_s * 1e2, "% of wall"),
    ]
    return rows, record


def sampler_rows(amount: Amount, threads: int | None, draw: random.Random, about: str) -> Iterator[Row]:
    """The sampler's thread on the first GPU of this process's driver, and what it does to a worker's windows."""
    there = nvml.inventory()
    uuid = there.gpus[0].facts.uuid if there.gpus else None
    if uuid is None:
        raise SystemExit(f"no GPU to sample: {there.reason or 'the driver gives it no UUID'}")
    with closing(nvml.open_gpu(uuid)) as gpu:
        yield centre(f"one look at everything in a loop, {about}", cpu_us(gpu.read, amount.pairs), "µs of CPU")
        yield from share_rows(Looks(gpu), amount.sampled_s, about)
        profile = profile_of([MechanismChoice("sdpa"), MechanismChoice("cast")], "attention", 512)
        plan = plan_of(profile, 8)
        with closing(epoch(plan, threads)) as worker:
            steps = math.ceil(shortest_window_s("cpu", DEFAULT) / worker.ask("step_s", 60.0, arm=plan.arms[0]))

            def window() -> float:
                timed = worker.ask("window", 60.0, arm=plan.arms[0], round_index=0, order=0, steps=steps)
                return float(timed.sample.mean_step_s)

            def watched() -> float:
                with closing(Sampler(Looks(gpu), RealClock())):
                    return window()

            found = paired(draw, amount.pairs, alone=window, watched=watched)
    logs = [math.log(w / a) for w, a in zip(found["watched"], found["alone"], strict=True)]
    yield ratio(f"a worker's window with the sampler / without, {about}", logs, "sdpa, 512 tokens, width 128")


def cpu_us(call: Callable[[], object], batches: int) -> list[float]:
    """CPU time of this thread per call, in batches of 50."""
    found = []
    for _ in range(batches):
        began = time.thread_time()
        for _ in range(50):
            call()
        found.append((time.thread_time() - began) / 50 * 1e6)
    return found


def share_rows(look: Callable[[], GpuReading], seconds: float, about: str) -> Iterator[Row]:
    """CPU share of a sampler that looks at its default period for so long, and what of it the looks are."""
    spent: list[float] = []

    def timed() -> GpuReading:
        began = time.thread_time()
        reading = look()
        spent.append((time.thread_time() - began) * 1e6)
        return reading

    with closing(Sampler(timed, RealClock())) as sampler:
        time.sleep(seconds)
        share = sampler.cpu_share()
    if share is None:
        raise SystemExit(f"the sampler made no look within {seconds:g} s")
    yield Row(f"sampler at {PERIOD_S * 1e3:g} ms, {about}", share * 1e2, "% of a core", note=f"over {seconds:g} s")
    yield centre(f"one look in the sampler, {about}", spent[:: max(1, len(spent) // 100)], "µs of CPU")


def scripted_rows(asked: argparse.Namespace) -> list[Row]:
    """`sampler_rows` in a process that finds the scripted A100; without a compiler none, and the reason is printed."""
    sys.path.insert(0, str(ROOT))
    from tests.nvml.library import FakeNvml, Script, build
    from tests.nvml.models import A100

    with TemporaryDirectory() as folder:
        builds = Path(folder)
        try:
            build(builds / "whole")
        except LookupError as reason:
            print(f"the sampler was not measured: {reason}")
            return []
        fake = FakeNvml(builds / "whole", builds, builds)
        script = Script().gpu(A100, power_w=300).with_("reread_every_s", 60)  # asking for the file's time costs a call
        return rows_of_child(asked, fake.environment(script), "scripted A100")


def rows_of_child(asked: argparse.Namespace, environment: dict[str, str], about: str) -> list[Row]:
    """`sampler_rows` in a process of its own."""
    amount = asdict(QUICK if asked.quick else FULL)
    child = json.dumps({"amount": amount, "threads": asked.threads, "seed": asked.seed, "about": about})
    command = [sys.executable, __file__, "--child", child]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the sampler could not be measured ({about})")
    return [Row(**row) for row in json.loads(done.stdout.splitlines()[-1])]


def measured(asked: argparse.Namespace) -> tuple[list[Row], RunRecord]:
    """All rows, part by part."""
    amount, draw = QUICK if asked.quick else FULL, random.Random(asked.seed)
    workers = list(worker_rows(amount, asked.threads))
    runs, record = run_rows(amount, asked.threads)
    idle = share_rows(lambda: GpuReading(time.monotonic()), amount.sampled_s, "a meter that does nothing")
    sampled = [*idle, *scripted_rows(asked)]
    if asked.gpu:
        sampled += rows_of_child(asked, dict(os.environ), "this machine's first GPU")
    with bound_threads():  # torch enters this process only now, bound as it is in workers
        clock = list(clock_rows(amount, draw))
    return [*clock, *workers, *runs, *sampled], record


def table_of(rows: Sequence[Row]) -> Table:
    """A line per figure."""
    table = Table(title="castbench's own cost")
    for name, side in (("what", "left"), ("value", "right"), ("95 %", "right"), ("unit", "left"), ("note", "left")):
        table.add_column(name, justify="right" if side == "right" else "left", overflow="fold")
    for row in rows:
        known = row.low is not None and row.high is not None
        between = f"{row.low:.3g} to {row.high:.3g}" if known else ""
        table.add_row(row.what, f"{row.value:.3g}", between, row.unit, row.note)
    return table


def is_good(rows: Sequence[Row]) -> bool:
    """Whether every sampler stayed below what it may take."""
    return all(row.value < MOST_CPU_SHARE * 1e2 for row in rows if row.unit == "% of a core")


def main() -> None:
    """Measure, print, write; exit code 1 where a sampler takes too much."""
    asked = parsed()
    if asked.child:
        given = json.loads(asked.child)
        draw = random.Random(given["seed"])
        rows = sampler_rows(Amount(**given["amount"]), given["threads"], draw, given["about"])
        print(json.dumps([asdict(row) for row in rows]))
        return
    from trials import machine_of, write_result

    began_s = time.monotonic()
    found, record = measured(asked)
    Console(width=max(Console().width, 130)).print(table_of(found))
    result = {"machine": machine_of(record), "seed": asked.seed, "quick": asked.quick}
    took = {"took_s": time.monotonic() - began_s, "good": is_good(found)}
    write_result(asked.out, {**result, **took, "rows": [asdict(row) for row in found]})
    sys.exit(0 if is_good(found) else 1)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer pairs, rounds and seconds")
    parser.add_argument("--gpu", action="store_true", help="the sampler also on this machine's first GPU")
    parser.add_argument("--threads", type=int, help="of the workers; default: torch's own choice")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the result there as JSON")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
