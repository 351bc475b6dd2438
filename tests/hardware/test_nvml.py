"""castbench.hardware.nvml against the test library: real ctypes calls, scripted GPUs, in a child process."""

from __future__ import annotations

from typing import Any

import pytest

from castbench.hardware.nvml import inventory
from castbench.units import GIB, MIB
from tests.nvml.library import FakeNvml, Script
from tests.nvml.models import A100, GH200, H100, L4, MIG_2G, MIG_3G, T4, Model

NOT_SUPPORTED, NO_PERMISSION, DRIVER_NOT_LOADED, TIMEOUT, GPU_IS_LOST, RESET_REQUIRED = 3, 4, 9, 10, 15, 16
VERSION_MISMATCH, UNKNOWN = 18, 999
LOST_ADVICE = "look into the kernel's log (dmesg, lines with Xid), then reset the GPU or restart the machine"
OPENED = """
from castbench.errors import HardwareError
from castbench.hardware.nvml import inventory, open_gpu
from castbench.plain import to_plain

def plain(reading):
    values = {name: getattr(reading, name) for name in reading._fields if name != "at_s"}
    values["slowdowns"] = None if reading.slowdowns is None else sorted(reading.slowdowns)
    return values

def counters():
    found = gpu.slowdown_counters()
    return None if found is None else [found.source, dict(found.seconds)]

def sentence(call, *arguments):
    try:
        return ["no error", to_plain(call(*arguments))]
    except HardwareError as error:
        return str(error)

control.at(0)
"""
READ = "gpu = open_gpu(UUID)\nanswer = plain(gpu.read())"
FACTS = "gpu = open_gpu(UUID)\nanswer = to_plain(gpu.facts)"


def ask(fake_nvml: FakeNvml, script: Script | Model, code: str, uuid: Any = None) -> Any:
    """What code answers about a scripted GPU; UUID is that of the first one unless given."""
    script = script if isinstance(script, Script) else Script().gpu(script)
    return fake_nvml.run(script, OPENED + code, UUID=uuid or script.settings.get("gpu0.uuid"))


def test_everything_an_a100_says_arrives_in_si_units(fake_nvml: FakeNvml) -> None:
    """Facts and readings of a whole GPU, each in the unit of its name."""
    code = """
gpu = open_gpu(UUID)
control.at(4)
answer = [to_plain(gpu.facts), plain(gpu.read()), gpu.power_w(), gpu.energy_j(), gpu.memory_used_bytes(),
          to_plain(gpu.processes())]
"""
    script = Script().gpu(A100, power_w=310.5, utilization_percent=97, memory_used_bytes=3 * GIB).process(42, 2 * GIB)
    facts, reading, power_w, energy_j, used, processes = ask(fake_nvml, script, code)
    assert facts == {
        "index": 0, "uuid": A100["uuid"], "name": "NVIDIA A100-SXM4-80GB", "parent_uuid": None,
        "memory_total_bytes": 80 * GIB, "compute_capability": [8, 0], "ecc": True, "mig": False,
        "compute_mode": "default", "persistence": True, "power_limit_w": 400.0, "power_default_w": 400.0,
        "sm_clock_max_hz": 1.41e9, "clocks_locked": False, "energy_scope": "gpu",
        "driver": "570.133.20", "cuda": "12.8",
    }  # fmt: skip
    assert reading == {
        "sm_clock_hz": 1.41e9, "memory_clock_hz": 1.593e9, "temperature_c": 34.0, "power_w": 310.5,
        "utilization": 0.97, "memory_used_bytes": 3 * GIB, "slowdowns": [], "clocks_held": False,
    }  # fmt: skip
    assert (power_w, energy_j, used) == (310.5, 9_000_000 + 4 * 310.5, 3 * GIB)
    assert processes == [{"pid": 42, "used_bytes": 2 * GIB}]


def test_a_reading_is_stamped_with_the_monotonic_clock(fake_nvml: FakeNvml) -> None:
    """at_s lies between two looks at time.monotonic()."""
    code = """
import time
gpu = open_gpu(UUID)
before = time.monotonic()
answer = before <= gpu.read().at_s <= time.monotonic()
"""
    assert ask(fake_nvml, A100, code) is True


def test_the_reserved_memory_is_not_used_memory(fake_nvml: FakeNvml) -> None:
    """By memory v2 the driver's own share is not counted; a driver without it counts both together."""
    gpu = Script().gpu(A100, memory_used_bytes=5 * GIB)
    assert ask(fake_nvml, gpu, READ)["memory_used_bytes"] == 5 * GIB
    old = fake_nvml.without("nvmlDeviceGetMemoryInfo_v2")
    assert ask(old, gpu, READ)["memory_used_bytes"] == 5 * GIB + 582 * MIB


def test_an_old_driver_is_asked_by_the_old_names(fake_nvml: FakeNvml) -> None:
    """Without the calls of newer drivers every reading comes from their predecessors, and nothing is lost."""
    old = fake_nvml.without(
        "nvmlDeviceGetTemperatureV", "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetFieldValues",
        "nvmlDeviceGetComputeRunningProcesses_v3",
    )  # fmt: skip
    code = """
gpu = open_gpu(UUID)
control.at(3)
answer = [plain(gpu.read()), counters(), to_plain(gpu.processes()), len(inventory().gpus)]
"""
    script = Script().gpu(A100, power_w=200).slowed("sw-thermal", (1, 5)).process(42, None)
    reading, slowed, processes, listed = ask(old, script, code)
    assert None not in reading.values()
    assert reading["slowdowns"] == ["sw-thermal"]
    assert (reading["temperature_c"], reading["power_w"]) == (34.0, 200.0)
    assert slowed == ["violation-status", {"power-cap": 100.0, "sw-thermal": 102.0}]
    assert processes == [{"pid": 42, "used_bytes": None}]
    assert listed == 1


@pytest.mark.parametrize(
    ("symbol", "reading"),
    [
        ("nvmlDeviceGetClockInfo", "sm_clock_hz"),
        ("nvmlDeviceGetUtilizationRates", "utilization"),
        ("nvmlDeviceGetMemoryInfo", "memory_used_bytes"),
    ],
)
def test_a_function_the_driver_lacks_costs_its_reading_only(fake_nvml: FakeNvml, symbol: str, reading: str) -> None:
    """Without any way to a reading it is None; the temperature is still read."""
    hidden = (symbol, "nvmlDeviceGetMemoryInfo_v2") if symbol == "nvmlDeviceGetMemoryInfo" else (symbol,)
    found = ask(fake_nvml.without(*hidden), A100, READ)
    assert found[reading] is None
    assert found["temperature_c"] == 34.0


READINGS: tuple[tuple[dict[str, str | float | None], str], ...] = (
    ({"clock_sm_mhz": None}, "sm_clock_hz"),
    ({"clock_memory_mhz": None}, "memory_clock_hz"),
    ({"temperature_c": None}, "temperature_c"),
    ({"power_w": None}, "power_w"),
    ({"utilization_percent": None}, "utilization"),
    ({"memory_total_bytes": None}, "memory_used_bytes"),
    ({"reasons": None}, "slowdowns"),
)


@pytest.mark.parametrize(("missing", "reading"), READINGS, ids=[reading for _, reading in READINGS])
def test_what_a_gpu_does_not_support_is_none_and_asked_once(
    fake_nvml: FakeNvml, missing: dict[str, str | float | None], reading: str
) -> None:
    """NOT_SUPPORTED leaves that reading None, never 0, and the others as they are; later looks do not ask again."""
    code = """
gpu = open_gpu(UUID)
first = plain(gpu.read())
calls = control.calls()
gpu.read()
second = control.calls() - calls
for _ in range(10):
    gpu.read()
answer = [first, second, (control.calls() - calls - second) / 10]
"""
    found, calls, later_calls = ask(fake_nvml, Script().gpu(A100, **missing), code)
    together = {"slowdowns", "clocks_held"} if reading == "slowdowns" else {reading}
    assert {name for name, value in found.items() if value is None} == together
    assert calls == later_calls
    assert calls == 6


def test_a_look_asks_the_driver_seven_times(fake_nvml: FakeNvml) -> None:
    """Read every 20 ms, a look must stay cheap: one call per reading."""
    code = """
gpu = open_gpu(UUID)
calls = control.calls()
gpu.read()
answer = control.calls() - calls
"""
    assert ask(fake_nvml, A100, code) == 7


def test_a_passing_trouble_is_none_once(fake_nvml: FakeNvml) -> None:
    """A call that times out, or fails for no reason the driver knows, gives None and is asked again."""
    script = Script().gpu(A100)
    for code_number in (TIMEOUT, UNKNOWN):
        failing = script.fault("nvmlDeviceGetTemperatureV", code_number)
        code = f"""
gpu = open_gpu(UUID)
first = gpu.read().temperature_c
control.rewrite({script.text()!r})
answer = [first, gpu.read().temperature_c, control.calls("nvmlDeviceGetTemperature")]
"""
        assert ask(fake_nvml, failing, code) == [None, 34.0, 0]


def test_no_permission_for_one_reading_costs_that_reading(fake_nvml: FakeNvml) -> None:
    """A user who may not list processes still measures; the list is not known, which is not "nobody"."""
    script = Script().gpu(A100).fault("nvmlDeviceGetComputeRunningProcesses_v3", NO_PERMISSION)
    script = script.fault("nvmlDeviceGetComputeRunningProcesses_v2", NO_PERMISSION)
    code = "gpu = open_gpu(UUID)\nanswer = [gpu.processes(), gpu.read().power_w]"
    assert ask(fake_nvml, script, code) == [None, 62.0]


@pytest.mark.parametrize("code_number", [GPU_IS_LOST, RESET_REQUIRED])
@pytest.mark.parametrize("call", ["read", "power_w", "energy_j", "slowdown_counters", "memory_used_bytes", "processes"])
def test_a_gpu_lost_in_the_middle_is_one_sentence(fake_nvml: FakeNvml, call: str, code_number: int) -> None:
    """From any call the user hears which GPU was lost and what to do; closing afterwards is no error."""
    code = f"""
gpu = open_gpu(UUID)
control.rewrite({Script().gpu(A100).fault("*", code_number, gpu=0).text()!r})
answer = sentence(gpu.{call})
gpu.close()
"""
    said = ask(fake_nvml, A100, code)
    assert said.startswith(f"NVIDIA A100-SXM4-80GB ({A100['uuid']}) was lost (")
    assert said.endswith(LOST_ADVICE)


def test_a_gpu_lost_while_it_is_opened_is_a_sentence_and_leaves_nothing_open(fake_nvml: FakeNvml) -> None:
    """Whichever call loses it, the error is castbench's, and NVML is shut down as often as it was started."""
    healthy = Script().gpu(A100)
    scripts = [healthy.fault("*", GPU_IS_LOST, gpu=0, from_call=n).text() for n in range(1, 31)]
    code = f"""
answer = []
for script in {scripts!r}:
    control.rewrite(script)
    try:
        open_gpu(UUID).close()
    except HardwareError as error:
        answer.append([str(error), control.references()])
"""
    said = ask(fake_nvml, healthy, code)
    assert 15 < len(said) < 30
    for sentence, references in said:
        assert A100["uuid"] in sentence
        assert "GPU is lost" in sentence
        assert references == 0


ABSENCES = (
    (DRIVER_NOT_LOADED,
     "the NVIDIA driver is installed but not loaded; in a container, start it with the GPUs passed through"),
    (NO_PERMISSION, "this user has no permission to use the NVIDIA driver (/dev/nvidia*)"),
    (VERSION_MISMATCH, "the NVIDIA driver's library and kernel module differ in version; reboot after a driver update"),
    (UNKNOWN, "the NVIDIA driver does not answer: Unknown Error"),
)  # fmt: skip


@pytest.mark.parametrize(("code_number", "said"), ABSENCES)
def test_a_driver_that_cannot_start_is_the_same_sentence_everywhere(
    fake_nvml: FakeNvml, code_number: int, said: str
) -> None:
    """The inventory gives it as its reason, opening a GPU as a HardwareError."""
    script = Script().gpu(A100).fault("nvmlInitWithFlags", code_number)
    code = "answer = [inventory().reason, inventory().installed, len(inventory().gpus), sentence(open_gpu, UUID)]"
    assert ask(fake_nvml, script, code) == [said, True, 0, said]


def test_a_machine_without_the_library_says_so(fake_nvml: FakeNvml) -> None:
    """No libnvidia-ml at all: a reason, and no GPU."""
    code = OPENED.replace("control.at(0)", "") + (
        "answer = [inventory().reason, sentence(open_gpu, 'GPU-x'), inventory().installed]"
    )
    said = "this machine has no NVIDIA driver (libnvidia-ml was not found)"
    assert fake_nvml.run(None, code) == [said, said, False]


def test_a_uuid_that_is_not_there_is_a_sentence(fake_nvml: FakeNvml) -> None:
    """It names the UUID and where to look, and leaves nothing open."""
    code = "answer = [sentence(open_gpu, 'GPU-nowhere'), control.references()]"
    said, references = ask(fake_nvml, A100, code)
    assert said == "the NVIDIA driver cannot open GPU-nowhere (Not Found); `castbench doctor` says what it lists"
    assert references == 0


def test_two_users_of_nvml_do_not_end_each_other(fake_nvml: FakeNvml) -> None:
    """Starts and ends are counted: a meter still reads after an inventory and after another meter was closed."""
    code = """
first, second = open_gpu(UUID), open_gpu(UUID)
second.close()
inventory()
alive = first.read().temperature_c
first.close()
answer = [alive, control.references()]
"""
    assert ask(fake_nvml, A100, code) == [34.0, 0]


def test_slowdown_is_counted_in_seconds_by_cause(fake_nvml: FakeNvml) -> None:
    """Episodes of every cause add their length to its counter, and show as reasons while they last."""
    causes = ("power-cap", "sw-thermal", "hw-thermal", "power-brake")
    script = Script().gpu(A100)
    for place, cause in enumerate(causes):
        script = script.slowed(cause, (10 * place + 1, 10 * place + 3.5 + place))
    code = """
gpu = open_gpu(UUID)
seen = []
for place in range(4):
    control.at(10 * place + 2)
    seen.append(plain(gpu.read())["slowdowns"])
control.at(40)
answer = [seen, counters()]
"""
    seen, (source, seconds) = ask(fake_nvml, script, code)
    assert seen == [[cause] for cause in causes]
    assert source == "field-values"
    assert seconds == {cause: pytest.approx(102.5 + place, abs=1e-9) for place, cause in enumerate(causes)}


def test_fields_the_driver_does_not_know_are_left_out(fake_nvml: FakeNvml) -> None:
    """A driver without the newer fields counts by the older two, and the missing causes are absent, not 0."""
    code = "gpu = open_gpu(UUID)\nanswer = counters()"
    assert ask(fake_nvml, T4, code) == ["field-values", {"power-cap": 100.0, "sw-thermal": 100.0}]


def test_without_fields_the_violation_status_counts(fake_nvml: FakeNvml) -> None:
    """Where every field is refused, the older call is asked; without that too there are no counters."""
    refused = {f"field.{number}": NOT_SUPPORTED for number in (74, 75, 269, 270, 271)}
    code = "gpu = open_gpu(UUID)\nanswer = counters()"
    found = ask(fake_nvml, Script().gpu(A100, **refused), code)
    assert found == ["violation-status", {"power-cap": 100.0, "sw-thermal": 100.0}]
    assert ask(fake_nvml, Script().gpu(A100, **refused, violations=None), code) is None


def test_a_gpu_lost_inside_a_field_is_lost(fake_nvml: FakeNvml) -> None:
    """The code of a single field counts like that of a call."""
    code = "gpu = open_gpu(UUID)\nanswer = sentence(gpu.slowdown_counters)"
    assert "was lost" in ask(fake_nvml, Script().gpu(A100, **{"field.270": GPU_IS_LOST}), code)


@pytest.mark.parametrize(
    ("reasons", "slowdowns", "held"),
    [
        (0x1, [], False),
        (0x2, [], True),
        (0x8, ["other-hw"], False),
        (0x48, ["hw-thermal"], False),
        (0x88, ["power-brake"], False),
        (0x24, ["power-cap", "sw-thermal"], False),
        (0x200, ["other-hw"], False),
        (0x110, [], False),
    ],
)
def test_event_reasons_are_told_by_their_bits(
    fake_nvml: FakeNvml, reasons: int, slowdowns: list[str], held: bool
) -> None:
    """Idle and display settings slow nothing; a hardware slowdown with a named cause is that cause and no other."""
    found = ask(fake_nvml, Script().gpu(A100, reasons=reasons), READ)
    assert (found["slowdowns"], found["clocks_held"]) == (slowdowns, held)


@pytest.mark.parametrize(
    ("differences", "locked"),
    [
        ({}, False),
        ({"application_sm_mhz": 1095}, True),
        ({"application_sm_mhz": 1410}, False),
        ({"reasons": 2}, True),
        ({"reasons": 2, "application_sm_mhz": None}, True),
        ({"application_sm_mhz": None}, False),
        ({"reasons": None}, False),
        ({"reasons": None, "default_application_sm_mhz": None}, None),
    ],
)
def test_locked_clocks_are_told_from_shipped_ones(
    fake_nvml: FakeNvml, differences: dict[str, Any], locked: bool | None
) -> None:
    """An application clock below the maximum counts only where somebody changed it; a limit in force always does."""
    assert ask(fake_nvml, Script().gpu(A100, **differences), FACTS)["clocks_locked"] is locked


def test_power_is_the_shortest_reading_the_driver_has(fake_nvml: FakeNvml) -> None:
    """On a Hopper, whose plain power call is a mean over a second, the instantaneous field is read."""
    script = Script().gpu(H100, power_w="0:100,10:500")
    code = "gpu = open_gpu(UUID)\ncontrol.at(10.2)\nanswer = gpu.power_w()"
    assert ask(fake_nvml, script, code) == 500.0
    without = script.with_("gpu0.field.186", NOT_SUPPORTED)
    assert ask(fake_nvml, without, code) == pytest.approx(180.0)


def test_the_power_of_an_a100_is_a_look_at_25_of_100_ms(fake_nvml: FakeNvml) -> None:
    """A burst of 70 ms between two looks is in the energy counter and not in the power: sampling must be told apart."""
    script = Script().gpu(A100, power_w="0:100,0.1:500,0.17:100", energy_base_j=0)
    code = """
gpu = open_gpu(UUID)
answer = []
for t in (0.12, 0.2, 0.3):
    control.at(t)
    answer.append([gpu.power_w(), gpu.energy_j()])
"""
    assert ask(fake_nvml, script, code) == [[100.0, 10.0], [100.0, 48.0], [100.0, 58.0]]


def test_a_grace_hopper_is_measured_as_a_module(fake_nvml: FakeNvml) -> None:
    """Counter and power both cover the module, CPU included, and say so; an H100 says GPU."""
    code = """
gpu = open_gpu(UUID)
start = gpu.energy_j()
control.at(10)
answer = [gpu.facts.energy_scope, gpu.power_w(), gpu.energy_j() - start]
"""
    assert ask(fake_nvml, GH200, code) == ["module", 180.0, 1800.0]
    assert ask(fake_nvml, H100, code) == ["gpu", 71.0, 710.0]


def test_a_grace_hopper_under_a_driver_without_scopes_has_no_power_of_another_scope(fake_nvml: FakeNvml) -> None:
    """Its counter is the module's, so that the GPU's power alone would not belong beside it."""
    script = Script().gpu(GH200, **{"field.186": NOT_SUPPORTED, "field.191": NOT_SUPPORTED})
    code = "gpu = open_gpu(UUID)\nanswer = [gpu.facts.energy_scope, gpu.power_w(), gpu.energy_j()]"
    assert ask(fake_nvml, script, code) == ["module", None, 9_000_000.0]


def test_a_t4_without_a_counter_has_power_and_no_energy(fake_nvml: FakeNvml) -> None:
    """No energy counter: None, while power is read."""
    assert ask(fake_nvml, T4, "gpu = open_gpu(UUID)\nanswer = [gpu.energy_j(), gpu.power_w()]") == [None, 27.0]


def test_a_mig_instance_is_itself_with_the_clocks_of_its_gpu(fake_nvml: FakeNvml) -> None:
    """Memory, name and processes are its own, clocks and slowdowns its GPU's; power, energy and load are not there."""
    script = Script().gpu(A100).gpu(H100, instances=[MIG_3G, MIG_2G]).slowed("power-cap", (0, 9), gpu=1)
    script = script.process(7, GIB, gpu="gpu1.mig1").process(8, GIB, gpu="gpu1")
    code = """
gpu = open_gpu(UUID)
control.at(2)
answer = [to_plain(gpu.facts), plain(gpu.read()), gpu.energy_j(), counters()[1]["power-cap"], to_plain(gpu.processes())]
"""
    facts, reading, energy_j, capped_s, processes = ask(fake_nvml, script, code, MIG_2G["uuid"])
    assert (facts["uuid"], facts["parent_uuid"], facts["index"]) == (MIG_2G["uuid"], H100["uuid"], 1)
    assert (facts["name"], facts["memory_total_bytes"]) == (MIG_2G["name"], MIG_2G["memory_total_bytes"])
    assert (facts["mig"], facts["energy_scope"], facts["compute_capability"]) == (True, None, [9, 0])
    assert (reading["memory_used_bytes"], reading["sm_clock_hz"]) == (25 * MIB, 1.98e9)
    assert reading["slowdowns"] == ["power-cap"]
    assert (reading["power_w"], reading["utilization"], energy_j) == (None, None, None)
    assert capped_s == 102.0
    assert [process["pid"] for process in processes] == [7]


def test_the_inventory_lists_gpus_and_their_instances(fake_nvml: FakeNvml) -> None:
    """Every model with what it is now, instances apart, and driver and CUDA version once."""
    script = Script().gpu(T4, temperature_c=83).gpu(H100, instances=[MIG_3G, MIG_2G]).gpu(L4, memory_used_bytes=GIB)
    script = script.process(42, GIB, gpu="gpu2").slowed("hw-thermal", (0, 9))
    found = ask(fake_nvml, script, "control.at(1)\nanswer = [to_plain(inventory()), control.references()]")
    listed, references = found
    assert [gpu["facts"]["name"] for gpu in listed["gpus"]] == ["Tesla T4", "NVIDIA H100 80GB HBM3", "NVIDIA L4"]
    assert [part["facts"]["uuid"] for part in listed["instances"]] == [MIG_3G["uuid"], MIG_2G["uuid"]]
    t4, h100, l4 = listed["gpus"]
    assert (t4["temperature_c"], t4["slowdowns"], t4["facts"]["mig"]) == (83.0, ["hw-thermal"], None)
    assert h100["facts"]["mig"] is True
    assert (l4["memory_used_bytes"], l4["processes"]) == (GIB, [{"pid": 42, "used_bytes": GIB}])
    assert [gpu["energy_counter"] for gpu in (*listed["gpus"], *listed["instances"])] == [
        False,
        True,
        True,
        False,
        False,
    ]
    assert (listed["driver"], listed["cuda"], listed["reason"]) == ("570.133.20", "12.8", None)
    assert references == 0


def test_a_lost_gpu_does_not_hide_the_others(fake_nvml: FakeNvml) -> None:
    """A GPU that fell off the bus, at its handle or later, is named, and the others are listed with their index."""
    for from_call in (1, 5):
        script = Script().gpu(A100).gpu(H100).gpu(L4).fault("*", GPU_IS_LOST, gpu=1, from_call=from_call)
        found = ask(fake_nvml, script, "answer = to_plain(inventory())")
        assert [gpu["facts"]["index"] for gpu in found["gpus"]] == [0, 2]
        [sentence] = found["unreadable"]
        assert sentence == "GPU 1 is listed by the driver but does not answer: GPU is lost"
        assert found["forbidden"] == []


def test_a_forbidden_gpu_is_told_from_a_broken_one(fake_nvml: FakeNvml) -> None:
    """A GPU of the machine that this container was not given is no defect."""
    script = Script().gpu(A100).gpu(H100).fault("nvmlDeviceGetHandleByIndex_v2", NO_PERMISSION, gpu=1)
    found = ask(fake_nvml, script, "answer = to_plain(inventory())")
    assert len(found["gpus"]) == 1
    assert found["forbidden"] == ["GPU 1 may not be used by this user or container: Insufficient Permissions"]
    assert found["unreadable"] == []


def test_a_driver_that_fails_while_listing_is_a_reason(fake_nvml: FakeNvml) -> None:
    """An error after the start ends in a sentence too, with NVML shut down; no GPU at all has a reason as well."""
    code = "answer = [inventory().reason, control.references()]"
    failing = Script().gpu(A100).fault("nvmlDeviceGetCount_v2", TIMEOUT)
    assert ask(fake_nvml, failing, code) == ["the NVIDIA driver does not answer: Timeout", 0]
    assert ask(fake_nvml, Script(), code) == ["the NVIDIA driver is loaded but lists no GPU", 0]


def test_an_old_pynvml_without_a_call_is_like_an_old_driver(fake_nvml: FakeNvml) -> None:
    """A function that the installed pynvml does not wrap yet is passed over."""
    code = """
import pynvml
del pynvml.nvmlDeviceGetTemperatureV, pynvml.nvmlDeviceGetCurrentClocksEventReasons
gpu = open_gpu(UUID)
answer = plain(gpu.read())
"""
    found = ask(fake_nvml, A100, code)
    assert (found["temperature_c"], found["slowdowns"]) == (34.0, [])


def test_the_real_library_answers_with_gpus_or_a_reason() -> None:
    """On the machine of the tests, whatever it is, the call returns: with GPUs, or with why there are none."""
    found = inventory()
    assert bool(found.gpus) != bool(found.reason) or found.unreadable or found.forbidden
