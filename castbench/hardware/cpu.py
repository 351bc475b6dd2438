"""What the host is and how busy it is: from /proc and /sys on Linux, from the system's own answers elsewhere.

Every parser takes text, so that it can be tested with what other machines say. None means not known.
"""

from __future__ import annotations

import math
import os
import platform
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from castbench.hardware import cgroup, processes
from castbench.hardware.processes import Process
from castbench.hardware.pseudo_files import text_of

ROOT = Path("/")
_STEAL_FIELD, _TIME_FIELDS = 7, 8
"""In a cpu line of /proc/stat: the eighth number is steal; guest time after it is already counted as user time."""
_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
_ARM_IMPLEMENTER = 0x41
_ARM_PARTS = {
    0xD08: "Cortex-A72", 0xD0B: "Cortex-A76", 0xD0C: "Neoverse-N1", 0xD40: "Neoverse-V1", 0xD49: "Neoverse-N2",
    0xD4A: "Neoverse-E1", 0xD4F: "Neoverse-V2", 0xD84: "Neoverse-V3", 0xD8E: "Neoverse-N3",
}  # fmt: skip
"""Part numbers of MIDR_EL1, from Arm's technical reference manuals."""


@dataclass(frozen=True, slots=True)
class Host:
    """The machine around the device.

    affinity_cores    cores the scheduler may put this process on
    quota_cores       CPU time a container grants, in cores, as a fraction
    memory_…_bytes    of the machine, or of the container where that is less
    load_average      runnable tasks over the last minute, of the whole machine
    steal_share       share of CPU time that the hypervisor gave to others while it was being read
    bf16_native       whether the CPU has bf16 instructions
    busiest           other processes that used the CPU while it was being read
    """

    hostname: str
    os: str
    python: str
    cpu_model: str | None = None
    logical_cores: int | None = None
    affinity_cores: int | None = None
    quota_cores: float | None = None
    memory_total_bytes: int | None = None
    memory_available_bytes: int | None = None
    load_average: float | None = None
    steal_share: float | None = None
    bf16_native: bool | None = None
    busiest: tuple[Process, ...] | None = None

    @property
    def usable_cores(self) -> int | None:
        """Cores this process can keep busy: affinity and quota applied, a part of a core counted as one."""
        quota = None if self.quota_cores is None else math.ceil(self.quota_cores)
        return min((n for n in (self.logical_cores, self.affinity_cores, quota) if n is not None), default=None)


class StealMeter:
    """Share of CPU time taken by the hypervisor between calls: two readings of the counters in /proc/stat."""

    def __init__(self, root: Path = ROOT) -> None:
        self._path = root / "proc/stat"
        self._last = self._read()

    def share(self) -> float | None:
        """The share since the last call (or since the meter was made); None where unknown or no time has passed."""
        last, self._last = self._last, self._read()
        if last is None or self._last is None or self._last[1] <= last[1]:
            return None
        return (self._last[0] - last[0]) / (self._last[1] - last[1])

    def _read(self) -> tuple[int, int] | None:
        text = text_of(self._path)
        return None if text is None else parse_cpu_times(text)


def read_host(interval_s: float = 0.0, root: Path = ROOT) -> Host:
    """The host as it is now; watches for `interval_s` who uses the CPU (0: not at all). `root` is / in earnest."""
    cpuinfo = text_of(root / "proc/cpuinfo") or ""
    limits = cgroup.read_limits(root)
    total, available = _memory_bytes(root, limits)
    steal_share, busiest = _activity(interval_s, root)
    return Host(
        hostname=platform.node(), os=_os_text(root), python=platform.python_version(),
        cpu_model=parse_cpu_model(cpuinfo) or _sysctl("machdep.cpu.brand_string"),
        logical_cores=os.cpu_count(), affinity_cores=_affinity_cores(), quota_cores=limits.quota_cores,
        memory_total_bytes=total, memory_available_bytes=available,
        load_average=load_average(), steal_share=steal_share, bf16_native=parse_bf16(cpuinfo), busiest=busiest,
    )  # fmt: skip


def load_average() -> float | None:
    """Runnable tasks over the last minute; None where the system does not say."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def parse_cpu_model(cpuinfo: str) -> str | None:
    """The processor's name in the text of /proc/cpuinfo; None where it gives none.

    x86 has a model name; Arm servers have numbers for designer and part, small Arm boards a Hardware line,
    POWER a cpu line.
    """
    fields = _first_fields(cpuinfo)
    if name := fields.get("model name"):
        return name
    if "CPU part" in fields and "CPU implementer" in fields:
        return _arm_name(int(fields["CPU implementer"], 0), int(fields["CPU part"], 0))
    return fields.get("Hardware") or fields.get("cpu") or None


def parse_bf16(cpuinfo: str) -> bool | None:
    """Whether the feature flags in /proc/cpuinfo name bf16 instructions; None where there are no flags."""
    fields = _first_fields(cpuinfo)
    flags = fields.get("flags") or fields.get("Features")
    return None if flags is None else not _BF16_FLAGS.isdisjoint(flags.split())


def parse_meminfo(meminfo: str) -> tuple[int | None, int | None]:
    """(total, available) bytes in the text of /proc/meminfo, whose kB are 1024 bytes."""
    found = dict(re.findall(r"^(\w+):\s+(\d+) kB$", meminfo, re.MULTILINE))
    total, available = (found.get(key) for key in ("MemTotal", "MemAvailable"))
    return (int(total) * 1024 if total else None), (int(available) * 1024 if available else None)


def parse_cpu_times(stat: str) -> tuple[int, int] | None:
    """(steal, all) ticks of all cores together in the text of /proc/stat; None where steal is not reported."""
    match = re.match(r"cpu((?: +\d+)+)", stat)
    times = [int(number) for number in match[1].split()[:_TIME_FIELDS]] if match else []
    return (times[_STEAL_FIELD], sum(times)) if len(times) == _TIME_FIELDS else None


def parse_os_release(text: str) -> str | None:
    """PRETTY_NAME in the text of /etc/os-release."""
    match = re.search(r"""^PRETTY_NAME=(["']?)(.+)\1$""", text, re.MULTILINE)
    return match[2] if match else None


def _first_fields(cpuinfo: str) -> dict[str, str]:
    """`key : value` lines, the first of every key: cores of one machine say the same, and the first core leads."""
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    return fields


def _arm_name(implementer: int, part: int) -> str:
    """Arm's own designs by name, anything else by its numbers."""
    known = _ARM_PARTS.get(part) if implementer == _ARM_IMPLEMENTER else None
    return f"Arm {known}" if known else f"Arm CPU (implementer {implementer:#04x}, part {part:#05x})"


def _memory_bytes(root: Path, limits: cgroup.Limits) -> tuple[int | None, int | None]:
    """(total, available), the container's where that is less than the machine's."""
    meminfo = text_of(root / "proc/meminfo")
    if meminfo is None:
        size = _sysctl("hw.memsize")
        return (int(size) if size else None), None
    total, available = parse_meminfo(meminfo)
    limit, used = limits.memory_limit_bytes, limits.memory_used_bytes
    if limit is None or used is None or (total is not None and limit >= total):
        return total, available
    free = max(0, limit - used)
    return limit, free if available is None else min(free, available)


def _activity(interval_s: float, root: Path) -> tuple[float | None, tuple[Process, ...] | None]:
    """Steal share and busiest other processes over `interval_s`; None for both without time or /proc."""
    if interval_s <= 0 or text_of(root / "proc/stat") is None:
        return None, None
    meter, before, began = StealMeter(root), processes.snapshot(root / "proc"), time.monotonic()
    time.sleep(interval_s)
    after = processes.snapshot(root / "proc")
    interval_ticks = max(time.monotonic() - began, 1e-3) * os.sysconf("SC_CLK_TCK")
    return meter.share(), processes.busiest_others(before, after, interval_ticks, os.getpid())


def _affinity_cores() -> int | None:
    """Cores this process may run on; only some systems say."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else None


def _os_text(root: Path) -> str:
    """Distribution and kernel, or macOS and its version."""
    if platform.system() == "Darwin":
        return f"macOS {platform.mac_ver()[0]}"
    kernel = f"{platform.system()} {platform.release()}"
    release = parse_os_release(text_of(root / "etc/os-release") or "")
    return f"{release} ({kernel})" if release else kernel


def _sysctl(name: str) -> str | None:
    """A value that macOS's sysctl gives; None where there is no such command or value."""
    try:
        answer = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
