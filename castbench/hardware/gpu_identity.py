"""Which physical GPU or MIG instance `cuda:N` is, by UUID: from torch's own word, else from CUDA_VISIBLE_DEVICES.

    cuda:1 ──▶ torch's UUID ──▶ in the inventory? ─────────────────────────────┐
       └─ not known ──▶ CUDA_VISIBLE_DEVICES=GPU-8932,GPU-5b0a ──▶ second entry ┴─▶ Identity

A number in CUDA_VISIBLE_DEVICES counts in CUDA's order, which is the driver's only where all GPUs are of one model or
CUDA_DEVICE_ORDER is PCI_BUS_ID. Where that leaves a doubt there is no guess, but a reason.
(CUDA C++ programming guide, "CUDA environment variables"; NVIDIA MIG user guide, "CUDA device enumeration".)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from castbench.hardware.gpu import Gpu, GpuInventory

BY_UUID = "set CUDA_VISIBLE_DEVICES to the UUID of the one you mean (nvidia-smi -L)"
_NUMBER = re.compile(r"\d+")
_OLD_MIG_NAME = re.compile(r"MIG-(?P<parent>GPU-[^/]+)/(?P<gpu_instance>\d+)/(?P<compute_instance>\d+)", re.IGNORECASE)
"""How drivers before R470 named MIG instances."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A GPU or MIG instance by its UUID, or the reason why it cannot be told: exactly one of the two is None."""

    uuid: str | None
    reason: str | None


class _Untold(Exception):  # noqa: N818 - it ends a search with its reason, and never leaves this file
    """The device cannot be told; the message says why."""


def identify(
    device: str,
    inventory: GpuInventory,
    *,
    torch_uuid: str | None,
    visible: str | None,
    device_order: str | None = None,
) -> Identity:
    """The GPU or MIG instance that torch calls `device` (cuda or cuda:N).

    torch_uuid      torch's UUID of the device, with or without GPU- before it; None: not known
    visible         CUDA_VISIBLE_DEVICES as the process has it; None: not set
    device_order    CUDA_DEVICE_ORDER, likewise
    """
    number = int(device.partition(":")[2] or 0)
    try:
        if not inventory.gpus:
            raise _Untold(inventory.reason or "the driver lists no GPU that answers")
        if torch_uuid is not None:
            found = _by_torch(torch_uuid, inventory, visible)
        elif visible is not None and re.match(r"\s*(GPU|MIG)-", visible, re.IGNORECASE):
            found = _nth(_by_names(visible, inventory), number, visible)
        else:
            found = _nth(_by_numbers(visible, inventory, device_order), number, visible)
        return Identity(_known_uuid(_only_instance(found, inventory)), None)
    except _Untold as why:
        return Identity(None, f"which GPU {device} is cannot be told: {why}")


def _by_torch(torch_uuid: str, inventory: GpuInventory, visible: str | None) -> Gpu:
    """The device of torch's UUID; a torch that gives a MIG instance's GPU instead needs CUDA_VISIBLE_DEVICES."""
    wanted = _bare(torch_uuid)
    for gpu in (*inventory.instances, *inventory.gpus):
        if gpu.facts.uuid is None or _bare(gpu.facts.uuid) != wanted:
            continue
        if gpu.facts.mig and gpu.facts.parent_uuid is None and visible and visible.strip().upper().startswith("MIG-"):
            return _nth(_by_names(visible, inventory), 0, visible)
        return gpu
    raise _Untold(f"the driver lists no GPU with the UUID that torch gives, {torch_uuid}")


def _by_names(visible: str, inventory: GpuInventory) -> list[Gpu]:
    """Devices of a list of UUIDs or of their beginnings: up to the first that names none or several."""
    found: list[Gpu] = []
    for entry in visible.split(","):
        gpu = _named(entry.strip(), inventory)
        if gpu is None:
            break
        if gpu in found:
            raise _Untold(f"CUDA_VISIBLE_DEVICES names {gpu.facts.uuid} twice, and CUDA then shows no device at all")
        found.append(gpu)
        if gpu.facts.parent_uuid is not None:
            break  # CUDA shows a process one MIG instance and nothing after it
    return found


def _named(name: str, inventory: GpuInventory) -> Gpu | None:
    """The one device whose UUID begins so."""
    old = _OLD_MIG_NAME.fullmatch(name)
    if old is not None:
        parent = _named(old["parent"], inventory)
        return None if parent is None else _only_instance(parent, inventory)
    among = inventory.instances if name.upper().startswith("MIG-") else inventory.gpus
    matches = [gpu for gpu in among if gpu.facts.uuid and gpu.facts.uuid.lower().startswith(name.lower())]
    return matches[0] if len(matches) == 1 and len(name) > len("GPU-") else None


def _by_numbers(visible: str | None, inventory: GpuInventory, device_order: str | None) -> list[Gpu]:
    """Devices of a list of numbers, or all of them where nothing is hidden."""
    gpus = _in_cuda_order(inventory, device_order)
    if visible is None:
        return gpus
    found: list[Gpu] = []
    for entry in visible.split(","):
        number = _NUMBER.match(entry.strip())
        if number is None or int(number[0]) >= len(gpus):
            break  # CUDA ignores the first invalid entry and everything after it
        if gpus[int(number[0])] in found:
            raise _Untold(f"CUDA_VISIBLE_DEVICES names {number[0]} twice, and CUDA then shows no device at all")
        found.append(gpus[int(number[0])])
    return found


def _in_cuda_order(inventory: GpuInventory, device_order: str | None) -> list[Gpu]:
    """GPUs as CUDA numbers them; _Untold where that cannot be known from the driver's list."""
    gpus = list(inventory.gpus)
    if len(gpus) > 1 and any(gpu.facts.mig for gpu in gpus):
        raise _Untold(f"CUDA shows either one MIG instance or the GPUs without any; {BY_UUID}")
    if inventory.unreadable or inventory.forbidden:
        raise _Untold(f"not every GPU of the machine answers, so that CUDA may number them otherwise; {BY_UUID}")
    if len({gpu.facts.name for gpu in gpus}) > 1 and device_order != "PCI_BUS_ID":
        raise _Untold(f"the GPUs are of several models, which CUDA sorts by speed; {BY_UUID}, or CUDA_DEVICE_ORDER to "
                      "PCI_BUS_ID")  # fmt: skip
    return gpus


def _nth(found: list[Gpu], number: int, visible: str | None) -> Gpu:
    """The device that CUDA gives this number."""
    if number < len(found):
        return found[number]
    hidden = "" if visible is None else f" with CUDA_VISIBLE_DEVICES={visible!r}"
    raise _Untold(f"CUDA shows {len(found)} device{'' if len(found) == 1 else 's'}{hidden}")


def _only_instance(gpu: Gpu, inventory: GpuInventory) -> Gpu:
    """A GPU, or its instance where it is cut into MIG instances: CUDA then runs on one of those."""
    if not gpu.facts.mig or gpu.facts.parent_uuid is not None:
        return gpu
    instances = [part for part in inventory.instances if part.facts.parent_uuid == gpu.facts.uuid]
    if len(instances) != 1:
        count = f"{len(instances)} MIG instances" if instances else "no MIG instance, although MIG is on"
        raise _Untold(f"GPU {gpu.facts.index} has {count}; {BY_UUID}")
    return instances[0]


def _known_uuid(gpu: Gpu) -> str:
    """A device's UUID."""
    if gpu.facts.uuid is None:
        raise _Untold(f"the driver gives no UUID for GPU {gpu.facts.index}")
    return gpu.facts.uuid


def _bare(uuid: str) -> str:
    """A UUID in the one spelling that torch and the driver share."""
    return re.sub(r"^(gpu|mig)-", "", uuid.strip().lower())
