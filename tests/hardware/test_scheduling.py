from __future__ import annotations

from pathlib import Path

import pytest

from castbench.hardware.scheduling import Scheduling, read_scheduling


def task(process: Path, thread: int, text: str) -> None:
    """One thread's schedstat."""
    directory = process / "task" / str(thread)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "schedstat").write_text(text)


def test_waiting_is_the_second_number_of_every_thread(tmp_path: Path) -> None:
    """Time on a core and timeslices are not waiting; the threads' waits add up, in seconds."""
    task(tmp_path, 10, "9000000000 1000000000 7\n")
    task(tmp_path, 11, "9000000000 500000000 7\n")
    before = read_scheduling(tmp_path)
    task(tmp_path, 10, "9900000000 1250000000 9\n")
    task(tmp_path, 11, "9900000000 750000000 9\n")
    assert before.waited_s_until(read_scheduling(tmp_path)) == pytest.approx(0.5)


def test_a_thread_born_in_between_counts_whole_and_one_that_ended_not_at_all(tmp_path: Path) -> None:
    """Nothing negative comes of a thread that ended."""
    earlier, later = (
        Scheduling(((1, 4_000_000_000), (2, 1_000_000_000)), 0),
        Scheduling(((1, 4_000_000_000), (3, 7)), 0),
    )
    assert earlier.waited_s_until(later) == pytest.approx(7e-9)


@pytest.mark.parametrize("text", ["", "0 0\n"])
def test_a_kernel_without_the_statistics_is_not_known_rather_than_zero(tmp_path: Path, text: str) -> None:
    """None, where the file is missing or holds something else."""
    if text:
        task(tmp_path, 10, text)
    found = read_scheduling(tmp_path)
    assert found.waited_ns is None
    assert found.waited_s_until(found) is None
