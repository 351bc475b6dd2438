"""Decides what runs when: groups, rounds in fresh random order, looks, worker processes, budgets; appends as it goes.

group:  parity ─▶ [ epoch: prepare every arm ─▶ round ─▶ round ─▶ … ] ─▶ [ epoch … ] ─▶ memory pass ─▶ group line
round:  every arm once, order drawn anew; a round in which an arm fails is dropped and done again without it
"""

from __future__ import annotations

import math
import random
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from castbench import stats
from castbench.errors import HardwareError
from castbench.findings import paired_log_ratio
from castbench.hardware.rates import ROUGH_GPU_RATES, DeviceRates, rough_cpu_rates
from castbench.measure.estimate import GroupEstimate, PlanEstimate, estimate_plan, group_cap_s
from castbench.measure.rig import CaseFailed, Epoch, MemoryReading, Rig
from castbench.plan import Arm, Group, Plan
from castbench.records import (
    Caveat,
    Conditions,
    Environment,
    GroupRecord,
    Outcome,
    RoundRecord,
    RunRecord,
    Sample,
    Status,
)
from castbench.store import RunWriter, rounds_sha256
from castbench.workload.spec import Shape

STEAL_LIMIT = 0.02
"""Share of time taken by other guests of the host above which a group carries the caveat loaded-host."""
OPENING_TRIES = 3
"""Worker processes that may die at birth before the device is given up."""
FOREIGN_LOAD_LIMIT = 0.75
"""Load average beyond the threads castbench itself keeps busy, above which the host counts as loaded."""
PACE_PRIOR = 0.25
"""Weight of the estimate against what was measured, as a share of the whole run."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands; `left_s` is what remains as far as can be told now."""

    group_number: int
    group_count: int
    group: str
    rounds: int
    next_look: int
    doing: str
    elapsed_s: float
    left_s: float


class Watcher(Protocol):
    """Whoever wants to follow a run."""

    def progress(self, progress: Progress) -> None:
        """Called before every window and pass."""

    def failed(self, group: Group, arm: Arm, status: Status, reason: str) -> None:
        """Called when a case fails; the run goes on with the others."""


class Silent:
    """A watcher that says nothing."""

    def progress(self, progress: Progress) -> None:
        """Say nothing."""

    def failed(self, group: Group, arm: Arm, status: Status, reason: str) -> None:
        """Say nothing."""


def rates_for(device: str, cores: int | None) -> DeviceRates:
    """Rough rates for an estimate before anything is measured."""
    return ROUGH_GPU_RATES if device.startswith(("cuda", "fake")) else rough_cpu_rates(cores or 2)


class PlanRunner:
    """Runs what of a plan is not in `done` yet, within `budget_s` seconds if given."""

    def __init__(
        self, plan: Plan, rig: Rig, writer: RunWriter, watcher: Watcher, environment: Environment,
        *, done: RunRecord | None = None, budget_s: float | None = None,
    ) -> None:  # fmt: skip
        self.plan, self.rig, self.writer, self.watcher = plan, rig, writer, watcher
        self.environment, self.done, self.budget_s = environment, done, budget_s
        self.estimate: PlanEstimate = estimate_plan(plan, rates_for(environment.device, environment.threads))
        self._started_s = rig.now_s()
        self._parity: dict[str, float | CaseFailed] = {}
        self._out_of_memory: dict[str, list[Shape]] = {}
        self._spent: dict[str, float] = {}

    def run(self) -> bool:
        """Measure the groups that are left, cheapest first; False when the budget ended before the last one."""
        if all(map(self._is_done, self.plan.groups)):
            return True
        for arm in self.plan.arms:
            with suppress(CaseFailed):
                self.parity(arm)
        for number, group in enumerate(self.plan.groups, 1):
            if self._is_done(group):
                continue
            limit_s = self._limit_s(group)
            if limit_s <= 0:
                return False
            began = self.rig.now_s()
            GroupRunner(self, group, number, limit_s).run()
            self._spent[group.key] = self.rig.now_s() - began
        return True

    def parity(self, arm: Arm) -> float:
        """Parity error of an arm, checked once per run; raises CaseFailed again for one that failed."""
        if arm.label not in self._parity:
            try:
                self._parity[arm.label] = self.rig.parity_error(self.plan, arm)
            except CaseFailed as failure:
                self._parity[arm.label] = failure
        found = self._parity[arm.label]
        if isinstance(found, CaseFailed):
            raise found
        return found

    def note_out_of_memory(self, arm: Arm, shape: Shape) -> None:
        """Remember a shape that did not fit, so that larger ones are not tried."""
        self._out_of_memory.setdefault(arm.label, []).append(shape)

    def smaller_that_did_not_fit(self, arm: Arm, shape: Shape) -> Shape | None:
        """A shape no larger than this one at which the arm ran out of memory."""
        return next(
            (s for s in self._out_of_memory.get(arm.label, ())
             if s.batch_size <= shape.batch_size and s.seq_len <= shape.seq_len), None
        )  # fmt: skip

    def report(self, group: Group, number: int, rounds: int, doing: str, group_left_s: float) -> None:
        """Tell the watcher where the run stands."""
        later = sum(g.expected_s for g in self.estimate.groups[number:] if not self._is_done(g.group))
        left = group_left_s + later * self._pace()
        if self.budget_s is not None:
            left = min(left, max(0.0, self.budget_s - self._elapsed_s()))
        self.watcher.progress(
            Progress(
                number, len(self.plan.groups), group.key, rounds, self.next_look(rounds),
                doing, self._elapsed_s(), left,
            )
        )  # fmt: skip

    def next_look(self, rounds: int) -> int:
        """The look that comes after so many rounds; these rounds themselves after the last one."""
        return next((look for look in self.plan.analysis.looks if look > rounds), rounds)

    def expected_s(self, group: Group) -> float:
        """What a group should take, at the pace seen so far."""
        return self._estimate_of(group).expected_s * self._pace()

    def memory_passes_s(self, group: Group) -> float:
        """What the memory passes of a group should take, kept free under a budget; without one they come on top."""
        if self.budget_s is None:
            return 0.0
        return self._estimate_of(group).memory_s * self._pace()

    def _pace(self) -> float:
        """Measured over estimated seconds of the groups done so far, drawn towards 1 while few are done.

        The first groups are the cheapest, and say more of overheads than of what is to come.
        """
        prior = PACE_PRIOR * self.estimate.expected_s
        estimated = sum(g.expected_s for g in self.estimate.groups if g.group.key in self._spent)
        return (sum(self._spent.values()) + prior) / (estimated + prior)

    def _limit_s(self, group: Group) -> float:
        """Seconds this group may take: its cap, or its share of what is left of the budget."""
        cap = group_cap_s(self.plan, group)
        if self.budget_s is None:
            return cap
        left = self.budget_s - self._elapsed_s()
        waiting = [g for g in self.estimate.groups if g.group.key not in self._spent and not self._is_done(g.group)]
        return min(cap, left * self._estimate_of(group).expected_s / sum(g.expected_s for g in waiting))

    def _estimate_of(self, group: Group) -> GroupEstimate:
        """What was estimated for a group before the run."""
        return next(g for g in self.estimate.groups if g.group == group)

    def _is_done(self, group: Group) -> bool:
        return self.done is not None and self.done.group_record(group.key) is not None

    def _elapsed_s(self) -> float:
        return self.rig.now_s() - self._started_s


class GroupRunner:
    """One group from parity to its line in the run file."""

    def __init__(self, run: PlanRunner, group: Group, number: int, limit_s: float) -> None:
        self.run_, self.plan, self.rig, self.group, self.number = run, run.plan, run.rig, group, number
        self._limit_s = limit_s - run.memory_passes_s(group)
        self._began_s = self.rig.now_s()
        self._alive = list(self.plan.arms_of(group))
        self._outcomes: dict[str, Outcome] = {}
        self._rounds: list[RoundRecord] = list(run.done.rounds_of(group.key)) if run.done else []
        self._steps = {s.label: s.steps for r in self._rounds for s in r.samples}
        self._epoch: Epoch | None = None
        self._epoch_number = max((r.epoch for r in self._rounds), default=-1)
        self._resumed_epoch = self._epoch_number
        self._last_round_s = 0.0

    def run(self) -> None:
        """Measure the group and append its line; on Ctrl-C the finished rounds are in the file already."""
        try:
            self._check_parity()
            while (stopped_by := self._stop_reason()) is None:
                self._one_round()
            if self._epoch_number == self._resumed_epoch and self._rounds:
                self._current_epoch()  # all rounds came from an earlier session: learn again what ran
        finally:
            self._close_epoch()
        self._measure_memory()
        conditions = self.rig.conditions()
        self.run_.writer.append_group(
            GroupRecord(
                self.group.key, len(self._rounds), stopped_by, tuple(self._outcomes.values()),
                self.rig.now_s() - self._began_s, rounds_sha256(self._rounds), conditions,
                _host_caveats(conditions, self.run_.environment),
            )
        )  # fmt: skip

    def _check_parity(self) -> None:
        """No number without a green check: arms whose check fails, or that outgrew memory before, are left out."""
        for arm in tuple(self._alive):
            smaller = self.run_.smaller_that_did_not_fit(arm, self.group.shape)
            try:
                if smaller is not None:
                    at = f"batch {smaller.batch_size}, {smaller.seq_len} tokens"
                    raise CaseFailed(Status.OOM, f"not tried: it ran out of memory at {at}")
                self._tell(f"checking {arm.label}")
                self._note(arm, parity_error=self.run_.parity(arm))
            except CaseFailed as failure:
                self._drop(arm, failure)

    def _stop_reason(self) -> str | None:
        """Why no further round is due, or None."""
        if not any(arm.role != "ceiling" for arm in self._alive):
            return "nothing-left"
        done = len(self._rounds)
        if done >= self.plan.analysis.looks[-1]:
            return "rounds"
        if done in self.plan.analysis.looks and self._is_settled():
            return "precision"
        spent = self.rig.now_s() - self._began_s
        if done and spent + self._last_round_s > self._limit_s:
            return "case-limit" if self.run_.budget_s is None else "budget"
        return None

    def _is_settled(self) -> bool:
        """Whether every pair has a clear verdict or a narrow enough interval."""
        policy = self.plan.sampling
        for arm in self._alive:
            if arm.role != "candidate":
                continue
            ratio = paired_log_ratio(self._rounds, arm.label, self.plan.baseline, self.plan)
            if ratio is not None and not stats.is_settled(ratio, policy.same_within, policy.target_ci):
                return False
        return True

    def _one_round(self) -> None:
        """Every arm once in an order drawn for this round alone; recorded only if all of them succeed."""
        epoch = self._current_epoch()
        index = len(self._rounds)
        order = list(self._alive)
        random.Random(f"{self.plan.served.seed}|{self.group.key}|{index}").shuffle(order)
        began = self.rig.now_s()
        samples: list[Sample] = []
        for place, arm in enumerate(order):
            self._tell(arm.label)
            try:
                samples.append(epoch.window(arm, index, place, self._steps[arm.label]))
            except CaseFailed as failure:
                self._drop(arm, failure)
                self._close_epoch()
                return
        self._last_round_s = self.rig.now_s() - began
        if samples:
            record = RoundRecord(self.group.key, index, self._epoch_number, tuple(samples))
            self.run_.writer.append_round(record)
            self._rounds.append(record)
            if len(self._rounds) in self.plan.analysis.epoch_ends:
                self._close_epoch()

    def _current_epoch(self) -> Epoch:
        """The open worker process, or a fresh one with every arm prepared that can be."""
        while self._epoch is None:
            self._epoch = self._opened_epoch()
            self._epoch_number += 1
            for step in (self._prepare, self._fix_steps):
                for arm in tuple(self._alive):
                    self._tell(f"preparing {arm.label}")
                    try:
                        step(self._epoch, arm)
                    except CaseFailed as failure:
                        self._drop(arm, failure)
                        if failure.epoch_lost:
                            self._close_epoch()
                            break
                if self._epoch is None:
                    break
        return self._epoch

    def _opened_epoch(self) -> Epoch:
        """A fresh worker; HardwareError where none can be had after some tries."""
        for _ in range(OPENING_TRIES - 1):
            try:
                return self.rig.open_epoch(self.plan, self.group)
            except CaseFailed:
                continue
        try:
            return self.rig.open_epoch(self.plan, self.group)
        except CaseFailed as failure:
            raise HardwareError(f"no worker process can be started on {self.rig.device}: {failure.reason}") from None

    def _prepare(self, epoch: Epoch, arm: Arm) -> None:
        """Build an arm and run it for the first time."""
        prepared = epoch.prepare(arm)
        self._note(arm, ran_as=prepared.ran_as, facts=prepared.facts)

    def _fix_steps(self, epoch: Epoch, arm: Arm) -> None:
        """Steps per window, the same for the whole group: fixed once, and only when all arms are warm.

        An arm timed while the process was still cold would get shorter windows than an equal one timed after it.
        """
        if arm.label not in self._steps:
            shortest_s = self.plan.sampling.min_window_ms / 1e3
            self._steps[arm.label] = max(1, math.ceil(shortest_s / max(epoch.step_s(arm), 1e-9)))

    def _measure_memory(self) -> None:
        """The memory pass, apart from timing because tracking disturbs it; a failure there loses no timing."""
        for arm in self._alive:
            if arm.role == "ceiling":
                continue
            self._tell(f"memory of {arm.label}")
            try:
                reading = self.rig.memory(self.plan, self.group, arm)
            except CaseFailed as failure:
                reading = MemoryReading(None, None)
                self._note(arm, reason=f"memory pass: {failure.reason}")
            self._note(arm, peak_bytes=reading.peak_bytes, weights_bytes=reading.weights_bytes)

    def _note(self, arm: Arm, **facts: object) -> None:
        """Add what is known of an arm to its outcome."""
        known = self._outcomes.get(arm.label, Outcome(arm.label, Status.OK))
        self._outcomes[arm.label] = replace(known, **facts)  # type: ignore[arg-type]

    def _drop(self, arm: Arm, failure: CaseFailed) -> None:
        """Give up one arm on this group; the others go on."""
        self._alive.remove(arm)
        self._note(arm, status=failure.status, reason=failure.reason)
        if failure.status is Status.OOM:
            self.run_.note_out_of_memory(arm, self.group.shape)
        self.run_.watcher.failed(self.group, arm, failure.status, failure.reason)

    def _close_epoch(self) -> None:
        """End the worker process, if one is open."""
        if self._epoch is not None:
            self._epoch.close()
            self._epoch = None

    def _tell(self, doing: str) -> None:
        """Report progress with an honest guess at what this group still needs."""
        rounds = len(self._rounds)
        if self._last_round_s:
            left = (self.run_.next_look(rounds) - rounds) * self._last_round_s
        else:
            left = self.run_.expected_s(self.group)
        self.run_.report(self.group, self.number, rounds, doing, min(left, self._limit_s))


def _host_caveats(conditions: Conditions, environment: Environment) -> tuple[Caveat, ...]:
    """loaded-host where other work took a noticeable share of the CPU while the group ran."""
    foreign = (conditions.load_average or 0.0) - (environment.threads or 1)
    stolen = conditions.steal_share or 0.0
    return (Caveat.LOADED_HOST,) if foreign > FOREIGN_LOAD_LIMIT or stolen > STEAL_LIMIT else ()
