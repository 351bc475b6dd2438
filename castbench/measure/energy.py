"""The energy pass: blocks of back-to-back steps between two stretches of idling, an energy meter read throughout.

    idle            pause  block                          pause  block              …  idle
    |-lead-|------|   ~    |-lead-|---------------------|   ~    |-lead-|--------|     |-lead-|------|
                                  ^ update ^ … ^ update ^                pauses are random: the blocks begin
    meter read every poll_s       └ counted between these ┘              at any phase of the counter

A counter that is updated every 20 or 100 ms is read densely, so that it is known when it was updated; only updates
within a block are counted, over the time between them. The lead is left out: the first update in it may still hold
what was used before the block, and power readings are averages over up to a second.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from statistics import fmean, median
from typing import Protocol

from castbench.energy import MIN_BLOCKS, joules_of
from castbench.hardware.gpu import GpuMeter
from castbench.measure.sampler import Clock, Sampler
from castbench.records import EnergyBlock, EnergyRecord, EnergyScope, GpuFacts

PERIODS = 50
"""A block counts over at least so many update periods of the counter."""
_PERIODS_ASKED = 52
"""Asked of a block: the updates at its ends are lost."""
_LONGEST_PERIOD_S = 0.1
"""The slowest counter known (NVML on some GPUs); pauses are drawn up to it where a counter's period is not known."""
_LONGEST_GAP_S = 0.25
"""A longer hole in the readings cannot be bridged by a straight line."""
_ONE_PERIOD = 1.6
"""Distances up to so many times the middle one are single periods: readings blur them, missed updates double them."""
_SHORTEST_SHARE = 0.8
"""A block that lasts less than this share of what was asked counts too few updates."""


class EnergyMeter(Protocol):
    """What the pass asks of a device; None is "not available", a lost device raises HardwareError."""

    @property
    def source(self) -> str:
        """nvml-counter or rapl."""

    @property
    def scope(self) -> EnergyScope:
        """What the readings cover."""

    def energy_j(self) -> float | None:
        """A counter of joules that only grows."""

    def power_w(self) -> float | None:
        """Power now, or over the driver's own averaging time."""


@dataclass(frozen=True, slots=True)
class GpuEnergy:
    """A GPU's meter as an energy meter."""

    meter: GpuMeter
    source: str = "nvml-counter"

    @property
    def scope(self) -> EnergyScope:
        """The GPU, or the module of a Grace Hopper, whose readings include the CPU and its memory."""
        return self.meter.facts.energy_scope or "gpu"

    def energy_j(self) -> float | None:
        """The driver's counter."""
        return self.meter.energy_j()

    def power_w(self) -> float | None:
        """The driver's power reading."""
        return self.meter.power_w()


@dataclass(frozen=True, slots=True)
class EnergyPolicy:
    """How long an energy pass takes.

    lead_s      at the beginning of every stretch, left out
    idle_s      idling before and after the blocks, each
    shortest_s  least that a block counts over, however fast the counter is
    longest_s   most that a block counts over; a counter too slow for 50 updates in it is not used
    poll_s      between two readings of the meter
    """

    blocks: int = 5
    lead_s: float = 1.0
    idle_s: float = 3.0
    shortest_s: float = 2.0
    longest_s: float = 6.0
    poll_s: float = 0.005

    def counted_s(self, period_s: float | None) -> float:
        """How long a block counts for a counter with this update period; None: not known yet, or no counter."""
        periods_s = _PERIODS_ASKED * (_LONGEST_PERIOD_S if period_s is None else period_s)
        return min(self.longest_s, max(self.shortest_s, periods_s))

    def planned_s(self, step_s: float) -> float:
        """The longest the pass can take where a step takes `step_s`: a block ends with its last step."""
        block_s = _LONGEST_PERIOD_S + self.lead_s + self.longest_s + step_s + 2 * self.poll_s
        return 2 * (self.lead_s + self.idle_s + 2 * self.poll_s) + self.blocks * block_s


@dataclass(frozen=True, slots=True)
class BlockRun:
    """A block of steps as the worker ran it; times of time.monotonic(), which all processes share."""

    steps: int
    began_s: float
    ended_s: float


@dataclass(frozen=True, slots=True)
class EnergyPass:
    """What a pass found: a record, or None and the reason; `dropped` says what could not be used of it, and why."""

    record: EnergyRecord | None
    reason: str | None
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EnergyLook:
    """One reading of a meter."""

    at_s: float
    energy_j: float | None
    power_w: float | None


@dataclass(frozen=True, slots=True)
class Update:
    """A change of a counter: its new value, and when, known to within the `gap_s` between two readings."""

    at_s: float
    value_j: float
    gap_s: float


def why_no_gpu_energy(facts: GpuFacts) -> str | None:
    """Why energy cannot be measured on that device whatever its meter says; None where it can."""
    if facts.mig or facts.parent_uuid is not None:
        return (
            "energy is not available on a MIG instance: the GPU has one counter for all its instances, whoever uses"
            " them; measure on a whole GPU"
        )
    return None


def measure_energy(
    meter: EnergyMeter, run_block: Callable[[float], BlockRun], clock: Clock, rng: random.Random, policy: EnergyPolicy
) -> EnergyPass:
    """Energy of one arm. `run_block(seconds)` runs its steps back to back for about that long; until it is called
    the arm stands ready on the device, so that idling is idling with a context.

    Raises HardwareError where the device is lost, and whatever run_block raises; the meter is let alone then.
    """
    sampler = Sampler(partial(_look, meter, clock), clock, policy.poll_s)
    try:
        return _Pass(meter, sampler, clock, rng, policy).run(run_block)
    finally:
        sampler.close()


def infer_period(stamps: Sequence[float], values: Sequence[float | None]) -> float | None:
    """Update period of a counter from dense readings; None where it is seen to change less than three times.

    The usual distance between changes is a first guess; every distance is then some whole number of periods (more
    than one where readings were missed), and their sum over the sum of these numbers is the period. A counter that
    changes at every reading gives the time between readings, which its true period is at most.
    """
    distances = [after.at_s - before.at_s for before, after in pairwise(_updates(stamps, values))]
    if len(distances) < 2:
        return None
    usual_s = median(distances)
    guess_s = fmean(distance for distance in distances if distance <= _ONE_PERIOD * usual_s)
    return sum(distances) / sum(max(1, round(distance / guess_s)) for distance in distances)


def integrate(stamps: Sequence[float], watts: Sequence[float | None], began_s: float, ended_s: float) -> float | None:
    """Joules within [began_s, ended_s] by the trapezoidal rule, cut exactly at both ends; None where the readings do
    not reach both ends or have a hole longer than a quarter of a second.
    """
    known = [(at_s, w) for at_s, w in zip(stamps, watts, strict=True) if w is not None]
    if ended_s <= began_s or not known or known[0][0] > began_s or known[-1][0] < ended_s:
        return None
    total_j = 0.0
    for (left_s, left_w), (right_s, right_w) in pairwise(known):
        from_s, to_s = max(left_s, began_s), min(right_s, ended_s)
        if to_s <= from_s:
            continue
        if right_s - left_s > _LONGEST_GAP_S:
            return None
        slope = (right_w - left_w) / (right_s - left_s)
        total_j += (to_s - from_s) * (left_w + slope * ((from_s + to_s) / 2 - left_s))
    return total_j


def counted_power_w(
    stamps: Sequence[float], values: Sequence[float | None], shortest_s: float
) -> tuple[float | None, str | None]:
    """Mean power by a counter between the first and the last of its updates; or None and the reason.

    Updates that were noticed late (after a gap twice as long as usual) are no ends: when they happened is not known.
    """
    known = [value for value in values if value is not None]
    if any(after < before for before, after in pairwise(known)):
        return None, "the energy counter went back, as when the driver is loaded anew"
    updates = _updates(stamps, values)
    usual_s = median(u.gap_s for u in updates) if updates else 0.0
    sharp = [update for update in updates if update.gap_s <= 2 * usual_s]
    span_s = sharp[-1].at_s - sharp[0].at_s if sharp else 0.0
    if span_s <= 0 or span_s < _SHORTEST_SHARE * shortest_s:
        return None, f"the energy counter was updated over {span_s:.2f} s of it only, {shortest_s:.2f} s are needed"
    return (sharp[-1].value_j - sharp[0].value_j) / span_s, None


class _Pass:
    """One energy pass under way."""

    def __init__(
        self, meter: EnergyMeter, sampler: Sampler[EnergyLook], clock: Clock, rng: random.Random, policy: EnergyPolicy
    ) -> None:
        self._meter, self._sampler, self._clock, self._rng, self._policy = meter, sampler, clock, rng, policy
        self._period_s: float | None = None
        self._dropped: list[str] = []

    def run(self, run_block: Callable[[float], BlockRun]) -> EnergyPass:
        """Idle, work, idle; then what it amounts to."""
        idle = [self._stretch("idling before", self._idled())]
        blocks = []
        for number in range(self._policy.blocks):
            self._clock.sleep(self._rng.uniform(0.0, min(_LONGEST_PERIOD_S, self._period_s or _LONGEST_PERIOD_S)))
            asked_s = self._policy.lead_s + self._policy.counted_s(self._period_s)
            blocks.append(self._stretch(f"block {number + 1}", run_block(asked_s)))
        idle.append(self._stretch("idling after", self._idled()))
        return self._concluded(tuple(idle), tuple(blocks))

    def _idled(self) -> BlockRun:
        """A stretch without steps."""
        began_s = self._clock.now_s()
        self._clock.sleep(self._policy.lead_s + self._policy.idle_s)
        return BlockRun(0, began_s, self._clock.now_s())

    def _stretch(self, name: str, run: BlockRun) -> EnergyBlock:
        """What the meter says of a stretch: mean power after its lead, times its length."""
        self._clock.sleep(2 * self._policy.poll_s)
        looks = self._sampler.readings_between(run.began_s, self._clock.now_s())
        if self._period_s is None:
            self._period_s = infer_period([x.at_s for x in looks], [x.energy_j for x in looks])
        elapsed_s, from_s = run.ended_s - run.began_s, run.began_s + self._policy.lead_s
        counter_w = self._counter_w(name, [x for x in looks if from_s <= x.at_s <= run.ended_s])
        integrated_j = integrate([x.at_s for x in looks], [x.power_w for x in looks], from_s, run.ended_s)
        counted_s = elapsed_s - self._policy.lead_s
        return EnergyBlock(
            run.steps, elapsed_s,
            counter_j=None if counter_w is None else counter_w * elapsed_s,
            integrated_j=None if integrated_j is None else integrated_j / counted_s * elapsed_s,
        )  # fmt: skip

    def _counter_w(self, name: str, looks: Sequence[EnergyLook]) -> float | None:
        """Power by the counter; why there is none is noted, unless there is no counter at all."""
        if all(x.energy_j is None for x in looks) and self._period_s is None:
            return None
        period_s = self._period_s or 0.0
        if PERIODS * period_s > self._policy.longest_s:
            self._dropped.append(f"{name}: the energy counter is updated every {period_s:.2f} s only, too slow")
            return None
        # Idling is as long as it is: one update more or less at a steady idle power is a small error of a small part.
        shortest_s = (
            self._policy.idle_s / 2
            if name.startswith("idling")
            else max(PERIODS * period_s, self._policy.shortest_s / 2)
        )
        watts, reason = counted_power_w([x.at_s for x in looks], [x.energy_j for x in looks], shortest_s)
        if reason is not None:
            self._dropped.append(f"{name}: {reason}")
        return watts

    def _concluded(self, idle: tuple[EnergyBlock, ...], blocks: tuple[EnergyBlock, ...]) -> EnergyPass:
        """The record by the counter where it held for enough blocks, else by integrated power, else the reason."""
        dropped = tuple(self._dropped)
        for source in (self._meter.source, "nvml-power"):
            usable = sum(block.steps > 0 and joules_of(source, block) is not None for block in blocks)
            if usable >= MIN_BLOCKS:
                period_s = None if source == "nvml-power" else self._period_s
                return EnergyPass(EnergyRecord(source, self._meter.scope, period_s, idle, blocks), None, dropped)
        why = "; ".join(dropped) or "the device has neither an energy counter nor a power reading"
        return EnergyPass(None, f"energy is not available: {why}", dropped)


def _look(meter: EnergyMeter, clock: Clock) -> EnergyLook:
    """One reading, stamped in the middle of reading the counter."""
    began_s = clock.now_s()
    energy_j = meter.energy_j()
    at_s = (began_s + clock.now_s()) / 2
    return EnergyLook(at_s, energy_j, meter.power_w())


def _updates(stamps: Sequence[float], values: Sequence[float | None]) -> list[Update]:
    """The changes of a counter, each half way between the readings around it."""
    known = [(at_s, value) for at_s, value in zip(stamps, values, strict=True) if value is not None]
    return [
        Update((before_s + after_s) / 2, after_j, after_s - before_s)
        for (before_s, before_j), (after_s, after_j) in pairwise(known)
        if after_j != before_j
    ]
