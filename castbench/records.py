"""What was observed: samples, rounds, outcomes and the machine they were observed on; immutable, no judgement.

RunHeader ── once, before the first window
RoundRecord ── one per finished round: every arm of a group once      ┐ repeated
GroupRecord ── one per finished group: statuses, memory, what stopped it ┘
RunRecord ── all of them, as read back from a run file
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from castbench.plan import Plan
from castbench.workload.spec import Economics


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
class Sample:
    """One window: `steps` steps of one arm back to back.

    order           place of the arm within its round, from 0
    elapsed_s       wall time of the whole window
    step_times_s    wall time of single steps; at most STEP_TIMES_KEPT of them
    device_s        device time of the window by events; None where there is no second clock
    host_launch_s   host time to launch the window's work; None where launches are the work
    energy_j        None: not measured
    """

    label: str
    order: int
    steps: int
    elapsed_s: float
    step_times_s: tuple[float, ...] = ()
    device_s: float | None = None
    host_launch_s: float | None = None
    energy_j: float | None = None
    valid: bool = True

    @property
    def mean_step_s(self) -> float:
        """Mean wall time of a step; the mean, because a median drops the stalls that cost money."""
        return self.elapsed_s / self.steps


STEP_TIMES_KEPT = 64
"""Step times kept per window."""


CLUSTERED_TIME_RATIO = "clustered_input_time_ratio"
"""Fact of an outcome: time of a step on inputs clustered by construction over its time on the pool."""


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """One finished round of a group: every arm that is still running, once, in the order drawn."""

    group: str
    round: int
    epoch: int
    samples: tuple[Sample, ...]
    valid: bool = True
    invalid_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one arm in one group.

    parity_error    largest difference from the reference, relative to the reference's largest value
    peak_bytes      peak memory above the weights and the idle process; None: not measured
    weights_bytes   memory of the weights
    facts           what the mechanism says of its own run (coverage, clusters …), by name
    """

    label: str
    status: Status
    reason: str | None = None
    ran_as: str | None = None
    parity_error: float | None = None
    peak_bytes: int | None = None
    weights_bytes: int | None = None
    facts: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Conditions:
    """State of the host while a group was measured; None: not known."""

    load_average: float | None = None
    steal_share: float | None = None
    other_processes: int | None = None


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


@dataclass(frozen=True, slots=True)
class Environment:
    """The machine and software of a run; None: not known. `device` is cpu, cuda:N or fake."""

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
class RunRecord:
    """A run as read back.

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

    def group_record(self, key: str) -> GroupRecord | None:
        """The finished group of that key, or None while it is unfinished."""
        return next((g for g in self.groups if g.group == key), None)

    def rounds_of(self, key: str) -> tuple[RoundRecord, ...]:
        """The valid rounds of a group, in order."""
        return tuple(r for r in self.rounds if r.group == key and r.valid)
