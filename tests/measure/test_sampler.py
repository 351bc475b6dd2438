from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest

from castbench.errors import HardwareError
from castbench.hardware.fake_gpu import FakeGpu, VirtualClock
from castbench.measure.sampler import RealClock, Sampler


@dataclass(frozen=True)
class At:
    """A reading of nothing but the time."""

    at_s: float


def test_looks_come_at_the_period_and_are_found_by_their_time() -> None:
    """Within an interval are exactly the readings taken in it, its ends included, oldest first."""
    clock = VirtualClock()
    sampler = Sampler(lambda: At(clock.now_s()), clock, period_s=0.02)
    clock.sleep(1.0)
    found = [reading.at_s for reading in sampler.readings_between(0.1, 0.2)]
    assert found == pytest.approx([0.1, 0.12, 0.14, 0.16, 0.18, 0.2])
    assert sampler.readings_between(0.501, 0.519) == ()


def test_the_ring_keeps_the_latest() -> None:
    """Memory is bounded: of a long run only the last `kept_s` seconds can be asked for."""
    clock = VirtualClock()
    sampler = Sampler(lambda: At(clock.now_s()), clock, period_s=0.5, kept_s=2.0)
    clock.sleep(10.0)
    assert [reading.at_s for reading in sampler.readings_between(0.0, 10.0)] == [8.5, 9.0, 9.5, 10.0]


def test_a_look_that_gives_nothing_leaves_a_gap_only() -> None:
    """None from one look is left out; the looks after it are kept."""
    clock = VirtualClock()
    sampler = Sampler(lambda: None if 0.25 < clock.now_s() < 0.35 else At(clock.now_s()), clock, period_s=0.1)
    clock.sleep(0.5)
    assert [round(r.at_s, 3) for r in sampler.readings_between(0.0, 1.0)] == [0.1, 0.2, 0.4, 0.5]


def test_a_lost_gpu_is_told_to_whoever_asks_next() -> None:
    """The loss does not come up in the thread: it is raised at the next question, and at every later one."""
    clock = VirtualClock()
    gpu = FakeGpu(clock, lost_s=0.5)
    sampler = Sampler(gpu.read, clock)
    clock.sleep(0.4)
    assert len(sampler.readings_between(0.0, 0.4)) == 20
    clock.sleep(0.6)
    for _ in range(2):
        with pytest.raises(HardwareError, match="lost"):
            sampler.readings_between(0.0, 0.4)


def test_after_a_loss_the_meter_is_let_alone() -> None:
    """A meter that failed is not asked again: each call to a lost GPU may block for seconds."""
    clock, calls = VirtualClock(), []

    def look() -> At:
        calls.append(clock.now_s())
        raise HardwareError("lost")

    Sampler(look, clock, period_s=0.1)
    clock.sleep(1.0)
    assert len(calls) == 1


def test_nothing_is_looked_at_after_closing() -> None:
    """Closing ends the looks; what was kept can still be asked for."""
    clock = VirtualClock()
    sampler = Sampler(lambda: At(clock.now_s()), clock, period_s=0.1)
    clock.sleep(0.35)
    sampler.close()
    clock.sleep(1.0)
    assert len(sampler.readings_between(0.0, 2.0)) == 3
    sampler.close()


def test_the_real_clock_calls_from_a_thread_and_ends_it() -> None:
    """In earnest, looks are taken beside the caller, and after closing the thread is gone."""
    seen, clock, enough = set(), RealClock(), threading.Event()

    def look() -> At:
        seen.add(threading.current_thread())
        if len(sampler_readings := clock_readings) >= 3:
            enough.set()
        sampler_readings.append(1)
        return At(clock.now_s())

    clock_readings: list[int] = []
    sampler = Sampler(look, clock, period_s=0.001)
    assert enough.wait(30)
    sampler.close()
    assert seen.isdisjoint({threading.current_thread()})
    assert not any(thread.is_alive() for thread in seen)


def test_the_cost_of_looking_is_the_threads_own_cpu_time() -> None:
    """What the looks burn is counted, what the caller burns meanwhile is not."""
    clock, burnt = RealClock(), threading.Event()

    def look() -> At:
        sum(range(2_000_000))
        burnt.set()
        return At(clock.now_s())

    sampler = Sampler(look, clock, period_s=3600.0)
    assert burnt.wait(30)
    while (share := sampler.cpu_share()) is None:
        clock.sleep(0.001)
    sampler.close()
    assert 0 < share <= 1, "a thread cannot use more than one core, and this process has run for longer than it"


def test_a_virtual_clock_has_no_cost() -> None:
    """Where no processor does the looking, its cost is not known, not 0."""
    clock = VirtualClock()
    sampler = Sampler(lambda: At(clock.now_s()), clock)
    clock.sleep(1.0)
    assert sampler.cpu_share() is None
