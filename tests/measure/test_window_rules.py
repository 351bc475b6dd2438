from __future__ import annotations

import pytest

from castbench.measure.window_rules import SUSTAINED_SETTLE_S, SUSTAINED_WINDOW_S, settle_s, shortest_window_s
from castbench.workload.spec import SamplingPolicy

SHORT = SamplingPolicy(min_window_ms=100.0)
BURST = SamplingPolicy(min_window_ms=100.0, mode="burst")


def test_a_sustained_window_on_a_gpu_lasts_a_second_after_its_settling() -> None:
    """The default on CUDA is a block long enough for the clock to be the arm's own, whatever the profile's minimum."""
    assert shortest_window_s("cuda:0", SHORT) == SUSTAINED_WINDOW_S >= 1.0
    assert settle_s("cuda:0", SHORT, step_s=2.0) == SUSTAINED_SETTLE_S >= 0.3


def test_a_longer_minimum_of_the_profile_wins() -> None:
    """A profile may ask for longer blocks."""
    assert shortest_window_s("cuda:0", SamplingPolicy(min_window_ms=2500.0)) == 2.5


@pytest.mark.parametrize(("device", "policy"), [("cpu", SHORT), ("cpu", BURST), ("fake", SHORT), ("cuda:1", BURST)])
def test_elsewhere_windows_are_as_short_as_the_profile_says(device: str, policy: SamplingPolicy) -> None:
    """Burst mode and devices without a clock governor take the profile's minimum and a settling of a quarter of it."""
    assert shortest_window_s(device, policy) == 0.1
    assert settle_s(device, policy, step_s=0.001) == pytest.approx(0.025)


def test_a_long_step_settles_itself_on_a_cpu_only() -> None:
    """A step as long as a window needs no settling on a CPU; on a GPU the clock of the arm before still hangs on."""
    assert settle_s("cpu", SHORT, step_s=0.1) == 0.0
    assert settle_s("cuda:0", BURST, step_s=0.1) > 0.0
