"""What torch says of itself and of the device a worker sits on; runs in a worker."""

from __future__ import annotations

import torch

from castbench.hardware import cuda_arch
from castbench.measure.device_facts import DeviceFacts


def device_facts(device: torch.device) -> DeviceFacts:
    """Facts of this process's torch and of `device`."""
    if device.type != "cuda":
        return DeviceFacts(_version(), None, torch.get_num_threads(), None, None, None, None)
    properties = torch.cuda.get_device_properties(device)
    return DeviceFacts(
        _version(), torch.version.cuda, torch.get_num_threads(), properties.name,
        f"GPU-{properties.uuid}" if hasattr(properties, "uuid") else None,
        properties.total_memory, torch.backends.cuda.matmul.allow_tf32,
    )  # fmt: skip


def cuda_devices() -> int:
    """Number of CUDA devices torch can use; 0 without CUDA."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def cannot_run_sentence(device: torch.device, dtype: str) -> str | None:
    """Why this torch cannot run on this device with this dtype, and what to do about it; None if it can."""
    if device.type != "cuda":
        if dtype == "fp16":
            return "fp16 on a CPU is emulated and some 50 times slower than fp32; use dtype: bf16 or fp32"
        return None
    capability, built_for = torch.cuda.get_device_capability(device), torch.cuda.get_arch_list()
    if cuda_arch.support(built_for, capability) is cuda_arch.Support.NONE:
        return (
            f"this torch ({torch.__version__}) was built for {', '.join(built_for)} and cannot run on "
            f"{torch.cuda.get_device_name(device)}; {cuda_arch.build_advice(built_for, capability)}"
        )
    if dtype == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return f"{torch.cuda.get_device_name(device)} has no bf16 units; use dtype: fp16 or fp32"
    return None


def _version() -> str:
    """Torch's version as a plain text: torch's own kind of text would make its reader import torch."""
    return str(torch.__version__)
