"""What the control groups of a container allow this process: CPU quota and memory limit, in cgroup v1 and v2.

/proc/self/cgroup      which group this process is in      ┐
/proc/self/mountinfo   where that hierarchy is mounted     ┴─▶ its directory and every one above it: all limits hold
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from castbench.hardware.pseudo_files import text_of

_NO_LIMIT_FROM = 1 << 60
"""cgroup v1 spells "no memory limit" as the largest page-aligned number; no machine has 1 EiB."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a container grants: cores as a fraction, bytes; None where nothing is limited or known.

    memory_used_bytes counts what cannot be taken back: without the page cache that is not in use.
    """

    quota_cores: float | None = None
    memory_limit_bytes: int | None = None
    memory_used_bytes: int | None = None


def read_limits(root: Path) -> Limits:
    """The tightest limits on this process; `root` is / on a real machine."""
    groups = text_of(root / "proc/self/cgroup")
    mounts = text_of(root / "proc/self/mountinfo")
    if groups is None or mounts is None:
        return Limits()
    quotas = [_quota(root / path) for path in directories(groups, mounts, "cpu")]
    memories = [_memory(root / path) for path in directories(groups, mounts, "memory")]
    limit, used = min((m for m in memories if m is not None), default=(None, None))
    return Limits(min((q for q in quotas if q is not None), default=None), limit, used)


def directories(groups: str, mounts: str, controller: str) -> tuple[str, ...]:
    """Directories (relative to /) that limit `controller`, this process's own group first, the hierarchy's top last.

    groups, mounts   text of /proc/self/cgroup and /proc/self/mountinfo
    """
    for version in (1, 2):
        group = _group(groups, controller, version)
        mount = _mount(mounts, controller, version)
        if group is not None and mount is not None:
            return tuple(_upwards(group, *mount))
    return ()


def parse_cpu_max(text: str) -> float | None:
    """Cores that "quota period" in microseconds grants; None for no quota, spelt `max` (v2) or -1 (v1)."""
    quota, _, period = text.strip().partition(" ")
    if quota == "max" or int(quota) < 0:
        return None
    return int(quota) / int(period or 100_000)


def _group(groups: str, controller: str, version: int) -> str | None:
    """Path of this process's group in the hierarchy of a controller: lines are id:controllers:path."""
    for line in groups.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if (controllers == "") if version == 2 else (controller in controllers.split(",")):
            return path
    return None


def _mount(mounts: str, controller: str, version: int) -> tuple[str, str] | None:
    """(root, mount point) of the hierarchy: root is the group that the mount point shows."""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.partition(" ")
        wanted = kind == "cgroup2" if version == 2 else kind == "cgroup" and controller in _options(options)
        if wanted:
            return before.split()[3], before.split()[4]
    return None


def _options(text: str) -> list[str]:
    """Options of the file system: the last word, separated by commas."""
    return text.rsplit(maxsplit=1)[-1].split(",")


def _upwards(group: str, root: str, mount_point: str) -> Iterator[str]:
    """From the group's directory to the mount point; only the mount point where the group lies outside of it,
    as in a container that sees its own group as the top.
    """
    top = mount_point.strip("/")
    below = group.removeprefix(root.rstrip("/"))
    inside = group == root or group.startswith(root.rstrip("/") + "/")
    parts = [part for part in below.split("/") if part] if inside else []
    if ".." in parts:
        parts = []
    for depth in range(len(parts), -1, -1):
        yield "/".join((top, *parts[:depth]))


def _quota(directory: Path) -> float | None:
    """CPU quota of one group, in cores."""
    text = text_of(directory / "cpu.max")
    if text is not None:
        return parse_cpu_max(text)
    quota, period = text_of(directory / "cpu.cfs_quota_us"), text_of(directory / "cpu.cfs_period_us")
    return None if quota is None or period is None else parse_cpu_max(f"{quota.strip()} {period.strip()}")


def _memory(directory: Path) -> tuple[int, int] | None:
    """(limit, used) of one group in bytes; None without a limit."""
    names = (("memory.max", "memory.current", "inactive_file"),
             ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"))  # fmt: skip
    for limit_name, used_name, idle_cache in names:
        limit, used = text_of(directory / limit_name), text_of(directory / used_name)
        if limit is None or used is None or limit.strip() == "max" or int(limit) >= _NO_LIMIT_FROM:
            continue
        statistics = dict(line.split() for line in (text_of(directory / "memory.stat") or "").splitlines())
        return int(limit), max(0, int(used) - int(statistics.get(idle_cache, 0)))
    return None
