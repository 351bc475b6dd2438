"""What a plan will take, added up before the run: from counted work at rough rates, and at most from its limits."""

from __future__ import annotations

from dataclasses import dataclass

from castbench.encoder.work import step_work
from castbench.hardware.rates import DeviceRates
from castbench.measure.energy import EnergyPolicy
from castbench.measure.window_rules import settle_s, shortest_window_s
from castbench.plan import Group, Plan

OVERHEAD_PER_EPOCH_S = 0.6
"""A worker process: fork, build, warm up every arm (0.4-1.0 s for small encoders on two cores)."""
MEMORY_PASS_S = 0.5
"""A memory pass beyond its two steps: a fresh process with one arm."""


@dataclass(frozen=True, slots=True)
class GroupEstimate:
    """Expected seconds of a group up to the first look, the passes after its rounds among them; the cap of its rounds,
    and the arms whose 8 rounds do not fit.
    """

    group: Group
    expected_s: float
    cap_s: float
    passes_s: float
    too_slow: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlanEstimate:
    """Expected seconds of the whole run up to the first look of every group, and the most it can take."""

    groups: tuple[GroupEstimate, ...]
    rates: DeviceRates

    @property
    def expected_s(self) -> float:
        """All groups together, at the rough rates."""
        return sum(group.expected_s for group in self.groups)

    @property
    def cap_s(self) -> float:
        """The sum of the groups' limits."""
        return sum(group.cap_s for group in self.groups)


def estimate_plan(plan: Plan, rates: DeviceRates, device: str) -> PlanEstimate:
    """The time a plan takes on `device` at `rates`, group by group."""
    return PlanEstimate(tuple(_estimate_group(plan, group, rates, device) for group in plan.groups), rates)


def window_seconds(plan: Plan, step_s: float, device: str) -> float:
    """A window with its settling: at least the shortest window, at least one step."""
    shortest = shortest_window_s(device, plan.sampling)
    return max(shortest, step_s) + settle_s(device, plan.sampling, step_s) + (step_s if step_s < shortest else 0.0)


def group_cap_s(plan: Plan, group: Group) -> float:
    """The most a group's rounds may take: `max_seconds_per_case` for each of its arms."""
    return plan.sampling.max_seconds_per_case * len(plan.arms_of(group))


def _estimate_group(plan: Plan, group: Group, rates: DeviceRates, device: str) -> GroupEstimate:
    """One group: its rounds up to the first look, its worker processes, its passes."""
    rounds = plan.analysis.looks[0]
    arms = plan.arms_of(group)
    steps = {arm.label: rates.seconds(step_work(plan.served, arm, group.shape)) for arm in arms}
    epochs = sum(1 for end in plan.analysis.epoch_ends if end <= rounds)
    round_s = sum(window_seconds(plan, step, device) for step in steps.values())
    cap = group_cap_s(plan, group)
    expected = min(cap, rounds * round_s) + epochs * (OVERHEAD_PER_EPOCH_S + 2 * sum(steps.values()))
    measured = [steps[arm.label] for arm in arms if arm.role != "ceiling"]
    passes = sum(MEMORY_PASS_S + 2 * step for step in measured)
    if device.startswith("cuda") and plan.measures_energy_of(group):
        passes += sum(OVERHEAD_PER_EPOCH_S + EnergyPolicy().planned_s(step) for step in measured)
    too_slow = tuple(
        label for label, step in steps.items()
        if rounds * window_seconds(plan, step, device) > plan.sampling.max_seconds_per_case
    ) if rounds * round_s > cap else ()  # fmt: skip
    return GroupEstimate(group, expected + passes, cap, passes, too_slow)
