"""The claims check, the limits of the introduction plan and the counts of the method, worked out anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from castbench.plain import to_plain
from castbench.report.nouns import ClaimedAgainst, HowMeasured, Report
from castbench.report.plan_limits import Limit
from castbench.report.plan_view import introduction_of
from castbench.report.verify.cases import ratio_of
from castbench.report.verify.money import Recount
from castbench.report.verify.numbers import Pair
from castbench.report.verify.raw import Json, RawRun, key_of, sample_of

_TIMES_AS_FAST, _SHARE_OF_MEMORY = 6, 0.1
_NAMES = ("speedup", "low", "high", "memory_share", "speed", "memory")
_AWAY = 1 + 2**0.5
"""Half widths from a value to its limit."""


def planned_pairs(report: Report, recount: Recount, run: RawRun) -> Iterator[Pair]:
    """Every number of the three sections."""
    yield from _claims(report, run)
    yield from _limits(report, recount, run)
    if report.how is not None:
        yield from _counts(report.how, run)


def _claims(report: Report, run: RawRun) -> Iterator[Pair]:
    """CAST against the original attention and the fused one."""
    for row in report.claims:
        key = key_of(to_plain(row.group))
        for mechanism, found in (("naive", row.original), ("sdpa", row.fused)):
            where = f"{key} {row.label} against {mechanism}"
            for name, value in _claimed(run, key, row.label, mechanism).items():
                yield Pair(where, f"claims.{name}", _said(found)[name], value)


def _said(found: ClaimedAgainst) -> dict[str, Any]:
    """What a report says of a claim."""
    speed = found.speedup
    ends = (None, None, None) if speed is None else (speed.value, speed.low, speed.high)
    return dict(zip(_NAMES, (*ends, found.memory_share, found.speed, found.memory), strict=True))


def _claimed(run: RawRun, key: str, label: str, mechanism: str) -> dict[str, Any]:
    """The same from the raw rounds."""
    others = [arm["label"] for arm in run.plan["arms"] if arm["mechanism"] == mechanism]
    other = next((name for name in others if _ran(run, key, name)), None)
    ratio = None if other is None else ratio_of(run, key, label, other)
    if other is None or ratio is None:
        return dict(zip(_NAMES, (None, None, None, None, "not_measured", "not_measured"), strict=True))
    value, low, high = ratio.speedup()
    mine, theirs = ((run.outcome(key, name) or {}).get("peak_bytes") for name in (label, other))
    share = mine / theirs if mine and theirs else None
    speed = "unclear"
    if low is not None and high is not None:
        speed = "confirmed" if low >= _TIMES_AS_FAST else "unclear" if high >= _TIMES_AS_FAST else "not_confirmed"
    small = "not_measured" if share is None else "confirmed" if share <= _SHARE_OF_MEMORY else "not_confirmed"
    return dict(zip(_NAMES, (value, low, high, share, speed, small), strict=True))


def _ran(run: RawRun, key: str, label: str) -> bool:
    """Whether an arm has windows on a group that count."""
    status = (run.outcome(key, label) or {"status": "ok"})["status"]
    return status == "ok" and any(sample_of(r, label) is not None for r in run.rounds.get(key, ()))


def _limits(report: Report, recount: Recount, run: RawRun) -> Iterator[Pair]:
    """The numbers that a service must stay within."""
    plan = introduction_of(report)
    if plan is None or plan.configuration is None:
        return
    used = plan.configuration
    keys = [
        (group["shape"]["seq_len"], key)
        for key, group in run.groups()
        if not group["held_out"]
        and (group["shape"]["batch_size"], group["batching"], group["regime"])
        == (used.batch_size, used.batching, used.regime)
    ]  # fmt: skip
    rows = {key: recount.cases[key, used.label].row for _, key in sorted(keys)}
    arm = next(arm for arm in run.plan["arms"] if arm["label"] == used.label)
    for limit in plan.limits:
        anew = _limit(limit, run, rows, recount.mechanism(arm), used.label)
        yield Pair(used.label, f"plan.{limit.name}", limit.limit.value, anew)


def _limit(
    limit: Limit, run: RawRun, rows: Mapping[str, Json], money: Mapping[str, Any], label: str
) -> float | None:  # fmt: skip
    """One limit; None for what no run file holds."""
    if limit.origin == "objective":
        stated: float | None = run.header["economics"]["demand"]["objective"][f"{limit.name}_ms"]
        return stated
    if limit.name in ("p50", "p99"):
        row = rows[_at_share(run, tuple(rows), 0.5 if limit.name == "p50" else 0.99)]
        percentile: float | None = row["step_p99_ms"] if limit.name == "p99" else None
        return percentile if percentile is not None else _far(row, "latency_ms")
    if limit.name == "errors":
        samples = (sample_of(r, label) for key in rows for r in run.rounds[key])
        return min(1.0, 300 / sum(int(s["steps"]) for s in samples if s is not None))
    if limit.name == "memory":
        measured = [row for row in rows.values() if row["peak_memory_mib"] is not None]
        needs = [
            (row["peak_memory_mib"] + (row["weights_mib"] or 0), row["reserved_memory_mib"] or 0) for row in measured
        ]
        return 1.1 * float(max(map(max, needs)))
    return _far(money, "usd_per_million_tokens")


def _far(row: Mapping[str, Any], name: str) -> float:
    """The limit that lies beyond a number's upper end; the number itself without one."""
    value, high = row[f"{name}.value"], row[f"{name}.high"]
    far: float = value if high is None else value + _AWAY * (high - value)
    return far


def _at_share(run: RawRun, keys: tuple[str, ...], share: float) -> str:
    """The first group, by length, that this share of the requests fits into."""
    mix = list(zip(run.plan["mix"]["tokens"], run.plan["mix"]["shares"], strict=True))
    lengths = {key: group["shape"]["seq_len"] for key, group in run.groups()}
    return next(key for key in keys if sum(s for t, s in mix if t <= lengths[key]) >= share - 1e-9)


def _counts(how: HowMeasured, run: RawRun) -> Iterator[Pair]:
    """Windows, steps, processes and discarded rounds."""
    rounds = [r for key, _ in run.groups() for r in run.rounds.get(key, ())]
    samples = [s for r in rounds for s in r["samples"] if s.get("invalid_reason") is None]
    processes = [len({r["epoch"] for r in run.rounds[key]}) for key, _ in run.groups() if run.rounds.get(key)]
    reasons = [why for (_, purpose), tried in run.attempts.items() if purpose == "compare" for why in tried]
    anew = {
        "windows": len(samples), "steps": sum(s["steps"] for s in samples), "attempts": len(reasons),
        "discarded": sum(why is not None for why in reasons),
    }  # fmt: skip
    for name, value in anew.items():
        yield Pair("the run", f"counted.{name}", getattr(how, name), value)
    for name, said, value in zip(("fewest", "most"), how.processes, (min(processes), max(processes)), strict=True):
        yield Pair("the run", f"counted.{name}", said, value)
