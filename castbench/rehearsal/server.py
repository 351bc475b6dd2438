"""The server's side of a rehearsal: a thread that reads requests, the batching queue, and the real encoder.

pipe ─▶ reader thread ─▶ inbox ─▶ BatchQueue ─▶ pad, mask ─▶ encoder ─▶ answer on the host ─▶ pipe

Times are time.monotonic(), which all processes of a machine share.
"""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from statistics import median
from threading import Thread
from typing import Any

import torch
from torch import Tensor

from castbench.encoder.inputs import make_pool
from castbench.encoder.model import build_timed
from castbench.hardware.scheduling import read_scheduling
from castbench.measure.address_space import limit_address_space
from castbench.plan import Group
from castbench.rehearsal.batch_queue import BatchQueue, Waiting
from castbench.rehearsal.seam import ServerOrder
from castbench.workload.lengths import from_shares
from castbench.workload.spec import Shape

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_WARM_S = 3.0
"""About so long every shape of the warm-up together is run."""
_WARM_RUNS = 5
_LONGEST_WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class ServerSetup:
    """What a server is told at birth; see measure.worker.WorkerSetup."""

    device: str
    threads: int | None
    memory_limit_bytes: int | None = None


def serve(connection: Connection, setup: ServerSetup) -> None:
    """Serve until the parent hangs up. The first message is the order; Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if setup.threads is not None:
        torch.set_num_threads(setup.threads)
    if setup.memory_limit_bytes is not None:
        limit_address_space(setup.memory_limit_bytes)
    try:
        order: ServerOrder = connection.recv()
        model = Model(order, torch.device(setup.device))
        connection.send(("ready", warm_up(model, connection, order)))
        _Loop(connection, order, model).run()
    except (EOFError, ConnectionError):
        return
    except Exception as error:
        lines = str(error).splitlines()
        connection.send(("failed", f"{type(error).__name__}: {lines[0][:300] if lines else 'no message'}"))


class Model:
    """The encoder of an arm, with inputs to cut requests from."""

    def __init__(self, order: ServerOrder, device: torch.device) -> None:
        served, dtype = order.served, _DTYPES[order.served.dtype]
        torch.manual_seed(served.seed)
        self._module = build_timed(served, order.arm).to(device, dtype)
        self._masked, self._device = order.masked, device
        longest, most = order.lengths[-1], order.policy.max_batch
        group, mix = Group(Shape(most, longest), "bucketed"), from_shares([(longest, 1.0)])
        self._rows: Tensor = make_pool(served, mix, group, served.seed, 1, device, dtype)[0].inputs

    @torch.inference_mode()
    def answer(self, lengths: list[int]) -> float:
        """Answer one batch of requests of these lengths; seconds the model itself took, its answer on the host."""
        inputs, mask = self._batch(lengths)
        self._wait()
        began_s = time.monotonic()
        outputs = self._module(inputs, mask)
        outputs.to("cpu")
        return time.monotonic() - began_s

    def _batch(self, lengths: list[int]) -> tuple[Tensor, Tensor | None]:
        """Requests padded to the longest; no mask where there is no padding, unless measured batches have one too."""
        longest = max(lengths)
        inputs = self._rows[: len(lengths), :longest].contiguous()
        if len(lengths) == 1 or (not self._masked and min(lengths) == longest):
            return inputs, None
        mask = torch.arange(longest) >= torch.tensor(lengths).unsqueeze(1)
        return inputs, mask.to(self._device)

    def _wait(self) -> None:
        """Until a GPU has made the batch."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def warm_up(model: Model, connection: Connection, order: ServerOrder) -> float:
    """Run every size and length that may come first a few times; seconds a batch spends outside the model, as a median.

    A batch's way is that of a real one, from the queue to the message that says it is done.
    """
    outside: list[float] = []
    sizes = sorted({1, order.policy.max_batch})
    shapes = [(size, length) for length in order.lengths for size in sizes]
    for size, length in reversed(shapes):
        until_s = time.monotonic() + _WARM_S / len(shapes)
        for run in range(_WARM_RUNS):
            queue = BatchQueue(order.policy)
            for number in range(size):
                queue.add(Waiting(0.0, number, length))
            began_s = time.monotonic()
            model_s = _answer(connection, model, queue.take(began_s), began_s, "warm")
            if run:  # the first one pays for what is made once
                outside.append(time.monotonic() - began_s - model_s)
                if time.monotonic() > until_s:
                    break
    return median(outside)


def _answer(
    connection: Connection, model: Model, batch: tuple[Waiting, ...], began_s: float, word: str
) -> float:  # fmt: skip
    """Serve a batch and say so; seconds of the model."""
    model_s = model.answer([request.tokens for request in batch])
    connection.send((word, tuple(request.number for request in batch), began_s, time.monotonic()))
    return model_s


class _Loop:
    """Takes requests in, lets batches out, one after the other."""

    def __init__(self, connection: Connection, order: ServerOrder, model: Model) -> None:
        self._connection, self._model = connection, model
        self._queue = BatchQueue(order.policy)
        self._inbox: SimpleQueue[Any] = SimpleQueue()
        self._is_open = True
        self._before = read_scheduling()

    def run(self) -> None:
        """Until the parent hangs up."""
        Thread(target=self._read, daemon=True).start()
        while self._is_open:
            self._take_in()
            began_s = time.monotonic()
            batch = self._queue.take(began_s)
            if batch:
                _answer(self._connection, self._model, batch, began_s, "batch")
            else:
                self._wait(self._queue.ready_s() - began_s)

    def _read(self) -> None:
        """Requests from the pipe into the inbox at once, so that a burst never waits for a batch to end."""
        try:
            while True:
                self._inbox.put(self._connection.recv())
        except (EOFError, OSError):
            self._inbox.put(None)

    def _take_in(self) -> None:
        """Everything that is there."""
        while not self._inbox.empty():
            self._handle(self._inbox.get())

    def _wait(self, seconds: float) -> None:
        """Until something comes, or a batch may leave."""
        try:
            self._handle(self._inbox.get(timeout=min(max(seconds, 0.0), _LONGEST_WAIT_S)))
        except Empty:
            return

    def _handle(self, message: Any) -> None:
        """A request, the wish to finish, or the end."""
        if message is None:
            self._is_open = False
        elif message == "finish":
            self._connection.send(("finished", self._before.waited_s_until(read_scheduling())))
        else:
            number, tokens, arrival_s = message
            self._queue.add(Waiting(arrival_s, number, tokens))
