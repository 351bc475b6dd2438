"""How a step is launched: as written, through torch.compile, or replayed as a CUDA graph.

eager      Python launches every kernel                        what most services run today
compiled   torch.compile fuses and launches fewer kernels      compiled before anything is timed
graph      the kernels of one step recorded, then replayed     CUDA inference; no launch cost per kernel
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import nn

from castbench.encoder.inputs import Batch
from castbench.encoder.model import make_step
from castbench.measure.cuda import TorchCuda
from castbench.measure.cuda_graph import graphed
from castbench.measure.rig import CaseFailed
from castbench.records import Status
from castbench.workload.spec import Phase, Regime

_COMPILER_FAULTS = ("BackendCompilerFailed", "InductorError", "CppCompileError", "InvalidCxxCompiler", "Unsupported")
"""Exceptions of torch's compiler that say what the machine or the module lacks, by name, since they move between
versions.
"""


def timed_step(
    regime: Regime, module: nn.Module, pool: Sequence[Batch], phase: Phase, device: torch.device
) -> Callable[[int], torch.Tensor]:
    """`step(i)` in that regime; CaseFailed with UNSUPPORTED where the device cannot do it (for the compiler that shows
    at the first step: see `compile_fault`).
    """
    if regime == "eager":
        return make_step(module, pool, phase)
    if regime == "compiled":
        return make_step(_compiled(module), pool, phase)
    if device.type != "cuda":
        raise CaseFailed(Status.UNSUPPORTED, "CUDA graphs need a CUDA device")
    if phase == "training":
        raise CaseFailed(Status.UNSUPPORTED, "graphs are measured for inference only")
    return graphed(module, pool, TorchCuda(device))


def compile_fault(error: BaseException) -> str | None:
    """Why torch's compiler could not compile, if that is what the error says."""
    if type(error).__name__ not in _COMPILER_FAULTS:
        return None
    lines = str(error).strip().splitlines()
    return f"torch.compile cannot compile it here: {lines[0][:200] if lines else 'no message'}"


def _compiled(module: nn.Module) -> nn.Module:
    """The module through torch.compile, one graph per shape."""
    # A worker is a daemon and may have no children of its own: the compiler stays in this process.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    # What the compiler advises its developers is not for the reader of a progress bar.
    warnings.filterwarnings("ignore", module=r"torch\._(dynamo|inductor)")
    compiled: nn.Module = torch.compile(module, dynamic=False)  # type: ignore[assignment]  # a module in, a module out
    return compiled
