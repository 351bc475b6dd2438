"""Energy of the CPU sockets by RAPL, as Linux shows it under /sys/class/powercap; for Intel and AMD alike.

intel-rapl:0     package-0     counted            intel-rapl:0:0   core, uncore   part of the package: left out
intel-rapl:1     package-1     counted            intel-rapl:0:1   dram           apart: memory is not the package
intel-rapl:2     psys          the whole board    intel-rapl-mmio:0               package-0 once more: left out

Source: Documentation/power/powercap/powercap.rst and drivers/powercap/intel_rapl_common.c of Linux.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from castbench.hardware.pseudo_files import text_of
from castbench.records import EnergyScope

ROOT = Path("/")
_FOLDER = "sys/class/powercap"
_J_PER_UJ = 1e-6


@dataclass(frozen=True, slots=True)
class RaplAccess:
    """The meter, or a sentence why there is none and what to do; exactly one of the two is None."""

    meter: RaplMeter | None
    reason: str | None


class RaplMeter:
    """Joules that all sockets have used since this meter was made; one thread reads it.

    The kernel's counters begin again at zero after max_energy_range_uj, 65 kJ to 262 kJ per socket: a socket at 500 W
    gets there in 2 to 9 minutes. One such return between two readings is made good; the meter must therefore be
    read at least every two minutes, and the energy pass reads it hundreds of times a second.
    """

    source = "rapl"
    scope: EnergyScope = "cpu-package"

    def __init__(self, packages: Sequence[Path]) -> None:
        self._counters = tuple(_WrappingCounter(package) for package in packages)

    def energy_j(self) -> float | None:
        """The sum over sockets; None while one of them cannot be read, since a part would look like a saving."""
        used = [counter.used_uj() for counter in self._counters]
        known = [uj for uj in used if uj is not None]
        return sum(known) * _J_PER_UJ if len(known) == len(used) else None

    def power_w(self) -> float | None:
        """RAPL has no power reading."""
        return None


def open_rapl(root: Path = ROOT) -> RaplAccess:
    """Find the packages and try to read them. `root` is / in earnest; nothing is changed."""
    packages = [zone for zone in _zones(root) if (text_of(zone / "name") or "").startswith("package")]
    if not packages:
        return RaplAccess(None, _absent(root))
    for package in packages:
        try:
            readable = _number(package / "max_energy_range_uj") and _number(package / "energy_uj") is not None
        except PermissionError:
            return RaplAccess(None, _forbidden(packages))
        except (OSError, ValueError) as error:
            return RaplAccess(None, f"CPU energy is not available: {package / 'energy_uj'} does not answer ({error})")
        if not readable:
            return RaplAccess(None, f"CPU energy is not available: {package} states no range of its counter")
    return RaplAccess(RaplMeter(packages), None)


class _WrappingCounter:
    """One counter of the kernel, its returns to zero made good."""

    def __init__(self, zone: Path) -> None:
        self._energy = zone / "energy_uj"
        self._range_uj = _number(zone / "max_energy_range_uj")
        self._last_uj: int | None = None
        self._used_uj = 0

    def used_uj(self) -> int | None:
        """Microjoules since the first reading; None where this reading fails."""
        try:
            now_uj = _number(self._energy)
        except (OSError, ValueError):
            return None
        last_uj = now_uj if self._last_uj is None else self._last_uj
        self._used_uj += now_uj - last_uj + (self._range_uj if now_uj < last_uj else 0)
        self._last_uj = now_uj
        return self._used_uj


def _zones(root: Path) -> list[Path]:
    """Top zones of the intel-rapl control type, by number; their parts have a second colon."""
    zones = [path for path in (root / _FOLDER).glob("intel-rapl:*") if path.name.count(":") == 1]
    return sorted(zones, key=lambda path: (len(path.name), path.name))


def _number(path: Path) -> int:
    """The whole number in a file; OSError or ValueError where there is none."""
    return int(path.read_text(encoding="ascii"))


def _absent(root: Path) -> str:
    """Why no package was found."""
    return (
        f"CPU energy is not available: {root / _FOLDER} shows no package of RAPL; virtual machines and containers"
        " hide it, and not every processor has it"
    )


def _forbidden(packages: Sequence[Path]) -> str:
    """What to do where only root may read: Linux closed the counters to others because they tell what runs
    (CVE-2020-8694).
    """
    files = " ".join(str(package / "energy_uj") for package in packages)
    return (
        "CPU energy is not available: RAPL is readable only by root on this machine. On a machine that is not shared,"
        f" an administrator can open it until the next start with: sudo chmod a+r {files}"
        " (on a shared one better not: the counters let others guess at secrets, CVE-2020-8694)"
    )
