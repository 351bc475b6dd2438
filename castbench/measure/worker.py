"""The child's side of a rig: builds arms, runs windows and passes, and answers its parent over a pipe.

    parent ── ("prepare", {...}) ─▶ child        child ── ("ok", value) | ("failed", status, reason) ─▶ parent

A worker is forked from a server that has torch imported, is used for one epoch or one pass, and dies with its parent.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import torch
from torch import nn

from castbench.encoder.inputs import Batch, make_pool
from castbench.encoder.model import build_timed, make_step
from castbench.hardware.scheduling import read_scheduling
from castbench.measure import memory, parity, regimes, torch_facts
from castbench.measure.address_space import limit_address_space
from castbench.measure.clock import Clock, Step
from castbench.measure.cpu_clock import CpuClock
from castbench.measure.cuda import TorchCuda
from castbench.measure.cuda_clock import CudaClock
from castbench.measure.device_facts import DeviceFacts
from castbench.measure.rig import CaseFailed, MemoryReading, Prepared, TimedWindow
from castbench.measure.window_rules import settle_s
from castbench.plan import Arm, Group, Plan, compiles
from castbench.records import CLUSTERED_TIME_RATIO, Sample, Status

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_CALIBRATION_STEPS = 5
_REGIME_STEPS = 3
"""Steps per input kind when a mechanism's dependence on its data is probed."""

_ONE_STEP_S = 1e-9
"""Settling for so long is one step, waited for."""

_LONG_STEP_S = 0.3
"""A first step of this length is its own warm-up."""


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """What a worker is told at birth: device as torch names it, how many threads it may use, and how many bytes it may
    map beyond what it has at birth, so that a step that is too large fails here and nobody else is killed for it.
    """

    device: str
    threads: int | None
    memory_limit_bytes: int | None = None


def serve(connection: Connection, setup: WorkerSetup) -> None:
    """Answer the parent's commands until it hangs up. Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if setup.threads is not None:
        torch.set_num_threads(setup.threads)
    if setup.memory_limit_bytes is not None:
        limit_address_space(setup.memory_limit_bytes)
    bench = Bench(torch.device(setup.device))
    while True:
        try:
            command, arguments = connection.recv()
        except EOFError:
            return
        connection.send(_answer(getattr(bench, command), arguments))


def _answer(command: Callable[..., Any], arguments: dict[str, Any]) -> tuple[Any, ...]:
    """The command's result, or its failure as status and reason."""
    try:
        return ("ok", command(**arguments))
    except CaseFailed as failure:
        return ("failed", failure.status, failure.reason, failure.epoch_lost)
    except (MemoryError, torch.OutOfMemoryError) as error:
        return ("failed", Status.OOM, _first_line(error), False)
    except NotImplementedError as error:  # what a mechanism cannot do here, in its own words
        return ("failed", Status.UNSUPPORTED, _first_line(error), False)
    except Exception as error:
        if (fault := regimes.compile_fault(error)) is not None:
            return ("failed", Status.UNSUPPORTED, fault, False)
        status = Status.OOM if _is_out_of_memory(error) else Status.ERROR
        return ("failed", status, f"{type(error).__name__}: {_first_line(error)}", False)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether torch's CPU allocator, or the C++ runtime below it, ran out of memory: both come as RuntimeError."""
    return any(words in str(error) for words in ("can't allocate memory", "std::bad_alloc", "Cannot allocate memory"))


def _first_line(error: BaseException) -> str:
    """An error's message, short enough for a table."""
    lines = str(error).splitlines()
    return lines[0][:300] if lines else "no message"


@dataclass
class Built:
    """An arm ready to run: `step(i)` is the i-th timed step, and returns the output."""

    module: nn.Module
    pool: tuple[Batch, ...]
    step: Callable[[int], torch.Tensor]


class Bench:
    """The arms of one group on one device, in this process."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._clock: Clock = CudaClock(TorchCuda(device)) if device.type == "cuda" else CpuClock()
        self._plan: Plan | None = None
        self._group: Group | None = None
        self._built: dict[str, Built] = {}
        self._warm_step_s: dict[str, float] = {}
        self._one_at_a_time = False

    def facts(self) -> DeviceFacts:
        """What torch says of itself and of the device."""
        return torch_facts.device_facts(self._device)

    def cuda_devices(self) -> int:
        """Number of CUDA devices torch can use."""
        return torch_facts.cuda_devices()

    def cannot_run(self, dtype: str) -> str | None:
        """Why this device cannot run that dtype, or None."""
        return torch_facts.cannot_run_sentence(self._device, dtype)

    def open(self, plan: Plan, group: Group, one_at_a_time: bool) -> None:
        """Begin an epoch on a group; `one_at_a_time` keeps one arm on the device, built anew when its turn comes."""
        torch.manual_seed(plan.served.seed)
        self._plan, self._group, self._one_at_a_time = plan, group, one_at_a_time
        torch.zeros(1, device=self._device)  # from here on the driver lists this process, if it is to use a GPU
        self._clock.configure(cold_cache=plan.served.scope == "attention")

    def prepare(self, arm: Arm) -> Prepared:
        """Build an arm and warm it up; NONFINITE where its output is not finite, PARITY where its regime changes it.

        The first step also pays for lazy initialisation, so a second one is timed, unless the first was so long that
        this no longer matters.
        """
        built = self._ready(arm)
        first_s = self._warm_step_s[arm.label] = self._clock.time_window(built.step, 1).elapsed_s
        if first_s < _LONG_STEP_S or compiles(self._opened()[1], arm):
            self._warm_step_s[arm.label] = self._clock.time_window(built.step, 1).elapsed_s
        self._require_finite()
        self._require_same_as_eager(built)
        attention = _attention_of(built.module)
        facts = self._data_facts(built, attention)
        return Prepared(self._warm_step_s[arm.label], getattr(attention, "ran_as", None), facts)

    def step_s(self, arm: Arm) -> float:
        """Median of some warm steps, now that every arm of the group is built and the process is warm."""
        if self._warm_step_s[arm.label] < _LONG_STEP_S:
            built = self._ready(arm)
            times = [self._clock.time_window(built.step, 1).elapsed_s for _ in range(_CALIBRATION_STEPS)]
            self._warm_step_s[arm.label] = median(times)
        return self._warm_step_s[arm.label]

    def window(self, arm: Arm, round_index: int, order: int, steps: int) -> TimedWindow:
        """Settle, then time `steps` steps, starting at the same place of the pool for every arm of the round."""
        plan, _ = self._opened()
        built = self._ready(arm)
        offset = round_index * steps

        def step(index: int) -> torch.Tensor:
            return built.step(offset + index)

        began_s = time.monotonic()
        self._clock.settle(built.step, settle_s(str(self._device), plan.sampling, self._warm_step_s[arm.label]))
        before = read_scheduling()
        times = self._clock.time_window(step, steps)
        after = read_scheduling()
        ended_s = time.monotonic()
        self._require_finite()
        sample = Sample(
            arm.label, order, steps, times.elapsed_s, times.step_times_s,
            device_s=times.device_s, host_launch_s=times.host_launch_s, preempted=after.preempted - before.preempted,
            waited_s=before.waited_s_until(after), invalid_reason=times.invalid_reason,
        )  # fmt: skip
        return TimedWindow(sample, began_s, ended_s)

    def block(self, arm: Arm, seconds: float) -> TimedWindow:
        """Steps back to back for about so long, for the energy pass: nothing is read between them."""
        built = self._ready(arm)
        began_s = time.monotonic()
        steps = self._clock.settle(built.step, seconds)
        ended_s = time.monotonic()
        return TimedWindow(Sample(arm.label, 0, steps, ended_s - began_s), began_s, ended_s)

    def parity_error(self, plan: Plan, arm: Arm) -> float:
        """The arm against its reference on small shapes."""
        return parity.parity_error(plan.served, arm, self._device, _DTYPES[plan.served.dtype])

    def memory(self, plan: Plan, group: Group, arm: Arm) -> MemoryReading:
        """Peak memory of a step, in a process that has done nothing else; of a compiled one the second, since the
        first holds the compiler as well.
        """
        module, pool = self._made(plan, group, arm, pool_size=1)

        def first(index: int) -> torch.Tensor:
            return self._step_of(plan, group, module, pool)(index)  # a graph's memory is taken when it is recorded

        if not compiles(group, arm):
            return memory.measure(module, first, self._device)
        step = self._step_of(plan, group, module, pool)
        step(0)
        return memory.measure(module, step, self._device)

    def fits(self, plan: Plan, group: Group, arm: Arm) -> None:
        """One step, in a process that has done nothing else; raises where it does not fit."""
        self._clock.configure(cold_cache=False)
        self._clock.settle(self._build(plan, group, arm, pool_size=1).step, _ONE_STEP_S)

    def _ready(self, arm: Arm) -> Built:
        """The arm, built if it is not on the device; warmed by its settling."""
        if arm.label not in self._built:
            if self._one_at_a_time:
                self._built.clear()
                memory.release(self._device)
            plan, group = self._opened()
            self._built[arm.label] = self._build(plan, group, arm)
        return self._built[arm.label]

    def _build(self, plan: Plan, group: Group, arm: Arm, pool_size: int = 8) -> Built:
        """The timed module of an arm with its inputs and its step."""
        module, pool = self._made(plan, group, arm, pool_size)
        return Built(module, pool, self._step_of(plan, group, module, pool))

    def _made(self, plan: Plan, group: Group, arm: Arm, pool_size: int) -> tuple[nn.Module, tuple[Batch, ...]]:
        """The timed module of an arm and its inputs, on the device."""
        dtype = _DTYPES[plan.served.dtype]
        module = build_timed(plan.served, arm).to(self._device, dtype)
        pool = make_pool(plan.served, plan.mix, group, plan.served.seed, pool_size, self._device, dtype)
        return module, pool

    def _step_of(self, plan: Plan, group: Group, module: nn.Module, pool: Sequence[Batch]) -> Step:
        """The step over these inputs, launched as the group's regime says."""
        return regimes.timed_step(group.regime, module, pool, plan.served.phase, self._device)

    def _data_facts(self, built: Built, attention: nn.Module | None) -> tuple[tuple[str, float], ...]:
        """What a mechanism that depends on its data did with it, and how much its time depends on it."""
        describe = getattr(attention, "describe", None)
        if describe is None or attention is None:
            return ()
        seen: list[tuple[Any, ...]] = []
        hook = attention.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
        plan, group = self._opened()
        make_step(built.module, built.pool, plan.served.phase)(0)
        hook.remove()
        with torch.no_grad():
            facts = dict(describe(*seen[0]))
        facts[CLUSTERED_TIME_RATIO] = self._clustered_time_ratio(built, plan, group)
        return tuple(sorted(facts.items()))

    def _clustered_time_ratio(self, built: Built, plan: Plan, group: Group) -> float:
        """Time on inputs that are clustered by construction over time on the pool, steps alternating."""
        dtype = _DTYPES[plan.served.dtype]
        pool = make_pool(plan.served, plan.mix, group, plan.served.seed, 1, self._device, dtype, clustered=True)
        clustered = self._step_of(plan, group, built.module, pool)
        pairs = [
            (self._clock.time_window(clustered, 1).elapsed_s, self._clock.time_window(built.step, 1).elapsed_s)
            for _ in range(_REGIME_STEPS)
        ]
        return min(c for c, _ in pairs) / min(i for _, i in pairs)

    def _require_same_as_eager(self, built: Built) -> None:
        """PARITY where a regime other than eager changes what comes out; parity itself is checked eagerly."""
        plan, group = self._opened()
        if group.regime == "eager" or plan.served.phase == "training":
            return
        # The second batch: a graph was recorded on the first, and must have taken the second one's inputs.
        wanted = make_step(built.module, built.pool, "inference")(1).double()
        error = float((built.step(1).double() - wanted).norm() / wanted.norm().clamp(min=1e-30))
        if not error <= parity.TOLERANCE[_DTYPES[plan.served.dtype]]:
            raise CaseFailed(Status.PARITY, f"{group.regime} differs from eager by {error:.2g} of the output's norm")

    def _require_finite(self) -> None:
        """NONFINITE unless the last step's output is finite throughout."""
        if not bool(torch.isfinite(self._clock.last_output).all()):
            raise CaseFailed(Status.NONFINITE, "the output holds NaN or infinity")

    def _opened(self) -> tuple[Plan, Group]:
        """The group this worker was opened on."""
        if self._plan is None or self._group is None:
            raise RuntimeError("no group was opened in this worker")
        return self._plan, self._group


def _attention_of(module: nn.Module) -> nn.Module | None:
    """The first attention module inside what is timed, by the attribute every mechanism's module has."""
    return next((m for m in module.modules() if hasattr(m, "ran_as")), None)
