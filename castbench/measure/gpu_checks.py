"""What the state and the settings of NVIDIA GPUs mean for the numbers measured on them: doctor's checks of GPUs.

Gpu… ─▶ one check at a time ─▶ Remark per GPU ─▶ GPUs of which the same is true share one Finding

castbench changes no setting: where one should be looked at, the command that a careful person would run is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from castbench.hardware.gpu import Gpu, GpuInventory, SlowdownCause
from castbench.measure.finding import Finding, Severity
from castbench.units import GIB

LITTLE_GPU_SHARE = 0.9
"""Free share of a GPU below which somebody else's memory, not only the driver's, is on it."""
HIDDEN_GPU_BYTES = 1 * GIB
"""More than a driver without memory v2, which counts its own share as used, keeps for itself on an idle GPU."""
WARM_C = 70.0
"""An idle GPU is far below this; NVIDIA's slow down between 80 and 95 °C."""


@dataclass(frozen=True, slots=True)
class _Remark:
    """What is true of one GPU; `{gpus}` in the texts is its name, `{ids}` what nvidia-smi -i takes."""

    severity: Severity
    what: str
    so_what: str
    do: str | None = None


def gpu_findings(inventory: GpuInventory) -> Iterator[Finding]:
    """Findings on every GPU that answers, check by check."""
    for check in _CHECKS:
        yield from _together(inventory, check)


def _together(inventory: GpuInventory, check: Callable[[Gpu, GpuInventory], _Remark | None]) -> Iterator[Finding]:
    """One finding for all GPUs of which the same is true."""
    alike: dict[_Remark, list[Gpu]] = {}
    for gpu in inventory.gpus:
        remark = check(gpu, inventory)
        if remark is not None:
            alike.setdefault(remark, []).append(gpu)
    for remark, gpus in alike.items():
        names = _listed(f"GPU {gpu.facts.index}" for gpu in gpus)
        ids = ",".join(gpu.facts.uuid or str(gpu.facts.index) for gpu in gpus)
        what, so_what, do = (
            None if text is None else text.replace("{gpus}", names).replace("{ids}", ids)
            for text in (remark.what, remark.so_what, remark.do)
        )
        yield Finding(remark.severity, what or "", so_what or "", do)


def _compute_mode(gpu: Gpu, _: GpuInventory) -> _Remark | None:
    """Whether processes may compute on it at all, and how many."""
    mode = gpu.facts.compute_mode
    if mode == "prohibited":
        return _Remark(
            Severity.PROBLEM, "compute mode of {gpus} is prohibited", "no process may compute on it",
            "`sudo nvidia-smi -i {ids} -c DEFAULT`",
        )  # fmt: skip
    if mode in ("exclusive-process", "exclusive-thread"):
        return _Remark(
            Severity.WARNING, f"compute mode of {{gpus}} is {mode}: one process at a time may use it",
            "a worker fails to start while any other process, or the worker before it, still holds the GPU",
            "`sudo nvidia-smi -i {ids} -c DEFAULT`",
        )  # fmt: skip
    return None


def _processes(gpu: Gpu, inventory: GpuInventory) -> _Remark | None:
    """Others on a GPU or on its MIG instances, by their processes or by their memory alone."""
    parts = [part for part in inventory.instances if part.facts.parent_uuid == gpu.facts.uuid]
    pids = sorted({process.pid for part in (gpu, *parts) for process in part.processes or ()})
    if pids:
        return _Remark(
            Severity.WARNING, f"{_count(len(pids), 'process', 'es')} on {{gpus}} (pid {', '.join(map(str, pids))})",
            "on the instance that is measured they take time and memory, on another one they share its clock and power"
            if parts else "they take time from every window and memory from the largest batch",
            "stop them, or measure on another GPU with --device cuda:N; `castbench profile --exclusive` refuses a "
            "GPU that others use",
        )  # fmt: skip
    if (gpu.memory_used_bytes or 0) > HIDDEN_GPU_BYTES:
        return _Remark(
            Severity.NOTE, f"{_gib(gpu.memory_used_bytes)} of {{gpus}} are in use, by no visible process",
            "somebody outside this container may be using the GPU",
            "look at nvidia-smi on the host",
        )  # fmt: skip
    return None


def _memory(gpu: Gpu, _: GpuInventory) -> _Remark | None:
    """GPUs with little free memory."""
    total, used = gpu.facts.memory_total_bytes, gpu.memory_used_bytes
    if total is None or used is None or total - used >= LITTLE_GPU_SHARE * total:
        return None
    return _Remark(
        Severity.WARNING, f"memory of {{gpus}}: {_gib(total - used)} free of {_gib(total)}",
        "large cases may run out of memory that an empty GPU would hold",
        "free it before measuring",
    )  # fmt: skip


def _slowed_now(gpu: Gpu, _: GpuInventory) -> _Remark | None:
    """A GPU that is slowed, or warm, while castbench runs nothing on it."""
    causes = gpu.slowdowns or ()
    if SlowdownCause.POWER_BRAKE in causes:
        return _Remark(
            Severity.WARNING, "the server's power brake slows {gpus} right now",
            "rounds with the power brake are discarded; with too many of them there is no result",
            "look at the server's power supplies and its power cap",
        )  # fmt: skip
    if {SlowdownCause.SW_THERMAL, SlowdownCause.HW_THERMAL} & set(causes):
        return _Remark(
            Severity.WARNING, f"heat slows {{gpus}} right now ({_celsius(gpu)})",
            "times depend on the temperature, and the first windows are faster than the rest",
            "let it cool down; if it does so when idle, look at its fans and at the air that reaches it",
        )  # fmt: skip
    if causes:
        return _Remark(
            Severity.WARNING, f"something slows {{gpus}} right now ({', '.join(causes)}), before castbench runs",
            "somebody loads it, or something is wrong with its power",
            "`nvidia-smi -i {ids} -q -d PERFORMANCE,POWER` says more",
        )  # fmt: skip
    if gpu.temperature_c is not None and gpu.temperature_c >= WARM_C:
        return _Remark(
            Severity.NOTE, f"temperature of {{gpus}} before castbench runs: {_celsius(gpu)}",
            "it may reach its limit in the middle of a run and slow down",
            "look at its fans and at the air that reaches it, or wait until it has cooled down",
        )  # fmt: skip
    return None


def _power_limit(gpu: Gpu, _: GpuInventory) -> _Remark | None:
    """A power limit that is not the one the GPU ships with."""
    limit, default = gpu.facts.power_limit_w, gpu.facts.power_default_w
    if limit is None or default is None or round(limit) == round(default):
        return None
    lower = limit < default
    return _Remark(
        Severity.WARNING if lower else Severity.NOTE,
        f"power limit of {{gpus}} is {limit:.0f} W; the default is {default:.0f} W",
        f"under load it is {'slower' if lower else 'faster'} than others of its kind, and its energy is not theirs",
        f"if your servers run at {default:.0f} W: `sudo nvidia-smi -i {{ids}} -pl {default:.0f}`",
    )


def _clocks(gpu: Gpu, _: GpuInventory) -> _Remark | None:
    """Clocks that somebody holds down."""
    if not gpu.facts.clocks_locked:
        return None
    return _Remark(
        Severity.WARNING, "clocks of {gpus} are held by a setting",
        "times are steadier, but they are not those of servers that let the clock follow the load",
        "if your servers do not lock clocks: `sudo nvidia-smi -i {ids} -rgc` (locked clocks) and "
        "`sudo nvidia-smi -i {ids} -rac` (application clocks)",
    )  # fmt: skip


def _persistence(gpu: Gpu, _: GpuInventory) -> _Remark | None:
    """A driver that lets go of the GPU between processes."""
    if gpu.facts.persistence is not False:
        return None
    return _Remark(
        Severity.NOTE, "persistence mode of {gpus} is off",
        "whenever no process holds the GPU the driver unloads: each worker starts seconds later, on a cold GPU",
        "`sudo nvidia-smi -i {ids} -pm 1`",
    )  # fmt: skip


def _ecc(gpu: Gpu, _: GpuInventory) -> _Remark | None:
    """Memory without error correction on a GPU that has it."""
    if gpu.facts.ecc is not False:
        return None
    return _Remark(
        Severity.NOTE, "ECC of {gpus} is off",
        "memory may be faster or larger than on servers that run with ECC, as servers usually do",
        "if your servers run with ECC: `sudo nvidia-smi -i {ids} -e 1`, then restart the machine",
    )  # fmt: skip


def _energy(gpu: Gpu, _: GpuInventory) -> _Remark | None:
    """Energy that covers more than the GPU, or that nobody counts."""
    if gpu.facts.energy_scope == "module":
        return _Remark(
            Severity.NOTE, "power and energy of {gpus} cover the whole module, its CPU and memory included",
            "joules are labelled so, and cannot be held against those of a GPU alone",
        )  # fmt: skip
    if gpu.energy_counter:
        return None
    return _Remark(
        Severity.NOTE, "no energy counter on {gpus}",
        "energy is summed up from sampled power where there is any, and labelled so",
    )  # fmt: skip


def _instances(gpu: Gpu, inventory: GpuInventory) -> _Remark | None:
    """A GPU that is cut into MIG instances."""
    if not gpu.facts.mig:
        return None
    count = sum(part.facts.parent_uuid == gpu.facts.uuid for part in inventory.instances)
    if count == 0:
        return _Remark(
            Severity.PROBLEM, "MIG of {gpus} is on, but it has no instance", "no process can compute on it",
            "create one (`sudo nvidia-smi mig -i {ids} -cgi …`), or switch MIG off: `sudo nvidia-smi -i {ids} -mig 0`",
        )  # fmt: skip
    return _Remark(
        Severity.NOTE, f"MIG of {{gpus}} is on, with {_count(count, 'instance')}",
        "an instance is measured like a GPU of its own, without power and energy; neighbours share its clock and "
        "its power limit",
        "choose one by `CUDA_VISIBLE_DEVICES=MIG-…` (`nvidia-smi -L` lists them), and leave the others idle while "
        "measuring",
    )  # fmt: skip


_CHECKS: tuple[Callable[[Gpu, GpuInventory], _Remark | None], ...] = (
    _compute_mode, _processes, _memory, _slowed_now, _power_limit, _clocks, _persistence, _ecc, _energy, _instances,
)  # fmt: skip


def _listed(names: Iterable[str]) -> str:
    """GPU 0; GPU 0 and GPU 1; GPU 0, GPU 1 and GPU 2."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _celsius(gpu: Gpu) -> str:
    """Its temperature as text."""
    return "temperature unknown" if gpu.temperature_c is None else f"{gpu.temperature_c:.0f} °C"


def _gib(size_bytes: float | None) -> str:
    """Bytes as text."""
    return "an unknown amount" if size_bytes is None else f"{size_bytes / GIB:.1f} GiB"


def _count(number: int, noun: str, plural: str = "s") -> str:
    """1 process, 2 processes."""
    return f"{number} {noun}{'' if number == 1 else plural}"
