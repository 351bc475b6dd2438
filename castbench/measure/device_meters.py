"""What the parent knows of the device while a worker uses it: a watch over the GPU's windows, a meter of its energy.

cuda:N  the driver's GPU of that UUID   watch: clocks, heat, slowdowns, other users     energy: counter, power
cpu     no watch                                                                       energy: RAPL
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from castbench.errors import HardwareError
from castbench.hardware import nvml
from castbench.hardware.gpu_identity import identify
from castbench.hardware.rapl import open_rapl
from castbench.measure.energy import EnergyMeter, GpuEnergy, why_no_gpu_energy
from castbench.measure.gpu_watch import GpuWatch, Looks
from castbench.measure.sampler import RealClock, Sampler
from castbench.records import GpuFacts


@dataclass(frozen=True, slots=True)
class DeviceMeters:
    """Open meters of one device; None where there is none, with the reason for what a user will miss.

    processes   others that compute on the device now; None: not known
    """

    gpu: GpuFacts | None = None
    watch: GpuWatch | None = None
    energy: EnergyMeter | None = None
    why_no_energy: str | None = None
    why_no_watch: str | None = None
    processes: tuple[int, ...] | None = None
    closers: tuple[Callable[[], None], ...] = ()

    def close(self) -> None:
        """End the sampling and let go of the device."""
        for close in self.closers:
            close()


def open_meters(device: str, torch_uuid: str | None) -> DeviceMeters:
    """The meters of cpu or cuda:N; never fails: a device without a readable driver is measured by its times alone."""
    if not device.startswith("cuda"):
        access = open_rapl()
        return DeviceMeters(energy=access.meter, why_no_energy=access.reason)
    visible, order = os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("CUDA_DEVICE_ORDER")
    found = identify(device, nvml.inventory(), torch_uuid=torch_uuid, visible=visible, device_order=order)
    if found.uuid is None:
        return DeviceMeters(why_no_energy=found.reason, why_no_watch=found.reason)
    try:
        return _opened(found.uuid)
    except HardwareError as error:
        return DeviceMeters(why_no_energy=str(error), why_no_watch=str(error))


def _opened(uuid: str) -> DeviceMeters:
    """Three handles on one GPU, since none is for two threads: the watch's, its sampler's, the energy pass's."""
    watched, sampled, metered = (nvml.open_gpu(uuid) for _ in range(3))
    present = watched.processes()
    sampler = Sampler(Looks(sampled), RealClock())
    why_none = why_no_gpu_energy(watched.facts)
    return DeviceMeters(
        watched.facts, GpuWatch(watched, sampler), None if why_none else GpuEnergy(metered), why_none,
        processes=None if present is None else tuple(process.pid for process in present),
        closers=(sampler.close, watched.close, sampled.close, metered.close),
    )  # fmt: skip
