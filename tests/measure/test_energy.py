from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from castbench.energy import energy_caveats, summarise
from castbench.errors import HardwareError
from castbench.hardware.fake_gpu import FakeGpu, VirtualClock
from castbench.measure.energy import (
    BlockRun,
    EnergyPass,
    EnergyPolicy,
    GpuEnergy,
    counted_power_w,
    infer_period,
    integrate,
    measure_energy,
    why_no_gpu_energy,
)
from castbench.records import Caveat, EnergyRecord, GpuFacts

IDLE_W, WORK_W, STEP_S = 60.0, 300.0, 0.013
POLICY = EnergyPolicy(poll_s=0.007)
"""No multiple of it is a step or an update period: readings meet both at every phase."""


@dataclass
class Bench:
    """A GPU with an arm on it. `power` sets the power of a step and lets its time pass; `runs` are the blocks run."""

    gpu: FakeGpu
    power: Callable[[Bench], None] = field(default=lambda bench: bench.steady())
    stop_after_s: float = float("inf")
    runs: list[BlockRun] = field(default_factory=list)

    def steady(self) -> None:
        """A step at a constant power."""
        self.gpu.clock.sleep(STEP_S)

    def run_block(self, seconds: float) -> BlockRun:
        """Steps back to back, beginning 3 ms after being asked and answering 20 ms after the last."""
        clock = self.gpu.clock
        clock.sleep(0.003)
        began_s, steps = clock.now_s(), 0
        self.gpu.set_power(WORK_W)
        while clock.now_s() - began_s < min(seconds, self.stop_after_s):
            self.power(self)
            steps += 1
        self.gpu.set_power(IDLE_W)
        self.runs.append(BlockRun(steps, began_s, clock.now_s()))
        clock.sleep(0.02)
        return self.runs[-1]

    def measure(self, policy: EnergyPolicy = POLICY, seed: int = 1) -> EnergyPass:
        """The pass, after the GPU has been on for some odd time."""
        self.gpu.set_power(IDLE_W)
        self.gpu.clock.sleep(1.2345)
        return measure_energy(GpuEnergy(self.gpu), self.run_block, self.gpu.clock, random.Random(seed), policy)

    def true_j_per_step(self) -> float:
        """What a step really took."""
        used = [self.gpu.true_energy_j(r.ended_s) - self.gpu.true_energy_j(r.began_s) for r in self.runs]
        return sum(used) / sum(run.steps for run in self.runs)


def bench(**gpu: object) -> Bench:
    """A bench whose GPU has these flaws."""
    return Bench(FakeGpu(VirtualClock(), **gpu))  # type: ignore[arg-type]


def record_of(found: EnergyPass) -> EnergyRecord:
    """The record, which has to be there."""
    assert found.record is not None, found.reason
    assert found.reason is None
    return found.record


@pytest.mark.parametrize("period_s", [0.0, 0.001, 0.02, 0.0501, 0.1])
def test_the_counter_gives_the_true_energy_however_coarsely_it_steps(period_s: float) -> None:
    """Joules per step within 0.3 % of the truth, idle power within 0.1 %, whatever the update period, though idling
    before and after a block uses a fifth of the power.
    """
    box = bench(counter_period_s=period_s)
    found = box.measure()
    record, finding = record_of(found), summarise(record_of(found), 4, 100.0)
    assert finding is not None
    assert found.dropped == ()
    assert record.source == "nvml-counter"
    assert finding.gross_j_per_step.value == pytest.approx(box.true_j_per_step(), rel=0.003)
    assert finding.idle_w == pytest.approx(IDLE_W, rel=0.001)
    assert finding.net_j_per_step is not None
    assert finding.net_j_per_step.value == pytest.approx((WORK_W - IDLE_W) * STEP_S, rel=0.004)
    assert record.period_s == pytest.approx(max(period_s, POLICY.poll_s), rel=0.02)
    assert energy_caveats(finding) == ()


def test_blocks_count_fifty_periods_and_begin_at_any_phase() -> None:
    """Every block spans at least 50 updates after its lead, and the blocks' phases differ."""
    box = bench(counter_period_s=0.1)
    box.measure()
    assert [run.ended_s - run.began_s >= POLICY.lead_s + 5.0 for run in box.runs] == [True] * 5
    phases = sorted(run.began_s % 0.1 for run in box.runs)
    assert phases[-1] - phases[0] > 0.03
    again = bench(counter_period_s=0.1)
    again.measure(seed=2)
    assert [run.began_s for run in again.runs] != [run.began_s for run in box.runs]


def test_a_fast_counter_needs_shorter_blocks() -> None:
    """Time is not spent where it buys nothing: at 20 ms a block counts over 2 s, not 5."""
    box = bench(counter_period_s=0.02)
    box.measure()
    assert all(run.ended_s - run.began_s < POLICY.lead_s + 2.1 for run in box.runs)


def test_power_averaged_over_a_second_agrees_with_the_counter() -> None:
    """The ramp of an averaged power reading lies in the lead, so it is no disagreement."""
    finding = summarise(bench(power_window_s=1.0, counter_period_s=0.02).measure().record, 1, 1.0)
    assert finding is not None
    assert finding.disagreement == pytest.approx(0.0, abs=0.002)


def test_power_sampled_a_quarter_of_the_time_is_found_out() -> None:
    """A step that draws its power while the sensor looks away: the counter is right, integration is far off, and
    the disagreement is stated and a caveat.
    """

    def bursts(box: Bench) -> None:
        """100 ms in phase with the sensor, most of the power in the three quarters that are not sampled."""
        clock = box.gpu.clock
        clock.sleep(0.1 - clock.now_s() % 0.1 + 1e-6)
        box.gpu.set_power(100.0)
        clock.sleep(0.025)
        box.gpu.set_power(500.0)
        clock.sleep(0.0749)

    box = bench(counter_period_s=0.02, power_sampled=(0.1, 0.025))
    box.power = bursts
    finding = summarise(box.measure().record, 1, 1.0)
    assert finding is not None
    assert finding.gross_j_per_step.value == pytest.approx(box.true_j_per_step(), rel=0.02)
    assert finding.disagreement == pytest.approx(100 / 400 - 1, abs=0.02)
    assert energy_caveats(finding) == (Caveat.ENERGY_DISAGREES,)


def test_without_a_counter_power_is_integrated_and_says_so() -> None:
    """The source is labelled, there is no period, and the energy is within 0.5 % of the truth."""
    box = bench(counted=False, power_window_s=1.0)
    found = box.measure()
    record, finding = record_of(found), summarise(found.record, 1, 1.0)
    assert (record.source, record.period_s, found.dropped) == ("nvml-power", None, ())
    assert finding is not None
    assert finding.gross_j_per_step.value == pytest.approx(box.true_j_per_step(), rel=0.005)
    assert finding.idle_w == pytest.approx(IDLE_W, rel=0.005)
    assert finding.disagreement is None


def test_a_counter_that_goes_back_costs_one_block() -> None:
    """The block in which the driver was loaded anew is dropped with the reason; the others give the true energy."""
    box = bench(counter_period_s=0.02, counter_resets_s=(14.0,))
    found = box.measure()
    finding = summarise(record_of(found), 1, 1.0)
    assert finding is not None
    assert (finding.blocks, finding.dropped) == (4, 1)
    assert [sentence.partition(":")[2].strip() for sentence in found.dropped] == [
        "the energy counter went back, as when the driver is loaded anew"
    ]
    assert [b.counter_j is None for b in record_of(found).blocks].index(True) + 1 == int(found.dropped[0][6])
    assert finding.gross_j_per_step.value == pytest.approx(box.true_j_per_step(), rel=0.003)


def test_with_fewer_than_three_good_blocks_the_counter_is_given_up() -> None:
    """Three of five blocks spoilt: power is integrated, without a period; without power there is a reason, with all
    that was dropped.
    """
    resets = (7.5, 10.5, 13.6)
    record = record_of(bench(counter_period_s=0.02, counter_resets_s=resets).measure())
    assert (record.source, record.period_s) == ("nvml-power", None)
    nothing = bench(counter_period_s=0.02, counter_resets_s=resets, powered=False).measure()
    assert nothing.record is None
    assert len(nothing.dropped) == 3
    assert all(sentence in (nothing.reason or "") for sentence in nothing.dropped)


def test_an_update_noticed_late_is_no_end() -> None:
    """Power between updates at 0.1 s and 0.8 s is 10 W; the update at 0.9 s, read only at 1.1 s, does not count."""
    stamps = [i / 100 for i in range(95) if i < 89] + [1.1]
    values = [float((i + 1) // 10) for i in range(89)] + [9.0]
    assert counted_power_w(stamps, values, 0.5) == (pytest.approx(10.0), None)


def test_an_update_is_put_half_way_between_the_readings_around_it() -> None:
    """Noticed between 0.96 and 0.98 s, and between 2.99 and 3.00 s: 2.025 s apart, where either end would say 2.03
    or 2.02.
    """
    stamps = [0.96, 0.98, 0.99, 1.98, 1.99, 2.99, 3.0]
    values = [0.0, 1.0, 1.0, 1.0, 2.0, 2.0, 3.0]
    watts, _ = counted_power_w(stamps, values, 0.5)
    assert watts == pytest.approx(2.0 / 2.025)


def test_a_counter_that_stands_still_is_not_believed() -> None:
    """A counter that never changes is no energy of 0: power is integrated, or nothing is available and says why."""
    box = bench(counter_period_s=1e6)
    found = box.measure()
    assert record_of(found).source == "nvml-power"
    assert len(found.dropped) == 7
    nothing = bench(counter_period_s=1e6, powered=False).measure()
    assert nothing.record is None
    assert "updated over 0.00 s" in (nothing.reason or "")


def test_a_counter_too_slow_for_the_blocks_is_not_used() -> None:
    """50 updates of 0.5 s each do not fit: the counter is dropped with the reason, the time stays bounded."""
    found = bench(counter_period_s=0.5).measure()
    assert record_of(found).source == "nvml-power"
    assert "every 0.50 s only" in found.dropped[0]


@pytest.mark.parametrize("stop_after_s", [0.05, 0.9, 1.1, 4.5])
def test_a_block_shorter_than_asked_counts_nothing(stop_after_s: float) -> None:
    """Shorter than the period, than the lead, than 50 periods: no figure, and the reason says what was needed."""
    box = bench(counter_period_s=0.1, powered=False)
    box.stop_after_s = stop_after_s
    found = box.measure()
    assert found.record is None
    assert "5.00 s are needed" in (found.reason or "")


def test_nothing_to_read_is_a_reason() -> None:
    """Neither counter nor power: None with a sentence."""
    found = bench(counted=False, powered=False).measure()
    assert found == EnergyPass(
        None, "energy is not available: the device has neither an energy counter nor a power reading"
    )


@pytest.mark.parametrize("lost_s", [2.0, 12.0])
def test_a_gpu_lost_in_the_pass_is_raised_and_let_alone(lost_s: float) -> None:
    """Idling or in a block: HardwareError, and nobody looks at the GPU afterwards."""
    box = bench(counter_period_s=0.02, lost_s=lost_s)
    with pytest.raises(HardwareError):
        box.measure()
    assert box.gpu.clock._tickings == []


def test_single_failing_readings_do_not_bias() -> None:
    """Three in ten readings of the counter fail, at random: still within 0.5 % of the truth."""
    missed = frozenset(random.Random(5).sample(range(20_000), 6_000))
    box = bench(counter_period_s=0.02, missed=missed)
    found = box.measure()
    finding = summarise(record_of(found), 1, 1.0)
    assert finding is not None
    assert found.dropped == ()
    assert finding.gross_j_per_step.value == pytest.approx(box.true_j_per_step(), rel=0.005)
    assert record_of(found).period_s == pytest.approx(0.02, rel=0.05)


def test_a_failing_arm_ends_the_looking() -> None:
    """What run_block raises comes through, and the meter is let alone."""
    box = bench()

    def fail(seconds: float) -> BlockRun:
        raise ValueError("the worker died")

    with pytest.raises(ValueError, match="worker died"):
        measure_energy(GpuEnergy(box.gpu), fail, box.gpu.clock, random.Random(1), POLICY)
    assert box.gpu.clock._tickings == []


def test_the_scope_travels_with_the_record() -> None:
    """A Grace Hopper's figures cover the module, and say so; a driver that does not say means the GPU."""
    box = bench(facts=GpuFacts(0, None, "GH200 480GB", energy_scope="module"))
    assert record_of(box.measure()).scope == "module"
    assert GpuEnergy(FakeGpu(VirtualClock(), facts=GpuFacts(0, None, None))).scope == "gpu"


@pytest.mark.parametrize(
    ("facts", "there"),
    [
        (GpuFacts(0, "MIG-1", "H100", parent_uuid="GPU-1"), False),
        (GpuFacts(0, "GPU-1", "H100", mig=True), False),
        (GpuFacts(0, "GPU-1", "H100", mig=False), True),
        (GpuFacts(0, "GPU-1", "T4"), True),
    ],
)
def test_a_mig_instance_has_no_energy_of_its_own(facts: GpuFacts, there: bool) -> None:
    """The counter of a divided GPU counts what everybody uses: not available, with the reason."""
    reason = why_no_gpu_energy(facts)
    assert (reason is None) is there
    assert reason is None or "MIG" in reason


@settings(max_examples=15, deadline=None)
@given(
    period_s=st.floats(0.01, 0.3), step_s=st.floats(0.05, 9.0), blocks=st.integers(3, 6), poll_s=st.floats(0.002, 0.02)
)
def test_a_pass_never_takes_longer_than_planned(period_s: float, step_s: float, blocks: int, poll_s: float) -> None:
    """Whatever the counter and the step, the time told in advance holds."""
    policy = replace(POLICY, blocks=blocks, poll_s=poll_s)
    box = bench(counter_period_s=period_s)
    box.power = lambda b: b.gpu.clock.sleep(step_s)
    box.gpu.set_power(IDLE_W)
    talk_s = 0.023 * blocks
    measure_energy(GpuEnergy(box.gpu), box.run_block, box.gpu.clock, random.Random(3), policy)
    assert box.gpu.clock.now_s() <= policy.planned_s(step_s) + talk_s + 1e-6


@given(
    period_s=st.floats(0.01, 0.2), readings=st.floats(2.5, 40.0), phase=st.floats(0, 1), seed=st.integers(0, 999),
    missed=st.booleans(),
)  # fmt: skip
def test_the_period_of_a_stepping_counter_is_found(
    period_s: float, readings: float, phase: float, seed: int, missed: bool
) -> None:
    """From 40 periods read at least 2.5 times each: within 2 %. Read at least 4 times, a tenth of the readings
    missing: within 5 %.
    """
    rng, readings = random.Random(seed), readings + (1.5 if missed else 0.0)
    stamps = [i * period_s / readings for i in range(int(40 * readings))]
    lost = 0.1 if missed else 0.0
    values = [None if rng.random() < lost else (t + phase * period_s) // period_s for t in stamps]
    assert infer_period(stamps, values) == pytest.approx(period_s, rel=0.05 if missed else 0.02)


def test_the_period_survives_holes_of_many_periods() -> None:
    """A counter that is seen to change after 1, 2, 5 and 60 periods: each distance counts as the periods it is."""
    at = [0, 1, 2, 3, 5, 6, 7, 12, 13, 14, 74, 75, 76]
    stamps = [0.1 * k + offset for k in at for offset in (0.0, 0.01)]
    values = [float(number + after) for number, _ in enumerate(at) for after in (0, 1)]
    assert infer_period(stamps, values) == pytest.approx(0.1)


def test_no_period_is_made_up() -> None:
    """A counter that never changes, hardly ever, or is not there has no period."""
    stamps = [i / 100 for i in range(100)]
    assert infer_period(stamps, [5.0] * 100) is None
    assert infer_period(stamps, [None] * 100) is None
    assert infer_period(stamps, [0.0] * 40 + [1.0] * 40 + [2.0] * 20) is None
    assert infer_period([], []) is None


def test_a_counter_faster_than_the_readings_gives_their_distance() -> None:
    """A change at every reading: the period is at most the time between readings."""
    stamps = [i / 100 for i in range(100)]
    assert infer_period(stamps, stamps) == pytest.approx(0.01)


@given(
    gaps=st.lists(st.floats(0.001, 0.2), min_size=3, max_size=30), level=st.floats(0, 500), slope=st.floats(0, 50),
    cuts=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
)  # fmt: skip
def test_integration_is_exact_for_a_ramp_and_adds_up(
    gaps: list[float], level: float, slope: float, cuts: tuple[float, float, float]
) -> None:
    """Readings at any distances: a linear power integrates exactly between any two moments, not only readings, and
    two neighbouring intervals give their union.
    """
    stamps = [sum(gaps[:i]) for i in range(len(gaps) + 1)]
    watts = [level + slope * t for t in stamps]
    a, b, c = (stamps[-1] * cut for cut in sorted(cuts))
    if not a < b < c:
        return
    energy = partial(integrate, stamps, watts)
    assert energy(a, c) == pytest.approx(level * (c - a) + slope * (c * c - a * a) / 2, rel=1e-6, abs=1e-9)
    assert (energy(a, b) or 0) + (energy(b, c) or 0) == pytest.approx(energy(a, c), rel=1e-6, abs=1e-9)


def test_integration_bridges_single_readings_but_no_holes() -> None:
    """A failed reading is bridged; a hole of more than a quarter of a second within, or an end not reached, is None."""
    stamps = [i / 10 for i in range(11)]
    watts = [100.0] * 11
    assert integrate(stamps, [*watts[:5], None, *watts[6:]], 0.0, 1.0) == pytest.approx(100.0)
    holed = [*watts[:4], None, None, *watts[6:]]
    assert integrate(stamps, holed, 0.0, 1.0) is None
    assert integrate(stamps, holed, 0.6, 1.0) == pytest.approx(40.0)
    assert integrate(stamps, watts, -0.01, 1.0) is None
    assert integrate(stamps, watts, 0.0, 1.01) is None
    assert integrate(stamps, watts, 0.5, 0.5) is None
    assert integrate(stamps, [None] * 11, 0.0, 1.0) is None
