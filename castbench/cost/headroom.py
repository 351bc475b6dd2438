"""Memory against the device that was measured and smaller GPUs: what is saved below a GPU's size is worth nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from castbench.cost.spec import Headroom
from castbench.findings import CaseFinding
from castbench.hardware.datasheet import GpuFacts
from castbench.records import Environment, Outcome

USABLE = 0.9
"""Share of a device's memory that a model may fill; the rest is for the driver, its context and fragmentation."""


def headroom(
    label: str, cases: Iterable[CaseFinding], environment: Environment, gpus: Sequence[GpuFacts]
) -> Headroom | None:
    """The most memory that the cases need, weights included; None where memory or the device's size is not known."""
    needs = [need for case in cases if (need := _needed(case.outcome)) is not None]
    device_bytes = _device_bytes(environment)
    if not needs or device_bytes is None:
        return None
    needed = max(needs)
    gpu = _smallest(needed, gpus) if environment.device.startswith("cuda") else None
    return Headroom(
        label, needed, device_bytes, gpu.name if gpu else None,
        None if gpu is None or gpu.memory_bytes is None else int(gpu.memory_bytes),
    )  # fmt: skip


def _needed(outcome: Outcome | None) -> int | None:
    """Bytes that a case needs: peak and weights, or what the allocator took, whichever is more."""
    if outcome is None or outcome.peak_bytes is None:
        return None
    return max(outcome.peak_bytes + (outcome.weights_bytes or 0), outcome.reserved_bytes or 0)


def _device_bytes(environment: Environment) -> int | None:
    """Memory of the device that was measured; of a CPU, of its machine."""
    is_gpu = environment.device.startswith("cuda")
    return environment.device_memory_bytes if is_gpu else environment.memory_bytes


def _smallest(needed: int, gpus: Sequence[GpuFacts]) -> GpuFacts | None:
    """The GPU with the least memory that would hold so much."""
    enough = [gpu for gpu in gpus if gpu.memory_bytes is not None and needed <= USABLE * gpu.memory_bytes]
    return min(enough, key=lambda gpu: gpu.memory_bytes or 0.0, default=None)
