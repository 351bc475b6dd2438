from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from castbench.hardware.launches import is_launch_bound
from castbench.measure.clock import Step, WindowTimes
from castbench.measure.cuda import AllocatorStatistics
from castbench.measure.cuda_clock import LARGEST_L2_BYTES, LATENCY_STEPS, SETTLE_CHUNK_S, CudaClock, allocation_fault
from castbench.measure.window_rules import SUSTAINED_SETTLE_S, SUSTAINED_WINDOW_S
from castbench.records import Sample
from tests.measure.fake_cuda import MIB, FakeCuda, Machine

OUTPUT = torch.zeros(1)


def step_of(fake: FakeCuda, *kernels_s: float, power: float = 1.0) -> Step:
    """A step made of kernels of known durations."""

    def step(index: int) -> torch.Tensor:
        for seconds in kernels_s:
            fake.launch(seconds, power)
        return OUTPUT

    return step


def clock_on(fake: FakeCuda, *, cold_cache: bool = False) -> CudaClock:
    """A configured clock that has calibrated itself and made its events; the log starts after that."""
    clock = CudaClock(fake)
    clock.configure(cold_cache=cold_cache)
    clock.time_window(lambda index: OUTPUT, 200)
    fake.calls.clear()
    return clock


def sample_of(times: WindowTimes, steps: int) -> Sample:
    """The record of a window."""
    return Sample("a", 0, steps, times.elapsed_s, device_s=times.device_s, host_launch_s=times.host_launch_s)


@given(
    kernels_s=st.lists(st.floats(2e-5, 2e-3), min_size=1, max_size=8),
    steps=st.integers(1, 60),
    queue=st.integers(16, 2048),
)
def test_event_pairs_give_the_true_kernel_time_of_a_full_queue(kernels_s: list[float], steps: int, queue: int) -> None:
    """Kernels longer than their launches: device time is theirs, but for the first launch onto the empty queue."""
    fake = FakeCuda(Machine(queue=queue))
    times = clock_on(fake).time_window(step_of(fake, *kernels_s), steps)
    truth = steps * sum(kernels_s)
    assert times.device_s is not None
    assert truth * (1 - 1e-9) <= times.device_s <= truth + fake.machine.launch_s + 1e-9
    assert truth < times.elapsed_s <= truth + 20e-6


def test_event_pairs_of_an_empty_queue_measure_launches() -> None:
    """Kernels shorter than their launches: pairs span the launches between them, so they cannot show starvation."""
    fake = FakeCuda()
    times = clock_on(fake).time_window(step_of(fake, *[1e-6] * 10), 50)
    assert times.device_s is not None
    assert times.device_s > 0.9 * 50 * 10 * fake.machine.launch_s > 4 * 50 * 10 * 1e-6


@given(
    kernels=st.integers(1, 60), kernel_s=st.floats(5e-7, 3e-4), steps=st.integers(30, 120),
    queue=st.integers(256, 2048), cold_cache=st.booleans(),
)  # fmt: skip
@example(kernels=4, kernel_s=5e-6, steps=30, queue=1024, cold_cache=True)  # launches fit beside the flush
@example(kernels=20, kernel_s=8e-6, steps=30, queue=1024, cold_cache=False)  # launches take 0.64 of the work
def test_a_starving_device_is_told_from_a_working_one(
    kernels: int, kernel_s: float, steps: int, queue: int, cold_cache: bool
) -> None:
    """Launch-bound where the device truly idles a quarter of the window; never where launching takes 0.7 of its work,
    even when the full queue makes the host wait for room.
    """
    fake = FakeCuda(Machine(queue=queue))
    clock = clock_on(fake, cold_cache=cold_cache)
    machine = fake.machine
    host_s = kernels * machine.launch_s + 2 * machine.record_s + (machine.launch_s if cold_cache else 0.0)
    work_s = kernels * kernel_s + (machine.overwrite_s if cold_cache else 0.0)
    verdict = is_launch_bound([sample_of(clock.time_window(step_of(fake, *[kernel_s] * kernels), steps), steps)])
    truly_idle = 1 - work_s / max(work_s, host_s)
    if truly_idle >= 0.25:
        assert verdict
    if host_s <= 0.7 * work_s:
        assert not verdict


def test_small_shapes_starve_and_large_ones_do_not() -> None:
    """The same 40 kernels launch-bound at 2 µs each, not at 50 µs, though the queue of the long window overflows."""
    for kernel_s, expected in ((2e-6, True), (50e-6, False)):
        fake = FakeCuda()
        clock = clock_on(fake)
        times = clock.time_window(step_of(fake, *[kernel_s] * 40), 200)
        assert is_launch_bound([sample_of(times, 200)]) is expected
        assert times.host_launch_s == pytest.approx(200 * (40 * 5e-6 + 2e-6))


def test_a_step_that_waits_for_the_device_counts_as_launch_bound() -> None:
    """A synchronisation inside the step keeps the queue empty, whatever the kernels' size."""
    fake = FakeCuda()

    def step(index: int) -> torch.Tensor:
        fake.launch(1e-3)
        fake.synchronize()
        return OUTPUT

    assert is_launch_bound([sample_of(clock_on(fake).time_window(step, 20), 20)])


def carried_over(settle_s: float, window_s: float) -> float:
    """Time of a cool arm's window after a hot arm's over its time after its own."""
    times = []
    for power_before in (1.0, 0.2):
        fake = FakeCuda(Machine(droop=0.2))
        clock = clock_on(fake)
        cool = step_of(fake, 1e-3, power=0.2)
        clock.time_window(step_of(fake, 1e-3, power=power_before), 1000)
        clock.settle(cool, settle_s)
        times.append(clock.time_window(cool, round(window_s / 1e-3)).elapsed_s)
    return times[0] / times[1]


def test_a_hot_neighbour_slows_a_window_unless_it_settles() -> None:
    """With a short settling the arm before shows in a short window; sustained settling and length leave no trace."""
    assert carried_over(0.0, 0.02) > 1.05
    assert carried_over(0.005, 0.02) > 1.03
    assert carried_over(SUSTAINED_SETTLE_S, SUSTAINED_WINDOW_S) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("kernel_s", [1e-6, 1e-4, 3e-3, 0.5])
@pytest.mark.parametrize("cold_cache", [False, True])
def test_settling_lasts_as_long_as_asked_in_the_windows_rhythm(kernel_s: float, cold_cache: bool) -> None:
    """Busy for at least the time asked, at most a step or a chunk longer; waits are rare, flushes as many."""
    fake = FakeCuda()
    clock = clock_on(fake, cold_cache=cold_cache)
    began, was_busy = fake.now_s(), fake.busy_s
    clock.settle(step_of(fake, kernel_s), SUSTAINED_SETTLE_S)
    took = fake.now_s() - began
    assert SUSTAINED_SETTLE_S <= took <= SUSTAINED_SETTLE_S + max(1.1 * kernel_s, SETTLE_CHUNK_S)
    launched = fake.calls.count("launch")
    assert fake.calls.count("overwrite") == (launched if cold_cache else 0)
    if kernel_s <= 1e-4:
        assert fake.calls.count("synchronize") < launched / 100
    if kernel_s >= 1e-4:
        assert fake.busy_s - was_busy > 0.95 * SUSTAINED_SETTLE_S


def test_settling_goes_round_the_pool_and_nothing_runs_for_no_time() -> None:
    """Steps are numbered from 0 on without a gap; at least one runs, and none for 0 seconds."""
    fake, seen = FakeCuda(), list[int]()

    def step(index: int) -> torch.Tensor:
        seen.append(index)
        fake.launch(1e-3)
        return OUTPUT

    clock = clock_on(fake)
    assert clock.settle(step, 0.0) == 0
    assert seen == []
    assert clock.settle(step, 1e-9) == 1
    assert seen == [0]
    seen.clear()
    assert clock.settle(step, 0.1) == len(seen)
    assert seen == list(range(len(seen)))
    assert len(seen) >= 95


def test_a_window_waits_twice_and_its_single_steps_once_each() -> None:
    """Order of calls: wait, steps between their events, one wait, then steps that are waited for one by one."""
    fake = FakeCuda()
    clock_on(fake).time_window(step_of(fake, 1e-4), 2)
    step, single = ["record", "launch", "record"], ["launch", "synchronize"]
    assert fake.calls == ["allocator", "synchronize", *step, *step, "synchronize", *single, *single, "allocator"]


def test_a_cold_cache_is_flushed_outside_the_events_and_the_latencies() -> None:
    """The flush comes before the first event of every step, and is waited for before a single step's clock starts."""
    fake = FakeCuda()
    times = clock_on(fake, cold_cache=True).time_window(step_of(fake, 1e-4), 2)
    step, single = ["overwrite", "record", "launch", "record"], ["overwrite", "synchronize", "launch", "synchronize"]
    assert fake.calls == ["allocator", "synchronize", *step, *step, "synchronize", *single, *single, "allocator"]
    assert times.elapsed_s == times.device_s == pytest.approx(2e-4, abs=1e-9)
    assert times.step_times_s == pytest.approx([1e-4 + 5e-6 + 3e-6 + 2e-6] * 2)


def test_single_steps_give_the_latency_of_one_request() -> None:
    """Launch, way to the device, kernels and the wait: known exactly; at most LATENCY_STEPS of them."""
    fake = FakeCuda()
    times = clock_on(fake).time_window(step_of(fake, 3e-4, 2e-4), 40)
    assert times.step_times_s == pytest.approx([5e-6 + 3e-6 + 5e-4 + 2e-6] * LATENCY_STEPS)


@pytest.mark.parametrize(("l2_bytes", "flushed"), [(60 * MIB, 120 * MIB), (None, 2 * LARGEST_L2_BYTES)])
def test_the_flush_covers_twice_the_l2(l2_bytes: int | None, flushed: int) -> None:
    """The buffer is twice the L2 the device states, or twice the largest known; a warm clock takes none."""
    fake = FakeCuda(Machine(l2_bytes=l2_bytes))
    CudaClock(fake).configure(cold_cache=False)
    assert fake.allocator().allocated_bytes == 0
    CudaClock(fake).configure(cold_cache=True)
    assert fake.allocator().allocated_bytes == flushed


def test_the_clocks_own_calls_are_calibrated_once_per_configuration() -> None:
    """The first window records empty frames beforehand, the second does not; a new configuration calibrates anew."""
    fake = FakeCuda()
    clock = CudaClock(fake)
    counts = []
    for cold_cache in (False, True):
        clock.configure(cold_cache=cold_cache)
        for _ in range(2):
            fake.calls.clear()
            clock.time_window(step_of(fake, 1e-4), 1)
            counts.append(fake.calls.count("record"))
    assert counts[1] == counts[3] == 2
    assert counts[0] > 2 < counts[2]


def stepping(fake: FakeCuda, sizes: Callable[[int], int]) -> Step:
    """A step that needs memory while it runs."""

    def step(index: int) -> torch.Tensor:
        block = fake.allocate(sizes(index))
        fake.launch(1e-4)
        fake.free(block)
        return OUTPUT

    return step


def test_a_window_in_which_the_device_hands_out_memory_is_invalid() -> None:
    """Steps served from the cache are fine; one that grows within the window, or a single step after it, is named."""
    fake = FakeCuda()
    clock = clock_on(fake)
    steady = stepping(fake, lambda index: MIB)
    clock.settle(steady, 1e-3)
    assert clock.time_window(steady, 20).invalid_reason is None
    reason = clock.time_window(stepping(fake, lambda index: 2 * MIB if index == 17 else MIB), 20).invalid_reason
    assert reason is not None
    assert "took memory from the device within the window (1×)" in reason


def test_a_window_in_which_an_allocation_was_retried_is_invalid() -> None:
    """A device so full that the cache must go back and forth spoils the window, and the reason says so."""
    fake = FakeCuda(Machine(memory_bytes=10 * MIB))
    clock = clock_on(fake)
    reason = clock.time_window(stepping(fake, lambda index: (6 + index % 2) * MIB), 2).invalid_reason
    assert reason is not None
    assert "ran out of memory within the window" in reason


def test_an_allocator_that_does_not_count_spoils_nothing() -> None:
    """Counters that are not there are no reason to drop a window."""
    none = AllocatorStatistics(0, 0, 0, None, None)
    assert allocation_fault(none, none) is None
    assert allocation_fault(none, replace(none, device_allocations=5, retries=1)) is None


def test_the_first_window_pays_for_nothing_that_happens_once() -> None:
    """A fresh clock's first window of starving steps takes as long as its second: its events were made beforehand."""
    fake = FakeCuda()
    clock = CudaClock(fake)
    clock.configure(cold_cache=False)
    first, second = (clock.time_window(step_of(fake, 1e-6), 100).elapsed_s for _ in range(2))
    assert first == pytest.approx(second)


def test_the_last_output_is_kept() -> None:
    """What must be finite is the last step's output."""
    fake = FakeCuda()
    clock = clock_on(fake)
    clock.time_window(lambda index: torch.tensor(float(index)), 5)
    assert clock.last_output.item() == 4.0
