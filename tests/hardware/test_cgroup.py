from __future__ import annotations

from pathlib import Path

import pytest

from castbench.hardware.cgroup import Limits, directories, parse_cpu_max, read_limits

V1_GROUPS = "9:name=systemd:/\n4:memory:/docker/abc\n1:cpu,cpuacct:/docker/abc\n0::/docker/abc\n"
V1_MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
32 31 0:29 /docker/abc /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
V2_GROUPS = "0::/kubepods.slice/pod1/box\n"
V2_MOUNTS = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


def test_every_group_above_limits_too() -> None:
    """In v2 the process's group and all above it are looked at, up to where the hierarchy is mounted."""
    assert directories(V2_GROUPS, V2_MOUNTS, "cpu") == (
        "sys/fs/cgroup/kubepods.slice/pod1/box", "sys/fs/cgroup/kubepods.slice/pod1",
        "sys/fs/cgroup/kubepods.slice", "sys/fs/cgroup",
    )  # fmt: skip


def test_a_container_sees_its_own_group_as_the_top() -> None:
    """In v1 a mount that shows the group itself is used as it is; another controller is found by its own mount."""
    assert directories(V1_GROUPS, V1_MOUNTS, "cpu") == ("sys/fs/cgroup/cpu,cpuacct",)
    assert directories(V1_GROUPS, V1_MOUNTS, "memory")[0] == "sys/fs/cgroup/memory/docker/abc"


@pytest.mark.parametrize(
    ("groups", "mounts"),
    [
        ("0::/../../elsewhere\n", V2_MOUNTS),
        ("0::/host/path\n", V2_MOUNTS.replace(" / /sys", " /other /sys")),
        ("0::/\n", V2_MOUNTS),
    ],
)
def test_a_group_outside_of_the_mount_falls_back_to_the_mount(groups: str, mounts: str) -> None:
    """A path that leads out of what is mounted is not followed."""
    assert directories(groups, mounts, "cpu") == ("sys/fs/cgroup",)


def test_no_hierarchy_means_no_limits(tmp_path: Path) -> None:
    """Without a mounted hierarchy, or without /proc at all, nothing is known and nothing is limited."""
    assert directories(V2_GROUPS, "22 27 0:21 / /proc rw - proc proc rw\n", "cpu") == ()
    assert read_limits(tmp_path) == Limits()


@pytest.mark.parametrize(
    ("text", "cores"), [("max 100000\n", None), ("150000 100000\n", 1.5), ("-1 100000", None), ("50000 25000", 2.0)]
)
def test_a_quota_is_time_over_period(text: str, cores: float | None) -> None:
    """Quota over period is cores; max and -1 are no quota."""
    assert parse_cpu_max(text) == cores


def machine(root: Path, groups: str, mounts: str, files: dict[str, str]) -> Path:
    """A file system with these control groups."""
    for name, text in {"proc/self/cgroup": groups, "proc/self/mountinfo": mounts, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_the_tightest_of_nested_v2_limits_holds(tmp_path: Path) -> None:
    """The smallest quota and the smallest memory limit win, wherever in the hierarchy they stand."""
    base = "sys/fs/cgroup/kubepods.slice"
    files = {
        f"{base}/pod1/box/cpu.max": "400000 100000", f"{base}/pod1/cpu.max": "250000 100000",
        f"{base}/cpu.max": "max 100000",
        f"{base}/pod1/box/memory.max": "max", f"{base}/pod1/box/memory.current": "10",
        f"{base}/pod1/memory.max": "1000", f"{base}/pod1/memory.current": "700",
        f"{base}/pod1/memory.stat": "anon 300\ninactive_file 400\n",
        f"{base}/memory.max": "5000", f"{base}/memory.current": "4000",
    }  # fmt: skip
    assert read_limits(machine(tmp_path, V2_GROUPS, V2_MOUNTS, files)) == Limits(2.5, 1000, 300)


def test_v1_limits_are_read_by_their_own_names(tmp_path: Path) -> None:
    """In v1 quota and period are two files, and the largest number means no memory limit."""
    cpu, memory = "sys/fs/cgroup/cpu,cpuacct", "sys/fs/cgroup/memory/docker/abc"
    files = {
        f"{cpu}/cpu.cfs_quota_us": "50000\n", f"{cpu}/cpu.cfs_period_us": "100000\n",
        f"{memory}/memory.limit_in_bytes": "2048\n", f"{memory}/memory.usage_in_bytes": "1024\n",
        f"{memory}/memory.stat": "total_inactive_file 24\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "4096\n",
    }  # fmt: skip
    root = machine(tmp_path, V1_GROUPS, V1_MOUNTS, files)
    assert read_limits(root) == Limits(0.5, 2048, 1000)
    (root / cpu / "cpu.cfs_quota_us").write_text("-1\n")
    assert read_limits(root).quota_cores is None
