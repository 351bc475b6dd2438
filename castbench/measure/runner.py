"""Decides what runs when: parity, groups from cheap to dear, the confirmation of what they select; budgets, time left.

plan:  parity ─▶ group ─▶ group ─▶ … ─▶ selection ─▶ fresh rounds of the selected
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from castbench.hardware.rates import ROUGH_GPU_RATES, DeviceRates, rough_cpu_rates
from castbench.measure.confirm import ConfirmRunner, Selector
from castbench.measure.estimate import GroupEstimate, PlanEstimate, estimate_plan, group_cap_s
from castbench.measure.group import GroupRunner
from castbench.measure.rig import CaseFailed, Rig
from castbench.plan import Arm, Group, Plan
from castbench.records import Environment, RunRecord, Status
from castbench.store import RunWriter, read_run
from castbench.workload.spec import Shape

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
        *, done: RunRecord | None = None, budget_s: float | None = None, select: Selector = lambda _: None,
    ) -> None:  # fmt: skip
        self._select = select
        self.plan, self.rig, self.writer, self.watcher = plan, rig, writer, watcher
        self.environment, self.done, self.budget_s = environment, done, budget_s
        self.estimate: PlanEstimate = estimate_plan(
            plan, rates_for(environment.device, environment.threads), environment.device
        )
        self._started_s = rig.now_s()
        self._parity: dict[str, float | CaseFailed] = {}
        self._out_of_memory: dict[str, list[Shape]] = {}
        self._spent: dict[str, float] = {}
        self._remember_out_of_memory()

    def run(self) -> bool:
        """Measure the groups that are left, cheapest first, and confirm what they select; False when the budget
        ended before the last group.
        """
        return self._groups() and self._confirmations()

    def _groups(self) -> bool:
        """The groups that are left; False when the budget ended before the last one."""
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

    def _confirmations(self) -> bool:
        """Fresh rounds for what the run so far selects; False when the budget ended before them."""
        record = read_run(self.writer.path)
        selection = record.selection
        if selection is None and self.plan.sampling.confirm:
            if self._is_over():
                return False
            selection = self._select(record)
            if selection is not None:
                self.writer.append_selection(selection)
        selected = selection.selected if selection else ()
        for key in dict.fromkeys(s.group for s in selected):
            if self._is_over():
                return False
            pairs = [(s.label, s.against) for s in selected if s.group == key]
            ConfirmRunner(self, record, self.plan.group(key), {label for pair in pairs for label in pair}).run()
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

    def _remember_out_of_memory(self) -> None:
        """What earlier sessions of this run found too large is too large now."""
        for group in self.plan.groups:
            closed = self.done.group_record(group.key) if self.done else None
            for outcome in closed.outcomes if closed else ():
                if outcome.status is Status.OOM:
                    self._out_of_memory.setdefault(outcome.label, []).append(group.shape)

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

    def passes_s(self, group: Group) -> float:
        """What the passes after a group's rounds should take: kept free under a budget, on top without one."""
        if self.budget_s is None:
            return 0.0
        return self._estimate_of(group).passes_s * self._pace()

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

    def _is_over(self) -> bool:
        """Whether the budget, if there is one, is used up."""
        return self.budget_s is not None and self._elapsed_s() >= self.budget_s

    def _elapsed_s(self) -> float:
        return self.rig.now_s() - self._started_s
