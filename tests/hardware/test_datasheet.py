from __future__ import annotations

import csv
from dataclasses import fields
from importlib import resources

import pytest

from castbench.hardware import datasheet
from castbench.hardware.datasheet import GpuFacts, all_gpus, find_gpu, match_device, unknown_gpu_sentence
from castbench.units import GIB, MIB

RATES = (
    "fp16_dense_flops_per_s", "fp16_sparse_flops_per_s", "fp32_flops_per_s",
    "tf32_dense_flops_per_s", "fp8_dense_flops_per_s",
)  # fmt: skip
REPORTED = [
    ("NVIDIA A100 80GB PCIe", 81920, "A100-PCIe-80GB"),
    ("NVIDIA A100-SXM4-80GB", 81920, "A100-SXM-80GB"),
    ("NVIDIA A100-SXM4-40GB", 40960, "A100-SXM-40GB"),
    ("A100-PCIE-40GB", 40536, "A100-PCIe-40GB"),
    ("NVIDIA H100 80GB HBM3", 81559, "H100-SXM"),
    ("NVIDIA H100 PCIe", 81559, "H100-PCIe"),
    ("NVIDIA H100 NVL", 95830, "H100-NVL"),
    ("NVIDIA H200", 143771, "H200-SXM"),
    ("NVIDIA L4", 23034, "L4"),
    ("NVIDIA L40S", 46068, "L40S"),
    ("Tesla T4", 15360, "T4"),
    ("Tesla V100-SXM2-16GB", 16160, "V100-SXM2-16GB"),
    ("NVIDIA A10G", 23028, "A10G"),
    ("NVIDIA GeForce RTX 4090", 24564, "RTX 4090"),
    ("NVIDIA GH200 480GB", 97871, "GH200-96GB (GPU part)"),
    ("NVIDIA B200", 183359, "B200-SXM"),
    ("NVIDIA GB200", 189471, "GB200 (per GPU)"),
    ("NVIDIA B300 SXM6 AC", 275040, "B300-SXM"),
]


@pytest.mark.parametrize("gpu", all_gpus(), ids=lambda gpu: gpu.name)
def test_every_row_is_sane(gpu: GpuFacts) -> None:
    """Source, status and date on each row; dense at most sparse; everything above zero; capability known for NVIDIA."""
    assert gpu.source
    assert gpu.check_status
    assert gpu.recorded_on.count("-") == 2
    assert gpu.form_factor in {"PCIe", "SXM2", "SXM4", "SXM5", "SXM6", "OAM", "superchip"}
    numbers = [getattr(gpu, f.name) for f in fields(gpu) if f.name.endswith(("_per_s", "_bytes", "_w", "sms"))]
    assert all(number is None or number > 0 for number in numbers)
    assert gpu.bandwidth_bytes_per_s is not None
    assert gpu.memory_bytes is not None
    assert gpu.fp16_dense_flops_per_s is not None
    if gpu.fp16_sparse_flops_per_s is not None:
        assert 1.9 < gpu.fp16_sparse_flops_per_s / gpu.fp16_dense_flops_per_s < 2.1
    assert (gpu.compute_capability is not None) == (gpu.vendor == "NVIDIA")
    if gpu.compute_capability is not None:
        assert (7, 0) <= gpu.compute_capability <= (12, 9)
        assert gpu.bf16_native == (gpu.compute_capability >= (8, 0))
        assert (gpu.fp8_dense_flops_per_s is not None) == (gpu.compute_capability >= (8, 9))


@pytest.mark.parametrize("gpu", all_gpus(), ids=lambda gpu: gpu.name)
def test_rates_and_bandwidths_are_in_si_units(gpu: GpuFacts) -> None:
    """Peaks lie between 5 TFLOP/s and 6 PFLOP/s, bandwidth between 0.3 and 8 TB/s, memory between 15 and 300 GiB:
    a column read in the wrong unit would be off by a thousand.
    """
    for rate in RATES:
        value = getattr(gpu, rate)
        assert value is None or 5e12 < value < 6e15
    assert gpu.bandwidth_bytes_per_s is not None
    assert 0.3e12 <= gpu.bandwidth_bytes_per_s <= 8e12
    assert gpu.memory_bytes is not None
    assert 15 * GIB < gpu.memory_bytes < 300 * GIB


def test_names_are_unique_in_the_catalogue_and_among_drivers() -> None:
    """No two rows share a name, and no driver's name with the same memory stands for two."""
    names = [gpu.name.casefold() for gpu in all_gpus()]
    assert len(set(names)) == len(names)
    devices = [(name.casefold(), gpu.memory_bytes) for gpu in all_gpus() for name in gpu.device_names]
    assert len(set(devices)) == len(devices)


def test_doubt_of_the_source_stays_marked() -> None:
    """Every row whose status doubts something marks the fields in doubt, and marks only figures it holds."""
    for gpu in all_gpus():
        assert bool(gpu.unverified) == ("unverified" in gpu.check_status), gpu.name
        assert all(getattr(gpu, field) is not None for field in gpu.unverified), gpu.name


def test_an_a100_has_its_data_sheet_figures() -> None:
    """One row, checked by hand: 312 TFLOP/s dense, 624 sparse, 1935 GB/s, 80 GiB, 40 MiB of L2, 300 W, 108 SMs."""
    a100 = find_gpu("a100-pcie-80gb")
    assert a100 is not None
    assert (a100.fp16_dense_flops_per_s, a100.fp16_sparse_flops_per_s) == (312e12, 624e12)
    assert (a100.bandwidth_bytes_per_s, a100.memory_bytes, a100.l2_bytes) == (1935e9, 80 * GIB, 40 * MIB)
    assert (a100.tdp_w, a100.sms, a100.compute_capability, a100.unverified) == (300, 108, (8, 0), ())


@pytest.mark.parametrize(("device_name", "mib", "name"), REPORTED)
def test_a_driver_s_name_finds_its_row(device_name: str, mib: int, name: str) -> None:
    """Names and sizes as nvidia-smi prints them lead to the right row, form factor included."""
    matched = match_device(device_name, mib * MIB)
    assert matched is not None
    assert matched.name == name


@pytest.mark.parametrize(
    ("device_name", "mib"),
    [
        ("NVIDIA A100", 81920),
        ("NVIDIA A100 80GB PCIe", 40960),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", 9728),
        ("NVIDIA H200 NVL", 143771),
        ("NVIDIA GH200 480GB", 147456),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 16376),
        ("Tesla V100-PCIE-32GB", 32768),
        ("", None),
    ],
)
def test_an_unknown_device_is_never_guessed(device_name: str, mib: int | None) -> None:
    """A name that is not exactly known, or whose memory is another product's, gives None."""
    assert match_device(device_name, None if mib is None else mib * MIB) is None


def test_an_unknown_size_does_not_stand_in_the_way() -> None:
    """A name is enough where the driver does not report memory."""
    matched = match_device("NVIDIA L4", None)
    assert matched is not None
    assert matched.name == "L4"


@pytest.mark.parametrize(
    ("asked", "offered"), [("A100", "A100-PCIe-80GB"), ("h100sxm", "H100-SXM"), ("RTX4090", "RTX 4090"), ("zzz", "T4")]
)
def test_an_unknown_name_gets_near_ones(asked: str, offered: str) -> None:
    """The sentence repeats what was asked and offers names that exist; all of them where nothing is near."""
    assert find_gpu(asked) is None
    sentence = unknown_gpu_sentence(asked)
    assert repr(asked) in sentence
    assert offered in sentence


def test_the_file_has_no_column_that_nobody_reads() -> None:
    """Columns of gpus.csv and fields of GpuFacts correspond one to one."""
    text = resources.files("castbench.hardware").joinpath("gpus.csv").read_text()
    header = next(csv.reader(text.splitlines()))
    numbers = {column: field for column, (field, _) in datasheet._NUMBERS.items()}
    assert {numbers.get(column, column) for column in header} == {f.name for f in fields(GpuFacts)}
