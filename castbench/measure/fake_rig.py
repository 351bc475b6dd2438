"""A rig without a machine: steps take as long as the FLOP count says, on a virtual clock, the same for every seed.

It makes the whole program instant and byte-for-byte reproducible, for tests and for trying castbench out.
"""

from __future__ import annotations

import hashlib
import math
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from castbench import __version__
from castbench.encoder.work import step_work, weights_bytes
from castbench.hardware.rates import FAKE_RATES
from castbench.measure.rig import EnergyReading, MemoryReading, Prepared
from castbench.plan import Arm, Group, Plan
from castbench.records import STEP_TIMES_KEPT, Conditions, Environment, Sample

_EPOCH_ZERO = datetime(2026, 1, 1, tzinfo=UTC)
FAKE_MEMORY_BYTES = 64 * 1024**3
NOISE_SD = 0.01
"""Standard deviation of the log of a window's time; drift shared by a round comes on top."""


class FakeRig:
    """Everything a real rig answers, computed from a seed."""

    device = "fake"

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._now_s = 0.0

    def environment(self) -> Environment:
        """A machine that says plainly that it is none."""
        return Environment(
            device="fake", device_name=FAKE_RATES.name, host="fake-host", os="none", python="none",
            castbench=__version__, threads=1, cpu_cores=1, memory_bytes=FAKE_MEMORY_BYTES,
            device_memory_bytes=FAKE_MEMORY_BYTES, load_average=0.0,
        )  # fmt: skip

    def identity(self) -> tuple[str, str, str]:
        """Run id and time of start from the seed."""
        digest = hashlib.sha256(f"castbench fake {self._seed}".encode()).hexdigest()
        started = _EPOCH_ZERO + timedelta(days=self._seed % 365, seconds=self._seed % 86400)
        return digest[:12], started.isoformat(timespec="seconds"), hashlib.sha256(b"fake").hexdigest()

    def now_s(self) -> float:
        """The virtual clock: the sum of everything that was run."""
        return self._now_s

    def others(self) -> tuple[int, ...]:
        """Nobody else has one."""
        return ()

    def conditions(self) -> Conditions:
        """A quiet host."""
        return Conditions(load_average=0.0, steal_share=0.0)

    def parity_error(self, plan: Plan, arm: Arm) -> float:  # noqa: ARG002 - the rig's signature
        """The fake computes nothing, so nothing differs."""
        return 0.0

    def memory(self, plan: Plan, group: Group, arm: Arm) -> MemoryReading:
        """The activations that the mechanism's formula counts."""
        work = step_work(plan.served, arm, group.shape)
        self.pass_time(FAKE_RATES.seconds(work))
        return MemoryReading(round(work.activation_bytes), weights_bytes(plan.served, arm))

    def energy(self, plan: Plan, group: Group, arm: Arm) -> EnergyReading:  # noqa: ARG002 - the rig's signature
        """A device that does not exist uses no energy."""
        return EnergyReading(None, "the fake device has no energy readings")

    def fits(self, plan: Plan, group: Group, arm: Arm, batch_size: int) -> bool:
        """Whether weights and counted activations stay within the fake device's memory."""
        work = step_work(plan.served, arm, replace(group.shape, batch_size=batch_size))
        self.pass_time(FAKE_RATES.seconds(work))
        return work.activation_bytes + weights_bytes(plan.served, arm) <= FAKE_MEMORY_BYTES

    def open_epoch(self, plan: Plan, group: Group, *, one_at_a_time: bool = False) -> FakeEpoch:  # noqa: ARG002
        """A made-up worker process, which has room for every arm."""
        return FakeEpoch(self, plan, group)

    def close(self) -> None:
        """Nothing to let go of."""

    def pass_time(self, seconds: float) -> None:
        """Let the virtual clock run on."""
        self._now_s += seconds

    def noise(self, *what: object) -> float:
        """A standard normal number that depends on the seed and on `what` alone."""
        return random.Random(f"{self._seed}|{'|'.join(map(str, what))}").gauss(0.0, 1.0)


class FakeEpoch:
    """One made-up worker process: a level of its own, a drift per round, noise per window."""

    def __init__(self, rig: FakeRig, plan: Plan, group: Group) -> None:
        self._rig, self._plan, self._group = rig, plan, group
        self._opened_at_s = rig.now_s()

    def prepare(self, arm: Arm) -> Prepared:
        """Two warm-up steps."""
        step_s = self._true_step_s(arm)
        self._rig.pass_time(2 * step_s)
        return Prepared(step_s, "fake")

    def step_s(self, arm: Arm) -> float:
        """The true time."""
        return self._true_step_s(arm)

    def window(self, arm: Arm, round_index: int, order: int, steps: int) -> Sample:
        """A window whose time is the true one times level, drift and noise."""
        key = self._group.key
        level = 0.005 * self._rig.noise("epoch", key, self._opened_at_s)
        drift = 0.02 * math.sin(round_index / 5) + 0.005 * self._rig.noise("round", key, round_index)
        wobble = NOISE_SD * self._rig.noise("window", key, round_index, arm.label)
        step_s = self._true_step_s(arm) * math.exp(level + drift + wobble)
        kept = min(steps, STEP_TIMES_KEPT)
        jitter = [self._rig.noise("step", key, round_index, arm.label, i) for i in range(kept)]
        self._rig.pass_time(step_s * steps)
        return Sample(
            arm.label, order, steps, step_s * steps,
            tuple(step_s * math.exp(0.02 * j) for j in jitter),
            device_s=step_s * steps * 0.98, host_launch_s=step_s * steps * 0.1,
        )  # fmt: skip

    def close(self) -> None:
        """Nothing to end."""

    def _true_step_s(self, arm: Arm) -> float:
        """The time the counted work takes at the fake device's rates."""
        return FAKE_RATES.seconds(step_work(self._plan.served, arm, self._group.shape))
