"""The castbench command on a fake rig on which things go wrong as a script says; chaos.py starts it as a process.

python faulty.py '{"draw": "7|0", "rate": 0.01, "end": "gpu-lost", "at": 300}' profile mine.yaml --device fake

What was injected, and every round and group whose writing returned, is told at once on stderr, behind TOLD.
"""

from __future__ import annotations

import json
import os
import random
import sys
from dataclasses import replace

from castbench import pipeline
from castbench.cli.app import main
from castbench.hardware.fake_gpu import Episode, FakeGpu, VirtualClock, Visitor
from castbench.hardware.gpu import GpuProcess, GpuReading, SlowdownCause, SlowdownCounters
from castbench.measure.energy import BlockRun, EnergyPolicy, GpuEnergy, measure_energy
from castbench.measure.fake_rig import FakeEpoch, FakeRig
from castbench.measure.gpu_watch import GpuWatch
from castbench.measure.rig import CaseFailed, EnergyReading, MemoryReading, Prepared
from castbench.measure.sampler import Sampler
from castbench.plan import Arm, Group, Plan
from castbench.records import GroupRecord, RoundRecord, Sample, Status
from castbench.store import RunWriter

TOLD = "told: "
CASE_FAULTS = (Status.OOM, Status.CRASH, Status.TIMEOUT, Status.NONFINITE, Status.UNSUPPORTED, Status.ERROR)
CROWDED_SHARE = 0.15
"""Share of the groups whose arms do not fit beside one another, though each fits alone."""
ENERGY = EnergyPolicy(blocks=3, lead_s=0.1, idle_s=0.4, shortest_s=0.4, longest_s=1.5, poll_s=0.01)
IDLE_W, WORK_W = 60.0, 250.0


def tell(*what: object) -> None:
    """A line on stderr that is there whatever happens next."""
    os.write(2, f"{TOLD}{json.dumps(what)}\n".encode())


class TellingWriter(RunWriter):
    """Tells what it wrote once the writing has returned."""

    def append_round(self, record: RoundRecord) -> None:
        """A round."""
        super().append_round(record)
        tell("round", record.group, record.purpose, record.round)

    def append_group(self, record: GroupRecord) -> None:
        """A group."""
        super().append_group(record)
        tell("group", record.group)


class Chance:
    """The script: by chance at every call, and once at the n-th, which ends the session."""

    def __init__(self, draw: str, rate: float, end: str | None = None, at: int = 0) -> None:
        self._draw, self.seed = random.Random(draw), draw.partition("|")[0]
        self.rate, self.end, self._at, self._calls = rate, end, at, 0
        self.no_worker = False

    def strikes(self, what: str, times: float = 1.0) -> bool:
        """Whether it happens now; told if so."""
        is_struck = self._draw.random() < self.rate * times
        if is_struck:
            tell("fault", what)
        return is_struck

    def is_end(self) -> bool:
        """Whether this call is the one that ends the session."""
        self._calls += 1
        return self.end is not None and self._calls == self._at

    def one_of(self, statuses: tuple[Status, ...]) -> Status:
        """A status at random."""
        return self._draw.choice(statuses)


class FlakyGpu(FakeGpu):
    """A GPU whose driver fails to answer now and then, for one call."""

    chance: Chance

    def read(self, *, whole: bool = True) -> GpuReading:
        """A look, or one in which everything is missing."""
        reading = super().read(whole=whole)
        return GpuReading(reading.at_s) if self.chance.strikes("NVML look fails once", 0.1) else reading

    def power_w(self) -> float | None:
        """Power, or nothing this once."""
        power_w = super().power_w()
        return None if self.chance.strikes("NVML power fails once", 0.1) else power_w

    def energy_j(self) -> float | None:
        """The counter, or nothing this once."""
        energy_j = super().energy_j()
        return None if self.chance.strikes("NVML energy counter fails once", 0.1) else energy_j

    def slowdown_counters(self) -> SlowdownCounters | None:
        """The counters, or nothing this once."""
        counters = super().slowdown_counters()
        return None if self.chance.strikes("NVML slowdown counters fail once") else counters

    def processes(self) -> tuple[GpuProcess, ...] | None:
        """Who is here, or nothing this once."""
        found = super().processes()
        return None if self.chance.strikes("NVML process list fails once") else found


class FaultyRig(FakeRig):
    """The fake rig with a made-up GPU beside it, and everything that can happen to a rig."""

    def __init__(self, seed: int, chance: Chance) -> None:
        super().__init__(seed)
        self.chance, self.clock = chance, VirtualClock()
        self.visitors: list[Visitor] = []
        self.episodes: list[Episode] = []
        self.gpu = FlakyGpu(self.clock, counter_period_s=0.02, visitors=self.visitors, episodes=self.episodes)
        self.gpu.chance = chance
        self.gpu.set_power(IDLE_W)
        self.sampler = Sampler(self.gpu.read, self.clock)
        self.watch = GpuWatch(self.gpu, self.sampler)

    def now_s(self) -> float:
        """The clock that the made-up GPU shares."""
        return self.clock.now_s()

    def pass_time(self, seconds: float) -> None:
        """Let the shared clock run on, the sampler looking meanwhile."""
        self.clock.sleep(seconds)

    def parity_error(self, plan: Plan, arm: Arm) -> float:
        """Green, or a failure."""
        self.trip("parity", (*CASE_FAULTS, Status.PARITY), 3.0)
        return super().parity_error(plan, arm)

    def memory(self, plan: Plan, group: Group, arm: Arm) -> MemoryReading:
        """The fake's reading, or a failure."""
        self.trip("memory", CASE_FAULTS)
        return super().memory(plan, group, arm)

    def energy(self, plan: Plan, group: Group, arm: Arm) -> EnergyReading:
        """The product's own energy pass on the made-up GPU."""
        self.trip("energy", CASE_FAULTS)
        step_s = FaultyEpoch(self, plan, group).step_s(arm)
        draw = random.Random(f"{group.key}|{arm.label}")
        found = measure_energy(GpuEnergy(self.gpu), lambda s: self.block(step_s, s), self.clock, draw, ENERGY)
        return EnergyReading(found.record, found.reason)

    def block(self, step_s: float, seconds: float) -> BlockRun:
        """Steps back to back at work's power."""
        began_s, steps = self.clock.now_s(), int(seconds / step_s) + 1
        self.gpu.set_power(WORK_W)
        self.clock.sleep(steps * step_s)
        self.gpu.set_power(IDLE_W)
        return BlockRun(steps, began_s, self.clock.now_s())

    def fits(self, plan: Plan, group: Group, arm: Arm, batch_size: int) -> bool:
        """As on the fake, or a failure."""
        self.trip("fits", CASE_FAULTS)
        return super().fits(plan, group, arm, batch_size)

    def open_epoch(self, plan: Plan, group: Group, *, one_at_a_time: bool = False) -> FaultyEpoch:
        """A worker, dead at birth now and then; a process on the GPU while it lives."""
        self.end_if_due()
        if self.chance.no_worker or self.chance.strikes("worker dead at birth", 3.0):
            raise CaseFailed(Status.CRASH, "the worker process died at birth (injected)", epoch_lost=True)
        self.watch.worker_starting()
        self.visitors.append(Visitor(GpuProcess(4000 + len(self.visitors), None), self.now_s()))
        self.watch.worker_started()
        is_crowded = random.Random(f"{self.chance.seed}|{group.key}").random() < CROWDED_SHARE
        return FaultyEpoch(self, plan, group, crowded=is_crowded and self.chance.rate > 0 and not one_at_a_time)

    def trip(self, place: str, statuses: tuple[Status, ...], times: float = 1.0) -> None:
        """Fail if it is this call's turn."""
        self.end_if_due()
        if self.chance.strikes(f"case fails at {place}", times):
            status = self.chance.one_of(statuses)
            lost = status in (Status.CRASH, Status.TIMEOUT)
            raise CaseFailed(status, f"made to fail at {place} ({status})", epoch_lost=lost)

    def end_if_due(self) -> None:
        """What ends the session, if it is due: the next reading finds the GPU lost, or no worker lives any more."""
        if self.chance.is_end():
            tell("end", self.chance.end)
            self.chance.no_worker = self.chance.end == "no-worker"
            if self.chance.end == "gpu-lost":
                self.gpu.lost_s = self.now_s()
                self.gpu.read()

    def disturb(self) -> None:
        """Something outside, or the work's own heat, during the window that begins now."""
        now_s = self.now_s()
        if self.chance.strikes("another process on the GPU", 0.5):
            self.visitors.append(Visitor(GpuProcess(9000 + len(self.visitors), None), now_s + 1e-9, now_s + 5.0))
        if self.chance.strikes("power brake from outside", 0.5):
            self.episodes.append(Episode(SlowdownCause.POWER_BRAKE, now_s, now_s + 0.001))
        if self.chance.strikes("throttled by its own heat", 0.5):
            self.episodes.append(Episode(SlowdownCause.HW_THERMAL, now_s, now_s + 0.001))


class FaultyEpoch(FakeEpoch):
    """A worker process in which arms fail, or do not fit beside others; its windows are watched as on a GPU."""

    def __init__(self, rig: FaultyRig, plan: Plan, group: Group, *, crowded: bool = False) -> None:
        super().__init__(rig, plan, group)
        self.faulty, self.crowded, self.prepared = rig, crowded, 0

    def prepare(self, arm: Arm) -> Prepared:
        """Prepared, or not: alone or beside others."""
        self.faulty.trip("prepare", CASE_FAULTS)
        self.prepared += 1
        if self.crowded and self.prepared > 1:
            tell("fault", "out of memory beside others, not alone")
            raise CaseFailed(Status.OOM, "out of memory beside others (injected)")
        return super().prepare(arm)

    def step_s(self, arm: Arm) -> float:
        """The fake's step, or a failure."""
        self.faulty.trip("step", CASE_FAULTS)
        return super().step_s(arm)

    def window(self, arm: Arm, round_index: int, order: int, steps: int) -> Sample:
        """The fake's window, or a failure, or one that something outside disturbed."""
        mark = self.faulty.watch.mark()
        self.faulty.disturb()
        self.faulty.trip("window", CASE_FAULTS)
        began_s = self.faulty.now_s()
        sample = super().window(arm, round_index, order, steps)
        state, outside = self.faulty.watch.between(mark, began_s, self.faulty.now_s())
        return replace(sample, state=state, invalid_reason=outside)

    def close(self) -> None:
        """The worker leaves the GPU."""
        self.faulty.visitors[:] = [
            replace(v, left_s=min(v.left_s, self.faulty.now_s())) if v.process.pid < 9000 else v
            for v in self.faulty.visitors
        ]


def play(script: str) -> None:
    """Put the faulty rig and the telling writer in the place of the program's own."""
    chance = Chance(**json.loads(script))
    pipeline.RunWriter = TellingWriter  # type: ignore[misc]
    pipeline.open_rig = lambda _device, _dtype, seed, _threads=None: FaultyRig(seed, chance)  # type: ignore[assignment]


if __name__ == "__main__":
    play(sys.argv.pop(1))
    main()
