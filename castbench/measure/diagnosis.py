"""What a machine's facts mean for the numbers measured on it, and what to do about it: pure judgement, no reading.

Host, GpuInventory, TorchFacts ─▶ Finding…     worst first; each says what is so, what follows, what to do
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from castbench.hardware.cpu import Host
from castbench.hardware.cuda_arch import Capability, Support, build_advice, support
from castbench.hardware.datasheet import match_device
from castbench.hardware.gpu import Gpu, GpuInventory
from castbench.hardware.gpu_identity import identify
from castbench.measure.finding import Finding, Severity
from castbench.measure.gpu_checks import gpu_findings
from castbench.units import GIB

QUIET_LOAD, LOUD_LOAD = 0.1, 0.5
"""Load per core up to which a host counts as quiet, and from which every core is shared half of the time."""
NOTED_STEAL, LOUD_STEAL = 0.02, 0.05
"""Below the first, half a second of /proc/stat ticks cannot tell steal from none."""
LITTLE_HOST_BYTES = 2 * GIB
"""A worker with torch and a small encoder needs about 1 GiB; two may be alive at once."""
BF16_SINCE: Capability = (8, 0)
"""First compute capability with bf16 tensor cores (Ampere)."""


@dataclass(frozen=True, slots=True)
class TorchDevice:
    """A device torch sees, under the number that cuda:N takes; `uuid` as torch spells it, from torch 2.6 on."""

    index: int
    name: str
    capability: Capability | None
    memory_bytes: int
    uuid: str | None = None


@dataclass(frozen=True, slots=True)
class TorchFacts:
    """What torch says of itself. None: not known.

    problem        why torch could not be asked, in a sentence; everything else is then unknown
    cuda, hip      toolkit the build was made for
    arch_list      GPU architectures it was built for; empty without a usable GPU
    visible        the variable CUDA_VISIBLE_DEVICES, if it is set
    device_order   the variable CUDA_DEVICE_ORDER, if it is set
    """

    problem: str | None = None
    torch: str | None = None
    cuda: str | None = None
    hip: str | None = None
    arch_list: tuple[str, ...] = ()
    devices: tuple[TorchDevice, ...] = ()
    threads: int | None = None
    mkl: bool | None = None
    onednn: bool | None = None
    cpu_capability: str | None = None
    tf32: bool | None = None
    visible: str | None = None
    device_order: str | None = None


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """Which GPU or MIG instance a device of torch is, by UUID, or why that cannot be told."""

    device: str
    uuid: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Machine:
    """Everything a diagnosis is made from."""

    host: Host
    inventory: GpuInventory
    torch: TorchFacts

    @property
    def has_gpu(self) -> bool:
        """Whether the driver lists a GPU or torch sees one (AMD's are seen by torch alone)."""
        return bool(self.inventory.gpus or self.torch.devices)


def diagnose(host: Host, inventory: GpuInventory, torch_facts: TorchFacts) -> tuple[Finding, ...]:
    """Every finding, worst first."""
    machine = Machine(host, inventory, torch_facts)
    found = [finding for check in _CHECKS for finding in check(machine)]
    order = list(Severity)
    return tuple(sorted(found, key=lambda finding: order.index(finding.severity)))


def device_identities(inventory: GpuInventory, torch_facts: TorchFacts) -> tuple[DeviceIdentity, ...]:
    """Every NVIDIA device torch sees, with the GPU it is."""
    if torch_facts.hip is not None:
        return ()
    found = []
    for seen in torch_facts.devices:
        device = f"cuda:{seen.index}"
        identity = identify(
            device, inventory,
            torch_uuid=seen.uuid, visible=torch_facts.visible, device_order=torch_facts.device_order,
        )  # fmt: skip
        found.append(DeviceIdentity(device, identity.uuid, identity.reason))
    return tuple(found)


def device_problem(device: str, inventory: GpuInventory, torch_facts: TorchFacts) -> str | None:
    """Why `device` (auto, cpu, cuda or cuda:N) cannot be measured on, in a sentence; None where it can."""
    if torch_facts.problem:
        return f"torch cannot be used: {torch_facts.problem}"
    if not device.startswith("cuda"):
        return None
    wanted = int(device.partition(":")[2] or 0)
    seen = {found.index: found for found in torch_facts.devices}
    if wanted not in seen:
        why = f" ({inventory.reason})" if inventory.reason else ""
        return f"torch {torch_facts.torch} sees {_count(len(seen), 'GPU')}, so there is no cuda:{wanted}{why}"
    return _architecture_problem(seen[wanted], torch_facts)


def _no_gpu(machine: Machine) -> Iterator[Finding]:
    """A machine without a GPU measures its CPU; one whose driver does not work has to be mended first."""
    if machine.has_gpu:
        return
    inventory = machine.inventory
    if inventory.installed and inventory.reason:
        yield Finding(
            Severity.PROBLEM, inventory.reason,
            "no GPU can be measured; `--device auto` would time the CPU, which says nothing about a GPU",
            "mend the driver until `nvidia-smi` lists the GPU",
        )  # fmt: skip
        return
    yield Finding(
        Severity.WARNING, f"no GPU{f': {inventory.reason}' if inventory.reason else ''}",
        "castbench measures the CPU and prices a CPU server; the result says nothing about a GPU",
        "run castbench on the type of GPU you serve on; `--device cpu` says that you mean the CPU",
    )  # fmt: skip


def _listed_gpus(machine: Machine) -> Iterator[Finding]:
    """Each GPU the driver lists, under its name in the catalogue."""
    for sentence in machine.inventory.unreadable:
        yield Finding(
            Severity.PROBLEM, sentence, "nothing can be measured on it, and a run on another GPU may stall",
            "look into the kernel's log (dmesg, lines with Xid), then reset the GPU or restart the machine",
        )  # fmt: skip
    for sentence in machine.inventory.forbidden:
        yield Finding(Severity.NOTE, sentence, "it is not measured, and the numbers of cuda:N leave it out")
    for gpu in machine.inventory.gpus:
        facts = match_device(gpu.facts.name, gpu.facts.memory_total_bytes) if gpu.facts.name else None
        if facts is not None:
            scope = "all of it; for one MIG instance state `price:`" if gpu.facts.mig else "it"
            yield Finding(Severity.OK, _gpu_text(gpu), f"`gpu: {facts.name}` in a profile stands for {scope}")
        else:
            yield Finding(
                Severity.NOTE, f"{_gpu_text(gpu)} is not in castbench's catalogue",
                "it can be measured, but no price or data-sheet figure is found by its name",
                "state `price:` in the profile",
            )  # fmt: skip


def _torch_build(machine: Machine) -> Iterator[Finding]:
    """Whether torch is there and is a build that reaches the GPU."""
    facts = machine.torch
    if facts.problem:
        yield Finding(
            Severity.PROBLEM, f"torch cannot be used: {facts.problem}", "nothing can be measured",
            "install it anew in this environment: pip install --force-reinstall torch",
        )  # fmt: skip
    elif machine.has_gpu and not facts.devices:
        yield _unreached_gpu(machine)
    elif len(facts.devices) < len(machine.inventory.gpus):
        what = f"torch sees {len(facts.devices)} of {len(machine.inventory.gpus)} GPUs{_hidden_by(facts)}"
        yield Finding(
            Severity.NOTE, f"{torch_text(facts)}; {what}",
            "cuda:0 is the first GPU that torch sees, which need not be the driver's GPU 0",
        )  # fmt: skip
    else:
        yield Finding(Severity.OK, torch_text(facts), "it reaches every device listed here")


def _unreached_gpu(machine: Machine) -> Finding:
    """Why a GPU that the driver lists is not seen by torch."""
    facts, inventory = machine.torch, machine.inventory
    so_what = "the GPU cannot be measured; `--device auto` would time the CPU"
    if facts.cuda is None and facts.hip is None:
        supported = f" for CUDA {inventory.cuda} or earlier" if inventory.cuda else " with CUDA"
        what = f"torch {facts.torch} is a build for CPUs only, on a machine with a GPU"
        return Finding(Severity.PROBLEM, what, so_what, f"install a torch build{supported} (see pytorch.org)")
    if facts.cuda and inventory.cuda and _major(facts.cuda) > _major(inventory.cuda):
        what = f"torch {facts.torch} needs CUDA {facts.cuda}, the driver {inventory.driver} supports {inventory.cuda}"
        do = f"update the driver, or install a torch build for CUDA {_major(inventory.cuda)}"
        return Finding(Severity.PROBLEM, what, so_what, do)
    return Finding(
        Severity.PROBLEM, f"torch {facts.torch} sees no GPU although the driver lists one{_hidden_by(facts)}", so_what,
        "check CUDA_VISIBLE_DEVICES and that this user may open /dev/nvidia*; then restart the driver or the machine",
    )  # fmt: skip


def _hidden_by(facts: TorchFacts) -> str:
    """What the environment hides from torch."""
    return "" if facts.visible is None else f"; CUDA_VISIBLE_DEVICES is {facts.visible!r}"


def _architectures(machine: Machine) -> Iterator[Finding]:
    """Whether torch was built for each GPU it sees."""
    facts = machine.torch
    for device in facts.devices:
        problem = _architecture_problem(device, facts)
        if problem and device.capability:
            advice = build_advice(facts.arch_list, device.capability)
            yield Finding(Severity.PROBLEM, problem, "every kernel on it would fail to start", advice)
        elif _support(device, facts) is Support.PTX:
            yield Finding(
                Severity.WARNING, f"torch {facts.torch} has no machine code for {_device_text(device)}, only PTX",
                "the first use of every kernel is slow, and kernels tuned for this GPU are missing: times are too long",
                build_advice(facts.arch_list, device.capability or (0, 0)),
            )  # fmt: skip


def _bf16(machine: Machine) -> Iterator[Finding]:
    """Whether bf16 is native where it would be measured."""
    so_what = "a profile with `dtype: bf16` would time an emulation that nobody would serve"
    for device in machine.torch.devices:
        if device.capability is not None and device.capability < BF16_SINCE and machine.torch.hip is None:
            what = f"{_device_text(device)} has no bf16 units"
            yield Finding(Severity.WARNING, what, so_what, "use `dtype: fp16` or `dtype: fp32` on it")
    if not machine.has_gpu and machine.host.bf16_native is False:
        yield Finding(Severity.NOTE, "this CPU has no bf16 instructions", so_what, "use `dtype: fp32` on it")


def _load(machine: Machine) -> Iterator[Finding]:
    """How busy the host is; the load average counts the whole machine, so that all its cores count too."""
    host = machine.host
    if host.load_average is None or not host.logical_cores:
        return
    what = f"load {host.load_average:.1f} in the last minute on {_count(host.logical_cores, 'core')}"
    per_core = host.load_average / host.logical_cores
    if per_core <= QUIET_LOAD and not host.busiest:
        yield Finding(Severity.OK, f"quiet host: {what}", "windows are not disturbed by other work here")
        return
    names = ", ".join(f"{p.name} ({p.pid}) {p.cpu_share:.0%}" for p in host.busiest or ())
    yield Finding(
        Severity.WARNING if per_core >= LOUD_LOAD else Severity.NOTE,
        f"{what}; busiest, in % of one core: {names}" if names else what,
        "others take the CPU at times: more rounds are needed for the same interval, and absolute times are too long",
        "stop them or wait; `castbench doctor --aa 30s` says what can be resolved as it is",
    )  # fmt: skip


def _steal(machine: Machine) -> Iterator[Finding]:
    """CPU time that the hypervisor gave to other machines."""
    share = machine.host.steal_share
    if share is not None and share >= NOTED_STEAL:
        yield Finding(
            Severity.WARNING if share >= LOUD_STEAL else Severity.NOTE,
            f"the hypervisor took {share:.0%} of the CPU time while doctor was looking (steal)",
            "neighbours on the same server stretch single windows; pairs are fair, absolute times are not",
            "use an instance with dedicated cores for figures that leave the house",
        )  # fmt: skip


def _cores(machine: Machine) -> Iterator[Finding]:
    """Cores that cannot all be used, and threads that do not fit on them."""
    host, threads = machine.host, machine.torch.threads
    usable = host.usable_cores
    if host.quota_cores is not None and host.logical_cores is not None and host.quota_cores < host.logical_cores:
        yield Finding(
            Severity.WARNING, f"this container may use {host.quota_cores:.3g} of {_count(host.logical_cores, 'core')}",
            "whoever uses more is stopped until the next period, which shows as stalls of up to 0.1 s",
            f"measure with --threads {max(1, int(host.quota_cores))}, or raise the container's CPU limit",
        )  # fmt: skip
    elif usable is not None and threads is not None and threads > usable:
        yield Finding(
            Severity.WARNING, f"torch starts {threads} threads on {_count(usable, 'usable core')}",
            "they wait for one another, and times are long and uneven",
            f"measure with --threads {usable}",
        )  # fmt: skip


def _host_memory(machine: Machine) -> Iterator[Finding]:
    """Hosts with little free memory."""
    available = machine.host.memory_available_bytes
    if available is not None and available < LITTLE_HOST_BYTES:
        yield Finding(
            Severity.WARNING, f"{_gib(available)} of memory are available",
            "workers may be killed by the system, and cases reported as out of memory that would fit elsewhere",
            f"free memory until {_gib(LITTLE_HOST_BYTES)} or more are available",
        )  # fmt: skip


def _gpu_states(machine: Machine) -> Iterator[Finding]:
    """State and settings of each GPU."""
    yield from gpu_findings(machine.inventory)


def _identities(machine: Machine) -> Iterator[Finding]:
    """Devices of which nobody can say which GPU they are."""
    if not machine.inventory.gpus:
        return
    for identity in device_identities(machine.inventory, machine.torch):
        if identity.reason is not None:
            yield Finding(
                Severity.WARNING, identity.reason,
                f"on {identity.device} times are measured, but no clock, temperature, slowdown, power or energy",
            )  # fmt: skip


_CHECKS: tuple[Callable[[Machine], Iterator[Finding]], ...] = (
    _no_gpu, _listed_gpus, _torch_build, _architectures, _identities, _bf16,
    _gpu_states, _load, _steal, _cores, _host_memory,
)  # fmt: skip


def torch_text(facts: TorchFacts) -> str:
    """Version of torch and what it was built with, in one line."""
    made_for = f"CUDA {facts.cuda}" if facts.cuda else f"ROCm {facts.hip}" if facts.hip else "CPUs"
    libraries = [name for name, there in (("oneDNN", facts.onednn), ("MKL", facts.mkl)) if there]
    parts = [f"torch {facts.torch} for {made_for}", *libraries]
    if facts.cpu_capability:
        parts.append(facts.cpu_capability)
    if facts.threads is not None:
        parts.append(_count(facts.threads, "thread"))
    return ", ".join(parts)


def _architecture_problem(device: TorchDevice, facts: TorchFacts) -> str | None:
    """That torch was not built for a device; None where it was, or where nothing says what it was built for."""
    if _support(device, facts) is not Support.NONE:
        return None
    return f"torch {facts.torch} was built for {', '.join(facts.arch_list)}, not for {_device_text(device)}"


def _support(device: TorchDevice, facts: TorchFacts) -> Support | None:
    """How torch runs on a device; None where that is not known (no list, or ROCm with its own names)."""
    if device.capability is None or not facts.arch_list or facts.hip is not None:
        return None
    return support(facts.arch_list, device.capability)


def _device_text(device: TorchDevice) -> str:
    """cuda:0 (its name, its architecture)."""
    architecture = f", sm_{device.capability[0]}{device.capability[1]}" if device.capability else ""
    return f"cuda:{device.index} ({device.name}{architecture})"


def _gpu_text(gpu: Gpu) -> str:
    """GPU 0: its name, memory and compute capability."""
    facts = gpu.facts
    parts = [facts.name or "unnamed"]
    if facts.memory_total_bytes is not None:
        parts.append(_gib(facts.memory_total_bytes))
    if facts.compute_capability is not None:
        parts.append(f"compute capability {facts.compute_capability[0]}.{facts.compute_capability[1]}")
    return f"GPU {facts.index}: {', '.join(parts)}"


def _gib(size_bytes: float | None) -> str:
    """Bytes as text."""
    return "an unknown amount" if size_bytes is None else f"{size_bytes / GIB:.1f} GiB"


def _count(number: int, noun: str, plural: str = "s") -> str:
    """1 core, 2 cores."""
    return f"{number} {noun}{'' if number == 1 else plural}"


def _major(version: str) -> int:
    """12 of "12.8"."""
    return int(version.partition(".")[0])
