"""What is known of GPUs by their data sheets, gpus.csv: peaks, memory, bandwidth, each row with its source.

An unknown GPU is reported as unknown: nothing is guessed from a similar name.
"""

from __future__ import annotations

import csv
import difflib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from castbench.units import GIB, MIB

_NUMBERS = {
    "sms": ("sms", 1.0),
    "fp16_dense_tflops": ("fp16_dense_flops_per_s", 1e12),
    "fp16_sparse_tflops": ("fp16_sparse_flops_per_s", 1e12),
    "fp32_tflops": ("fp32_flops_per_s", 1e12),
    "tf32_dense_tflops": ("tf32_dense_flops_per_s", 1e12),
    "fp8_dense_tflops": ("fp8_dense_flops_per_s", 1e12),
    "memory_gib": ("memory_bytes", GIB),
    "bandwidth_gb_s": ("bandwidth_bytes_per_s", 1e9),
    "l2_mib": ("l2_bytes", MIB),
    "tdp_w": ("tdp_w", 1.0),
}
"""Columns of the file with the field each becomes and the factor to its unit."""
_MEMORY_TOLERANCE = (0.9, 1.02)
"""A driver reports the nominal memory less what ECC and firmware take (L40S: 46068 MiB of 48 GiB)."""


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """One GPU of the catalogue. None: not known.

    fp16_…             tensor-core rate of fp16 (and bf16 where bf16_native), multiply-add counted as two
    dense, sparse      without and with 2:4 structured sparsity; comparisons use dense
    memory_bytes       nominal size
    compute_capability NVIDIA's; None for other vendors
    device_names       what the driver calls it
    unverified         fields whose figure no source at hand confirms
    check_status       how the row was checked, in words
    """

    name: str
    vendor: str
    arch: str
    form_factor: str
    compute_capability: tuple[int, int] | None
    sms: float | None
    fp16_dense_flops_per_s: float | None
    fp16_sparse_flops_per_s: float | None
    fp32_flops_per_s: float | None
    tf32_dense_flops_per_s: float | None
    fp8_dense_flops_per_s: float | None
    memory_bytes: float | None
    bandwidth_bytes_per_s: float | None
    l2_bytes: float | None
    tdp_w: float | None
    bf16_native: bool
    device_names: tuple[str, ...]
    unverified: tuple[str, ...]
    check_status: str
    note: str
    recorded_on: str
    source: str


@cache
def all_gpus() -> tuple[GpuFacts, ...]:
    """The catalogue in the order of its file."""
    text = resources.files("castbench.hardware").joinpath("gpus.csv").read_text(encoding="utf-8")
    return tuple(_facts(row) for row in csv.DictReader(text.splitlines()))


def find_gpu(name: str) -> GpuFacts | None:
    """The GPU of that catalogue name, capitals aside, or None."""
    return next((gpu for gpu in all_gpus() if gpu.name.casefold() == name.strip().casefold()), None)


def match_device(device_name: str, memory_bytes: int | None) -> GpuFacts | None:
    """The GPU that a driver calls `device_name`, or None where the name or the memory is not that of a known one.

    Memory tells apart products of one name (GH200), and a slice of a GPU from a whole one.
    """
    called = _plain_name(device_name)
    for gpu in all_gpus():
        if called in map(_plain_name, gpu.device_names) and _memory_fits(gpu, memory_bytes):
            return gpu
    return None


def unknown_gpu_sentence(name: str) -> str:
    """What to tell a user who named a GPU that the catalogue does not have."""
    names = [gpu.name for gpu in all_gpus()]
    wanted = name.strip().casefold()
    by_folded = {known.casefold(): known for known in names}
    near = [known for known in names if wanted and wanted in known.casefold()]
    near += [by_folded[folded] for folded in difflib.get_close_matches(wanted, by_folded, n=3, cutoff=0.6)]
    if near:
        return f"no GPU is named {name!r} in the catalogue; near names are {', '.join(dict.fromkeys(near))}"
    return f"no GPU is named {name!r} in the catalogue; it has {', '.join(names)}"


def _facts(row: dict[str, str]) -> GpuFacts:
    """A row of the file in SI units."""
    numbers = {field: float(row[column]) * factor if row[column] else None
               for column, (field, factor) in _NUMBERS.items()}  # fmt: skip
    major, _, minor = row["compute_capability"].partition(".")
    return GpuFacts(
        name=row["name"], vendor=row["vendor"], arch=row["arch"], form_factor=row["form_factor"],
        compute_capability=(int(major), int(minor)) if major else None,
        bf16_native=row["bf16_native"] == "yes",
        device_names=_listed(row["device_names"]),
        unverified=tuple(_NUMBERS[column][0] for column in _listed(row["unverified"])),
        check_status=row["check_status"], note=row["note"], recorded_on=row["recorded_on"], source=row["source"],
        **numbers,
    )  # fmt: skip


def _listed(cell: str) -> tuple[str, ...]:
    """The parts of a cell that holds several, separated by semicolons."""
    return tuple(part.strip() for part in cell.split(";") if part.strip())


def _plain_name(device_name: str) -> str:
    """A device name without the vendor that older drivers leave out, and without capitals."""
    return device_name.strip().casefold().removeprefix("nvidia ")


def _memory_fits(gpu: GpuFacts, memory_bytes: int | None) -> bool:
    """Whether a reported size can be this GPU's; an unknown size fits."""
    if memory_bytes is None or gpu.memory_bytes is None:
        return True
    least, most = _MEMORY_TOLERANCE
    return least * gpu.memory_bytes <= memory_bytes <= most * gpu.memory_bytes
