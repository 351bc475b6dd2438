"""`castbench doctor` against every scripted GPU: the real command, driver library and inventory, in a child process."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from castbench.hardware.cpu import Host
from castbench.measure.diagnosis import TorchDevice, TorchFacts
from castbench.plain import to_plain
from castbench.units import GIB, MIB
from tests.nvml.library import FakeNvml, Script
from tests.nvml.models import A100, GH200, H100, L4, MIG_2G, MIG_3G, T4, Model

GOLDEN = Path(__file__).parents[1] / "golden" / "doctor"
NO_PERMISSION, DRIVER_NOT_LOADED, GPU_IS_LOST, VERSION_MISMATCH = 4, 9, 15, 18
HOST = Host(
    "gpu-box", "Ubuntu 24.04.1 LTS", "3.11.9", "AMD EPYC 7V13 64-Core Processor", logical_cores=64, affinity_cores=64,
    load_average=0.4, memory_total_bytes=512 * GIB, memory_available_bytes=480 * GIB, steal_share=0.0,
    bf16_native=False, busiest=(),
)  # fmt: skip
TORCH = TorchFacts(
    torch="2.8.0+cu128", cuda="12.8", arch_list=("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"), threads=64,
    mkl=True, onednn=True, cpu_capability="AVX2", tf32=False,
)  # fmt: skip
DOCTOR = """
import io, sys
from contextlib import redirect_stdout
from castbench.cli.app import app
from castbench.hardware import cpu
from castbench.hardware.cpu import Host
from castbench.measure import doctor
from castbench.measure.diagnosis import TorchFacts
from castbench.plain import from_plain

# The host is no part of the claim, and torch sees no GPU here: both are told, the driver's word is read.
cpu.read_host = lambda looking_s=0.0: from_plain(Host, HOST)
doctor.torch_facts = lambda: from_plain(TorchFacts, TORCH)
page = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
with redirect_stdout(page):
    try:
        app(["doctor", *OPTIONS], standalone_mode=False)
    except SystemExit as end:
        assert not end.code
page.flush()
answer = page.buffer.getvalue().decode()
"""


@dataclass(frozen=True)
class Machine:
    """A driver's script (None: no library) and the devices torch sees on top of it."""

    script: Script | None
    seen: tuple[Model, ...] = ()
    visible: str | None = None

    def torch(self) -> TorchFacts:
        """What torch says there."""
        devices = tuple(
            TorchDevice(
                index, str(model["name"]).partition(" MIG")[0], _capability(model),
                int(float(model["memory_total_bytes"] or 0)), str(model["uuid"])[4:],
            )
            for index, model in enumerate(self.seen)
        )  # fmt: skip
        return TorchFacts(**{name: getattr(TORCH, name) for name in TORCH.__slots__} | {
            "devices": devices, "visible": self.visible})  # fmt: skip


def _capability(model: Model) -> tuple[int, int]:
    """Compute capability of a model; instances are of an H100."""
    major, _, minor = str(model.get("compute_capability", "9.0")).partition(".")
    return int(major), int(minor)


def broken(code: int) -> Machine:
    """A machine whose driver does not start."""
    return Machine(Script().gpu(A100).fault("nvmlInitWithFlags", code))


MACHINES = {
    "a100": Machine(Script().gpu(A100), (A100,)),
    "a100-touched": Machine(
        Script()
        .gpu(A100, power_limit_mw=250_000, application_sm_mhz=1095, ecc=0, persistence=0, compute_mode=3,
             temperature_c=84, memory_used_bytes=31 * GIB)
        .process(4242, 30 * GIB).slowed("sw-thermal", (0, 1e6)),
        (A100,),
    ),
    "h100-mig": Machine(
        Script().gpu(H100, instances=[MIG_3G, MIG_2G]).process(4242, 5 * GIB, gpu="gpu0.mig1"),
        (MIG_3G,), str(MIG_3G["uuid"]),
    ),
    "t4": Machine(Script().gpu(T4), (T4,)),
    "l4-two": Machine(
        Script().gpu(L4).gpu(L4, uuid="GPU-5b0a7d1e-0000-4000-8000-0000000000d2", persistence=0),
        ({**L4, "uuid": "GPU-5b0a7d1e-0000-4000-8000-0000000000d2"},), "1",
    ),
    "gh200": Machine(Script().gpu(GH200), (GH200,)),
    "one-lost": Machine(Script().gpu(A100).gpu(A100, uuid="GPU-lost").fault("*", GPU_IS_LOST, gpu=1), (A100,)),
    "no-library": Machine(None),
    "no-permission": broken(NO_PERMISSION),
    "driver-not-loaded": broken(DRIVER_NOT_LOADED),
    "version-mismatch": broken(VERSION_MISMATCH),
}  # fmt: skip


def doctor(fake_nvml: FakeNvml, machine: Machine, *options: str) -> str:
    """Standard output of the command on that machine."""
    page: str = fake_nvml.run(
        machine.script, DOCTOR, HOST=to_plain(HOST), TORCH=to_plain(machine.torch()), OPTIONS=options
    )
    return page


@pytest.mark.parametrize("name", MACHINES)
def test_the_page_of_each_machine_is_the_one_that_was_read_and_kept(fake_nvml: FakeNvml, name: str) -> None:
    """What a user reads on that machine, word for word; CASTBENCH_UPDATE_GOLDEN=1 writes it anew."""
    page = doctor(fake_nvml, MACHINES[name])
    kept = GOLDEN / f"{name}.txt"
    if os.environ.get("CASTBENCH_UPDATE_GOLDEN"):
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(page, encoding="utf-8")
    assert page == kept.read_text(encoding="utf-8")


def test_the_json_says_what_the_page_says(fake_nvml: FakeNvml) -> None:
    """Settings, instances, who uses them and which device is which arrive as values."""
    values = json.loads(doctor(fake_nvml, MACHINES["h100-mig"], "--json"))
    [gpu] = values["inventory"]["gpus"]
    assert (gpu["facts"]["mig"], gpu["facts"]["power_limit_w"], gpu["energy_counter"]) == (True, 700.0, True)
    assert [part["facts"]["memory_total_bytes"] for part in values["inventory"]["instances"]] == [
        40448 * MIB, 20096 * MIB,
    ]  # fmt: skip
    assert values["inventory"]["instances"][1]["processes"] == [{"pid": 4242, "used_bytes": 5 * GIB}]
    assert values["devices"] == [{"device": "cuda:0", "uuid": MIG_3G["uuid"], "reason": None}]


def test_nothing_is_changed_by_looking(fake_nvml: FakeNvml) -> None:
    """The library has no function that sets anything; doctor comes through without one, and leaves NVML closed."""
    code = DOCTOR + "\nanswer = [control.references(), control.calls('nvmlInitWithFlags')]"
    machine = MACHINES["a100-touched"]
    answer = fake_nvml.run(machine.script, code, HOST=to_plain(HOST), TORCH=to_plain(machine.torch()), OPTIONS=[])
    assert answer == [0, 1]
