"""How long counted work takes at stated rates: the fake device's clock, and rough estimates before a run."""

from __future__ import annotations

from dataclasses import dataclass

from castbench.mechanisms.spec import KernelWork


@dataclass(frozen=True, slots=True)
class DeviceRates:
    """Sustained rates of a device by kernel class, and the time one kernel launch costs."""

    name: str
    gemm_flops_per_s: float
    attention_flops_per_s: float
    bytes_per_s: float
    launch_s: float

    def seconds(self, work: KernelWork) -> float:
        """Time of the work when nothing overlaps."""
        return (
            work.gemm_flops / self.gemm_flops_per_s
            + work.attention_flops / self.attention_flops_per_s
            + (work.elementwise_bytes + work.gather_bytes) / self.bytes_per_s
            + work.launches * self.launch_s
            + work.wait_s
        )


FAKE_RATES = DeviceRates("castbench fake device", 100e12, 60e12, 1.5e12, 4e-6)
"""A made-up accelerator of about a mid-range GPU's size; it stands for no product."""


def rough_cpu_rates(cores: int) -> DeviceRates:
    """Typical fp32 rates of a server CPU, for estimates before a run only: about 50 GFLOP/s per core in matrix
    products, half of that in attention, 10 GB/s per core.
    """
    return DeviceRates(f"{cores} CPU cores (rough)", 50e9 * cores, 25e9 * cores, 10e9 * cores, 4e-6)


ROUGH_GPU_RATES = DeviceRates("a data-centre GPU (rough)", 60e12, 30e12, 0.8e12, 5e-6)
"""Modest sustained rates, for estimates before a run only."""
