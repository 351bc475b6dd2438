from __future__ import annotations

from castbench.hardware.launches import LAUNCH_BOUND_SHARE, is_launch_bound, launch_share
from castbench.records import Sample


def window(host_launch_s: float | None) -> Sample:
    """A window of one second."""
    return Sample("a", 0, 10, 1.0, host_launch_s=host_launch_s)


def test_a_case_is_launch_bound_by_its_typical_window() -> None:
    """The median share decides, from LAUNCH_BOUND_SHARE on: one stall of the host makes no case launch-bound."""
    assert is_launch_bound([window(LAUNCH_BOUND_SHARE)])
    assert not is_launch_bound([window(LAUNCH_BOUND_SHARE - 0.01)])
    assert not is_launch_bound([window(0.1), window(0.1), window(1.0)])
    assert is_launch_bound([window(0.1), window(0.9), window(1.0)])


def test_a_device_without_launches_is_never_launch_bound() -> None:
    """None is not known, and says nothing."""
    assert launch_share(window(None)) is None
    assert not is_launch_bound([window(None)])
    assert not is_launch_bound([])
