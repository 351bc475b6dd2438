from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.hardware.rapl import RaplMeter, open_rapl

RANGE_UJ = 262_143_328_850


def zone(root: Path, name: str, label: str, uj: int = 0) -> Path:
    """A zone of the powercap tree."""
    folder = root / "sys/class/powercap" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{label}\n")
    (folder / "energy_uj").write_text(f"{uj}\n")
    (folder / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    return folder


def meter_of(root: Path) -> RaplMeter:
    """The meter, which has to be there."""
    access = open_rapl(root)
    assert access.meter is not None, access.reason
    assert access.reason is None
    return access.meter


def test_packages_are_added_and_nothing_is_added_twice(tmp_path: Path) -> None:
    """Both sockets count, however their dies are named; parts of a package, dram, psys and the mmio twin do not."""
    counted = [zone(tmp_path, "intel-rapl:0", "package-0"), zone(tmp_path, "intel-rapl:1", "package-1-die-1")]
    others = [
        zone(tmp_path, "intel-rapl:0:0", "core"), zone(tmp_path, "intel-rapl:0:1", "dram"),
        zone(tmp_path, "intel-rapl:2", "psys"), zone(tmp_path, "intel-rapl-mmio:0", "package-0"),
        zone(tmp_path, "intel-rapl:1:0", "package-like"),
    ]  # fmt: skip
    meter = meter_of(tmp_path)
    assert meter.energy_j() == 0.0
    for folder in (*counted, *others):
        (folder / "energy_uj").write_text("3000000\n")
    assert meter.energy_j() == pytest.approx(6.0)
    assert (meter.source, meter.scope, meter.power_w()) == ("rapl", "cpu-package", None)


@given(rises=st.lists(st.integers(0, RANGE_UJ - 1), min_size=1, max_size=20), start=st.integers(0, RANGE_UJ - 1))
def test_a_counter_that_begins_again_loses_nothing(
    tmp_path_factory: pytest.TempPathFactory, rises: list[int], start: int
) -> None:
    """Whatever is used between readings, short of one whole range, comes out, wherever the counter wraps around."""
    root = tmp_path_factory.mktemp("rapl")
    package = zone(root, "intel-rapl:0", "package-0", start)
    meter, raw = meter_of(root), start
    meter.energy_j()
    used = 0
    for rise in rises:
        used += rise
        raw = (raw + rise) % RANGE_UJ
        (package / "energy_uj").write_text(str(raw))
        assert meter.energy_j() == pytest.approx(used * 1e-6)


def test_a_failing_reading_is_none_and_loses_no_energy(tmp_path: Path) -> None:
    """A socket that does not answer once makes the sum unknown, not smaller, and what it used meanwhile is counted."""
    package = zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    zone(tmp_path, "intel-rapl:1", "package-1", 5)
    meter = meter_of(tmp_path)
    assert meter.energy_j() == 0.0
    (package / "energy_uj").write_text("")
    assert meter.energy_j() is None
    (package / "energy_uj").write_text("9000000")
    assert meter.energy_j() == pytest.approx(8.0)


def test_no_packages_is_a_reason(tmp_path: Path) -> None:
    """Without the folder, or with psys alone, there is no meter and a sentence says what hides it."""
    assert open_rapl(tmp_path).meter is None
    zone(tmp_path, "intel-rapl:0", "psys")
    access = open_rapl(tmp_path)
    assert access.meter is None
    assert "virtual machines and containers hide it" in (access.reason or "")


def test_a_forbidden_counter_says_what_a_careful_person_would_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only root may read, the sentence names the files, the command and the risk; no part of a sum is given."""
    for number in (0, 1):
        zone(tmp_path, f"intel-rapl:{number}", f"package-{number}")
    read_text = Path.read_text

    def guarded(path: Path, *args: str, **kwargs: str) -> str:
        if path.name == "energy_uj" and path.parent.name == "intel-rapl:1":
            raise PermissionError(13, "Permission denied", str(path))
        return read_text(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", guarded)
    access = open_rapl(tmp_path)
    assert access.meter is None
    reason = access.reason or ""
    assert "readable only by root" in reason
    assert "sudo chmod a+r" in reason
    assert "CVE-2020-8694" in reason
    assert all(str(tmp_path / f"sys/class/powercap/intel-rapl:{n}/energy_uj") in reason for n in (0, 1))


@pytest.mark.parametrize("range_text", ["0\n", "\n"])
def test_a_counter_without_a_range_is_not_used(tmp_path: Path, range_text: str) -> None:
    """Without a range, a return to zero could not be made good: no meter, with the place in the reason."""
    package = zone(tmp_path, "intel-rapl:0", "package-0")
    (package / "max_energy_range_uj").write_text(range_text)
    access = open_rapl(tmp_path)
    assert access.meter is None
    assert "intel-rapl:0" in (access.reason or "")
