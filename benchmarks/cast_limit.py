"""How near CAST is to what this machine allows: its targets against rivals, its parts, its bound, its growth with N.

rates of the machine ─┬─▶ search for C ─▶ fresh rounds ─▶ table of targets ─▶ why those that are missed are
                      ├─▶ memory twice: allocator, resident set
                      ├─▶ parts of a forward pass, with their share of the machine's rates
                      └─▶ growth with N, time against C  ─▶ result.json ─▶ pictures

Batch 1. Every ratio is within rounds of one run: each round times every module once, warm, in fresh random order.
The number of clusters is chosen by a search of its own and measured afterwards in fresh rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limit_sums import (
    RIVALS,
    TARGETS,
    TRAINING_FLOPS,
    Bound,
    Rates,
    Ratio,
    Target,
    auto_clusters,
    best_of,
    candidates,
    cast_bound,
    least_bound,
    least_peak_bytes,
    medians,
    problem_of,
    rates_of,
    ratio_of,
    together_s,
    value_with,
    why_missed,
    with_kernels,
)
from rich.console import Console
from rich.table import Table
from trials import write_result

from castbench.measure.threads import bound_threads, thread_settings, usable_cores
from castbench.units import mib, ms

if TYPE_CHECKING:
    from limit_modules import Mode, Run

SIZES = ((512, 8), (128, 4))
"""Width and heads."""
CAST = "top_k"
"""The clustering whose growth is measured, and which is compiled."""
COMPILED = "compiled"
DRAWING = ("altair", "vl_convert")


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is measured.

    short, long     tokens of the table
    rounds          of every group; a run whose turns cost more than budget_s takes part in fewer
    search_s        the same budget for every candidate of a search
    growth          tokens of the growth; curves are drawn for those in `curves`
    longest         tokens up to which sdpa (by width) and naive are measured
    compiled        widths at which the compiled module is measured; compiling takes longer than the rest of --quick
    """

    short: int
    long: int
    rounds: int
    budget_s: float
    search_rounds: int
    search_s: float
    growth: tuple[int, ...]
    curves: tuple[int, ...]
    longest: Mapping[str, Mapping[int, int]]
    compiled: tuple[int, ...]
    rate_repeats: int


FULL = Amount(
    4096, 16384, 9, 6.0, 5, 1.5, tuple(2**i for i in range(9, 17)), (1024, 4096, 16384),
    {"sdpa": {512: 16384, 128: 32768}, "naive": {512: 8192, 128: 8192}}, (512, 128), 7,
)  # fmt: skip
QUICK = Amount(
    512, 2048, 3, 0.5, 2, 0.1, (256, 512, 1024, 2048), (512, 1024, 2048),
    {"sdpa": {512: 2048, 128: 2048}, "naive": {512: 1024, 128: 1024}}, (), 3,
)  # fmt: skip


@dataclass(slots=True)
class Bench:
    """One run of this script: what was asked, and what is known so far."""

    amount: Amount
    dtype: str
    clusters: Sequence[int]
    draw: random.Random
    cores: tuple[int, ...] | None
    began_s: float = field(default_factory=time.monotonic)
    searches: dict[tuple[int, int, str, str], dict[str, Any]] = field(default_factory=dict)

    def tell(self, text: str) -> None:
        """A line of progress with the time since the beginning."""
        print(f"[{time.monotonic() - self.began_s:6.1f} s] {text}", file=sys.stderr, flush=True)

    def run(self, arm: str, width: int, heads: int, tokens: int, mode: Mode = "forward", clusters: int = 0) -> Run:
        """A run; CAST's with the clusters given, or else with those that a search has found best."""
        from limit_modules import run_of

        if arm in RIVALS:
            return run_of(arm, width, heads, tokens, None, self.dtype, mode)
        chosen = clusters or self.best_clusters(arm, width, heads, tokens, mode)
        return run_of(arm, width, heads, tokens, chosen, self.dtype, mode)

    def best_clusters(self, arm: str, width: int, heads: int, tokens: int, mode: Mode = "forward") -> int:
        """C of least time among the candidates; searched once. The compiled module takes what top_k takes."""
        from limit_modules import timed_rounds

        kind = CAST if arm == COMPILED else arm
        key = (width, tokens, kind, mode)
        if key not in self.searches:
            tried = candidates(self.clusters, tokens, wide=tokens in self.amount.curves)
            self.tell(f"searching C of {kind}, M={width}, N={tokens}, {mode}: {', '.join(map(str, tried))}")
            runs = {str(c): self.run(kind, width, heads, tokens, mode, c) for c in tried}
            rounds = timed_rounds(runs, self.amount.search_rounds, self.amount.search_s, self.draw, least=2)
            self.searches[key] = {
                "width": width, "tokens": tokens, "arm": kind, "mode": mode, "auto": auto_clusters(tokens),
                "chosen": int(best_of(rounds)), "rounds": rounds,
            }  # fmt: skip
        return int(self.searches[key]["chosen"])


def table_of(bench: Bench, width: int, heads: int, arms: Sequence[str]) -> dict[str, Any]:
    """Rounds of all modules at both lengths, of training at the shorter one, and the allocator's peaks there."""
    from limit_modules import allocator_peak_bytes, timed_rounds

    short, long = bench.amount.short, bench.amount.long
    bench.tell(f"table M={width}: building {', '.join(arms)}")
    forward = {f"{arm}@{n}": bench.run(arm, width, heads, n)
               for n in (short, long) for arm in (*RIVALS, *arms) if (arm, n) != ("naive", long)}  # fmt: skip
    training = {f"{arm}@{short}": bench.run(arm, width, heads, short, "training") for arm in ("sdpa", *arms)}
    bench.tell(f"table M={width}: forward passes, N={short} and N={long}")
    times = timed_rounds(forward, bench.amount.rounds, bench.amount.budget_s, bench.draw)
    bench.tell(f"table M={width}: forward and backward passes, N={short}")
    trained = timed_rounds(training, bench.amount.rounds, bench.amount.budget_s, bench.draw)
    peaks = {name: allocator_peak_bytes(run) for name, run in forward.items() if name.endswith(f"@{short}")}
    chosen = {f"{arm}@{n}": bench.best_clusters(arm, width, heads, n) for arm in arms for n in (short, long)}
    trained_with = {f"{arm}@{short}": bench.best_clusters(arm, width, heads, short, "training") for arm in arms}
    return {
        "width": width, "heads": heads, "arms": list(arms), "short": short, "long": long, "clusters": chosen,
        "training_clusters": trained_with, "forward": times, "training": trained, "peak_bytes": [peaks],
        "ran_as": {name: getattr(run.module, "ran_as", None) for name, run in forward.items()},
    }  # fmt: skip


def compiled_tables(bench: Bench) -> list[dict[str, Any]]:
    """The same of top_k compiled, against the same eager rivals; or why there is none."""
    import torch

    if shutil.which("g++") is None:
        return [{"width": w, "arms": [COMPILED], "reason": "torch.compile needs g++"} for w in bench.amount.compiled]
    found = []
    for width, heads in (size for size in SIZES if size[0] in bench.amount.compiled):
        torch._dynamo.reset()
        try:
            found.append(table_of(bench, width, heads, (COMPILED,)))
        except Exception as reason:  # whatever a compiler may raise is a result, and is printed
            found.append({"width": width, "arms": [COMPILED], "reason": f"{type(reason).__name__}: {reason}"[:500]})
    return found


def memory_of(bench: Bench, width: int, heads: int, arms: Sequence[str]) -> list[dict[str, Any]]:
    """Peaks of an inference at the shorter length: the allocator's, and the resident set's in a fresh process."""
    from limit_modules import allocator_peak_bytes

    rows = []
    for arm in (*RIVALS, *arms):
        bench.tell(f"memory M={width}: {arm}")
        tokens = bench.amount.short
        clusters = None if arm in RIVALS else bench.best_clusters(arm, width, heads, tokens)
        run = bench.run(arm, width, heads, tokens, clusters=clusters or 0)
        run()
        exact = allocator_peak_bytes(run)
        child = {
            "arm": arm,
            "width": width,
            "heads": heads,
            "tokens": tokens,
            "clusters": clusters,
            "dtype": bench.dtype,
        }
        rows.append({**child, "allocator_bytes": exact, "resident_bytes": resident_of_child(child, bench.cores)})
    return rows


def resident_of_child(child: Mapping[str, Any], cores: tuple[int, ...] | None) -> int:
    """`resident_peak_bytes` of that run in a process of its own, on all cores that this one had at first."""
    given = json.dumps({"run": child, "cores": cores})
    done = subprocess.run([sys.executable, __file__, "--child", given], stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout.splitlines()[-1])


def answer_as_child(given: Mapping[str, Any]) -> None:
    """Print the peak of the run asked for."""
    if given["cores"] is not None:
        os.sched_setaffinity(0, given["cores"])
    from limit_modules import resident_peak_bytes, run_of

    print(resident_peak_bytes(run_of(**given["run"])))


def parts(bench: Bench, width: int, heads: int, arms: Sequence[str]) -> list[dict[str, Any]]:
    """A forward pass of everything, part by part, at the shorter length."""
    from limit_modules import operations, parts_of, timed_rounds

    tokens, found = bench.amount.short, []
    runs = {arm: bench.run(arm, width, heads, tokens) for arm in (*RIVALS, *arms)}
    bench.tell(f"parts M={width}: {', '.join(runs)}")
    whole = timed_rounds(runs, bench.amount.search_rounds, bench.amount.search_s, bench.draw)
    for arm, run in runs.items():
        clusters = None if arm in RIVALS else bench.best_clusters(arm, width, heads, tokens)
        rows = parts_of(operations(run, 2 if arm == "naive" else bench.amount.search_rounds))
        found.append({"width": width, "heads": heads, "tokens": tokens, "arm": arm, "clusters": clusters,
                      "whole_s": medians(whole)[arm], "parts": rows})  # fmt: skip
    return found


def kernels_of(bench: Bench, width: int, heads: int) -> list[dict[str, Any]]:
    """What PyTorch's own kernels take for CAST's shapes, for every candidate of C, with the rivals in the same rounds:
    forward at both lengths, forward and backward at the shorter one.
    """
    from limit_modules import cast_kernels, timed_rounds

    amount, rows = bench.amount, []
    asked: tuple[tuple[int, Mode], ...] = (
        (amount.short, "forward"),
        (amount.long, "forward"),
        (amount.short, "training"),
    )
    for tokens, mode in asked:
        rivals = [arm for arm in RIVALS if tokens <= amount.longest.get(arm, {}).get(width, tokens)]
        for clusters in candidates(bench.clusters, tokens, wide=False):
            bench.tell(f"kernels M={width}, N={tokens}, {mode}: C {clusters}")
            runs: dict[str, Callable[[], object]] = {
                arm: bench.run(arm, width, heads, tokens, mode)
                for arm in rivals
                if (arm, mode) != ("naive", "training")
            }
            runs |= cast_kernels(width, heads, tokens, clusters, bench.dtype, mode)
            rounds = timed_rounds(runs, amount.search_rounds, amount.search_s, bench.draw)
            rows.append({"width": width, "tokens": tokens, "mode": mode, "clusters": clusters, "rounds": rounds})
    return rows


def growth_of(bench: Bench, width: int, heads: int) -> list[dict[str, Any]]:
    """Time and the allocator's peak by number of tokens: CAST with auto's C and with the best one, and its rivals."""
    from limit_modules import allocator_peak_bytes, timed_rounds

    rows = []
    for tokens in bench.amount.growth:
        auto, best = auto_clusters(tokens), bench.best_clusters(CAST, width, heads, tokens)
        bench.tell(f"growth M={width}, N={tokens}: C {auto} (auto), {best} (best)")
        measured = [arm for arm in RIVALS if tokens <= bench.amount.longest.get(arm, {}).get(width, tokens)]
        runs = {arm: bench.run(arm, width, heads, tokens) for arm in measured}
        runs["cast"] = bench.run(CAST, width, heads, tokens, clusters=auto)
        if best != auto:
            runs["cast, best C"] = bench.run(CAST, width, heads, tokens, clusters=best)
        rounds = timed_rounds(runs, bench.amount.rounds, bench.amount.budget_s / 4, bench.draw, least=2)
        peaks = {name: allocator_peak_bytes(run) for name, run in runs.items()}
        rows.append({"width": width, "heads": heads, "tokens": tokens, "auto": auto, "best": best,
                     "peak_bytes": peaks, "rounds": rounds})  # fmt: skip
    return rows


def measured(bench: Bench, part: str) -> dict[str, Any]:
    """Everything asked for; the machine's rates before and after, so that a slow minute does not become its bound."""
    from limit_modules import CLUSTERINGS, machine_rates

    def wanted(name: str) -> bool:
        """Whether this part was asked for."""
        return part in (name, "all")

    def rates() -> dict[str, Any]:
        """What the machine does now."""
        bench.tell("rates of the machine")
        return machine_rates(bench.dtype, SIZES, bench.amount.short, bench.amount.rate_repeats)

    result: dict[str, Any] = {"rates": [rates()]}
    if wanted("kernels"):
        result["kernels"] = [row for size in SIZES for row in kernels_of(bench, *size)]
    if wanted("table"):
        result["tables"] = [table_of(bench, *size, CLUSTERINGS) for size in SIZES] + compiled_tables(bench)
    if wanted("memory"):
        result["memory"] = [row for size in SIZES for row in memory_of(bench, *size, CLUSTERINGS)]
    if wanted("parts"):
        result["parts"] = [row for size in SIZES for row in parts(bench, *size, CLUSTERINGS)]
    if wanted("growth"):
        result["growth"] = [row for size in SIZES for row in growth_of(bench, *size)]
    result["rates"].append(rates())
    result["searches"] = list(bench.searches.values())
    return result


def bounds_of(table: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, dict[str, Bound]]:
    """By measurement and run of CAST, whatever its C; a bound of bytes is written as seconds that nothing adds to."""
    rates, dtype = rates_of(result, table["width"]), result["dtype"]
    bounds: dict[str, dict[str, Bound]] = {"forward": {}, "training": {}, "peak_bytes": {}}
    for name in table["clusters"]:
        problem = problem_of({**table, "tokens": int(name.partition("@")[2])}, dtype)
        bounds["forward"][name] = least_bound(problem, rates)
        bounds["training"][name] = bounds["forward"][name].times(TRAINING_FLOPS)
        bounds["peak_bytes"][name] = Bound(least_peak_bytes(problem), 0.0)
    return bounds


def judged(table: Mapping[str, Any], result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every target for every kind of CAST: the ratio, whether it is met, and if not, why."""
    bounds, width, found = bounds_of(table, result), table["width"], []
    for target in TARGETS:
        for arm in table["arms"]:
            runs = target.runs(arm, table["short"], table["long"])
            ratio = ratio_of(table[target.of], *runs)
            if ratio is not None:
                met = target.is_met(ratio.value, width)
                kernels = None if target.is_growth else kernels_for(target, table, runs, result.get("kernels", ()))
                why = None if met else reason_for(target, table, runs, ratio, bounds[target.of], kernels)
                found.append({"target": target.text.format(short=table["short"], long=table["long"]), "arm": arm,
                              "limit": target.limit_text(width), "met": met, "why": why, **asdict(ratio)})  # fmt: skip
    return found


def kernels_for(
    target: Target, table: Mapping[str, Any], runs: tuple[str, str], rows: Sequence[Mapping[str, Any]]
) -> float | None:
    """The target's ratio with PyTorch's kernels in CAST's place; None where they were not timed."""
    tokens = int(runs[0].partition("@")[2])
    return with_kernels(rows, table["width"], tokens, target.of, runs)


def reason_for(
    target: Target, table: Mapping[str, Any], runs: tuple[str, str], ratio: Ratio, bounds: Mapping[str, Bound],
    kernels: float | None,
) -> str:  # fmt: skip
    """Why a target is missed."""
    middle = medians(table[target.of])
    cast = next(name for name in runs if name in bounds)
    strict = value_with(runs, middle, {name: b.overlapped_s for name, b in bounds.items()})
    practical = value_with(runs, middle, {name: b.practical_s for name, b in bounds.items()})
    share = bounds[cast].overlapped_s / middle[cast]
    return why_missed(target, table["width"], ratio.value, strict, practical, share, kernels)


def shown(console: Console, result: Mapping[str, Any]) -> None:
    """All tables of a result."""
    show_rates(console, result)
    if "kernels" in result:
        show_kernels(console, result["kernels"])
    for table in result.get("tables", ()):
        if "reason" in table:
            console.print(f"M={table['width']}, compiled: not measured ({table['reason']})", markup=False)
        else:
            show_targets(console, table, judged(table, result))
    if "memory" in result:
        show_memory(console, result["memory"])
    for row in result.get("parts", ()):
        show_parts(console, row, rates_of(result, row["width"]))
    if "growth" in result:
        show_growth(console, result)


def show_rates(console: Console, result: Mapping[str, Any]) -> None:
    """What the bounds are made of."""
    table = table_with("what the machine does at best", ("what", "rate"))
    for index, product in enumerate(result["rates"][0]["products"]):
        best = max(f for rates in result["rates"] for f in rates["products"][index]["flops_per_s"])
        table.add_row(f"product {' × '.join(map(str, product['shape']))}", f"{best / 1e9:.1f} GFLOP/s")
    for width, _ in SIZES:
        rate = rates_of(result, width).attention_flops_per_s
        table.add_row(f"fused attention, M={width}", f"{rate / 1e9:.1f} GFLOP/s")
    table.add_row("copy, read and write", f"{rates_of(result, SIZES[0][0]).bytes_per_s / 1e9:.1f} GB/s")
    console.print(table)


def show_kernels(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """A line per width, length, mode and C: the rivals, PyTorch's kernels one after the other, the longest of them."""
    keys = ("width", "tokens", "mode", "clusters")
    table = table_with("PyTorch's kernels for CAST's parts, ms", (*keys, *RIVALS, "together", "the longest"))
    for row in rows:
        middle = medians(row["rounds"])
        rivals = [f"{ms(middle[name]):.3g}" if name in middle else "" for name in RIVALS]
        longest = sorted(middle.keys() - set(RIVALS), key=middle.__getitem__, reverse=True)[:4]
        told = ", ".join(f"{name} {ms(middle[name]):.3g}" for name in longest)
        table.add_row(*(str(row[key]) for key in keys), *rivals, f"{ms(together_s(middle)):.3g}", told)
    console.print(table)


def show_targets(console: Console, table: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """A line per target, a column per kind of CAST; below it a sentence per target missed."""
    chosen = ", ".join(f"{name}: {c}" for name, c in table["clusters"].items())
    shape = table_with(f"M={table['width']}, {table['heads']} heads; C {chosen}", ("ratio", "target", *table["arms"]))
    for text in dict.fromkeys(row["target"] for row in rows):
        same = {row["arm"]: row for row in rows if row["target"] == text}
        shape.add_row(text, next(iter(same.values()))["limit"], *(cell(same[a]) for a in table["arms"] if a in same))
    console.print(shape)
    console.print("  ran as: " + ", ".join(f"{name} {how}" for name, how in table["ran_as"].items() if how))
    for row in rows:
        if row["why"]:
            console.print(f"  {row['target']}, {row['arm']}: {row['why']}", markup=False, highlight=False)


def cell(row: Mapping[str, Any]) -> str:
    """A ratio with its range, and whether it meets its target."""
    between = f" ({row['low']:.3g}–{row['high']:.3g})" if row["rounds"] > 1 else ""
    return f"{row['value']:.3g}{between} {'met' if row['met'] else 'MISSED'}"


def show_memory(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """Both peaks side by side; targets are judged by the allocator's."""
    table = table_with(
        "peak of one inference beyond weights and input", ("M", "N", "module", "C", "allocator MiB", "resident set MiB")
    )
    for row in rows:
        sizes = (f"{mib(row[key]):.2f}" for key in ("allocator_bytes", "resident_bytes"))
        table.add_row(str(row["width"]), str(row["tokens"]), row["arm"], str(row["clusters"] or ""), *sizes)
    console.print(table)


def show_parts(console: Console, row: Mapping[str, Any], rates: Rates) -> None:
    """A line per part of one module."""
    summed_s = sum(part["seconds"] for part in row["parts"])
    clusters = f", C={row['clusters']}" if row["clusters"] else ""
    table = table_with(
        f"{row['arm']}, M={row['width']}, N={row['tokens']}{clusters}: {ms(row['whole_s']):.2f} ms, operations "
        f"{ms(summed_s):.2f} ms",
        ("part", "calls", "ms", "of all", "GFLOP", "of matmul rate", "MB moved", "of copy bandwidth"),
    )
    for part in sorted(row["parts"], key=lambda one: -one["seconds"]):
        seconds, flops, moved = part["seconds"], part["flops"], part["moved_bytes"]
        table.add_row(
            part["part"], str(part["operations"]), f"{ms(seconds):.3f}", f"{seconds / summed_s:.1%}",
            f"{flops / 1e9:.3f}", f"{flops / seconds / rates.gemm_flops_per_s:.0%}",
            f"{moved / 1e6:.2f}", f"{moved / seconds / rates.bytes_per_s:.0%}",
        )  # fmt: skip
    console.print(table)


def show_growth(console: Console, result: Mapping[str, Any]) -> None:
    """A line per length: times, the bound of CAST with auto's C, and how far from it CAST is."""
    names = (*RIVALS, "cast", "cast, best C")
    columns = ("M", "N", "C auto", "C best", *(f"{n} ms" for n in names), "bound ms", "practical ms", "of bound", "MiB")
    table = table_with("growth; MiB: the allocator's peak of cast", columns)
    for row in result["growth"]:
        problem = problem_of(row, result["dtype"])
        bound, middle = cast_bound(problem, row["auto"], rates_of(result, row["width"])), medians(row["rounds"])
        table.add_row(
            *(str(row[key]) for key in ("width", "tokens", "auto", "best")),
            *(f"{ms(middle[name]):.2f}" if name in middle else "" for name in names),
            f"{ms(bound.overlapped_s):.2f}", f"{ms(bound.practical_s):.2f}",
            f"{bound.overlapped_s / middle['cast']:.0%}", f"{mib(row['peak_bytes']['cast']):.1f}",
        )  # fmt: skip
    console.print(table)


def table_with(title: str, columns: Sequence[str]) -> Table:
    """An empty table."""
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def here(bench: Bench) -> dict[str, Any]:
    """What a reader must know of where the figures come from."""
    import torch

    import castbench
    from castbench.hardware.cpu import read_host
    from castbench.measure.torch_rig import code_sha256

    host = read_host()  # of its cores this process's first thread is by now bound to one
    return {
        "device": host.cpu_model, "cores": len(bench.cores) if bench.cores else host.usable_cores,
        "threads": torch.get_num_threads(),
        "steered_by": dict(thread_settings(os.environ)), "torch": str(torch.__version__),
        "castbench": castbench.__version__, "code": code_sha256()[:12],
        "recorded_at": datetime.now(UTC).isoformat(timespec="seconds"), "dtype": bench.dtype,
    }  # fmt: skip


def newly_measured(asked: argparse.Namespace, cores: tuple[int, ...] | None) -> dict[str, Any]:
    """A result with all its raw rounds; targets are judged with all that is known, --into's rounds included."""
    amount = QUICK if asked.quick else FULL
    amount = replace(amount, rounds=asked.rounds or amount.rounds)
    bench = Bench(amount, asked.dtype, asked.clusters, random.Random(asked.seed), cores)
    found = measured(bench, asked.part)
    about = {
        "machine": here(bench), "dtype": asked.dtype, "quick": asked.quick, "seed": asked.seed,
        "curves": list(amount.curves), "rounds": amount.rounds, "took_s": time.monotonic() - bench.began_s,
    }  # fmt: skip
    result = {**about, **found}
    if asked.into:
        # Rates and searches belong to the tables that were judged by them.
        result = json.loads(asked.into.read_text()) | {asked.part: found[asked.part]}
    for table in result.get("tables", ()):
        if "reason" not in table:
            table["targets"] = judged(table, result)
    return result


def main() -> None:
    """Measure (or read), print, write, draw."""
    asked, cores = parsed(), usable_cores()
    if asked.pictures and (missing := [name for name in DRAWING if find_spec(name) is None]):
        sys.exit(f"--pictures needs {' and '.join(missing)}: pip install -e '.[charts]'")
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler would say on stderr that it starts and stops
    with bound_threads():  # torch enters this process only now, bound as it is in castbench's workers
        if asked.child:
            answer_as_child(json.loads(asked.child))
            return
        result = json.loads(asked.redraw.read_text()) if asked.redraw else newly_measured(asked, cores)
    shown(Console(width=max(Console().width, 150)), result)
    write_result(None if asked.redraw else asked.out, result)
    if asked.pictures:
        from limit_pictures import draw

        for path in draw(result, asked.pictures):
            print(path)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short rows and few rounds: to try the script, not CAST")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--rounds", type=int, help="of every group; default: 9, with --quick 3")
    parser.add_argument("--part", choices=("table", "kernels", "growth", "parts", "memory", "all"), default="all")
    parser.add_argument("--clusters", type=int, nargs="+", default=[32, 48, 64, 96, 128],
                        help="candidates for 4,096 tokens; other lengths scale them with √N")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the order within rounds")
    parser.add_argument("--into", type=Path, help="an earlier result to put this part into")
    parser.add_argument("--out", type=Path, help="write the result there as JSON, all raw rounds kept")
    parser.add_argument("--pictures", type=Path, help="draw there as SVG and PNG; needs the extra `charts`")
    parser.add_argument("--redraw", type=Path, help="print and draw such a JSON instead of measuring")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
