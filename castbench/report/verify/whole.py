"""Second opinion on a run file: its hashes, its order of events, and its numbers recomputed in another, plainer way.

Nothing of stats.py, findings.py or cost/ is used to recompute: a mistake there must show here.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from statistics import fmean, median

from castbench.cost.spec import ArmProjection, Projection
from castbench.findings import CaseFinding, case_findings
from castbench.plain import sha256_of
from castbench.plan import Plan
from castbench.records import RoundRecord, RunRecord
from castbench.store import rounds_sha256

TOLERANCE = 1e-9
"""Relative difference that two orders of the same sums may show."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked; `detail` says what was compared, or what is wrong."""

    what: str
    ok: bool
    detail: str = ""


def verify_run(record: RunRecord, projection: Projection, comparable_sha256: str) -> tuple[Check, ...]:
    """All checks of a run; `comparable_sha256` is recomputed by the caller from the plan."""
    header = record.header
    hashes = (
        ("profile hash", sha256(header.profile_text.encode()).hexdigest(), header.profile_sha256),
        ("analysis plan hash", sha256_of(header.plan), header.plan_sha256),
        ("comparability hash", comparable_sha256, header.comparable_sha256),
    )
    return (
        *(_hash_check(what, found, stored) for what, found, stored in hashes),
        _listed("whole lines", list(record.damage), "no torn line"),
        _listed("every line follows from the one before", list(_chain_problems(record)), "a chain of hashes"),
        _listed("rounds in order, none twice", list(_round_problems(record)), f"{len(record.rounds)} rounds"),
        _listed("order of every round as drawn", list(_order_problems(record)), "seeded permutations"),
        _listed("groups as they were closed", list(_group_problems(record)), _finished(record)),
        _listed("latencies and ratios recomputed", list(_case_problems(record)), "every case"),
        _listed("cost recomputed", list(_cost_problems(record, projection)), "every mechanism"),
    )  # fmt: skip


def _finished(record: RunRecord) -> str:
    """How far the run got."""
    return f"{len(record.groups)} of {len(record.header.plan.groups)} groups are finished"


def _hash_check(what: str, found: str, stored: str) -> Check:
    """Whether a stored hash is the one of what it covers."""
    return Check(what, found == stored, "" if found == stored else "the header was changed")


def _listed(what: str, problems: list[str], detail: str) -> Check:
    """A check that passes when nothing is listed."""
    return Check(what, not problems, "; ".join(problems[:3]) if problems else detail)


def _chain_problems(record: RunRecord) -> Iterator[str]:
    """Lines that were changed, moved, added or taken out: the line after them no longer fits."""
    for number in record.unchained:
        yield f"line {number} does not follow from line {number - 1}"


def _round_problems(record: RunRecord) -> Iterator[str]:
    """Rounds that are missing, doubled, or of a group or arm that was never planned."""
    counted = Counter((r.group, r.purpose, r.round) for r in record.rounds)
    yield from (f"{group} has round {number} {times} times" for (group, _, number), times in counted.items() if times > 1)
    planned = {group.key: group for group in record.header.plan.groups}
    for key in dict.fromkeys(r.group for r in record.rounds):
        if key not in planned:
            yield f"{key} is not in the plan"
            continue
        numbers = [r.round for r in record.rounds if (r.group, r.purpose) == (key, "compare")]
        if numbers != list(range(len(numbers))):
            yield f"{key} has rounds {numbers}"
        known = {arm.label for arm in record.header.plan.arms_of(planned[key])}
        strangers = {s.label for r in record.rounds if r.group == key for s in r.samples} - known
        yield from (f"{key} has windows of {label}, which was not planned there" for label in sorted(strangers))


def _order_problems(record: RunRecord) -> Iterator[str]:
    """Rounds whose arms did not run in the order that the plan's seed draws."""
    plan = record.header.plan
    for r in record.rounds:
        ran = [s.label for s in sorted(r.samples, key=lambda s: s.order)]
        drawn = [arm.label for arm in plan.arms if arm.label in set(ran)]
        which = f"{r.round}" if r.purpose == "compare" else f"{r.purpose}|{r.round}"
        random.Random(f"{plan.served.seed}|{r.group}|{which}").shuffle(drawn)
        if ran != drawn:
            yield f"{r.group} round {r.round} ran in another order than its seed draws"


def _group_problems(record: RunRecord) -> Iterator[str]:
    """Finished groups whose rounds are not those they were closed with."""
    for key, times in Counter(g.group for g in record.groups).items():
        if times > 1:
            yield f"{key} was closed {times} times"
    for group in record.groups:
        rounds = record.rounds_of(group.group)
        if len(rounds) != group.rounds:
            yield f"{group.group} was closed with {group.rounds} rounds and has {len(rounds)}"
        elif rounds_sha256(rounds) != group.rounds_sha256:
            yield f"a round of {group.group} was changed after the group was closed"


def _case_problems(record: RunRecord) -> Iterator[str]:
    """Cases whose mean time or paired ratio comes out differently here."""
    plan = record.header.plan
    for finding in case_findings(record):
        if finding.mean_step_s is None:
            continue
        rounds = [r for r in record.rounds if r.group == finding.group.key and r.valid and r.purpose == "compare"]
        times = _window_means(rounds, finding.arm.label)
        where = f"{finding.group.key} {finding.arm.label}"
        if not _close(fmean(times.values()), finding.mean_step_s):
            yield f"{where}: mean {finding.mean_step_s} against {fmean(times.values())}"
        if finding.log_ratio is not None:
            theirs = _window_means(rounds, plan.baseline)
            logs = [math.log(times[i] / theirs[i]) for i in times if i in theirs]
            wanted = (median(_walsh(logs)), *_interval(logs, plan))
            found = (finding.log_ratio.value, finding.log_ratio.low, finding.log_ratio.high)
            if not all(_close(w, f) for w, f in zip(wanted, found, strict=True)):
                yield f"{where}: log ratio {found} against {wanted}"


def _window_means(rounds: list[RoundRecord], label: str) -> dict[int, float]:
    """Mean step time of an arm by round."""
    return {r.round: s.elapsed_s / s.steps for r in rounds for s in r.samples if s.label == label and s.valid}


def _walsh(values: list[float]) -> list[float]:
    """All pairwise averages, ascending."""
    return sorted((a + b) / 2 for a, b in itertools.combinations_with_replacement(values, 2))


def _interval(logs: list[float], plan: Plan) -> tuple[float | None, float | None]:
    """Signed-rank interval by counting, among all sign patterns, the rank sums as a polynomial's coefficients."""
    n, rules = len(logs), plan.analysis
    if n < rules.looks[0]:
        return None, None
    passed = [error for look, error in zip(rules.looks, rules.look_errors, strict=True) if look <= n]
    error = passed[-1] if n in rules.looks or len(passed) == len(rules.looks) else 0.05 - sum(passed)
    counts = Counter({0: 1})
    for rank in range(1, n + 1):
        counts += Counter({total + rank: count for total, count in counts.items()})
    outside, below = 0, 0.0
    while (below := below + counts[outside]) / 2**n <= error / 2:
        outside += 1
    walsh = _walsh(logs)
    return (walsh[outside - 1], walsh[-outside]) if outside else (None, None)


def _cost_problems(record: RunRecord, projection: Projection) -> Iterator[str]:
    """Mechanisms whose time per request, servers or cost come out differently here."""
    findings = {(f.arm.label, f.group.key): f for f in case_findings(record)}
    for projected in projection.arms:
        if projected.configuration is None or projected.seconds_per_request is None:
            continue
        seconds = _seconds_per_request(record, projected, findings)
        if seconds is not None and not _close(seconds, projected.seconds_per_request.value):
            yield f"{projected.arm.label}: {projected.seconds_per_request.value} s per request against {seconds}"
        yield from _money_problems(projected, projection)


def _seconds_per_request(
    record: RunRecord, projected: ArmProjection, findings: dict[tuple[str, str], CaseFinding]
) -> float | None:
    """Time per request of the chosen configuration; None in scope attention, where it rests on a stated share."""
    plan, used = record.header.plan, projected.configuration
    if used is None or plan.served.scope == "attention":
        return None
    points = {}
    for group in plan.groups:
        if (group.shape.batch_size, group.batching, group.held_out) == (used.batch_size, used.batching, False):
            mean = findings[projected.arm.label, group.key].mean_step_s
            if mean is not None:
                points[group.shape.seq_len] = mean
    total, reached = 0.0, 0.0
    for tokens, share in zip(plan.mix.tokens, plan.mix.shares, strict=True):
        before, reached = reached, reached + share
        padded = used.batching == "padded" and used.batch_size > 1
        weight = min(1.0, reached) ** used.batch_size - min(1.0, before) ** used.batch_size if padded else share
        total += weight * _at(points, tokens)
    return total / used.batch_size


def _at(points: dict[int, float], tokens: int) -> float:
    """Log-log interpolation between measured lengths; the first length's time below it."""
    lengths = sorted(points)
    if tokens <= lengths[0]:
        return points[lengths[0]]
    high = next(length for length in lengths if length >= tokens)
    low = max((length for length in lengths if length < high), default=high)
    if high == tokens:
        return points[high]
    along = math.log(tokens / low) / math.log(high / low)
    return math.exp((1 - along) * math.log(points[low]) + along * math.log(points[high]))


def _money_problems(projected: ArmProjection, projection: Projection) -> Iterator[str]:
    """Servers and cost from the time per request by plain arithmetic."""
    if projection.demand is None or projected.replicas is None or projected.seconds_per_request is None:
        return
    devices = projection.price.devices if projection.price else 1
    busy = projection.demand.requests_per_second * projected.seconds_per_request.value
    servers = max(1, math.ceil(busy / projection.demand.max_utilization / devices - 1e-12))
    if servers != projected.replicas:
        yield f"{projected.arm.label}: {projected.replicas} servers against {servers}"
    if projection.price is not None and projected.cost_usd_per_hour is not None:
        cost = servers * projection.price.usd_per_hour
        if not _close(cost, projected.cost_usd_per_hour.value):
            yield f"{projected.arm.label}: {projected.cost_usd_per_hour.value} $/h against {cost}"


def _close(a: float | None, b: float | None) -> bool:
    """Equal up to rounding; unknown equals unknown only."""
    if a is None or b is None:
        return a is b
    return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=1e-12)
