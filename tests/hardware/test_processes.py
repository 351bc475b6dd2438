from __future__ import annotations

import os
from pathlib import Path

import pytest

from castbench.hardware.processes import NAMED, Process, ProcessTicks, busiest_others, parse_stat, snapshot

STAT = "4753 (cat) R 4745 4745 2501 0 -1 4194304 101 0 0 0 7 5 0 0 20 0 1 0 175610 3133440 390 18446744073709551615"


def ticks(pid: int, used: int, *, parent: int = 1, started: int = 10, name: str = "job") -> ProcessTicks:
    """A reading."""
    return ProcessTicks(pid, parent, name, used, started)


def by_pid(*readings: ProcessTicks) -> dict[int, ProcessTicks]:
    """A snapshot of these."""
    return {reading.pid: reading for reading in readings}


def test_stat_gives_parent_time_and_start() -> None:
    """User and system time are added; parent and start are the fourth and the twenty-second field."""
    assert parse_stat(STAT) == ProcessTicks(4753, 4745, "cat", 12, 175610)


@pytest.mark.parametrize("name", ["tmux: server", "a) R 1 1", "(sd-pam)", ""])
def test_a_name_may_hold_anything(name: str) -> None:
    """Spaces and brackets in a process's name do not shift the fields."""
    parsed = parse_stat(STAT.replace("(cat)", f"({name})"))
    assert parsed == ProcessTicks(4753, 4745, name, 12, 175610)


@pytest.mark.parametrize("text", ["", "4753 (cat) R 1", "no brackets at all", ") ("])
def test_a_reading_cut_short_is_left_out(text: str) -> None:
    """A process that ended while being read is no process."""
    assert parse_stat(text) is None


def test_the_busiest_come_first_and_idle_ones_not_at_all() -> None:
    """Shares are of one core over the interval; those below the threshold are not named."""
    before = by_pid(ticks(2, 100), ticks(3, 100), ticks(4, 100))
    after = by_pid(ticks(2, 125), ticks(3, 200), ticks(4, 101))
    assert busiest_others(before, after, 50.0, own_pid=99) == (Process("job", 3, 2.0), Process("job", 2, 0.5))


def test_castbench_and_its_workers_are_not_others() -> None:
    """Children and grandchildren of the measuring process do not count, whatever the order of their pids."""
    after = by_pid(
        ticks(50, 90), ticks(60, 90, parent=50), ticks(7, 90, parent=60), ticks(8, 90, parent=1, name="other")
    )
    assert [p.name for p in busiest_others({}, after, 100.0, own_pid=50)] == ["other"]


def test_a_process_that_began_in_between_counts_from_its_start() -> None:
    """A pid taken over by a new process does not inherit the old one's time."""
    before = by_pid(ticks(2, 1000, started=10))
    after = by_pid(ticks(2, 30, started=500))
    assert busiest_others(before, after, 100.0, own_pid=99) == (Process("job", 2, 0.3),)


def test_only_the_busiest_few_are_named() -> None:
    """However many are busy, a handful is named."""
    after = by_pid(*(ticks(pid, 50) for pid in range(2, 40)))
    assert len(busiest_others({}, after, 100.0, own_pid=99)) == NAMED


def test_a_snapshot_skips_what_is_no_process(tmp_path: Path) -> None:
    """Files that are not processes, and processes without a readable stat, are left out."""
    for pid in ("4753", "5000"):
        (tmp_path / pid).mkdir()
    (tmp_path / "4753/stat").write_text(STAT)
    (tmp_path / "self").mkdir()
    assert list(snapshot(tmp_path)) == [4753]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc on this system")
def test_this_process_is_in_the_snapshot_of_this_machine() -> None:
    """The real /proc is understood: this very process is found with its parent."""
    assert snapshot(Path("/proc"))[os.getpid()].parent == os.getppid()
