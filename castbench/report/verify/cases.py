"""Every number of a case from its raw windows: times, ratio, verdict, throughput, memory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from castbench.report.verify.intervals import (
    Ends,
    estimate,
    last_error,
    mean_with_t,
    order_statistic,
    pseudo_median,
    signed_rank_interval,
    verdict_of,
)
from castbench.report.verify.joules import energy_row
from castbench.report.verify.raw import Json, RawRun, sample_of, step_s

MIB = 1 << 20
_MEASURED = ("ok", "interrupted")


@dataclass(frozen=True, slots=True)
class Case:
    """One arm on one group; None where it was not measured. `row` holds what a report says, by name."""

    group: Json
    arm: Json
    outcome: Json | None
    rounds: int
    mean_s: float | None
    verdict: str | None
    row: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ratio:
    """Log time ratio of two arms in the same rounds."""

    value: float
    ends: Ends

    def speedup(self) -> tuple[float, float | None, float | None]:
        """The second arm's time over the first's, with its interval."""
        low, high = (None if end is None else math.exp(-end) for end in reversed(self.ends))
        return math.exp(-self.value), low, high


def case_of(run: RawRun, key: str, group: Json, arm: Json) -> Case:
    """The case of an arm on a group."""
    status = _status(run, key, arm["label"])
    samples = [(r, s) for r in run.rounds.get(key, ()) if (s := sample_of(r, arm["label"])) is not None]
    if status not in _MEASURED:
        samples = []
    outcome = run.outcome(key, arm["label"])
    mean_s = fmean(s["elapsed_s"] / s["steps"] for _, s in samples) if samples else None
    baseline = run.plan["baseline"]
    ratio = ratio_of(run, key, arm["label"], baseline) if samples and arm["label"] != baseline else None
    verdict = None
    if samples:
        verdict = "BASELINE" if arm["label"] == baseline else _verdict(run, ratio)
    row = {
        "status": status, "rounds": len(samples), "verdict": verdict,
        "stopped_by": run.closed[key]["stopped_by"] if key in run.closed else None,
        **_times(samples, mean_s), **_throughput(run, group, mean_s), **_memory(outcome),
        **_energy(outcome if samples else None, group["shape"]["batch_size"], tokens_of(run, group)),
        **estimate("speedup", *(ratio.speedup() if ratio else (None, None, None))),
    }  # fmt: skip
    return Case(group, arm, outcome, len(samples), mean_s, verdict, row)


def ratio_of(run: RawRun, key: str, label: str, against: str) -> Ratio | None:
    """Pseudo-median and interval of the log ratio of two arms' windows; None without a common round."""
    pairs = [(step_s(r, label), step_s(r, against)) for r in run.rounds.get(key, ())]
    logs = [math.log(mine) - math.log(theirs) for mine, theirs in pairs if mine is not None and theirs is not None]
    if not logs:
        return None
    rules = run.plan["analysis"]
    error = last_error(len(logs), rules["looks"], rules["look_errors"])
    return Ratio(pseudo_median(logs), signed_rank_interval(logs, error))


def is_faster(run: RawRun, key: str, label: str, against: str) -> bool:
    """Whether the verdict of two arms on a group is FASTER."""
    return _verdict(run, ratio_of(run, key, label, against)) == "FASTER"


def tokens_of(run: RawRun, group: Json) -> float:
    """Real tokens expected in a batch: padding is none, and the longest row is as long as the group says."""
    rows, longest = group["shape"]["batch_size"], group["shape"]["seq_len"]
    mix = [(t, s) for t, s in zip(run.plan["mix"]["tokens"], run.plan["mix"]["shares"], strict=True) if t <= longest]
    if group["batching"] == "bucketed" or not mix:
        return float(rows * longest)
    mean: float = sum(t * s for t, s in mix) / sum(s for _, s in mix)
    return float(longest + (rows - 1) * mean)


def _verdict(run: RawRun, ratio: Ratio | None) -> str:
    """Verdict of a ratio at the plan's margin; UNCLEAR without one."""
    return "UNCLEAR" if ratio is None else verdict_of(ratio.ends, run.plan["sampling"]["same_within"])


def _status(run: RawRun, key: str, label: str) -> str:
    """What became of a case."""
    if any((u["group"], u["label"]) == (key, label) for u in run.plan["unsupported"]):
        return "unsupported"
    outcome = run.outcome(key, label)
    if outcome is not None:
        return str(outcome["status"])
    return "interrupted" if any(step_s(r, label) for r in run.rounds.get(key, ())) else "skipped"


def _times(samples: list[tuple[Json, Json]], mean_s: float | None) -> dict[str, Any]:
    """Milliseconds of a step: median by worker process, mean, percentiles."""
    steps = [1e3 * t for _, s in samples for t in s["step_times_s"]]
    row = {
        "mean_ms": None if mean_s is None else 1e3 * mean_s,
        "step_p95_ms": order_statistic(steps, 95, 72),
        "step_p99_ms": order_statistic(steps, 99, 368),
    }
    by_process: dict[int, list[float]] = {}
    for r, s in samples:
        by_process.setdefault(r["epoch"], []).extend(s["step_times_s"] or [s["elapsed_s"] / s["steps"]])
    if not by_process:
        return {**row, **estimate("latency_ms", None, None, None)}
    value, half = mean_with_t([1e3 * median(times) for times in by_process.values()], 3)
    ends = (None, None) if half is None else (max(0.0, value - half), value + half)
    return {**row, **estimate("latency_ms", value, *ends)}


def _throughput(run: RawRun, group: Json, mean_s: float | None) -> dict[str, Any]:
    """Rows and real tokens per second."""
    return {
        "sequences_per_s": None if mean_s is None else group["shape"]["batch_size"] / mean_s,
        "tokens_per_s": None if mean_s is None else tokens_of(run, group) / mean_s,
    }


def _memory(outcome: Json | None) -> dict[str, Any]:
    """What was taken in MiB, the largest batch, and the parity error."""
    said = outcome or {}
    sizes = {"peak_memory_mib": "peak_bytes", "weights_mib": "weights_bytes", "reserved_memory_mib": "reserved_bytes"}
    found = said.get("largest_batch") or {}
    return {
        **{name: None if said.get(field) is None else said[field] / MIB for name, field in sizes.items()},
        "parity_error": said.get("parity_error"),
        "largest_batch.fits": found.get("fits"), "largest_batch.fails": found.get("fails"),
    }  # fmt: skip


def _energy(outcome: Json | None, rows: int, tokens: float) -> dict[str, Any]:
    """Energy by name; nothing where it was not measured."""
    row = energy_row((outcome or {}).get("energy"), rows, tokens) or {}
    return {f"energy.{name}": value for name, value in row.items()}
