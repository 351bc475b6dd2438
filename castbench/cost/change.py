"""What changed between two runs: the ratio to the baseline in one against the ratio in the other, with its interval.

    BASE: log(time of X / time of the baseline)   paired rounds, θ₀ with its interval   ┐
    NEW:  log(time of X / time of the baseline)   paired rounds, θ₁ with its interval   ┴─▶ δ = θ₁ − θ₀

Two runs are not paired: another machine, another day. What made everything slower cancels in each ratio. Both
intervals are combined by recovering variances from them (MOVER; Zou and Donner 2008), with Welch's degrees of freedom,
and what worker processes differ by beyond their rounds' noise is added: the other run had other processes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from castbench.cost.spec import ArmProjection
from castbench.cost.surface import configuration_of
from castbench.findings import CaseFinding, sample_of
from castbench.records import Caveat, RunRecord
from castbench.stats import (
    Estimate,
    Verdict,
    final_error,
    holm,
    signed_rank_estimate,
    student_t_quantile,
    student_t_share,
)

ERROR = 0.05
"""Error probability of an interval of a change, and of all verdicts of one table together (Holm)."""
REPEATED = 1 + math.sqrt(2)
"""Half widths from a value to where the far end of a repeat's interval lies in all but 2.5 % of cases: the end is one
half width from the repeat's value, and that value is up to the square root of 2 of them from this one.
"""


@dataclass(frozen=True, slots=True)
class Known:
    """The log of a ratio or of a time in one run: interval of level 1 - `error`, on so many degrees of freedom.

    processes   variance that worker processes add to the value, beyond what the interval holds
    """

    log: Estimate
    degrees: int
    error: float
    processes: float = 0.0

    @property
    def standard_errors(self) -> tuple[float, float]:
        """Below and above the value, as Student's t would need them for this interval; infinite without one."""
        if self.log.low is None or self.log.high is None or self.degrees < 1:
            return math.inf, math.inf
        quantile = student_t_quantile(1 - self.error / 2, self.degrees)
        sides = (self.log.value - self.log.low, self.log.high - self.log.value)
        below, above = (math.hypot(side / quantile, math.sqrt(self.processes)) for side in sides)
        return below, above


@dataclass(frozen=True, slots=True)
class RatioChange:
    """A change of a log ratio, NEW less BASE; negative is faster.

    below, above   standard error and degrees of freedom on either side; infinite where a run has no interval
    floor          what a change may be without meaning anything (A/A runs); the interval is that much wider
    """

    log: float
    below: tuple[float, int]
    above: tuple[float, int]
    floor: float = 0.0

    @property
    def estimate(self) -> Estimate:
        """The log of the change with its 95 % interval; no interval where a run has none."""
        if math.isinf(self.below[0]) or math.isinf(self.above[0]):
            return Estimate(self.log)
        low, high = (error * student_t_quantile(1 - ERROR / 2, degrees) for error, degrees in (self.below, self.above))
        return Estimate(self.log, self.log - low - self.floor, self.log + high + self.floor)

    def p_value(self, claim: Verdict, margin: float) -> float:
        """Of a claim being wrong: one-sided and doubled, so that it is at most 5 % just where the interval gives the
        claim's verdict. SAME is tested on both sides (Schuirmann 1987); any other verdict claims nothing: 1.
        """
        outer, inner = margin + self.floor, margin - self.floor
        if claim is Verdict.FASTER:
            return _doubled(_tail(-outer - self.log, *self.above))
        if claim is Verdict.SLOWER:
            return _doubled(_tail(self.log - outer, *self.below))
        if claim is Verdict.SAME:
            return _doubled(max(_tail(inner + self.log, *self.below), _tail(inner - self.log, *self.above)))
        return 1.0


def ratio_in(record: RunRecord, key: str, label: str) -> Known | None:
    """Log of the ratio of an arm's time to the baseline's on one shape, as a report judges it; None without rounds."""
    rules = record.header.plan.analysis
    logs, processes = _paired_logs(record, key, label)
    if not logs:
        return None
    error = final_error(len(logs), rules.looks, rules.look_errors)
    estimate = signed_rank_estimate(logs, error)
    return Known(estimate, len(logs) - 1, error or ERROR, process_variance(logs, processes))


def _paired_logs(record: RunRecord, key: str, label: str) -> tuple[list[float], list[int]]:
    """Log ratios of an arm to the profile's baseline, with the worker process of each, over rounds that hold both."""
    pairs = [
        (math.log(mine.mean_step_s / theirs.mean_step_s), r.epoch)
        for r in record.rounds_of(key)
        if (mine := sample_of(r, label)) is not None
        and (theirs := sample_of(r, record.header.plan.baseline)) is not None
    ]
    return [log for log, _ in pairs], [process for _, process in pairs]


def latency_in(record: RunRecord, found: CaseFinding) -> Known | None:
    """Log of the median step over worker processes, whose differences its interval holds; None where not measured."""
    if found.latency_s is None:
        return None
    processes = {r.epoch for r in record.rounds_of(found.group.key) if sample_of(r, found.arm.label) is not None}
    return Known(_logarithm(found.latency_s), len(processes) - 1, ERROR)


def over_traffic(record: RunRecord, arm: ArmProjection) -> Known | None:
    """Log of an arm's time per request over the headline baseline's, each at its best; None where not measured.

    The interval is that of the money stage's draws; on too few rounds there is no valid one. Worker processes add what
    they add at most to one of the cases behind it.
    """
    if arm.speedup is None:
        return None
    label, plan = arm.arm.label, record.header.plan
    behind = [g for g in plan.groups if not g.held_out and configuration_of(g, label) == arm.configuration]
    rounds = min((sum(sample_of(r, label) is not None for r in record.rounds_of(g.key)) for g in behind), default=0)
    processes = max((process_variance(*_paired_logs(record, g.key, label)) for g in behind), default=0.0)
    faster = _logarithm(arm.speedup)
    slower = Estimate(-faster.value, *(None if end is None else -end for end in (faster.high, faster.low)))
    log = Estimate(slower.value) if Caveat.FEW_ROUNDS in arm.caveats else slower
    return Known(log, rounds - 1, ERROR, processes)


def repeat_limit(known: Known) -> float | None:
    """Log of the slowdown that a repeat of the same work shows with its whole interval in 2.5 % of cases.

    The upper end lies one half width above the change, and the change itself up to one above 0.
    """
    high = change_of(known, known).estimate.high
    return None if high is None else 2 * high


def process_variance(values: Sequence[float], processes: Sequence[int]) -> float:
    """Variance that differences between worker processes add to the mean of `values`, beyond their noise; at least 0.

    Moments of the one-way analysis of variance: s² = (MSB - MSW) / n₀, times the sum of (n_e / n)² over processes.
    """
    by_process = [[v for v, p in zip(values, processes, strict=True) if p == one] for one in sorted(set(processes))]
    n, k = len(values), len(by_process)
    if k < 2 or n <= k:
        return 0.0
    means = [fmean(each) for each in by_process]
    squares = math.fsum(len(each) ** 2 for each in by_process)
    within = math.fsum((v - mean) ** 2 for each, mean in zip(by_process, means, strict=True) for v in each) / (n - k)
    whole = fmean(values)
    between = math.fsum(len(each) * (m - whole) ** 2 for each, m in zip(by_process, means, strict=True)) / (k - 1)
    typical = (n - squares / n) / (k - 1)
    return max(0.0, (between - within) / typical) * squares / n**2


def change_of(base: Known, new: Known, floor: float = 0.0) -> RatioChange:
    """NEW less BASE; below lies what NEW may be lower or BASE higher."""
    (base_below, base_above), (new_below, new_above) = base.standard_errors, new.standard_errors
    return RatioChange(
        new.log.value - base.log.value,
        _together(new_below, new.degrees, base_above, base.degrees),
        _together(new_above, new.degrees, base_below, base.degrees),
        floor,
    )


def verdicts(changes: Sequence[RatioChange], margin: float) -> tuple[Verdict, ...]:
    """A verdict for each of a table's changes, by Holm over those that have an interval; UNCLEAR for the others."""
    judged = [i for i, change in enumerate(changes) if change.estimate.low is not None]
    likeliest = {i: _likeliest(changes[i], margin) for i in judged}
    adjusted = dict(zip(judged, holm([likeliest[i][1] for i in judged]), strict=True))
    return tuple(
        likeliest[i][0] if i in adjusted and adjusted[i] <= ERROR else Verdict.UNCLEAR for i in range(len(changes))
    )


def _likeliest(change: RatioChange, margin: float) -> tuple[Verdict, float]:
    """The claim with the smallest p-value, and that p-value."""
    claims = (Verdict.SAME, Verdict.FASTER, Verdict.SLOWER)
    return min(((claim, change.p_value(claim, margin)) for claim in claims), key=lambda found: found[1])


def _logarithm(estimate: Estimate) -> Estimate:
    """Of a positive value; an interval that reaches down to 0 is none."""
    low, high = estimate.low, estimate.high
    if low is None or high is None or low <= 0:
        return Estimate(math.log(estimate.value))
    return Estimate(math.log(estimate.value), math.log(low), math.log(high))


def _together(one: float, its_degrees: int, other: float, other_degrees: int) -> tuple[float, int]:
    """Standard error of a difference of two independent numbers, with Welch and Satterthwaite's degrees of freedom."""
    variances = one**2, other**2
    total = math.fsum(variances)
    if total == 0 or math.isinf(total):
        return math.sqrt(total), max(1, min(its_degrees, other_degrees))
    spread = math.fsum(v**2 / d for v, d in zip(variances, (its_degrees, other_degrees), strict=True))
    return math.sqrt(total), max(1, math.floor(total**2 / spread))


def _tail(distance: float, error: float, degrees: int) -> float:
    """Probability of an estimate this far or farther beyond a limit that the truth sits on."""
    if error == 0:
        return 0.0 if distance > 0 else 1.0
    return 1 - student_t_share(distance / error, degrees) if math.isfinite(error) else 1.0


def _doubled(one_sided: float) -> float:
    """A two-sided p-value."""
    return min(1.0, 2 * one_sided)
