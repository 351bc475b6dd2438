"""From raw rounds to findings per case: latency, paired ratio to the baseline, verdict; computed on every reading."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, median

from castbench import stats
from castbench.hardware.datasheet import match_device
from castbench.plan import Arm, Group, Plan
from castbench.records import Caveat, GroupRecord, Outcome, RoundRecord, RunRecord, Sample, Status
from castbench.stats import Estimate, Verdict


@dataclass(frozen=True, slots=True)
class CaseFinding:
    """What is known of one arm on one group; None where it was not measured.

    latency_s       per step: mean over worker processes of the median step, with a 95 % t interval over processes
    mean_step_s     mean wall time of a step over all rounds, stalls included: what money is computed from
    log_ratio       log of (this arm's window mean / the baseline's), Hodges-Lehmann with its signed-rank interval
    """

    group: Group
    arm: Arm
    status: Status
    reason: str | None
    outcome: Outcome | None
    rounds: int
    stopped_by: str | None
    latency_s: Estimate | None
    mean_step_s: float | None
    step_p95_s: float | None
    step_p99_s: float | None
    log_ratio: Estimate | None
    verdict: Verdict | None
    caveats: tuple[Caveat, ...]

    @property
    def speedup(self) -> Estimate | None:
        """Baseline's time over this arm's, with its interval."""
        if self.log_ratio is None:
            return None
        flipped = [None if x is None else math.exp(-x) for x in (self.log_ratio.high, self.log_ratio.low)]
        return Estimate(math.exp(-self.log_ratio.value), *flipped)


def case_findings(record: RunRecord) -> tuple[CaseFinding, ...]:
    """A finding for every case of the plan, group by group, measured or not."""
    plan, general = record.header.plan, run_caveats(record)
    return tuple(_finding(record, group, arm, general) for group in plan.groups for arm in plan.arms)


def run_caveats(record: RunRecord) -> tuple[Caveat, ...]:
    """Doubts about every number of a run: not on a GPU, not on a machine at all, not on the GPU the profile names."""
    environment, asked = record.header.environment, record.header.economics.gpu
    if environment.device == "fake":
        return (Caveat.FAKE_DEVICE,)
    if environment.device == "cpu":
        return (Caveat.CPU_RUN,)
    found = match_device(environment.device_name, environment.device_memory_bytes)
    is_other = asked is not None and asked not in (found.name if found else None, environment.device_name)
    return (Caveat.WRONG_DEVICE,) if is_other else ()


def paired_log_ratio(rounds: Iterable[RoundRecord], label: str, baseline: str, plan: Plan) -> Estimate | None:
    """Estimate of log(label's window mean / baseline's) over the rounds that hold both; None without any."""
    ratios = [
        math.log(mine.mean_step_s / theirs.mean_step_s)
        for r in rounds
        if (mine := sample_of(r, label)) is not None and (theirs := sample_of(r, baseline)) is not None
    ]
    if not ratios:
        return None
    error = stats.final_error(len(ratios), plan.analysis.looks, plan.analysis.look_errors)
    return stats.signed_rank_estimate(ratios, error)


def sample_of(record: RoundRecord, label: str) -> Sample | None:
    """The window of that arm in a round, if it has a valid one."""
    return next((s for s in record.samples if s.label == label and s.valid), None)


def _finding(record: RunRecord, group: Group, arm: Arm, general: tuple[Caveat, ...]) -> CaseFinding:
    """One case's finding, from whatever of it was measured."""
    plan = record.header.plan
    rounds = record.rounds_of(group.key)
    finished = record.group_record(group.key)
    held = [(r, s) for r in rounds if (s := sample_of(r, arm.label)) is not None]
    outcome = _outcome(finished, arm.label)
    status, reason = _status(plan, group, arm, outcome, measured=bool(held))
    usable = held if status in (Status.OK, Status.INTERRUPTED) else []
    steps = [t for _, s in usable for t in s.step_times_s]
    ratio = paired_log_ratio(rounds, arm.label, plan.baseline, plan) if usable else None
    return CaseFinding(
        group, arm, status, reason, outcome, len(usable), finished.stopped_by if finished else None,
        latency_s=_latency(usable),
        mean_step_s=fmean(s.mean_step_s for _, s in usable) if usable else None,
        step_p95_s=stats.percentile(steps, 0.95, stats.P95_MIN_STEPS),
        step_p99_s=stats.percentile(steps, 0.99, stats.P99_MIN_STEPS),
        log_ratio=None if arm.label == plan.baseline else ratio,
        verdict=_verdict(plan, arm, ratio) if usable else None,
        caveats=(*general, *_caveats(usable, finished, plan, outcome)) if usable else (),
    )  # fmt: skip


def _latency(held: list[tuple[RoundRecord, Sample]]) -> Estimate | None:
    """Median step per worker process, averaged over processes with a t interval."""
    if not held:
        return None
    by_epoch: dict[int, list[float]] = {}
    for r, s in held:
        by_epoch.setdefault(r.epoch, []).extend(s.step_times_s or (s.mean_step_s,))
    medians = [median(times) for times in by_epoch.values()]
    return stats.mean_by_epochs(medians, list(by_epoch))


def _status(
    plan: Plan, group: Group, arm: Arm, outcome: Outcome | None, *, measured: bool
) -> tuple[Status, str | None]:
    """Status of a case: from its group's record, from the plan's limits, else unfinished."""
    for case in plan.unsupported:
        if (case.group, case.label) == (group.key, arm.label):
            return Status.UNSUPPORTED, case.reason
    if outcome is not None:
        return outcome.status, outcome.reason
    if measured:
        return Status.INTERRUPTED, "the run ended before this group was finished"
    return Status.SKIPPED, "not measured before the run ended"


def _outcome(finished: GroupRecord | None, label: str) -> Outcome | None:
    """What a finished group says of an arm."""
    return next((o for o in finished.outcomes if o.label == label), None) if finished else None


def _verdict(plan: Plan, arm: Arm, ratio: Estimate | None) -> Verdict:
    """Verdict of an arm against the baseline; BASELINE for the baseline itself."""
    if arm.label == plan.baseline:
        return Verdict.BASELINE
    return Verdict.UNCLEAR if ratio is None else stats.judge(ratio, plan.sampling.same_within)


def _caveats(
    held: list[tuple[RoundRecord, Sample]], finished: GroupRecord | None, plan: Plan, outcome: Outcome | None
) -> tuple[Caveat, ...]:
    """Doubts about one case: those of its group and those of its own numbers."""
    found = list(finished.caveats) if finished else [Caveat.INCOMPLETE]
    if len(held) < plan.analysis.looks[0]:
        found.append(Caveat.FEW_ROUNDS)
    if len({r.epoch for r, _ in held}) < 3:
        found.append(Caveat.FEW_EPOCHS)
    if outcome is not None and outcome.peak_bytes is None:
        found.append(Caveat.MEMORY_UNMEASURED)
    return tuple(found)
