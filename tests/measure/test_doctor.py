from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from castbench.hardware.cpu import Host
from castbench.hardware.gpu import Gpu, GpuInventory, GpuProcess, SlowdownCause
from castbench.hardware.processes import Process
from castbench.measure import doctor
from castbench.measure.diagnosis import TorchDevice, TorchFacts, device_identities, device_problem, diagnose
from castbench.measure.doctor import parse_answer, torch_facts
from castbench.measure.finding import Finding, Severity
from castbench.plain import to_plain
from castbench.records import GpuFacts
from castbench.units import GIB, MIB

CU126 = ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")
HOST = Host(
    "box", "Ubuntu 24.04", "3.11.9", "AMD EPYC 7V13", logical_cores=24, affinity_cores=24, load_average=0.3,
    memory_total_bytes=220 * GIB, memory_available_bytes=200 * GIB, steal_share=0.0, bf16_native=False, busiest=(),
)  # fmt: skip
FACTS = GpuFacts(
    0, "GPU-a", "NVIDIA A100 80GB PCIe", memory_total_bytes=81920 * MIB, compute_capability=(8, 0), ecc=True, mig=False,
    compute_mode="default", persistence=True, power_limit_w=300, power_default_w=300, clocks_locked=False,
    energy_scope="gpu",
)  # fmt: skip
A100 = Gpu(FACTS, 0, (), 31.0, (), energy_counter=True)
ONE_A100 = GpuInventory((A100,), driver="560.35.03", cuda="12.6")
NO_DRIVER = GpuInventory(reason="this machine has no NVIDIA driver (libnvidia-ml was not found)")
TORCH = TorchFacts(
    torch="2.7.0+cu126", cuda="12.6", arch_list=CU126, threads=24, mkl=True, onednn=True, cpu_capability="AVX2",
    tf32=False, devices=(TorchDevice(0, "NVIDIA A100 80GB PCIe", (8, 0), 81920 * MIB),),
)  # fmt: skip
CPU_TORCH = replace(TORCH, torch="2.7.0+cpu", cuda=None, arch_list=(), devices=())


def said(host: Host = HOST, inventory: GpuInventory = ONE_A100, torch: TorchFacts = TORCH) -> list[str]:
    """The findings in short: how bad, and what."""
    return [f"{finding.severity}: {finding.what}" for finding in diagnose(host, inventory, torch)]


def only(
    severity: Severity, *, host: Host = HOST, inventory: GpuInventory = ONE_A100, torch_facts: TorchFacts = TORCH
) -> list[Finding]:
    """The findings of this severity."""
    found = diagnose(host, inventory, torch_facts)
    return [finding for finding in found if finding.severity is severity]


def a100(**facts: Any) -> Gpu:
    """The A100 with other facts."""
    return replace(A100, facts=replace(FACTS, **facts))


def gpu_and_torch(name: str, mib: int, capability: tuple[int, int]) -> tuple[GpuInventory, TorchFacts]:
    """A machine with one such GPU under the same torch."""
    gpu = a100(name=name, memory_total_bytes=mib * MIB, compute_capability=capability)
    device = TorchDevice(0, name, capability, mib * MIB)
    return replace(ONE_A100, gpus=(gpu,)), replace(TORCH, devices=(device,))


def test_a_healthy_a100_box_has_nothing_to_do() -> None:
    """All is well, the catalogue name of the GPU is given, and no finding asks for anything."""
    assert said() == [
        "ok: GPU 0: NVIDIA A100 80GB PCIe, 80.0 GiB, compute capability 8.0",
        "ok: torch 2.7.0+cu126 for CUDA 12.6, oneDNN, MKL, AVX2, 24 threads",
        "ok: quiet host: load 0.3 in the last minute on 24 cores",
    ]
    findings = diagnose(HOST, ONE_A100, TORCH)
    assert "`gpu: A100-PCIe-80GB`" in findings[0].so_what
    assert all(finding.do is None for finding in findings)


def test_a_machine_without_a_driver_measures_its_cpu() -> None:
    """No driver: a warning that the result says nothing about a GPU, and a note on bf16 on this CPU."""
    assert said(inventory=NO_DRIVER, torch=CPU_TORCH) == [
        "warning: no GPU: this machine has no NVIDIA driver (libnvidia-ml was not found)",
        "note: this CPU has no bf16 instructions",
        "ok: torch 2.7.0+cpu for CPUs, oneDNN, MKL, AVX2, 24 threads",
        "ok: quiet host: load 0.3 in the last minute on 24 cores",
    ]
    assert "says nothing about a GPU" in diagnose(HOST, NO_DRIVER, CPU_TORCH)[0].so_what


def test_a_driver_that_does_not_work_is_a_problem() -> None:
    """Where a driver is installed, no GPU is not a kind of machine but a defect; the reason comes first."""
    broken = GpuInventory(reason="the driver's library and kernel module differ in version", installed=True)
    first = diagnose(HOST, broken, CPU_TORCH)[0]
    assert (first.severity, first.what) == (Severity.PROBLEM, broken.reason)
    assert first.do == "mend the driver until `nvidia-smi` lists the GPU"


def test_an_old_torch_on_a_new_gpu_is_a_problem_that_comes_first() -> None:
    """A build without sm_100 on a B200: the first finding, with the CUDA version that knows it."""
    inventory, torch = gpu_and_torch("NVIDIA B200", 183359, (10, 0))
    first = diagnose(HOST, inventory, torch)[0]
    assert first.severity is Severity.PROBLEM
    assert first.what == (
        "torch 2.7.0+cu126 was built for sm_50, sm_60, sm_70, sm_75, sm_80, sm_86, sm_90, "
        "not for cuda:0 (NVIDIA B200, sm_100)"
    )
    assert first.do == "install a newer torch build that lists sm_100 (for CUDA 12.8 or later)"


def test_a_build_with_ptx_only_runs_with_a_warning() -> None:
    """A GPU reached through PTX works, but its times are too long."""
    inventory, torch = gpu_and_torch("NVIDIA B200", 183359, (10, 0))
    torch = replace(torch, arch_list=("sm_80", "compute_90"))
    assert device_problem("cuda:0", inventory, torch) is None
    assert "only PTX" in diagnose(HOST, inventory, torch)[0].what


def test_a_t4_has_no_bf16() -> None:
    """On a T4 the warning says which dtype to use; the rest of the machine is well."""
    inventory, torch = gpu_and_torch("Tesla T4", 15360, (7, 5))
    found = only(Severity.WARNING, inventory=inventory, torch_facts=torch)
    assert [f.what for f in found] == ["cuda:0 (Tesla T4, sm_75) has no bf16 units"]
    assert found[0].do is not None
    assert "fp16" in found[0].do


def test_a_loaded_host_names_who_loads_it() -> None:
    """Load by core decides between note and warning; the busiest are named with their pids."""
    busiest = (Process("postgres", 812, 3.4), Process("rsync", 90, 0.25))
    host = replace(HOST, load_average=14.0, busiest=busiest)
    [finding] = only(Severity.WARNING, host=host)
    assert finding.what == (
        "load 14.0 in the last minute on 24 cores; busiest, in % of one core: postgres (812) 340%, rsync (90) 25%"
    )
    assert [f.severity for f in only(Severity.NOTE, host=replace(host, load_average=4.0))] == [Severity.NOTE]
    assert [f.severity for f in only(Severity.NOTE, host=replace(HOST, busiest=busiest))] == [Severity.NOTE]


@pytest.mark.parametrize(
    ("share", "severity"), [(0.0, None), (0.01, None), (0.03, "note"), (0.2, "warning"), (None, None)]
)
def test_steal_is_judged_by_its_share(share: float | None, severity: str | None) -> None:
    """Too little steal to see says nothing; more is a note, then a warning; unknown steal is no fault."""
    found = [f for f in diagnose(replace(HOST, steal_share=share), ONE_A100, TORCH) if "steal" in f.what]
    assert [f.severity for f in found] == ([] if severity is None else [severity])


def test_a_quota_below_the_cores_is_a_warning() -> None:
    """A container's CPU limit says how many threads to use; a limit above the cores says nothing."""
    [finding] = only(Severity.WARNING, host=replace(HOST, quota_cores=3.5))
    assert finding.what == "this container may use 3.5 of 24 cores"
    assert finding.do is not None
    assert "--threads 3" in finding.do
    assert only(Severity.WARNING, host=replace(HOST, quota_cores=24.0)) == []


def test_more_threads_than_usable_cores_is_a_warning() -> None:
    """Threads are held against the cores that the affinity of this process leaves."""
    [finding] = only(Severity.WARNING, host=replace(HOST, affinity_cores=4))
    assert finding.what == "torch starts 24 threads on 4 usable cores"


def test_little_memory_is_a_warning() -> None:
    """Below 2 GiB the workers may be killed."""
    [finding] = only(Severity.WARNING, host=replace(HOST, memory_available_bytes=GIB))
    assert finding.what == "1.0 GiB of memory are available"
    assert only(Severity.WARNING, host=replace(HOST, memory_available_bytes=None)) == []


def test_others_on_the_gpu_are_named() -> None:
    """Processes on the GPU, and what they leave free, are warnings; memory nobody visible holds is a note."""
    shared = replace(A100, processes=(GpuProcess(812, 30 * GIB),), memory_used_bytes=30 * GIB)
    found = only(Severity.WARNING, inventory=replace(ONE_A100, gpus=(shared,)))
    assert [f.what for f in found] == ["1 process on GPU 0 (pid 812)", "memory of GPU 0: 50.0 GiB free of 80.0 GiB"]
    hidden = replace(A100, processes=(), memory_used_bytes=3 * GIB)
    assert [f.what for f in only(Severity.NOTE, inventory=replace(ONE_A100, gpus=(hidden,)))] == [
        "3.0 GiB of GPU 0 are in use, by no visible process"
    ]


@pytest.mark.parametrize(
    ("gpu", "severity", "what", "do"),
    [
        (a100(compute_mode="prohibited"), "problem", "compute mode of GPU 0 is prohibited",
         "`sudo nvidia-smi -i GPU-a -c DEFAULT`"),
        (a100(compute_mode="exclusive-process"), "warning",
         "compute mode of GPU 0 is exclusive-process: one process at a time may use it",
         "`sudo nvidia-smi -i GPU-a -c DEFAULT`"),
        (a100(power_limit_w=250), "warning", "power limit of GPU 0 is 250 W; the default is 300 W",
         "if your servers run at 300 W: `sudo nvidia-smi -i GPU-a -pl 300`"),
        (a100(power_limit_w=320), "note", "power limit of GPU 0 is 320 W; the default is 300 W",
         "if your servers run at 300 W: `sudo nvidia-smi -i GPU-a -pl 300`"),
        (a100(clocks_locked=True), "warning", "clocks of GPU 0 are held by a setting",
         "if your servers do not lock clocks: `sudo nvidia-smi -i GPU-a -rgc` (locked clocks) and "
         "`sudo nvidia-smi -i GPU-a -rac` (application clocks)"),
        (a100(persistence=False), "note", "persistence mode of GPU 0 is off", "`sudo nvidia-smi -i GPU-a -pm 1`"),
        (a100(ecc=False), "note", "ECC of GPU 0 is off",
         "if your servers run with ECC: `sudo nvidia-smi -i GPU-a -e 1`, then restart the machine"),
        (a100(energy_scope="module"), "note",
         "power and energy of GPU 0 cover the whole module, its CPU and memory included", None),
        (replace(A100, energy_counter=False), "note", "no energy counter on GPU 0", None),
        (replace(A100, temperature_c=71.0), "note", "temperature of GPU 0 before castbench runs: 71 °C",
         "look at its fans and at the air that reaches it, or wait until it has cooled down"),
        (replace(A100, slowdowns=(SlowdownCause.HW_THERMAL,), temperature_c=93.0), "warning",
         "heat slows GPU 0 right now (93 °C)",
         "let it cool down; if it does so when idle, look at its fans and at the air that reaches it"),
        (replace(A100, slowdowns=(SlowdownCause.POWER_BRAKE,)), "warning",
         "the server's power brake slows GPU 0 right now", "look at the server's power supplies and its power cap"),
        (replace(A100, slowdowns=(SlowdownCause.POWER_CAP,)), "warning",
         "something slows GPU 0 right now (power-cap), before castbench runs",
         "`nvidia-smi -i GPU-a -q -d PERFORMANCE,POWER` says more"),
        (a100(mig=True), "problem", "MIG of GPU 0 is on, but it has no instance",
         "create one (`sudo nvidia-smi mig -i GPU-a -cgi …`), or switch MIG off: `sudo nvidia-smi -i GPU-a -mig 0`"),
    ],
)  # fmt: skip
def test_the_state_of_a_gpu_is_told_with_the_command_for_it(gpu: Gpu, severity: str, what: str, do: str | None) -> None:
    """Each setting or state that changes what numbers mean is one finding, with the command a careful person runs."""
    found = [f for f in diagnose(HOST, replace(ONE_A100, gpus=(gpu,)), TORCH) if f.severity != "ok"]
    if gpu.facts.mig:
        found = [f for f in found if "cannot be told" not in f.what]
    assert [(f.severity, f.what, f.do) for f in found] == [(severity, what, do)]


def test_what_a_gpu_does_not_say_is_no_finding() -> None:
    """Unknown settings are neither good nor bad."""
    silent = Gpu(GpuFacts(0, "GPU-a", "NVIDIA A100 80GB PCIe", memory_total_bytes=81920 * MIB), energy_counter=True)
    assert only(Severity.WARNING, inventory=replace(ONE_A100, gpus=(silent,))) == []
    assert only(Severity.NOTE, inventory=replace(ONE_A100, gpus=(silent,))) == []


def test_gpus_of_which_the_same_is_true_share_a_finding() -> None:
    """Eight GPUs without persistence mode are one finding, with one command for all of them."""
    gpus = tuple(a100(index=i, uuid=f"GPU-{i}", persistence=False) for i in range(3))
    [finding] = only(Severity.NOTE, inventory=replace(ONE_A100, gpus=gpus), torch_facts=replace(
        TORCH, devices=tuple(replace(TORCH.devices[0], index=i) for i in range(3))))  # fmt: skip
    assert finding.what == "persistence mode of GPU 0, GPU 1 and GPU 2 is off"
    assert finding.do == "`sudo nvidia-smi -i GPU-0,GPU-1,GPU-2 -pm 1`"


def test_processes_on_an_instance_are_processes_on_its_gpu() -> None:
    """A neighbour on another MIG instance is pointed out."""
    part = Gpu(GpuFacts(0, "MIG-x", "A100 MIG", parent_uuid="GPU-a", mig=True), 0, (GpuProcess(7, None),))
    cut = replace(ONE_A100, gpus=(a100(mig=True),), instances=(part,))
    assert "warning: 1 process on GPU 0 (pid 7)" in said(inventory=cut)
    assert "note: MIG of GPU 0 is on, with 1 instance" in said(inventory=cut)


def test_a_forbidden_gpu_is_a_note() -> None:
    """A GPU that this container was not given is no defect, but it is said."""
    [note] = only(Severity.NOTE, inventory=replace(ONE_A100, forbidden=("GPU 1 may not be used",)),
                  torch_facts=replace(TORCH, devices=(replace(TORCH.devices[0], uuid="a"),)))  # fmt: skip
    assert note.what == "GPU 1 may not be used"


def test_a_device_that_cannot_be_told_is_a_warning_and_one_that_can_is_not() -> None:
    """Two models without a UUID from torch: a warning; with the UUID: the device is named."""
    two = replace(ONE_A100, gpus=(a100(name="Tesla T4", index=0, uuid="GPU-t"), a100(index=1)))
    [warning] = [f for f in only(Severity.WARNING, inventory=two) if "cannot be told" in f.what]
    assert warning.what.startswith("which GPU cuda:0 is cannot be told: the GPUs are of several models")
    known = replace(TORCH, devices=(replace(TORCH.devices[0], uuid="a"),))
    assert only(Severity.WARNING, inventory=two, torch_facts=known) == []
    assert [identity.uuid for identity in device_identities(two, known)] == ["GPU-a"]


def test_a_cpu_build_beside_a_gpu_is_a_problem() -> None:
    """The wheel without CUDA on a GPU machine: what to install, up to the driver's CUDA."""
    [finding] = only(Severity.PROBLEM, torch_facts=CPU_TORCH)
    assert finding.what == "torch 2.7.0+cpu is a build for CPUs only, on a machine with a GPU"
    assert finding.do == "install a torch build for CUDA 12.6 or earlier (see pytorch.org)"


def test_a_driver_older_than_the_build_is_a_problem() -> None:
    """A build for a newer major of CUDA than the driver's sees no GPU, and both versions are named."""
    unreached = replace(TORCH, devices=(), cuda="13.0", torch="2.9.0+cu130")
    [finding] = only(Severity.PROBLEM, torch_facts=unreached)
    assert finding.what == "torch 2.9.0+cu130 needs CUDA 13.0, the driver 560.35.03 supports 12.6"


def test_a_hidden_gpu_is_told_from_a_missing_one() -> None:
    """CUDA_VISIBLE_DEVICES is quoted where torch sees nothing, or less than the driver."""
    [finding] = only(Severity.PROBLEM, torch_facts=replace(TORCH, devices=(), visible=""))
    assert finding.what.endswith("although the driver lists one; CUDA_VISIBLE_DEVICES is ''")
    two = replace(ONE_A100, gpus=(A100, a100(index=1, uuid="GPU-b")))
    [note] = only(Severity.NOTE, inventory=two, torch_facts=replace(TORCH, visible="1"))
    assert note.what.endswith("torch sees 1 of 2 GPUs; CUDA_VISIBLE_DEVICES is '1'")


def test_a_gpu_outside_the_catalogue_and_one_that_does_not_answer_are_told() -> None:
    """An unknown GPU is a note without any guess; a lost one is a problem."""
    unknown = a100(name="NVIDIA Z9")
    [note] = only(Severity.NOTE, inventory=replace(ONE_A100, gpus=(unknown,)))
    assert "NVIDIA Z9" in note.what
    assert "not in castbench's catalogue" in note.what
    [problem] = only(Severity.PROBLEM, inventory=replace(ONE_A100, unreadable=("GPU 1 does not answer",)))
    assert problem.what == "GPU 1 does not answer"


def test_an_amd_gpu_is_a_gpu() -> None:
    """Without NVML, a device that ROCm's torch sees counts; NVIDIA's architecture rules do not apply to it."""
    device = TorchDevice(0, "AMD Instinct MI300X", (9, 4), 192 * GIB)
    rocm = replace(TORCH, torch="2.7.0+rocm6.3", cuda=None, hip="6.3", arch_list=("gfx942",), devices=(device,))
    assert said(inventory=NO_DRIVER, torch=rocm)[0].startswith("ok: torch 2.7.0+rocm6.3 for ROCm 6.3")
    assert device_problem("cuda:0", NO_DRIVER, rocm) is None


def test_findings_stand_worst_first() -> None:
    """Problems come before warnings, notes and what is well, whatever finds them."""
    host = replace(HOST, load_average=4.0, steal_share=0.3)
    order = [finding.severity for finding in diagnose(host, ONE_A100, replace(TORCH, problem="broken"))]
    assert order == sorted(order, key=list(Severity).index)
    assert {Severity.PROBLEM, Severity.WARNING, Severity.NOTE, Severity.OK} == set(order)


@pytest.mark.parametrize(
    ("device", "inventory", "torch", "words"),
    [
        ("cpu", NO_DRIVER, CPU_TORCH, None),
        ("cuda", ONE_A100, TORCH, None),
        ("cuda:0", ONE_A100, TORCH, None),
        ("cuda:1", ONE_A100, TORCH, "sees 1 GPU, so there is no cuda:1"),
        ("cuda:0", NO_DRIVER, CPU_TORCH, "sees 0 GPUs, so there is no cuda:0 (this machine has no NVIDIA driver"),
        ("cpu", NO_DRIVER, TorchFacts(problem="it is gone"), "torch cannot be used: it is gone"),
        ("cuda", ONE_A100, replace(TORCH, arch_list=("sm_90",)), "built for sm_90, not for cuda:0"),
    ],
)
def test_a_named_device_is_usable_or_told_why_not(
    device: str, inventory: GpuInventory, torch: TorchFacts, words: str | None
) -> None:
    """A device that torch can run on has no problem; any other has a sentence with the reason."""
    problem = device_problem(device, inventory, torch)
    assert (problem is None) == (words is None)
    assert words is None or words in str(problem)


def test_the_child_s_answer_survives_chatter() -> None:
    """Facts come back as they were sent, whatever libraries print before them."""
    answer = f"a library says hello\n{json.dumps(to_plain(TORCH))}\n"
    assert parse_answer(0, answer, "warning: something") == TORCH


@pytest.mark.parametrize(
    ("code", "stdout", "stderr", "words"),
    [
        (-11, "", "", "signal 11"),
        (1, "", "Traceback\nRuntimeError: CUDA error", "exit code 1: RuntimeError: CUDA error"),
        (0, "", "", "exit code 0"),
        (0, "hello", "", "something else"),
        (0, '{"torchh": 1}', "", "something else"),
        (0, "[]", "", "something else"),
    ],
)
def test_a_child_that_dies_is_a_sentence(code: int, stdout: str, stderr: str, words: str) -> None:
    """A crash, an exit and nonsense each become the reason why torch cannot be used."""
    problem = parse_answer(code, stdout, stderr).problem
    assert problem is not None
    assert words in problem


def fake_torch(folder: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """Put a module called torch before the real one on the path that the child inherits."""
    (folder / "torch.py").write_text(source)
    monkeypatch.syspath_prepend(str(folder))


def test_a_torch_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An import that does not end costs the time limit and no more."""
    fake_torch(tmp_path, monkeypatch, "import time\ntime.sleep(600)\n")
    assert torch_facts(limit_s=0.5).problem == "importing it took longer than 0.5 s"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise ImportError('libcudart.so.12: cannot open')", "it cannot be imported: libcudart.so.12: cannot open"),
        ("raise OSError", "it cannot be imported: no reason given"),
        ("import os\nos.abort()", "signal 6"),
    ],
)
def test_a_broken_torch_ends_the_child_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, words: str
) -> None:
    """Missing libraries and a crash while importing are told in a sentence."""
    fake_torch(tmp_path, monkeypatch, source)
    assert words in str(torch_facts().problem)


def test_this_machine_is_examined_without_importing_torch_here() -> None:
    """The real torch answers from a child with its version and threads, and is then as the tests' own torch says."""
    from importlib.metadata import version

    examined = doctor.examine()
    assert examined.torch.problem is None
    assert str(examined.torch.torch).partition("+")[0] == version("torch").partition("+")[0]
    assert examined.torch.threads is not None
    assert examined.host.busiest is not None or not Path("/proc/stat").exists()
    assert examined.devices == device_identities(examined.inventory, examined.torch)
    assert examined.findings == diagnose(examined.host, examined.inventory, examined.torch)
