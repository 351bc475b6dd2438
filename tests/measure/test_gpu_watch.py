from __future__ import annotations

from dataclasses import replace

import pytest

from castbench.errors import HardwareError
from castbench.hardware.fake_gpu import Episode, FakeGpu, VirtualClock, Visitor
from castbench.hardware.gpu import GpuProcess, SlowdownCause
from castbench.hardware.slowdowns import device_caveats
from castbench.measure.gpu_watch import WHOLE_EVERY, GpuWatch, Looks
from castbench.measure.sampler import Sampler
from castbench.records import Caveat, GpuFacts, WindowState

OURS = Visitor(GpuProcess(4711, None), 0.5)
FACTS = GpuFacts(0, "GPU-1", "GPU")


class Box:
    """A GPU, its sampler and its watch, with a worker of ours on the GPU since 0.5 s."""

    def __init__(self, gpu: FakeGpu) -> None:
        self.clock, self.gpu = gpu.clock, gpu
        self.sampler = Sampler(gpu.read, gpu.clock)
        self.watch = GpuWatch(gpu, self.sampler)
        self.clock.sleep(0.4)
        self.watch.worker_starting()
        self.clock.sleep(0.4)
        self.watch.worker_started()
        self.clock.sleep(0.2)

    def window(self, seconds: float = 1.0, settle_s: float = 0.0) -> tuple[WindowState, str | None]:
        """A window from now on, its settling left out of the interval."""
        before = self.watch.mark()
        self.clock.sleep(settle_s)
        began_s = self.clock.now_s()
        self.clock.sleep(seconds)
        return self.watch.between(before, began_s, self.clock.now_s())


def gpu(**given: object) -> FakeGpu:
    """A fake GPU with our worker on it."""
    visitors = (OURS, *given.pop("visitors", ()))  # type: ignore[misc]
    return FakeGpu(VirtualClock(), visitors=visitors, **given)  # type: ignore[arg-type]


def test_a_window_is_described_by_the_looks_within_it() -> None:
    """Clocks, heat, power and memory are those between beginning and end, not those of settling before."""
    box = Box(gpu(sm_clock_hz=1e9, temperature_c=90.0, used_bytes=7))
    box.gpu.set_power(50.0)
    before = box.watch.mark()
    box.clock.sleep(0.505)
    began_s = box.clock.now_s()
    box.gpu.set_power(200.0)
    box.gpu.sm_clock_hz, box.gpu.temperature_c, box.gpu.used_bytes = 2e9, 50.0, 5
    box.clock.sleep(0.51)
    box.gpu.sm_clock_hz, box.gpu.temperature_c, box.gpu.used_bytes = 1.5e9, 61.0, 6
    box.clock.sleep(0.51)
    state, reason = box.watch.between(before, began_s, box.clock.now_s())
    assert reason is None
    assert state.readings == 51
    assert state.power_mean_w == pytest.approx(200.0)
    assert (state.sm_clock_min_hz, state.temperature_max_c, state.memory_used_max_bytes) == (1.5e9, 61.0, 6)
    assert state.sm_clock_mean_hz == pytest.approx(1.75e9, rel=0.01)
    assert state.utilization_mean == 1.0


def test_readings_that_the_gpu_does_not_have_stay_unknown() -> None:
    """None is None, not 0, and the other readings are there."""
    box = Box(gpu(sm_clock_hz=None, temperature_c=None, used_bytes=None, powered=False))
    state, _ = box.window(settle_s=0.01)
    assert (state.sm_clock_mean_hz, state.sm_clock_min_hz, state.temperature_max_c) == (None, None, None)
    assert (state.power_mean_w, state.memory_used_max_bytes) == (None, None)
    assert state.readings == 50


def test_slowing_is_what_the_counters_gained_since_the_mark() -> None:
    """Seconds are the counters' difference: earlier slowing is not charged, causes that did not occur are left out."""
    earlier = Episode(SlowdownCause.SW_THERMAL, 0.0, 0.9)
    shorter_than_a_look = Episode(SlowdownCause.POWER_CAP, 1.501, 1.509)
    state, reason = Box(gpu(episodes=(earlier, shorter_than_a_look))).window()
    assert reason is None
    assert state.slowed_s is not None
    assert dict(state.slowed_s) == pytest.approx({"power-cap": 0.008})
    assert state.slowed_share == pytest.approx(0.008)


def test_without_counters_the_share_of_looks_tells() -> None:
    """A driver without counters: the share of looks with any slowdown, two causes at once counted once."""
    episodes = (Episode(SlowdownCause.POWER_CAP, 1.0, 1.5), Episode(SlowdownCause.HW_THERMAL, 1.25, 1.5))
    state, _ = Box(gpu(episodes=episodes, slowdowns_counted=None)).window()
    assert state.slowed_share == pytest.approx(0.5, abs=0.03)
    assert dict(state.slowed_s or ()) == pytest.approx({"power-cap": 0.5, "hw-thermal": 0.25}, abs=0.03)


def test_a_slowdown_counter_that_went_back_says_nothing() -> None:
    """The driver was loaded anew in the window: no negative seconds, the looks tell what can be told."""
    episodes = (Episode(SlowdownCause.SW_THERMAL, 0.0, 0.9), Episode(SlowdownCause.SW_THERMAL, 1.6, 1.7))
    state, _ = Box(gpu(episodes=episodes, counter_resets_s=(1.5,))).window()
    assert dict(state.slowed_s or ()) == pytest.approx({"sw-thermal": 0.1}, abs=0.021)


def test_a_power_brake_spoils_the_window() -> None:
    """Braked from outside for however short: discard. The same for a power cap: keep."""
    brake, cap = (Episode(cause, 1.5, 1.505) for cause in (SlowdownCause.POWER_BRAKE, SlowdownCause.POWER_CAP))
    _, reason = Box(gpu(episodes=(brake,))).window()
    assert reason is not None
    assert "power-brake" in reason
    assert Box(gpu(episodes=(cap,))).window()[1] is None


def test_a_brake_without_a_counter_is_seen_by_the_looks() -> None:
    """Where the driver counts other causes but not the brake, the looks still find it."""
    brake = Episode(SlowdownCause.POWER_BRAKE, 1.5, 1.6)
    box = Box(gpu(episodes=(brake,), slowdowns_counted=frozenset({SlowdownCause.POWER_CAP})))
    assert "power-brake" in (box.window()[1] or "")


def test_a_newcomer_spoils_one_window_and_then_shares_the_device() -> None:
    """Who appears during a window is an outside cause; in later windows it is there from the start: a caveat."""
    box = Box(gpu(visitors=(Visitor(GpuProcess(99, 5), 1.5),)))
    state, reason = box.window()
    assert reason == "another process (pid 99) appeared on the GPU"
    assert state.foreign == (99,)
    state, reason = box.window()
    assert reason is None
    assert state.foreign == (99,)


def test_who_was_there_before_us_is_foreign_and_spoils_nothing() -> None:
    """Somebody on the GPU all the time is recorded, and our own worker is not."""
    state, reason = Box(gpu(visitors=(Visitor(GpuProcess(7, None), 0.0),))).window()
    assert (state.foreign, reason) == ((7,), None)
    assert Box(gpu()).window()[0].foreign == ()


def test_who_leaves_during_a_window_was_there() -> None:
    """A process that is gone at the end shared a part of the window."""
    state, reason = Box(gpu(visitors=(Visitor(GpuProcess(7, None), 0.0, 1.5),))).window()
    assert (state.foreign, reason) == ((7,), None)


def test_a_fresh_worker_is_ours_and_the_last_one_is_not_any_more() -> None:
    """After a restart the new process is learnt; the old number belongs to whoever has it now."""
    fake = gpu(visitors=(Visitor(GpuProcess(4712, None), 3.5), Visitor(GpuProcess(4711, None), 5.0)))
    fake.visitors = (replace(OURS, left_s=2.5), *fake.visitors[1:])  # type: ignore[index]
    box = Box(fake)
    box.clock.sleep(2.0)
    box.watch.worker_starting()
    box.clock.sleep(1.0)
    box.watch.worker_started()
    assert box.window(0.5)[0].foreign == ()
    assert box.window(1.0)[1] == "another process (pid 4711) appeared on the GPU"


def test_two_who_appear_with_our_worker_are_not_taken_for_ours() -> None:
    """When two processes appear at once, one is somebody else's: the device counts as shared, no window is lost."""
    state, reason = Box(gpu(visitors=(Visitor(GpuProcess(99, None), 0.6),))).window()
    assert state.foreign == (99, 4711)
    assert reason is None


@pytest.mark.parametrize("visitors", [None, ()], ids=["no-permission", "hidden"])
def test_a_driver_that_hides_processes_says_nothing_about_others(visitors: tuple[Visitor, ...] | None) -> None:
    """Where not even our own worker is listed, "nobody else" would be a guess: not known."""
    state, reason = Box(FakeGpu(VirtualClock(), visitors=visitors)).window()
    assert (state.foreign, reason) == (None, None)


def test_a_lost_gpu_is_raised() -> None:
    """The caller hears of it at the end of the window it was lost in."""
    box = Box(gpu(lost_s=1.5))
    with pytest.raises(HardwareError):
        box.window()


def slowed(share: float, **seconds: float) -> WindowState:
    """A window of 1 s with that slowing."""
    return WindowState(slowed_share=share, slowed_s=tuple((k.replace("_", "-"), s) for k, s in seconds.items()))


@pytest.mark.parametrize(
    ("states", "caveats"),
    [
        ([slowed(0.5, power_cap=0.5)], (Caveat.POWER_CAPPED,)),
        ([slowed(0.5, hw_thermal=0.5)], (Caveat.THERMAL_THROTTLE,)),
        ([slowed(0.5, sw_thermal=0.5)], (Caveat.THERMAL_THROTTLE,)),
        ([slowed(0.5, other_hw=0.5)], (Caveat.THERMAL_THROTTLE,)),
        ([slowed(0.5, power_cap=0.25, sw_thermal=0.25)], (Caveat.POWER_CAPPED, Caveat.THERMAL_THROTTLE)),
        ([slowed(0.5, power_cap=0.48, sw_thermal=0.02)], (Caveat.POWER_CAPPED,)),
        ([slowed(0.019, power_cap=0.019)], ()),
        ([slowed(0.021, power_cap=0.021)], (Caveat.POWER_CAPPED,)),
        ([slowed(0.0), slowed(0.0), slowed(0.05, power_cap=0.05)], ()),
        ([WindowState()], ()),
        ([WindowState(foreign=(1,)), WindowState(foreign=())], (Caveat.SHARED_DEVICE,)),
        ([WindowState(foreign=())], ()),
    ],
)
def test_caveats_follow_from_what_the_gpu_did(states: list[WindowState], caveats: tuple[Caveat, ...]) -> None:
    """More than 2 % of the time on average is a caveat, named by its kinds of cause; one foreign process is one."""
    assert device_caveats(states, FACTS) == caveats


def test_locked_clocks_are_a_caveat_of_the_gpu() -> None:
    """Only where the driver says so: not known is not locked."""
    assert device_caveats((), replace(FACTS, clocks_locked=True)) == (Caveat.CLOCKS_LOCKED,)
    assert device_caveats((), replace(FACTS, clocks_locked=False)) == ()
    assert device_caveats((), FACTS) == device_caveats((), None) == ()
    held = WindowState(clocks_held_share=0.9)
    assert device_caveats([held], FACTS) == (Caveat.CLOCKS_LOCKED,)
    assert device_caveats([replace(held, clocks_held_share=0.01)], FACTS) == ()


def test_the_episodes_of_a_gpu_become_its_caveats() -> None:
    """End to end: a GPU hot for a tenth of a second in each of two windows of one."""
    episodes = tuple(Episode(SlowdownCause.SW_THERMAL, at, at + 0.1) for at in (1.2, 2.2))
    box = Box(gpu(episodes=episodes))
    states = [box.window()[0], box.window()[0]]
    assert device_caveats(states, FACTS) == (Caveat.THERMAL_THROTTLE,)


def test_slow_readings_are_asked_for_now_and_then_only() -> None:
    """Ten looks: the clock in each, slowdowns, temperature, power, memory and utilisation once."""
    looks = Looks(FakeGpu(VirtualClock()))
    taken = [looks() for _ in range(2 * WHOLE_EVERY)]
    assert all(look.sm_clock_hz is not None for look in taken)
    for slow in ("slowdowns", "temperature_c", "power_w", "utilization", "memory_used_bytes"):
        assert [getattr(look, slow) is not None for look in taken] == ([True] + [False] * (WHOLE_EVERY - 1)) * 2
