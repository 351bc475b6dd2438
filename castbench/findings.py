"""From raw rounds to findings per case: latency, paired ratio to the baseline, verdict; computed on every reading."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

from castbench import stats
from castbench.carry_over import carries_over
from castbench.energy import EnergyFinding, energy_caveats, summarise
from castbench.hardware.datasheet import match_device
from castbench.hardware.launches import is_launch_bound
from castbench.hardware.slowdowns import device_caveats
from castbench.plan import Arm, Group, Plan
from castbench.records import (
    Caveat,
    Environment,
    GroupRecord,
    Outcome,
    RoundRecord,
    RunRecord,
    Sample,
    Selected,
    Status,
)
from castbench.stats import Estimate, Verdict
from castbench.workload.spec import LengthDistribution


@dataclass(frozen=True, slots=True)
class CaseFinding:
    """What is known of one arm on one group; None where it was not measured.

    latency_s       per step: mean over worker processes of the median step, with a 95 % t interval over processes
    mean_step_s     mean wall time of a step over all rounds, stalls included: what money is computed from
    energy          joules per step, sequence and token, from the energy pass
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
    energy: EnergyFinding | None
    caveats: tuple[Caveat, ...]

    @property
    def speedup(self) -> Estimate | None:
        """Baseline's time over this arm's, with its interval."""
        if self.log_ratio is None:
            return None
        flipped = [None if x is None else math.exp(-x) for x in (self.log_ratio.high, self.log_ratio.low)]
        return Estimate(math.exp(-self.log_ratio.value), *flipped)


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What fresh rounds say of a selected arm: its claim, judged once on the planned number of rounds.

    claim       the verdict of the first rounds; with UNCLEAR there is nothing to confirm
    selected    log time ratio to `against` on the first rounds, which flatters a winner
    fresh       the same on the fresh rounds, with an interval at the whole error; None until all of them are there
    rounds      fresh rounds so far
    p_value     exact, of the claim being wrong; None where nothing is claimed or rounds are missing
    adjusted_p  the same by Holm over all that was selected in the run
    """

    group: Group
    arm: Arm
    against: Arm
    claim: Verdict
    selected: Estimate | None
    fresh: Estimate | None
    rounds: int
    p_value: float | None
    adjusted_p: float | None
    holds: bool

    @property
    def lost(self) -> bool:
        """Whether the first rounds made a claim that the fresh ones do not bear out."""
        return self.claim is not Verdict.UNCLEAR and not self.holds


def case_findings(record: RunRecord) -> tuple[CaseFinding, ...]:
    """A finding for every case of the plan, group by group, measured or not; computed once per record."""
    return record.once(_case_findings)


def _case_findings(record: RunRecord) -> tuple[CaseFinding, ...]:
    """A finding for every case of the plan."""
    plan, general = record.header.plan, run_caveats(record)
    lost = {(c.group.key, c.arm.label) for c in confirmations(record) if c.lost}
    found: list[CaseFinding] = []
    for group in plan.groups:
        after = carries_over(record.rounds_of(group.key), plan.sampling.same_within, plan.analysis.looks[0])
        for arm in plan.arms:
            is_lost = (group.key, arm.label) in lost
            doubts = (*general, *[Caveat.CARRY_OVER] * after, *[Caveat.NOT_CONFIRMED] * is_lost)
            found.append(_finding(record, group, arm, doubts))
    return tuple(found)


def confirmations(record: RunRecord) -> tuple[Confirmation, ...]:
    """What the fresh rounds say of everything that was selected, in the order of the selection.

    Selected on the first rounds and judged on others, once and at a number of rounds that was fixed before: so the
    selection does not flatter. What is not measured in full counts as not shown and stays in the family.
    """
    selected = record.selection.selected if record.selection else ()
    singly = [_confirmation(record, chosen) for chosen in selected]
    error = record.header.plan.analysis.total_error
    claimed = [c for c in singly if c.claim is not Verdict.UNCLEAR]
    adjusted = dict(
        zip(map(id, claimed), stats.holm([1.0 if c.p_value is None else c.p_value for c in claimed]), strict=True)
    )
    return tuple(
        c if c.p_value is None else replace(c, adjusted_p=adjusted[id(c)], holds=adjusted[id(c)] <= error)
        for c in singly
    )


def faster_from(findings: Sequence[CaseFinding]) -> int | None:
    """The shortest length from which on one arm is FASTER at every length, tested from the longest downwards.

    A fixed sequence: each length is judged at the full error, and the first one that is not FASTER ends it, so the
    whole sentence is wrong with no more than the error of one verdict (Maurer, Hothorn and Lehmacher 1995; a closed
    test). Every finding of a length must be FASTER. None where the longest is not.
    """
    reached = None
    for length in sorted({f.group.shape.seq_len for f in findings}, reverse=True):
        if any(f.verdict is not Verdict.FASTER for f in findings if f.group.shape.seq_len == length):
            break
        reached = length
    return reached


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
    ratios = log_ratios(rounds, label, baseline)
    if not ratios:
        return None
    error = stats.final_error(len(ratios), plan.analysis.looks, plan.analysis.look_errors)
    return stats.signed_rank_estimate(ratios, error)


def log_ratios(rounds: Iterable[RoundRecord], label: str, baseline: str) -> list[float]:
    """log(label's window mean / baseline's), one per round that holds both."""
    return [
        math.log(mine.mean_step_s / theirs.mean_step_s)
        for r in rounds
        if (mine := sample_of(r, label)) is not None and (theirs := sample_of(r, baseline)) is not None
    ]


def sample_of(record: RoundRecord, label: str) -> Sample | None:
    """The window of that arm in a round, if it has a valid one."""
    return record.valid_samples.get(label)


def _confirmation(record: RunRecord, chosen: Selected) -> Confirmation:
    """One selected arm on its fresh rounds, before the adjustment for the others."""
    plan = record.header.plan
    margin, wanted = plan.sampling.same_within, plan.analysis.confirm_rounds
    first = paired_log_ratio(record.rounds_of(chosen.group), chosen.label, chosen.against, plan)
    claim = Verdict.UNCLEAR if first is None else stats.judge(first, margin)
    in_order = sorted(record.rounds_of(chosen.group, "confirm"), key=lambda r: r.round)
    fresh = log_ratios(in_order, chosen.label, chosen.against)
    is_whole = len(fresh) >= wanted
    judged = fresh[:wanted]  # never more than planned, or the number could be chosen by the outcome
    is_testable = is_whole and claim is not Verdict.UNCLEAR
    return Confirmation(
        plan.group(chosen.group), plan.arm(chosen.label), plan.arm(chosen.against), claim, first,
        fresh=stats.signed_rank_estimate(judged, plan.analysis.total_error) if is_whole else None,
        rounds=len(fresh),
        p_value=stats.claim_p_value(judged, margin, claim) if is_testable else None,
        adjusted_p=None, holds=False,
    )  # fmt: skip


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
    measured_j = outcome.energy if outcome is not None and usable else None
    energy = summarise(measured_j, group.shape.batch_size, expected_tokens(group, plan.mix))
    return CaseFinding(
        group, arm, status, reason, outcome, len(usable), finished.stopped_by if finished else None,
        latency_s=_latency(usable),
        mean_step_s=fmean(s.mean_step_s for _, s in usable) if usable else None,
        step_p95_s=stats.percentile(steps, 0.95, stats.P95_MIN_STEPS),
        step_p99_s=stats.percentile(steps, 0.99, stats.P99_MIN_STEPS),
        log_ratio=None if arm.label == plan.baseline else ratio,
        verdict=_verdict(plan, arm, ratio) if usable else None, energy=energy,
        caveats=(
            *general, *_caveats(usable, finished, plan, outcome), *_device_caveats(usable, record.header.environment),
            *(energy_caveats(energy) if plan.measures_energy_of(group) and arm.role != "ceiling" else ()),
        ) if usable else (),
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


def expected_tokens(group: Group, mix: LengthDistribution) -> float:
    """Real tokens of one batch: all of a bucketed one; of a padded one the longest row and the others' mean."""
    rows, longest = group.shape.batch_size, group.shape.seq_len
    drawn = [(t, s) for t, s in zip(mix.tokens, mix.shares, strict=True) if t <= longest]
    if group.batching == "bucketed" or not drawn:
        return float(rows * longest)
    mean = math.fsum(t * s for t, s in drawn) / math.fsum(s for _, s in drawn)
    return longest + (rows - 1) * mean


def _device_caveats(held: Sequence[tuple[RoundRecord, Sample]], environment: Environment) -> tuple[Caveat, ...]:
    """Doubts from what the device did during the windows, and from who kept whom waiting."""
    samples = [s for _, s in held]
    states = [s.state for s in samples if s.state is not None]
    waiting = (Caveat.LAUNCH_BOUND,) if is_launch_bound(samples) else ()
    return (*device_caveats(states, environment.gpu), *waiting)


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
