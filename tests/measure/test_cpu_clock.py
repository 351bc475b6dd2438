from __future__ import annotations

from time import perf_counter, sleep

import pytest
import torch

from castbench.measure.cpu_clock import CpuClock
from castbench.records import STEP_TIMES_KEPT


def nap(index: int) -> torch.Tensor:
    """A step of at least a millisecond."""
    sleep(1e-3)
    return torch.tensor(float(index))


def test_a_window_is_the_sum_of_its_steps() -> None:
    """Nothing lies between the steps, no step is shorter than it slept, and there is no second clock."""
    clock = CpuClock()
    times = clock.time_window(nap, 5)
    assert times.elapsed_s == pytest.approx(sum(times.step_times_s))
    assert min(times.step_times_s) >= 1e-3
    assert (times.device_s, times.host_launch_s, times.invalid_reason) == (None, None, None)
    assert clock.last_output.item() == 4.0


def test_a_bounded_number_of_steps_is_kept() -> None:
    """Long windows keep STEP_TIMES_KEPT single times."""
    times = CpuClock().time_window(lambda index: torch.zeros(1), STEP_TIMES_KEPT + 50)
    assert len(times.step_times_s) == STEP_TIMES_KEPT


def test_settling_goes_on_for_as_long_as_asked() -> None:
    """Steps from 0 on until the time is over; one for a short time, none for no time."""
    seen = list[int]()

    def step(index: int) -> torch.Tensor:
        seen.append(index)
        return nap(index)

    clock = CpuClock()
    assert clock.settle(step, 0.0) == 0
    assert seen == []
    assert clock.settle(step, 1e-9) == 1
    assert seen == [0]
    seen.clear()
    began = perf_counter()
    assert clock.settle(step, 0.02) == len(seen)
    assert perf_counter() - began >= 0.02
    assert seen == list(range(len(seen)))
    assert len(seen) > 1
