"""What a worker tells its parent of torch and the device; apart, because the parent never imports torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """Facts for the environment of a run; None where the device is the CPU."""

    torch: str
    cuda: str | None
    threads: int
    device_name: str | None
    device_uuid: str | None
    device_memory_bytes: int | None
    tf32: bool | None
