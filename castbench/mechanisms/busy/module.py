"""Holding a device for a stated time: the CPU by spinning, a CUDA device by a kernel that counts clock cycles."""

from __future__ import annotations

from functools import cache
from time import perf_counter

import torch
from torch import Tensor, nn

from castbench.mechanisms.busy import BusyParams

_CALIBRATION_CYCLES = 50_000_000
_CALIBRATIONS = 5
"""The first ones bring the clock up from idle; the last one counts."""


class Busy(nn.Module):
    """`forward(x_BNM, key_padding_mask_BN=None) -> x_BNM`, `seconds` later."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.ran_as: str | None = None

    def forward(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
        """The input itself, after the device has been held."""
        self.ran_as = "clock cycles" if x_BNM.is_cuda else "spin"
        hold(x_BNM.device, self.seconds)
        return x_BNM


def build(params: BusyParams, *, embed_dim: int, num_heads: int) -> Busy:
    """Busy for the stated milliseconds; the sizes make no difference."""
    return Busy(params.ms / 1e3)


def hold(device: torch.device, seconds: float) -> None:
    """Hold a device for `seconds`; on CUDA the call returns at once and the stream waits.

    A CPU is never held shorter. A CUDA device is held for the cycles its clock ran in that time when it was
    calibrated, once per process: as exact as its clock is constant.
    """
    if device.type == "cuda":
        torch.cuda._sleep(round(seconds * _cycles_per_second(device)))  # type: ignore[no-untyped-call]
        return
    end = perf_counter() + seconds
    while perf_counter() < end:
        pass


@cache
def _cycles_per_second(device: torch.device) -> float:
    """Clock cycles per second of a CUDA device under the sleeping kernel, by events."""
    elapsed_ms = 0.0
    with torch.cuda.device(device):
        for _ in range(_CALIBRATIONS):
            began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            began.record()
            torch.cuda._sleep(_CALIBRATION_CYCLES)  # type: ignore[no-untyped-call]
            ended.record()
            ended.synchronize()
            elapsed_ms = began.elapsed_time(ended)
    return _CALIBRATION_CYCLES / elapsed_ms * 1e3
