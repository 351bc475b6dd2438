from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.nvml import library
from tests.nvml.library import SOURCE, FakeNvml, Script, build
from tests.nvml.models import A100, H100, MIG_2G, MIG_3G

HANDLE = "import pynvml as n\nn.nvmlInit()\nh = n.nvmlDeviceGetHandleByIndex(0)\n"
RAMP = "0:100,2:300,5:100"


def ask(fake_nvml: FakeNvml, script: Script, code: str) -> object:
    """What code answers that has the first GPU's handle `h` of pynvml `n`."""
    return fake_nvml.run(script, HANDLE + code)


def test_the_energy_counter_is_the_integral_of_the_power(fake_nvml: FakeNvml) -> None:
    """Two seconds at 100 W, three at 300 W and one at 100 W are 1200 J above the base."""
    script = Script().gpu(A100, power_w=RAMP, energy_period_s=None, energy_base_j=7)
    code = "control.at(6)\nanswer = n.nvmlDeviceGetTotalEnergyConsumption(h)"
    assert ask(fake_nvml, script, code) == 1_207_000


@pytest.mark.parametrize(("period_s", "steps"), [(0.02, 50), (0.1, 10)])
def test_the_energy_counter_steps(fake_nvml: FakeNvml, period_s: float, steps: int) -> None:
    """Read every 5 ms for a second, a counter of that period shows as many new values."""
    script = Script().gpu(A100, power_w=200, energy_period_s=period_s, energy_phase_s=0.003)
    code = """
values = []
for k in range(201):
    control.at(1 + k * 0.005)
    values.append(n.nvmlDeviceGetTotalEnergyConsumption(h))
answer = [len(set(values)) - 1, values[-1] - values[0]]
"""
    assert ask(fake_nvml, script, code) == [steps, 200_000]


def test_the_power_reading_sees_a_quarter_of_the_time(fake_nvml: FakeNvml) -> None:
    """A burst between the sensor's 25 ms looks stays unseen; the energy counter has it."""
    script = Script().gpu(A100, power_w="0:100,0.1:500,0.17:100", energy_period_s=0.1)
    code = """
seen = []
for t in (0.09, 0.15, 0.18, 0.25, 0.35):
    control.at(t)
    seen.append(n.nvmlDeviceGetPowerUsage(h))
answer = [seen, n.nvmlDeviceGetTotalEnergyConsumption(h) - 9_000_000_000]
"""
    assert ask(fake_nvml, script, code) == [[100_000] * 5, 58_000]


def test_power_and_time_are_steered_from_inside(fake_nvml: FakeNvml) -> None:
    """What the process under test sets holds from then on, and the past is kept, beyond any number of changes."""
    code = """
for second in range(3000):
    control.at(second)
    control.watts(0, 400 if second % 2 else 200)
control.at(3000)
answer = n.nvmlDeviceGetTotalEnergyConsumption(h) - 9_000_000_000
"""
    assert ask(fake_nvml, Script().gpu(A100, energy_period_s=None), code) == 900_000_000


def test_a_script_that_changes_while_it_runs_keeps_the_past(fake_nvml: FakeNvml) -> None:
    """New readings and faults hold at once; the energy of the time before stays in the counter."""
    script = Script().gpu(A100, power_w=RAMP, energy_period_s=None, energy_base_j=0)
    later = script.with_("gpu0.power_w", 50).with_("gpu0.temperature_c", 88).fault("nvmlDeviceGetName", 15)
    code = f"""
control.at(4)
before = n.nvmlDeviceGetTotalEnergyConsumption(h)
control.rewrite({later.text()!r})
after = n.nvmlDeviceGetTotalEnergyConsumption(h)
control.at(14)
try:
    n.nvmlDeviceGetName(h)
except n.NVMLError_GpuIsLost:
    answer = [before, after, n.nvmlDeviceGetTotalEnergyConsumption(h), n.nvmlDeviceGetTemperature(h, 0)]
"""
    assert ask(fake_nvml, script, code) == [800_000, 800_000, 1_300_000, 88]


def test_faults_start_at_their_call_and_stay_on_their_gpu(fake_nvml: FakeNvml) -> None:
    """From the third call on one GPU is lost, whatever is called; the other answers."""
    script = Script().gpu(A100).gpu(H100).fault("*", 15, gpu=0, from_call=3)
    code = """
other, found = n.nvmlDeviceGetHandleByIndex(1), []
for call in (n.nvmlDeviceGetName, n.nvmlDeviceGetUUID, n.nvmlDeviceGetPowerUsage):
    try:
        call(h)
        found.append(0)
    except n.NVMLError as error:
        found.append(error.value)
answer = [found, n.nvmlDeviceGetName(other)]
"""
    assert ask(fake_nvml, script, code) == [[0, 15, 15], "NVIDIA H100 80GB HBM3"]


def test_slowdowns_count_while_they_last(fake_nvml: FakeNvml) -> None:
    """An episode shows in the event reasons while it lasts, and in the counters, in ns, for good."""
    script = Script().gpu(A100, **{"slow.base_s": 0}).slowed("sw-thermal", (1, 3), (5, 6))
    code = """
answer = []
for t in (0, 2, 4, 7):
    control.at(t)
    [field] = n.nvmlDeviceGetFieldValues(h, [269])
    answer.append([n.nvmlDeviceGetCurrentClocksEventReasons(h), field.value.ullVal])
"""
    assert ask(fake_nvml, script, code) == [[0, 0], [0x20, 10**9], [0, 2 * 10**9], [0, 3 * 10**9]]


def test_processes_come_and_go(fake_nvml: FakeNvml) -> None:
    """A process is listed while it is there, and its unknown memory is pynvml's None."""
    script = Script().gpu(A100).process(42, 1000, since=1, until=2).process(43, None, since=1.5)
    code = """
answer = []
for t in (0, 1, 1.5, 2):
    control.at(t)
    answer.append([[p.pid, p.usedGpuMemory] for p in n.nvmlDeviceGetComputeRunningProcesses(h)])
"""
    assert ask(fake_nvml, script, code) == [[], [[42, 1000]], [[42, 1000], [43, None]], [[43, None]]]


def test_instances_have_handles_and_uuids_of_their_own(fake_nvml: FakeNvml) -> None:
    """A GPU with MIG on lists its instances and tells no load; each leads back to it, and has no power reading."""
    code = """
answer = []
try:
    n.nvmlDeviceGetUtilizationRates(h)
except n.NVMLError_NotSupported:
    answer.append("no load")
for place in range(2):
    part = n.nvmlDeviceGetMigDeviceHandleByIndex(h, place)
    parent = n.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(part)
    try:
        n.nvmlDeviceGetPowerUsage(part)
    except n.NVMLError_NotSupported:
        answer.append([n.nvmlDeviceGetUUID(part), n.nvmlDeviceGetUUID(parent), n.nvmlDeviceGetMemoryInfo(part).total])
"""
    parts = [[part["uuid"], H100["uuid"], part["memory_total_bytes"]] for part in (MIG_3G, MIG_2G)]
    assert ask(fake_nvml, Script().gpu(H100, instances=[MIG_3G, MIG_2G]), code) == ["no load", *parts]


def test_a_struct_of_another_version_is_refused(fake_nvml: FakeNvml) -> None:
    """As NVIDIA's library does, memory v2 asks for its version tag."""
    code = """
try:
    n.nvmlDeviceGetMemoryInfo(h, 1)
except n.NVMLError_ArgumentVersionMismatch:
    answer = n.nvmlDeviceGetMemoryInfo(h, n.nvmlMemory_v2).reserved
"""
    assert ask(fake_nvml, Script().gpu(A100), code) == A100["memory_reserved_bytes"]


def test_an_old_driver_lacks_the_symbol(fake_nvml: FakeNvml) -> None:
    """A hidden function is not found by the loader, as on a driver from before it."""
    code = """
try:
    n.nvmlDeviceGetTemperatureV(h, 0)
except n.NVMLError_FunctionNotFound:
    answer = n.nvmlDeviceGetTemperature(h, 0)
"""
    assert ask(fake_nvml.without("nvmlDeviceGetTemperatureV"), Script().gpu(A100), code) == 34


@pytest.mark.parametrize(
    ("ours", "wrong"),
    [
        ("PowerUsage(nvmlDevice_t device, unsigned int *", "PowerUsage(nvmlDevice_t device, long *"),
        ("nvmlReturn_t nvmlDeviceGetPowerUsage(", "nvmlReturn_t nvmlDeviceGetPowerUsages("),
        ("memory->reserved =", "memory->reservd ="),
    ],
    ids=["argument type", "function name", "struct member"],
)  # fmt: skip
def test_nvidia_s_header_is_what_the_library_is_held_to(
    fake_nvml: FakeNvml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ours: str, wrong: str
) -> None:
    """A prototype, a name or a member that differs from nvml.h does not compile."""
    text = SOURCE.read_text()
    assert text.count(ours) == 1
    monkeypatch.setattr(library, "SOURCE", tmp_path / "changed.c")
    library.SOURCE.write_text(text.replace(ours, wrong))
    with pytest.raises(subprocess.CalledProcessError):
        build(tmp_path / "build")
