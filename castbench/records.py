"""What was observed: samples, rounds, outcomes and the machine they were observed on; immutable, no judgement.

RunHeader ── once, before the first window
RoundRecord ── one per finished round: every arm of a group once      ┐ repeated
GroupRecord ── one per finished group: statuses, memory, what stopped it ┘
RunRecord ── all of them, as read back from a run file
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, Literal, TypeVar

from castbench.plan import Plan
from castbench.workload.spec import Economics

T = TypeVar("T")


class Status(StrEnum):
    """What became of a case."""

    OK = "ok"
    OOM = "oom"
    CRASH = "crash"
    TIMEOUT = "timeout"
    NONFINITE = "nonfinite"
    PARITY = "parity"
    UNSUPPORTED = "unsupported"
    SKIPPED = "skipped"
    INTERRUPTED = "interrupted"
    ERROR = "error"


class Caveat(StrEnum):
    """Doubts that travel with a number."""

    FEW_ROUNDS = "few-rounds"
    FEW_EPOCHS = "few-epochs"
    LOADED_HOST = "loaded-host"
    SHARED_DEVICE = "shared-device"
    THERMAL_THROTTLE = "thermal-throttle"
    POWER_CAPPED = "power-capped"
    CLOCKS_LOCKED = "clocks-locked"
    LAUNCH_BOUND = "launch-bound"
    CARRY_OVER = "carry-over"
    DISCARDED_ROUNDS = "discarded-rounds"
    ENERGY_DISAGREES = "energy-disagrees"
    NOT_CONFIRMED = "not-confirmed"
    CPU_RUN = "cpu-run"
    FAKE_DEVICE = "fake-device"
    WRONG_DEVICE = "wrong-device"
    INTERPOLATED = "interpolated"
    EXTRAPOLATED = "extrapolated"
    DATA_DEPENDENT = "data-dependent"
    PARITY_UNCHECKED = "parity-unchecked"
    ENERGY_UNMEASURED = "energy-unmeasured"
    MEMORY_UNMEASURED = "memory-unmeasured"
    QUALITY_NOT_MEASURED = "quality-not-measured"
    OBJECTIVE_NOT_TESTED = "objective-not-tested"
    PRICED_SIZE = "priced-size"
    PRICE_OLD = "price-old"
    PRICE_SUSPECT = "price-suspect"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class WindowState:
    """What the device did during one window, settling included; None: not known.

    slowed_s            (cause, seconds) by the driver's counters, or by the share of looks that named a cause without a
                        counter; causes that did not occur are left out
    slowed_share        share of the time slowed: the sum over causes, at most 1; without counters, of looks
    clocks_held_share   share of looks at which a setting, and not the load, held the clock
    foreign             process ids of others on the device
    readings            how often the sampler looked
    """

    readings: int = 0
    sm_clock_mean_hz: float | None = None
    sm_clock_min_hz: float | None = None
    temperature_max_c: float | None = None
    power_mean_w: float | None = None
    utilization_mean: float | None = None
    memory_used_max_bytes: int | None = None
    slowed_s: tuple[tuple[str, float], ...] | None = None
    slowed_share: float | None = None
    clocks_held_share: float | None = None
    foreign: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One window: `steps` steps of one arm back to back.

    order           place of the arm within its round, from 0
    elapsed_s       wall time of the whole window; with a cold cache the device's, since the flush is not work
    step_times_s    wall time of single steps; at most STEP_TIMES_KEPT of them
    device_s        device time of the window by events; None where there is no second clock
    host_launch_s   host time to launch the window's work onto an empty queue, less what the flush hides; None where
                    launches are the work
    preempted       times the scheduler took the worker's threads off a core during the window
    waited_s        time the worker's threads stood in the run queue, ready but behind others; summed over threads
    state           what the device did meanwhile; None where it has no meter
    invalid_reason  why the window must not be used, for a cause outside the arm; the whole round goes with it
    """

    label: str
    order: int
    steps: int
    elapsed_s: float
    step_times_s: tuple[float, ...] = ()
    device_s: float | None = None
    host_launch_s: float | None = None
    preempted: int | None = None
    waited_s: float | None = None
    state: WindowState | None = None
    invalid_reason: str | None = None

    @property
    def valid(self) -> bool:
        """Whether the window may be used."""
        return self.invalid_reason is None

    @property
    def mean_step_s(self) -> float:
        """Mean wall time of a step; the mean, because a median drops the stalls that cost money."""
        return self.elapsed_s / self.steps


STEP_TIMES_KEPT = 64
"""Step times kept per window."""


CLUSTERED_TIME_RATIO = "clustered_input_time_ratio"
"""Fact of an outcome: time of a step on inputs clustered by construction over its time on the pool."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """State of the host while something was measured; None: not known.

    steal_share     CPU time the hypervisor gave to others, as a share of all cores' time
    wait_share      time the worker's threads stood in the run queue behind others, as a share of their windows' time
    """

    load_average: float | None = None
    steal_share: float | None = None
    wait_share: float | None = None


Purpose = Literal["compare", "confirm"]
"""What a round is for: to compare every arm, or to confirm a winner that the first rounds selected."""


@dataclass(frozen=True)
class RoundRecord:
    """One finished round of a group: every arm that is still running, once, in the order drawn.

    round           number of the attempt within group and purpose, from 0; discarded rounds count
    invalid_reason  why the whole round is discarded; None for a round that counts
    """

    group: str
    round: int
    epoch: int
    samples: tuple[Sample, ...]
    purpose: Purpose = "compare"
    invalid_reason: str | None = None

    @property
    def valid(self) -> bool:
        """Whether the round counts."""
        return self.invalid_reason is None

    @cached_property
    def valid_samples(self) -> dict[str, Sample]:
        """Its valid windows by label, the first of each."""
        return {sample.label: sample for sample in reversed(self.samples) if sample.valid}


@dataclass(frozen=True, slots=True)
class EnergyBlock:
    """Energy over a stretch of back-to-back steps, or of idling with a context (steps 0).

    counter_j       by the counter's updates within the stretch, brought to its whole length; None without one
    integrated_j    sampled power integrated over the stretch without its lead, likewise; None without readings
    """

    steps: int
    elapsed_s: float
    counter_j: float | None = None
    integrated_j: float | None = None


@dataclass(frozen=True, slots=True)
class EnergyRecord:
    """Energy of one arm on one group, raw; see docs/method.md.

    source      nvml-counter, nvml-power (integrated, no counter) or rapl
    scope       what the readings cover: gpu, module (Grace Hopper) or cpu-package
    period_s    the counter's update period as inferred; None without a counter
    idle        blocks with the model loaded and nothing running
    blocks      blocks of work
    dropped     what could not be used of the pass, and why, in sentences
    """

    source: str
    scope: str
    period_s: float | None
    idle: tuple[EnergyBlock, ...]
    blocks: tuple[EnergyBlock, ...]
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BatchSearch:
    """The largest batch of an arm at a length that fits: `fits` did, `fails` did not (None: no limit was met)."""

    fits: int
    fails: int | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one arm in one group.

    parity_error    largest difference from the reference, relative to the reference's largest value
    peak_bytes      peak memory above the weights and the idle process; None: not measured
    reserved_bytes  peak of what the caching allocator took from the device; None where there is none
    weights_bytes   memory of the weights
    energy          energy of its own pass; None: not measured, `energy_reason` says why
    largest_batch   result of the search, where one was made
    facts           what the mechanism says of its own run (coverage, clusters …), by name
    """

    label: str
    status: Status
    reason: str | None = None
    ran_as: str | None = None
    parity_error: float | None = None
    peak_bytes: int | None = None
    weights_bytes: int | None = None
    reserved_bytes: int | None = None
    energy: EnergyRecord | None = None
    energy_reason: str | None = None
    largest_batch: BatchSearch | None = None
    facts: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """A finished group; `stopped_by` is precision, rounds, case-limit, budget or nothing-left."""

    group: str
    rounds: int
    stopped_by: str
    outcomes: tuple[Outcome, ...]
    elapsed_s: float
    rounds_sha256: str
    conditions: Conditions = field(default_factory=Conditions)
    caveats: tuple[Caveat, ...] = ()


EnergyScope = Literal["gpu", "module", "cpu-package"]
"""What an energy or power reading covers: the GPU board, a Grace Hopper module with its CPU and memory, CPU sockets."""


@dataclass(frozen=True, slots=True)
class GpuFacts:
    """What does not change while a GPU is measured.

    index               place in the driver's list, which CUDA_VISIBLE_DEVICES does not change
    uuid                the GPU's (GPU-…) or the MIG instance's (MIG-…)
    parent_uuid         of a MIG instance, the GPU it is cut from; None for a whole GPU
    compute_mode        default, exclusive-process or prohibited
    power_limit_w       enforced now; `power_default_w` is what the GPU ships with
    clocks_locked       whether application or locked clocks hold the clock below its maximum
    energy_scope        what its energy counter and power readings cover
    """

    index: int
    uuid: str | None
    name: str | None
    parent_uuid: str | None = None
    memory_total_bytes: int | None = None
    compute_capability: tuple[int, int] | None = None
    ecc: bool | None = None
    mig: bool | None = None
    compute_mode: str | None = None
    persistence: bool | None = None
    power_limit_w: float | None = None
    power_default_w: float | None = None
    sm_clock_max_hz: float | None = None
    clocks_locked: bool | None = None
    energy_scope: EnergyScope | None = None
    driver: str | None = None
    cuda: str | None = None


@dataclass(frozen=True, slots=True)
class Environment:
    """The machine and software of a run; None: not known. `device` is cpu, cuda:N or fake.

    affinity            cores that the workers may run on
    thread_settings     environment variables that steer threads and pinning, as they were set
    gpu                 the driver's word on the device; None on a CPU or without a readable driver
    """

    device: str
    device_name: str
    host: str
    os: str
    python: str
    castbench: str
    torch: str | None = None
    cuda: str | None = None
    driver: str | None = None
    device_uuid: str | None = None
    device_memory_bytes: int | None = None
    cpu: str | None = None
    cpu_cores: int | None = None
    threads: int | None = None
    memory_bytes: int | None = None
    load_average: float | None = None
    tf32: bool | None = None
    git_commit: str | None = None
    affinity: tuple[int, ...] | None = None
    thread_settings: tuple[tuple[str, str], ...] = ()
    gpu: GpuFacts | None = None


@dataclass(frozen=True, slots=True)
class RunHeader:
    """First line of a run file. Hashes are sha256 in hex; see docs/run-format.md for what each covers."""

    schema: int
    run_id: str
    created_at: str
    profile_source: str
    profile_text: str
    profile_sha256: str
    comparable_sha256: str
    plan: Plan
    plan_sha256: str
    code_sha256: str
    environment: Environment
    profile_name: str = ""
    economics: Economics = field(default_factory=Economics)


@dataclass(frozen=True, slots=True)
class Selected:
    """An arm that the first rounds selected on a group, to be confirmed against another arm there on fresh rounds."""

    group: str
    label: str
    against: str


@dataclass(frozen=True, slots=True)
class Selection:
    """What is confirmed, and by which rule it was selected, in a sentence."""

    selected: tuple[Selected, ...]
    rule: str


@dataclass(frozen=True, slots=True)
class RunEnd:
    """The closing line of a run that ended by itself: how much it holds, and whether its budget left nothing out."""

    rounds: int
    groups: int
    complete: bool


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as read back.

    selection   what was confirmed; None where nothing was selected, or not yet
    ended       the closing line; None where the run was interrupted, or lines were cut off
    damage      what of the file could not be read, in sentences
    unchained   numbers of lines that do not follow from the line before them: the file was changed
    """

    header: RunHeader
    rounds: tuple[RoundRecord, ...]
    groups: tuple[GroupRecord, ...]
    resumed_at: tuple[str, ...] = ()
    damage: tuple[str, ...] = ()
    path: str | None = None
    unchained: tuple[int, ...] = ()
    selection: Selection | None = None
    ended: RunEnd | None = None
    _derived: dict[Callable[[RunRecord], Any], Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def once(self, derive: Callable[[RunRecord], T]) -> T:
        """What a pure function makes of this record, computed on the first call: a record never changes."""
        if derive not in self._derived:
            self._derived[derive] = derive(self)
        made: T = self._derived[derive]
        return made

    def group_record(self, key: str) -> GroupRecord | None:
        """The finished group of that key, or None while it is unfinished."""
        return self.once(_groups_by_key).get(key)

    def rounds_of(self, key: str, purpose: Purpose = "compare") -> tuple[RoundRecord, ...]:
        """The valid rounds of a group, in order."""
        return self.once(_rounds_by_group).get((key, purpose), ())


def _groups_by_key(record: RunRecord) -> dict[str, GroupRecord]:
    """Finished groups by key, the first of each."""
    return {group.group: group for group in reversed(record.groups)}


def _rounds_by_group(record: RunRecord) -> dict[tuple[str, Purpose], tuple[RoundRecord, ...]]:
    """Valid rounds by group and purpose, in order."""
    found: dict[tuple[str, Purpose], list[RoundRecord]] = {}
    for one in record.rounds:
        if one.valid:
            found.setdefault((one.group, one.purpose), []).append(one)
    return {key: tuple(rounds) for key, rounds in found.items()}
