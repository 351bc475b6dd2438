"""Watch and energy pass over castbench's own NVML meter, pynvml and the scripted driver, on a virtual clock."""

from __future__ import annotations

import pytest

from castbench.energy import summarise
from castbench.records import EnergyBlock, EnergyRecord
from tests.nvml.library import FakeNvml, Script
from tests.nvml.models import A100, GH200, H100, Model

CHILD = """
import random
from castbench.errors import HardwareError
from castbench.hardware.fake_gpu import VirtualClock
from castbench.hardware.nvml import open_gpu
from castbench.measure.energy import BlockRun, EnergyPolicy, GpuEnergy, measure_energy
from castbench.measure.gpu_watch import GpuWatch
from castbench.measure.sampler import Sampler
from castbench.plain import to_plain
from castbench.hardware.gpu import GpuReading

class Driven:
    '''The meter, the driver's time moved to the virtual clock's before every call.'''
    def __init__(self, gpu, clock):
        self._gpu, self._clock, self.facts = gpu, clock, gpu.facts
    def __getattr__(self, name):
        control.at(1 + self._clock.now_s())
        return getattr(self._gpu, name)

clock = VirtualClock()
control.at(1)
meter = Driven(open_gpu(UUID), clock)

def run_block(seconds):
    began, steps = clock.now_s(), 0
    control.at(1 + began)
    control.watts(0, 350.0)
    while clock.now_s() - began < seconds:
        clock.sleep(0.013)
        steps += 1
    control.at(1 + clock.now_s())
    control.watts(0, 70.0)
    return BlockRun(steps, began, clock.now_s())

control.watts(0, 70.0)
"""
ENERGY = (
    CHILD
    + """
found = measure_energy(GpuEnergy(meter), run_block, clock, random.Random(4), EnergyPolicy(poll_s=0.007))
answer = to_plain(found)
"""
)


def record_from(plain: dict[str, object]) -> EnergyRecord:
    """The record as it came out of the child."""
    given = dict(plain)
    given["idle"] = tuple(EnergyBlock(**block) for block in given["idle"])  # type: ignore[attr-defined]
    given["blocks"] = tuple(EnergyBlock(**block) for block in given["blocks"])  # type: ignore[attr-defined]
    return EnergyRecord(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "scope", "beside_w"), [(A100, "gpu", 0.0), (H100, "gpu", 0.0), (GH200, "module", 85.0)]
)
@pytest.mark.parametrize("period_s", [0.02, 0.1])
def test_the_drivers_counter_gives_the_true_energy(
    fake_nvml: FakeNvml, model: Model, scope: str, beside_w: float, period_s: float
) -> None:
    """350 W for 13 ms and 70 W idle come out within 0.3 % by the counter, through the whole stack; of a Grace Hopper
    with the 85 W that its CPU takes beside.
    """
    answer = fake_nvml.run(Script().gpu(model, energy_period_s=period_s), ENERGY, UUID=model["uuid"])
    assert answer["reason"] is None
    record = record_from(answer["record"])
    assert (record.source, record.scope) == ("nvml-counter", scope)
    assert record.period_s == pytest.approx(period_s, rel=0.05)
    finding = summarise(record, 1, 1.0)
    assert finding is not None
    assert finding.gross_j_per_step.value == pytest.approx((350.0 + beside_w) * 0.013, rel=0.003)
    assert finding.idle_w == pytest.approx(70.0 + beside_w, rel=0.003)
    assert finding.disagreement == pytest.approx(0.0, abs=0.01)


def test_without_the_drivers_counter_power_is_integrated(fake_nvml: FakeNvml) -> None:
    """A GPU whose driver refuses the counter: source nvml-power, the true energy within 1 %."""
    script = Script().gpu(A100, energy_period_s=None)
    script = script.fault("nvmlDeviceGetTotalEnergyConsumption", 3)
    record = record_from(fake_nvml.run(script, ENERGY, UUID=A100["uuid"])["record"])
    finding = summarise(record, 1, 1.0)
    assert record.source == "nvml-power"
    assert finding is not None
    assert finding.gross_j_per_step.value == pytest.approx(350.0 * 0.013, rel=0.01)


def test_a_gpu_that_falls_off_the_bus_ends_the_pass(fake_nvml: FakeNvml) -> None:
    """GPU_IS_LOST at some call in the pass is one HardwareError, no NVMLError and no hang."""
    script = Script().gpu(A100).fault("nvmlDeviceGetTotalEnergyConsumption", 15, gpu=0, from_call=1500)
    code = CHILD + (
        "try:\n"
        "    measure_energy(GpuEnergy(meter), run_block, clock, random.Random(4), EnergyPolicy())\n"
        "except HardwareError as error:\n"
        "    answer = str(error)\n"
    )
    assert isinstance(fake_nvml.run(script, code, UUID=A100["uuid"]), str)


def test_throttling_and_company_reach_the_window(fake_nvml: FakeNvml) -> None:
    """Heat for 0.3 s of a window is stored by its counter; who comes during the window spoils it; we do not."""
    script = Script().gpu(A100).slowed("sw-thermal", (2.5, 2.8))
    script = script.process(100, 1, since=1.2).process(200, 1, since=3.5)
    code = CHILD + (
        "sampler = Sampler(lambda: GpuReading(clock.now_s(), power_w=meter.power_w()), clock)\n"
        "watch = GpuWatch(meter, sampler)\n"
        "watch.worker_starting()\n"
        "clock.sleep(0.5)\n"
        "watch.worker_started()\n"
        "windows = []\n"
        "for _ in range(2):\n"
        "    mark, began = watch.mark(), clock.now_s()\n"
        "    clock.sleep(1.5)\n"
        "    state, reason = watch.between(mark, began, clock.now_s())\n"
        "    windows.append([dict(state.slowed_s), list(state.foreign), reason])\n"
        "answer = windows\n"
    )
    first, second = fake_nvml.run(script, code, UUID=A100["uuid"])
    assert first == [{"sw-thermal": pytest.approx(0.3)}, [], None]
    assert second == [{}, [200], "another process (pid 200) appeared on the GPU"]
