from __future__ import annotations

from pathlib import Path

import pytest

from castbench.hardware.rapl import open_rapl
from castbench.measure import device_meters
from castbench.measure.device_meters import open_meters
from tests.nvml.library import FakeNvml, Script
from tests.nvml.models import A100, H100, MIG_3G

OURS, THEIRS = 4711, 4242

EPOCH = """
    import time
    from castbench.errors import HardwareError
    from castbench.measure.device_meters import open_meters
    from castbench.measure.rig import TimedWindow
    from castbench.measure.torch_rig import TorchEpoch
    from castbench.plan import make_plan
    from castbench.records import Sample
    from tests.examples import example_profile

    class Worker:
        "Answers as a worker does, with windows that only wait."
        def ask(self, command, timeout_s, **given):
            began = time.monotonic()
            time.sleep(0.3)
            if command == "window":
                sample = Sample(given["arm"].label, given["order"], 1, 0.3, (0.3,))
                return TimedWindow(sample, began, time.monotonic())
        def close(self):
            pass

    plan = make_plan(example_profile())
    meters = open_meters("cuda:0", UUID)
    epoch = TorchEpoch(Worker(), plan, plan.groups[0], False, meters.watch)
    answer = []
    try:
        for number in range(WINDOWS):
            sample = epoch.window(plan.arms[0], number, 0, 1)
            answer.append([sample.invalid_reason, sample.state.readings, sample.state.sm_clock_mean_hz,
                           sample.state.foreign, sample.state.slowed_s])
    except HardwareError as error:
        answer.append(str(error))
    finally:
        meters.close()
"""


def test_a_window_on_a_gpu_carries_what_the_gpu_did(fake_nvml: FakeNvml) -> None:
    """Through the real pynvml: clocks are sampled in the window, our own process is known, slowdown is counted."""
    script = Script().gpu(A100).process(OURS, 1_000_000, since=0.15).slowed("power-cap", (0.0, 60.0))
    [window] = fake_nvml.run(script, EPOCH, UUID=A100["uuid"], WINDOWS=1)
    reason, readings, clock_hz, foreign, slowed = window
    assert reason is None
    assert readings >= 5
    assert clock_hz == pytest.approx(1410e6)
    assert foreign == []
    assert [cause for cause, _ in slowed] == ["power-cap"]
    assert slowed[0][1] == pytest.approx(0.3, abs=0.2)


def test_a_process_that_appears_spoils_the_window_it_appears_in(fake_nvml: FakeNvml) -> None:
    """The window is invalid with the pid; the next one is not, and says who is there."""
    script = Script().gpu(A100).process(OURS, 1_000_000, since=0.15).process(THEIRS, 5, since=0.8)
    windows = fake_nvml.run(script, EPOCH, UUID=A100["uuid"], WINDOWS=4)
    spoilt = [reason for reason, *_ in windows if reason]
    assert spoilt == [f"another process (pid {THEIRS}) appeared on the GPU"]
    assert windows[0][3] == []
    assert windows[-1][3] == [THEIRS]


def test_a_gpu_that_is_lost_ends_the_run_with_a_sentence(fake_nvml: FakeNvml) -> None:
    """Lost between two windows: HardwareError in the parent's words, raised by the window that asks."""
    script = Script().gpu(A100).process(OURS, 1_000_000, since=0.15)
    lost = script.fault("*", 15, gpu=0, from_call=400)
    answer = fake_nvml.run(lost, EPOCH, UUID=A100["uuid"], WINDOWS=12)
    assert isinstance(answer[-1], str)
    assert "A100" in answer[-1]
    assert "lost" in answer[-1]


OPEN = """
    from castbench.measure.device_meters import open_meters
    meters = open_meters("cuda:0", UUID)
    answer = [meters.gpu and meters.gpu.name, meters.watch is not None, meters.energy is not None,
              meters.why_no_energy, meters.processes]
    meters.close()
"""


def test_a_mig_instance_is_watched_but_has_no_energy(fake_nvml: FakeNvml) -> None:
    """Its own counter does not exist, and the reason says what to measure instead."""
    script = Script().gpu(H100, instances=[MIG_3G])
    _, watched, has_energy, why, _ = fake_nvml.run(script, OPEN, UUID=MIG_3G["uuid"])
    assert watched
    assert not has_energy
    assert "MIG" in why


def test_without_a_driver_the_device_is_measured_by_its_times_alone(fake_nvml: FakeNvml) -> None:
    """No library is no failure: nothing is watched, and the reason is kept."""
    name, watched, has_energy, why, processes = fake_nvml.run(None, OPEN, UUID=A100["uuid"])
    assert (name, watched, has_energy, processes) == (None, False, False, None)
    assert "driver" in why


def test_processes_present_before_the_run_are_named(fake_nvml: FakeNvml) -> None:
    """What --exclusive refuses: who is on the GPU when the rig is opened."""
    script = Script().gpu(A100).process(THEIRS, 1_000_000)
    *_, processes = fake_nvml.run(script, OPEN, UUID=A100["uuid"])
    assert processes == [THEIRS]


def test_a_cpu_without_rapl_says_why_there_is_no_energy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reason, never 0."""
    monkeypatch.setattr(device_meters, "open_rapl", lambda: open_rapl(tmp_path))
    meters = open_meters("cpu", None)
    assert meters.energy is None
    assert "CPU energy is not available" in (meters.why_no_energy or "")
    meters.close()
