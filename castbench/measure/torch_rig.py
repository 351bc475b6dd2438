"""The rig of real devices, parent's side: forks workers from a server with torch loaded, and outlives what they do.

The parent never imports torch: a crash, a hang or an exhausted memory of a mechanism ends a worker, not the run.
"""

from __future__ import annotations

import os
import random
import time
import uuid
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import castbench
from castbench.errors import HardwareError
from castbench.hardware import cpu
from castbench.measure import forking
from castbench.measure.device_meters import open_meters
from castbench.measure.energy import BlockRun, EnergyPolicy, measure_energy
from castbench.measure.rig import CaseFailed, EnergyReading, MemoryReading, Prepared, TimedWindow
from castbench.measure.sampler import RealClock
from castbench.measure.threads import thread_settings, unbind, usable_cores
from castbench.plan import Arm, Group, Plan, compiles
from castbench.records import Conditions, Environment, Sample, Status

if TYPE_CHECKING:
    from castbench.measure.device_facts import DeviceFacts
    from castbench.measure.gpu_watch import GpuWatch

START_TIMEOUT_S = 180.0
"""Importing torch for the first time, on a cold disk."""
STEP_TIMEOUT_FLOOR_S = 60.0
"""No window is given up earlier than this."""
COMPILE_TIMEOUT_S = 600.0
"""What torch.compile may take on top, for every arm."""
_MEASURED_ROOMS = ("mechanisms", "encoder", "measure")


class Worker:
    """A child process that answers commands one at a time."""

    def __init__(self, device: str, threads: int | None, memory_limit_bytes: int | None = None) -> None:
        self._forked = forking.Forked(
            "castbench.measure.worker", _serve, device, threads, memory_limit_bytes, usable_cores()
        )  # fmt: skip

    def ask(self, command: str, timeout_s: float, **arguments: Any) -> Any:
        """The command's result; CaseFailed where it failed, the process died or the time ran out."""
        try:
            self._forked.connection.send((command, arguments))
            if not self._forked.connection.poll(timeout_s):
                self.kill()
                raise CaseFailed(Status.TIMEOUT, f"no answer within {timeout_s:.0f} s", epoch_lost=True)
            answer = self._forked.connection.recv()
        except (EOFError, ConnectionError, BrokenPipeError):
            raise self._obituary() from None
        if answer[0] == "failed":
            raise CaseFailed(answer[1], answer[2], epoch_lost=answer[3])
        return answer[1]

    def close(self) -> None:
        """Hang up and wait for the process to end; kill it if it does not."""
        self._forked.close()

    def kill(self) -> None:
        """End the process at once."""
        self._forked.kill()

    def _obituary(self) -> CaseFailed:
        """Why the process is gone."""
        ended = self._forked.how_it_ended()
        if ended is None:
            return CaseFailed(Status.OOM, "the system killed the worker (SIGKILL): out of memory", epoch_lost=True)
        return CaseFailed(Status.CRASH, f"the worker process died ({ended})", epoch_lost=True)


def _serve(
    connection: Connection, device: str, threads: int | None, memory_limit_bytes: int | None,
    cores: tuple[int, ...] | None,
) -> None:  # fmt: skip
    """Entry of a worker process; the module that imports torch is preloaded in the fork server."""
    worker = import_module("castbench.measure.worker")
    if device != "cpu":
        unbind(cores)
    # A parent that is gone or interrupted has told its user already; a worker's traceback would only frighten.
    with suppress(KeyboardInterrupt, BrokenPipeError, ConnectionError):
        worker.serve(connection, worker.WorkerSetup(device, threads, memory_limit_bytes))


class TorchRig:
    """Measures on `cpu` or `cuda:N`, every epoch and every pass in a process of its own.

    On a CPU no worker may map more memory than is available now (or `memory_limit_bytes`), so that a case that does not
    fit fails by itself, instead of the system choosing whom to kill.
    """

    def __init__(self, device: str, threads: int | None, memory_limit_bytes: int | None = None) -> None:
        self.device, self._threads = device, threads
        self._steal = cpu.StealMeter()
        if device == "cpu" and memory_limit_bytes is None:
            memory_limit_bytes = cpu.read_host().memory_available_bytes
        self._memory_limit_bytes = memory_limit_bytes
        self._facts: DeviceFacts = _asked_of(device, threads, "facts")
        self._meters = open_meters(device, self._facts.device_uuid)

    def environment(self) -> Environment:
        """The host, read here, and the device, read by a worker."""
        host, facts, gpu = cpu.read_host(), self._facts, self._meters.gpu
        return Environment(
            device=self.device, device_name=facts.device_name or host.cpu_model or "unknown CPU",
            host=host.hostname, os=host.os, python=host.python, castbench=castbench.__version__,
            torch=facts.torch, cuda=facts.cuda, driver=gpu.driver if gpu else None,
            device_uuid=gpu.uuid if gpu else facts.device_uuid, device_memory_bytes=facts.device_memory_bytes,
            cpu=host.cpu_model, cpu_cores=host.usable_cores, threads=facts.threads,
            memory_bytes=host.memory_total_bytes, load_average=host.load_average, tf32=facts.tf32,
            git_commit=_git_commit(), affinity=usable_cores(), thread_settings=thread_settings(os.environ),
            gpu=gpu,
        )  # fmt: skip

    def identity(self) -> tuple[str, str, str]:
        """A random id, the time now, and the hash of the code that is measured."""
        return uuid.uuid4().hex[:12], datetime.now(UTC).isoformat(timespec="seconds"), code_sha256()

    def now_s(self) -> float:
        """The monotonic clock."""
        return time.monotonic()

    def others(self) -> tuple[int, ...] | None:
        """By the driver's list; a container may be shown only its own."""
        return self._meters.processes

    def conditions(self) -> Conditions:
        """Load and steal since the last call."""
        return Conditions(load_average=cpu.load_average(), steal_share=self._steal.share())

    def require_usable(self, dtype: str) -> None:
        """HardwareError where this torch cannot run this dtype on this device."""
        sentence = _asked_of(self.device, self._threads, "cannot_run", dtype=dtype)
        if sentence:
            raise HardwareError(sentence)

    def parity_error(self, plan: Plan, arm: Arm) -> float:
        """Checked in a worker of its own."""
        error: float = self._once("parity_error", _limit_s(plan), plan=plan, arm=arm)
        return error

    def memory(self, plan: Plan, group: Group, arm: Arm) -> MemoryReading:
        """Measured in a worker of its own; out of memory counts only after this retry alone."""
        reading: MemoryReading = self._once("memory", _limit_s(plan), plan=plan, group=group, arm=arm)
        return reading

    def energy(self, plan: Plan, group: Group, arm: Arm) -> EnergyReading:
        """Blocks of steps in a worker of their own, the meter read from here."""
        meter = self._meters.energy
        if meter is None:
            return EnergyReading(None, self._meters.why_no_energy)
        epoch = self.open_epoch(plan, group)
        try:
            epoch.prepare(arm)
            rng = random.Random(f"{plan.served.seed}|{group.key}|{arm.label}|energy")
            found = measure_energy(meter, partial(epoch.block, arm), RealClock(), rng, EnergyPolicy())
        finally:
            epoch.close()
        return EnergyReading(found.record and replace(found.record, dropped=found.dropped), found.reason)

    def fits(self, plan: Plan, group: Group, arm: Arm, batch_size: int) -> bool:
        """One step in a worker of its own; only out of memory means that it does not fit, anything else is raised."""
        sized = replace(group, shape=replace(group.shape, batch_size=batch_size))
        try:
            self._once("fits", _limit_s(plan), plan=plan, group=sized, arm=arm)
        except CaseFailed as failure:
            if failure.status is Status.OOM:
                return False
            raise
        return True

    def open_epoch(self, plan: Plan, group: Group, *, one_at_a_time: bool = False) -> TorchEpoch:
        """A fresh worker for a group."""
        return TorchEpoch(self._worker(), plan, group, one_at_a_time, self._meters.watch)

    def close(self) -> None:
        """Let go of the meters; workers are closed with their epochs."""
        self._meters.close()

    def _once(self, command: str, timeout_s: float, **arguments: Any) -> Any:
        """One command in a fresh worker of this rig's; CaseFailed as from `Worker.ask`."""
        return _answered(self._worker(), command, timeout_s, **arguments)

    def _worker(self) -> Worker:
        """A fresh worker on this rig's device."""
        return Worker(self.device, self._threads, self._memory_limit_bytes)


class TorchEpoch:
    """A worker process that holds a group's arms, watched from here where the device has a meter."""

    def __init__(
        self, worker: Worker, plan: Plan, group: Group, one_at_a_time: bool, watch: GpuWatch | None = None
    ) -> None:
        self._worker, self._limit_s, self._watch = worker, _limit_s(plan), watch
        if watch is not None:
            watch.worker_starting()
        self._group = group
        try:
            worker.ask("open", START_TIMEOUT_S, plan=plan, group=group, one_at_a_time=one_at_a_time)
        except CaseFailed:
            worker.close()
            raise
        if watch is not None:
            watch.worker_started()

    def prepare(self, arm: Arm) -> Prepared:
        """Build and warm up in the worker."""
        limit_s = self._limit_s + (COMPILE_TIMEOUT_S if compiles(self._group, arm) else 0.0)
        prepared: Prepared = self._worker.ask("prepare", limit_s, arm=arm)
        return prepared

    def step_s(self, arm: Arm) -> float:
        """Timed in the worker."""
        seconds: float = self._worker.ask("step_s", self._limit_s, arm=arm)
        return seconds

    def window(self, arm: Arm, round_index: int, order: int, steps: int) -> Sample:
        """One window in the worker."""
        mark = self._watch.mark() if self._watch is not None else None
        timed: TimedWindow = self._worker.ask(
            "window", self._limit_s, arm=arm, round_index=round_index, order=order, steps=steps
        )
        if self._watch is None or mark is None:
            return timed.sample
        state, outside = self._watch.between(mark, timed.began_s, timed.ended_s)
        return replace(timed.sample, state=state, invalid_reason=timed.sample.invalid_reason or outside)

    def block(self, arm: Arm, seconds: float) -> BlockRun:
        """Steps back to back for about so long."""
        timed: TimedWindow = self._worker.ask("block", self._limit_s + 2 * seconds, arm=arm, seconds=seconds)
        return BlockRun(timed.sample.steps, timed.began_s, timed.ended_s)

    def close(self) -> None:
        """End the worker."""
        self._worker.close()


def usable_device(asked: str) -> str:
    """The device to measure on: `auto` takes the first CUDA device torch can use, else the CPU.

    HardwareError where a CUDA device was asked for that is not there.
    """
    if asked == "cpu":
        return "cpu"
    count: int = _asked_of("cpu", None, "cuda_devices")
    if asked == "auto":
        return "cuda:0" if count else "cpu"
    index = int(asked.removeprefix("cuda").removeprefix(":") or 0)
    if index >= count:
        there = f"torch sees {count} CUDA device{'s' if count != 1 else ''}"
        raise HardwareError(f"--device {asked}: {there}; `castbench doctor` says why, --device cpu measures on the CPU")
    return f"cuda:{index}"


def _asked_of(device: str, threads: int | None, command: str, **arguments: Any) -> Any:
    """A fresh worker's answer; HardwareError where no worker can be had, since then nothing can be measured."""
    try:
        return _answered(Worker(device, threads), command, START_TIMEOUT_S, **arguments)
    except CaseFailed as failure:
        raise HardwareError(f"{device} cannot be used: {failure.reason}") from None


def _answered(worker: Worker, command: str, timeout_s: float, **arguments: Any) -> Any:
    """A worker's answer to its only command."""
    try:
        return worker.ask(command, timeout_s, **arguments)
    finally:
        worker.close()


def code_sha256() -> str:
    """Hash of the source of everything that runs inside a timed window or decides how it is timed."""
    root = Path(castbench.__file__).parent
    files = sorted(path for room in _MEASURED_ROOMS for path in (root / room).rglob("*.py"))
    digest = sha256()
    for path in files:
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _limit_s(plan: Plan) -> float:
    """How long one command may take before its worker counts as hanging."""
    return max(STEP_TIMEOUT_FLOOR_S, 2 * plan.sampling.max_seconds_per_case)


def _git_commit() -> str | None:
    """Commit of the checkout castbench runs from; None when it was installed."""
    git = Path(castbench.__file__).parent.parent / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        return (git / head.removeprefix("ref: ")).read_text().strip()
    except OSError:
        return None
