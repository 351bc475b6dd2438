"""An inference step as the replay of a CUDA graph: one graph per shape of batch, inputs copied into static buffers.

warm-up × 3 on a side stream ─▶ capture ─▶ step(i): copy batch i into the static buffers, replay
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from castbench.encoder.inputs import Batch
from castbench.measure.cuda import CudaRuntime, Graph
from castbench.measure.rig import CaseFailed
from castbench.records import Status

WARM_UPS = 3
"""Eager steps before capturing, so that libraries and autotuning have done what may not be captured (torch's manual
does as many).
"""
_COPIES = 32
"""Copies that are timed together, few enough for any launch queue."""

_Shape = tuple[torch.Size, torch.Size | None]


@dataclass(frozen=True, slots=True)
class _Captured:
    """A graph with the tensors it reads and writes."""

    graph: Graph
    inputs: Batch
    output: Tensor

    def load(self, batch: Batch) -> None:
        """Launch the copy of a batch of this graph's shape into what the graph reads."""
        self.inputs.inputs.copy_(batch.inputs)
        if self.inputs.key_padding_mask is not None and batch.key_padding_mask is not None:
            self.inputs.key_padding_mask.copy_(batch.key_padding_mask)


class GraphedStep:
    """`step(i)` on the i-th batch of the pool; its output is overwritten by the next step of that shape.

    copy_s      device time to copy a batch into the static buffers, which is part of every step
    """

    def __init__(self, graphs: dict[_Shape, _Captured], pool: Sequence[Batch], copy_s: float) -> None:
        self._graphs, self._pool, self.copy_s = graphs, pool, copy_s

    @torch.inference_mode()
    def __call__(self, index: int) -> Tensor:
        """Copy the inputs, replay, and return the static output."""
        batch = self._pool[index % len(self._pool)]
        captured = self._graphs[_shape(batch)]
        captured.load(batch)
        captured.graph.replay()
        return captured.output


@torch.inference_mode()
def graphed(module: nn.Module, pool: Sequence[Batch], runtime: CudaRuntime) -> GraphedStep:
    """The module's forward pass over the pool, captured once per shape of batch.

    CaseFailed with UNSUPPORTED where it cannot be captured: it synchronises, or its work depends on values that only
    the device knows. The worker is then lost: torch's allocator and streams are left as the capture had them.
    """
    runtime.select()
    graphs: dict[_Shape, _Captured] = {}
    for batch in pool:
        if _shape(batch) not in graphs:
            graphs[_shape(batch)] = _captured(module, batch, runtime)
    return GraphedStep(graphs, pool, _copy_s(graphs, pool, runtime))


def _captured(module: nn.Module, like: Batch, runtime: CudaRuntime) -> _Captured:
    """One graph: warmed up and recorded on the same side stream, since libraries keep their state per stream."""
    mask = like.key_padding_mask
    inputs = Batch(like.inputs.clone(), None if mask is None else mask.clone())
    work: Callable[[], Tensor] = lambda: module(inputs.inputs, inputs.key_padding_mask)  # noqa: E731
    stream = runtime.stream()
    with runtime.on(stream):
        for _ in range(WARM_UPS):
            work()
    runtime.synchronize()
    try:
        with runtime.capture(stream) as graph:
            output = work()
    except RuntimeError as error:
        raise _failure(error) from error
    return _Captured(graph, inputs, output)


def _failure(error: BaseException) -> CaseFailed:
    """A failed capture by its first fault: ending a broken capture raises another on top of it."""
    while error.__context__ is not None:
        error = error.__context__
    said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    if isinstance(error, torch.OutOfMemoryError):
        return CaseFailed(Status.OOM, said, epoch_lost=True)
    return CaseFailed(Status.UNSUPPORTED, f"cannot be captured as a CUDA graph: {said}", epoch_lost=True)


def _copy_s(graphs: dict[_Shape, _Captured], pool: Sequence[Batch], runtime: CudaRuntime) -> float:
    """Device time of one copy, the mean over some that go round the pool."""
    start, end = runtime.event(), runtime.event()
    runtime.synchronize()
    start.record()
    for index in range(_COPIES):
        batch = pool[index % len(pool)]
        graphs[_shape(batch)].load(batch)
    end.record()
    runtime.synchronize()
    return start.seconds_until(end) / _COPIES


def _shape(batch: Batch) -> _Shape:
    """What a graph is bound to: the sizes of its inputs."""
    mask = batch.key_padding_mask
    return batch.inputs.shape, None if mask is None else mask.shape
