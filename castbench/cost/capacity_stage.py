"""The capacity stage of one run: every arm at its best way of batching, with the fewest replicas an objective needs.

surfaces of an arm ─▶ a service for each regime and way of batching ─▶ plan_capacity of each ─▶ the one with the fewest
                                                                  └─▶ best_rate: what a stated number of replicas bears
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from castbench.cost.capacity_plan import (
    RESAMPLES,
    WINDOWS_S,
    CapacityPlan,
    plan_capacity,
    policies_for,
    replica_interval,
)
from castbench.cost.draws import DRAWS, MIN_ROUNDS, shifted
from castbench.cost.objective import Objective
from castbench.cost.service import Service, measured_service, measured_time, surfaces_for
from castbench.cost.sizing import MOST_FACTOR, TOLERANCE, Factor, Setting, rate_sustained
from castbench.cost.surface import build_surfaces, data_dependence, drawn_times, interpolation_errors, mean_times
from castbench.cost.traffic import BLOCK_S, Traffic
from castbench.errors import InputError
from castbench.findings import case_findings
from castbench.plan import Arm, Plan
from castbench.records import RunRecord
from castbench.said import Statement, statement
from castbench.workload.spec import Regime

if TYPE_CHECKING:
    from castbench.cost.replay import BatchingPolicy
    from castbench.cost.surface import LatencySurface, Surfaces

FEWEST_BLOCKS = 10
"""Traffic too short for so many blocks is cut into shorter ones: of one block every resample is the same."""
SERVICE_DRAWS = 40
"""Draws of the measured times that the resamples of the traffic are paired with, in turn."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What capacity is asked for.

    overhead_s          what a batch spends outside the model while it holds a replica
    replicas_per_unit   devices of one billing unit
    resamples           of the traffic, for the interval; 0: none
    block_s             length of the blocks it is resampled in, if it has FEWEST_BLOCKS of them
    replicas            also find the rate that so many bear; None: not asked
    """

    traffic: Traffic
    objective: Objective
    overhead_s: float = 0.0
    windows_s: tuple[float, ...] = WINDOWS_S
    replicas_per_unit: int = 1
    resamples: int = RESAMPLES
    block_s: float = BLOCK_S
    seed: int = 0
    replicas: int | None = None

    @property
    def blocks_s(self) -> float:
        """Length of the blocks that the traffic is resampled in."""
        span_s = self.traffic.span_s
        return min(self.block_s, span_s / FEWEST_BLOCKS) if span_s else self.block_s


@dataclass(frozen=True, slots=True, eq=False)
class Way:
    """One regime and one way of batching of an arm, with what it takes: batches padded, or sorted by length.

    doubt   relative size of what its times may be off by beyond the spread of rounds: by interpolation between
            lengths, and by how much they depend on what the inputs hold
    """

    regime: Regime
    bucketed: bool
    service: Service
    surfaces: tuple[LatencySurface, ...]
    doubt: float = 0.0

    @property
    def edges(self) -> tuple[int, ...]:
        """Ends of the length buckets that batches are kept within; none where they are padded."""
        return self.surfaces[0].lengths if self.bucketed else ()

    def setting(self, traffic: Traffic, objective: Objective, policy: BatchingPolicy, seed: int = 0) -> Setting:
        """What is asked of this way."""
        return Setting(traffic, self.service, objective, policy, seed)


@dataclass(frozen=True, slots=True, eq=False)
class ArmCapacity:
    """One arm's capacity in its best way; `plan` is None where nothing could be sized, and `reason` says why.

    sustained   requests per second that the replicas asked about bear, in the way that bears most; None: not asked
    """

    arm: Arm
    way: Way | None
    plan: CapacityPlan | None
    reason: Statement | None
    sustained: Factor | None = None

    @property
    def needed(self) -> int | None:
        """Fewest replicas; None where none do."""
        return None if self.plan is None else self.plan.sizing.needed

    @property
    def why_none(self) -> Statement | None:
        """Why there is no number; None where there is one."""
        return self.reason if self.plan is None else self.plan.sizing.reason


def require_served(plan: Plan) -> None:
    """InputError where what was measured is no answer to a request: a training step, or an attention module alone."""
    if plan.served.phase != "inference":
        raise InputError("the run measured training steps, which serve nobody; measure with phase: inference")
    if plan.served.scope != "encoder":
        raise InputError(
            "the run measured an attention module alone (scope: attention), so that what a whole request takes is not "
            "known; measure with scope: encoder"
        )


def longest_measured(record: RunRecord) -> int:
    """Tokens of the longest requests that the run can say anything of."""
    return max(group.shape.seq_len for group in record.header.plan.groups if not group.held_out)


def fitted(traffic: Traffic, longest: int, *, truncate: bool) -> tuple[Traffic, int]:
    """Traffic without requests longer than `longest`, which are cut to it, and how many those are.

    Raises InputError for such requests unless `truncate`.
    """
    import numpy as np

    beyond = int((traffic.tokens > longest).sum())
    if not beyond:
        return traffic, 0
    if not truncate:
        are = "is" if beyond == 1 else "are"
        raise InputError(
            f"{beyond:,} of {traffic.requests:,} requests {are} longer than the {longest:,} tokens measured (up to "
            f"{int(traffic.tokens.max()):,}); measure longer ones, or take --truncate if your service cuts them"
        )
    return replace(traffic, tokens=np.minimum(traffic.tokens, longest)), beyond


def arm_capacities(
    record: RunRecord, asked: Asked, labels: Sequence[str] = (),
    on_progress: Callable[[str, float], None] | None = None,
) -> tuple[ArmCapacity, ...]:  # fmt: skip
    """Capacity of the arms of these labels (all but the ceilings by default), in the order of the plan.

    `on_progress` is told the label that is being sized and the share of everything that is done. InputError for a run
    that measured no whole requests, and for requests longer than measured.
    """
    require_served(record.header.plan)
    arms = [a for a in record.header.plan.arms if a.role != "ceiling" and (not labels or a.label in labels)]
    measured = Measured.of(record, drawn=bool(asked.resamples))
    found = []
    for number, arm in enumerate(arms):
        on_share = partial(_tell, on_progress, arm.label, number, len(arms))
        on_share(0.0)
        found.append(_of_arm(measured, arm, asked, on_share))
    return tuple(found)


def _tell(
    on_progress: Callable[[str, float], None] | None, label: str, number: int, count: int, share: float
) -> None:  # fmt: skip
    """How much of everything is done when so much of one of `count` arms is."""
    if on_progress is not None:
        on_progress(label, (number + share) / count)


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A run's surfaces, with what they may be off by, as a share of time and by label."""

    record: RunRecord
    surfaces: Surfaces
    doubts: Mapping[str, float]

    @classmethod
    def of(cls, record: RunRecord, *, drawn: bool = True) -> Measured:
        """Everything computed once for all arms; `drawn`: times with draws of them, which intervals need."""
        plan, findings = record.header.plan, case_findings(record)
        times = drawn_times(record, findings, plan.served.seed) if drawn else mean_times(findings)
        surfaces = build_surfaces(plan, findings, times)
        errors, spread = interpolation_errors(plan, surfaces, times), data_dependence(findings)
        labels = {arm.label for arm in plan.arms}
        return cls(record, surfaces, {n: abs(errors.get(n, 0.0)) + abs(spread.get(n, 0.0)) for n in labels})

    def ways(self, label: str, overhead_s: float = 0.0) -> Iterator[Way]:
        """Every regime and way of batching that an arm was measured in; batches of one request count as padded."""
        for regime in dict.fromkeys(surface.configuration.regime for surface in self.surfaces.of(label)):
            for bucketed in (False, True):
                chosen = surfaces_for(self.surfaces, label, regime, bucketed=bucketed)
                if not chosen or (bucketed and max(s.configuration.batch_size for s in chosen) == 1):
                    continue
                service = measured_service(self.record, chosen, overhead_s=overhead_s)
                yield Way(regime, bucketed, service, chosen, self.doubts[label])


def best_rate(settings: Iterable[Setting], replicas: int) -> Factor:
    """Requests per second that so many replicas sustain in that of the settings (of one traffic) that bears most.

    A setting that misses at the best rate so far is passed over. None where any rate is kept in one of them, or none in
    any of them.
    """
    best: Factor | None = None
    for setting in settings:
        if best is not None and best.value is not None and not _bears(setting, replicas, best.value * (1 + TOLERANCE)):
            continue
        found = rate_sustained(setting, replicas)
        if found.value is None and _bears(setting, replicas, MOST_FACTOR * (setting.traffic.rate_per_s or 0.0)):
            return found
        if best is None or found.value is not None:
            best = found
    return best or Factor(None, statement("factor.not_measured"))


def drawn_services(way: Way, seed: int, label: str, count: int = SERVICE_DRAWS) -> tuple[Service, ...]:
    """Services as they might as well have been measured, what they may be off by included; none where fewer than two
    rounds were.
    """
    import numpy as np

    if min(case.rounds for surface in way.surfaces for case in surface.cases) < MIN_ROUNDS:
        return ()
    off = shifted(np.ones(1 + DRAWS), way.doubt, seed, label)
    return tuple(
        replace(way.service, model=measured_time(way.surfaces, draw), slowdown=float(off[draw]))
        for draw in range(1, 1 + min(count, DRAWS))
    )


def _bears(setting: Setting, replicas: int, rate: float) -> bool:
    """Whether so many replicas keep the objective at this rate."""
    known = setting.traffic.rate_per_s
    if not known:
        return False
    return replace(setting, traffic=setting.traffic.faster(rate / known)).is_kept_by(replicas)


def _of_arm(measured: Measured, arm: Arm, asked: Asked, on_share: Callable[[float], None]) -> ArmCapacity:
    """The best of the arm's ways: fewest replicas, then the most room under the objective."""
    ways = list(measured.ways(arm.label, asked.overhead_s))
    if not ways:
        return ArmCapacity(arm, None, None, measured.surfaces.why_none(arm.label) or statement("surface.none"))
    quick = [(way, _planned(way, asked)) for way in ways]
    way, plan = min(quick, key=lambda pair: _rank(pair[1]))
    if plan.sizing.needed is None:
        return ArmCapacity(arm, way, plan, None)
    sustained = None
    if asked.replicas is not None:
        sustained = best_rate((s for way in ways for s in _settings(way, asked)), asked.replicas)
    if asked.resamples:
        seed = measured.record.header.plan.served.seed
        interval = replica_interval(
            plan.setting, resamples=asked.resamples, block_s=asked.blocks_s, guess=plan.sizing.needed,
            services=drawn_services(way, seed, arm.label),
            on_resample=lambda number: on_share(number / asked.resamples),
        )  # fmt: skip
        plan = replace(plan, interval=interval)
    return ArmCapacity(arm, way, plan, None, sustained)


def _rank(plan: CapacityPlan) -> tuple[float, float]:
    """What orders two ways: replicas, then how much of the objective is used up."""
    trial = next(trial for trial in plan.trials if trial.policy == plan.setting.policy)
    return (float("inf") if plan.sizing.needed is None else plan.sizing.needed, trial.used or 0.0)


def _settings(way: Way, asked: Asked) -> tuple[Setting, ...]:
    """One way with every policy among the measured batch sizes."""
    batches = [surface.configuration.batch_size for surface in way.surfaces]
    policies = policies_for(batches, asked.windows_s, bucket_edges=way.edges)
    return tuple(way.setting(asked.traffic, asked.objective, policy, asked.seed) for policy in policies)


def _planned(way: Way, asked: Asked) -> CapacityPlan:
    """Capacity of one way, without the interval."""
    settings = _settings(way, asked)
    policies = [setting.policy for setting in settings]
    return plan_capacity(settings[0], policies, replicas_per_unit=asked.replicas_per_unit, resamples=0)
