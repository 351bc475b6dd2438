from __future__ import annotations

from pathlib import Path

import pytest

from castbench.hardware import cpu
from castbench.hardware.cpu import Host, StealMeter, parse_bf16, parse_cpu_model, parse_cpu_times, parse_meminfo
from castbench.units import GIB

X86 = """\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
flags\t\t: fpu vme avx512f avx512_bf16 amx_bf16 amx_tile

processor\t: 1
model name\t: something else
"""
GRAVITON = """\
processor\t: 0
BogoMIPS\t: 2100.00
Features\t: fp asimd evtstrm aes bf16 i8mm
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x1
CPU part\t: 0xd40
CPU revision\t: 1
"""
UNKNOWN_ARM = GRAVITON.replace("0x41", "0xc0").replace("0xd40", "0xac3")
RASPBERRY = "processor\t: 0\nBogoMIPS\t: 38.40\n\nHardware\t: BCM2835\nRevision\t: a02082\n"
POWER = "processor\t: 0\ncpu\t\t: POWER9, altivec supported\nclock\t\t: 3800.000000MHz\n"
MEMINFO = (
    "MemTotal:       24684092 kB\nMemFree:        23908008 kB\nMemAvailable:   23834000 kB\nHugePages_Total:       0\n"
)
STAT = "cpu  100 0 50 800 10 0 5 35 7 0\ncpu0 100 0 50 800 10 0 5 35 7 0\nintr 1\n"


@pytest.mark.parametrize(
    ("text", "model"),
    [
        (X86, "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"),
        (GRAVITON, "Arm Neoverse-V1"),
        (UNKNOWN_ARM, "Arm CPU (implementer 0xc0, part 0xac3)"),
        (RASPBERRY, "BCM2835"),
        (POWER, "POWER9, altivec supported"),
        ("", None),
        ("garbage without a colon\n", None),
    ],
)
def test_the_cpu_is_named_as_its_kernel_names_it(text: str, model: str | None) -> None:
    """A model name, Arm part numbers and board names are read; numbers nobody knows stay numbers; nothing is None."""
    assert parse_cpu_model(text) == model


@pytest.mark.parametrize(
    ("text", "native"), [(X86, True), (GRAVITON, True), (GRAVITON.replace("bf16 ", ""), False), (POWER, None)]
)
def test_bf16_is_known_from_the_flags_alone(text: str, native: bool | None) -> None:
    """bf16 instructions are True or False where flags are listed, and not known where none are."""
    assert parse_bf16(text) is native


def test_meminfo_counts_in_units_of_1024() -> None:
    """The kB of /proc/meminfo are KiB, and a missing line is not known."""
    assert parse_meminfo(MEMINFO) == (24684092 * 1024, 23834000 * 1024)
    assert parse_meminfo("MemTotal: 1024 kB\n") == (1024 * 1024, None)


def test_guest_time_is_not_counted_twice() -> None:
    """All time is the first eight numbers: guest time is in user time already. Kernels without steal give None."""
    assert parse_cpu_times(STAT) == (35, 1000)
    assert parse_cpu_times("cpu 1 2 3 4\n") is None
    assert parse_cpu_times("") is None


def test_steal_is_the_share_between_two_readings(tmp_path: Path) -> None:
    """The meter gives the share since its last call, and nothing where no time has passed."""
    stat = tmp_path / "proc/stat"
    stat.parent.mkdir()
    stat.write_text("cpu 0 0 0 1000 0 0 0 100 0 0\n")
    meter = StealMeter(tmp_path)
    stat.write_text("cpu 0 0 0 1075 0 0 0 125 0 0\n")
    assert meter.share() == 0.25
    assert meter.share() is None
    stat.write_text("cpu 0 0 0 1175 0 0 0 125 0 0\n")
    assert meter.share() == 0.0


def test_steal_is_not_known_without_proc(tmp_path: Path) -> None:
    """On a system without /proc the meter says nothing instead of zero."""
    meter = StealMeter(tmp_path)
    assert meter.share() is None


@pytest.mark.parametrize(
    ("logical", "affinity", "quota", "usable"),
    [
        (16, 16, None, 16),
        (16, 4, None, 4),
        (16, 16, 1.5, 2),
        (16, 4, 8.0, 4),
        (16, None, 0.5, 1),
        (None, None, None, None),
    ],
)
def test_usable_cores_are_the_tightest_limit(
    logical: int | None, affinity: int | None, quota: float | None, usable: int | None
) -> None:
    """Affinity and quota both limit, a part of a core counts as one, and nothing known gives None."""
    host = Host("h", "o", "p", logical_cores=logical, affinity_cores=affinity, quota_cores=quota)
    assert host.usable_cores == usable


def test_os_release_gives_the_distribution() -> None:
    """PRETTY_NAME is read with and without quotes."""
    assert cpu.parse_os_release('NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 24.04.1 LTS"\nID=ubuntu\n') == "Ubuntu 24.04.1 LTS"
    assert cpu.parse_os_release("PRETTY_NAME=Alpine\n") == "Alpine"
    assert cpu.parse_os_release("ID=x\n") is None


def test_a_container_s_memory_is_reported_where_it_is_less(tmp_path: Path) -> None:
    """Total and available memory are the container's, its idle page cache counted as available."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(MEMINFO)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "proc/self/mountinfo").write_text("30 23 0:26 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n")
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text(f"{4 * GIB}\n")
    (group / "memory.current").write_text(f"{3 * GIB}\n")
    (group / "memory.stat").write_text(f"anon 1\ninactive_file {2 * GIB}\n")
    host = cpu.read_host(root=tmp_path)
    assert (host.memory_total_bytes, host.memory_available_bytes) == (4 * GIB, 3 * GIB)
    (group / "memory.max").write_text(f"{400 * GIB}\n")
    assert cpu.read_host(root=tmp_path).memory_total_bytes == 24684092 * 1024


def test_macos_is_asked_through_sysctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc the CPU and the memory come from sysctl, and what it does not tell is not known."""
    answers = {"machdep.cpu.brand_string": "Apple M2 Pro", "hw.memsize": str(32 * GIB)}
    monkeypatch.setattr(cpu, "_sysctl", answers.get)
    host = cpu.read_host(interval_s=0.01, root=tmp_path)
    assert (host.cpu_model, host.memory_total_bytes) == ("Apple M2 Pro", 32 * GIB)
    assert (host.memory_available_bytes, host.steal_share, host.busiest, host.bf16_native) == (None, None, None, None)


def test_a_machine_that_answers_nothing_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither /proc nor sysctl answers, facts are None and never zero."""
    monkeypatch.setattr(cpu.subprocess, "run", _no_such_command)
    host = cpu.read_host(root=tmp_path)
    assert (host.cpu_model, host.memory_total_bytes, host.quota_cores) == (None, None, None)


def _no_such_command(*_: object, **__: object) -> None:
    raise FileNotFoundError("sysctl")


def test_this_machine_knows_its_cores_and_python() -> None:
    """On the machine of the tests, the host is read without root and holds what every system knows."""
    host = cpu.read_host()
    assert host.usable_cores is not None
    assert host.usable_cores >= 1
    assert host.python.startswith("3.")
    assert host.busiest is None
