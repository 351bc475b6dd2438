"""One rehearsal from its question to its result: what is rehearsed, what the replay says first, what is served then."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from castbench.cost.capacity_stage import Measured, Way, fitted, longest_measured, require_served
from castbench.cost.rehearsed import REPLAYS, Course, Rehearsal, Session, band, compared, full_batch_seconds, stretch
from castbench.cost.replay import BatchingPolicy
from castbench.cost.traffic import Traffic, poisson_traffic
from castbench.errors import InputError
from castbench.plan import Arm
from castbench.records import RunRecord
from castbench.rehearsal.choice import LOAD, RehearsalChoice
from castbench.rehearsal.client import play
from castbench.rehearsal.seam import ServerOrder, Stage
from castbench.report import text
from castbench.traffic_source import SourcedTraffic

if TYPE_CHECKING:
    from castbench.rehearsal.client import Played

FEWEST_REQUESTS = 20
MOST_REQUESTS = 1_000_000
_LENGTHS_DRAWN = 4096
"""Lengths drawn to say what a request takes, where there is no trace."""

Told = Callable[[str, float], None]


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """What is going to be served."""

    arm: Arm
    way: Way
    policy: BatchingPolicy
    traffic: Traffic
    cut: int


def rehearse(
    record: RunRecord, traced: SourcedTraffic | None, choice: RehearsalChoice, stage: Stage,
    on_progress: Told | None = None,
) -> Rehearsal:  # fmt: skip
    """Serve a stretch of a trace, or independent arrivals where there is none, and compare.

    The replay and its band are computed before the first request is sent. Raises InputError for what cannot be
    rehearsed, HardwareError where the server fails.
    """
    told = on_progress or _untold
    plan = _planned(record, traced, choice)
    told(f"starting {plan.arm.label}", 0.0)
    order = ServerOrder(
        record.header.plan.served, plan.arm, plan.policy, not plan.way.bucketed, plan.way.surfaces[0].lengths
    )
    with closing(stage.open_server(order)) as server:
        overhead_s = server.overhead_s if choice.overhead_s is None else choice.overhead_s
        course = Course(record, plan.arm.label, plan.way, plan.traffic, plan.policy, overhead_s, choice.seed)
        bands = band(course, on_replay=lambda number: told("replaying", number / REPLAYS))
        patience_s = 5 * course.replayed().makespan_s
        played = play(
            server, stage.clock, plan.traffic, plan.policy, patience_s, lambda share: told("serving", share)
        )  # fmt: skip
        waited_s = server.finish()
    return compared(
        course, played.observed, bands, is_overhead_measured=choice.overhead_s is None, cut=plan.cut,
        source=None if traced is None else traced.source, session=_session(stage, played, waited_s),
    )  # fmt: skip


def _untold(_what: str, _share: float) -> None:
    """Nobody wants to know."""


def _session(stage: Stage, played: Played, waited_s: float | None) -> Session:
    """Where and when it was served."""
    here = stage.environment
    busy_s = played.observed.busy_s * (here.threads or 1)
    return Session(
        stage.created_at, here.castbench, here.device, here.device_name, here.threads, stage.differs, played.late_p99_s,
        None if waited_s is None else waited_s / busy_s,
    )  # fmt: skip


def _planned(record: RunRecord, traced: SourcedTraffic | None, choice: RehearsalChoice) -> _Plan:
    """The mechanism, its way of batching, and the requests that come."""
    require_served(record.header.plan)
    _require_sound(choice)
    arm = _arm(record, choice.label)
    way = _way(record, arm, choice)
    most = max(surface.configuration.batch_size for surface in way.surfaces)
    size = choice.max_batch or most
    policy = BatchingPolicy(size, choice.window_s if size > 1 else 0.0, way.edges if size > 1 else ())
    if traced is None:
        return _Plan(arm, way, policy, _independent(record, way, policy, choice), 0)
    whole, _ = fitted(traced.traffic, longest_measured(record), truncate=choice.truncate)
    wanted = _rate(record, way, policy, whole, choice)
    _require_count(wanted, choice.seconds)
    if traced.traffic.requests < FEWEST_REQUESTS:
        raise InputError(f"the trace has {traced.traffic.requests} requests; {FEWEST_REQUESTS} are the least that do")
    part = stretch(traced.traffic, wanted, choice.seconds, choice.seed)
    return _Plan(arm, way, policy, *fitted(part, longest_measured(record), truncate=choice.truncate))


def _require_sound(choice: RehearsalChoice) -> None:
    """InputError for a choice that contradicts itself."""
    if choice.rate is not None and choice.load is not None:
        raise InputError("--rate and --load say the same thing twice; give one of them")
    if choice.max_batch is not None and choice.max_batch < 1:
        raise InputError(f"--max-batch: expected 1 or more, got {choice.max_batch}")


def _arm(record: RunRecord, label: str | None) -> Arm:
    """The mechanism of that label, by default the baseline."""
    arms = {arm.label: arm for arm in record.header.plan.arms if arm.role != "ceiling"}
    wanted = record.header.plan.baseline if label is None else label
    if wanted not in arms:
        raise InputError(f"--label: no mechanism is labelled {wanted}; labels are {', '.join(arms)}")
    return arms[wanted]


def _way(record: RunRecord, arm: Arm, choice: RehearsalChoice) -> Way:
    """The eager way of batching that is asked for: a server meets shapes that nothing was compiled or recorded for."""
    measured = Measured.of(record)
    ways = [way for way in measured.ways(arm.label) if way.regime == "eager"]
    if not ways:
        why = text.in_english(measured.surfaces.why_none(arm.label)) or "it was not measured"
        raise InputError(f"{arm.label} cannot be rehearsed: {why} (rehearsals are eager)")
    sizes = {way.bucketed: max(s.configuration.batch_size for s in way.surfaces) for way in ways}
    if choice.by_length and True not in sizes:
        raise InputError("--by-length: no batches of equal lengths were measured (batching: bucketed)")
    bucketed = choice.by_length or sizes.get(True, 0) > sizes.get(False, 0)
    if choice.max_batch is not None and choice.max_batch > sizes[bucketed]:
        raise InputError(
            f"--max-batch: a batch of {choice.max_batch} was not measured; the largest of {arm.label} is "
            f"{sizes[bucketed]}"
        )
    return next(way for way in ways if way.bucketed == bucketed)


def _rate(record: RunRecord, way: Way, policy: BatchingPolicy, traffic: Traffic, choice: RehearsalChoice) -> float:
    """Requests per second: as asked, else what makes the load."""
    if choice.rate is not None:
        return choice.rate
    demand = record.header.economics.demand
    load = choice.load or (demand.max_utilization if demand else LOAD)
    return load / full_batch_seconds(way, traffic, policy, choice.overhead_s or 0.0)


def _independent(record: RunRecord, way: Way, policy: BatchingPolicy, choice: RehearsalChoice) -> Traffic:
    """Arrivals made up from the rate, of the profile's lengths."""
    import numpy as np

    mix = record.header.plan.mix
    drawn = np.random.default_rng(choice.seed).choice(mix.tokens, _LENGTHS_DRAWN, p=mix.shares)
    rate = _rate(record, way, policy, Traffic.of(np.arange(float(drawn.size)), drawn), choice)
    _require_count(rate, choice.seconds)
    return poisson_traffic(rate, choice.seconds, mix, choice.seed)


def _require_count(rate: float, seconds: float) -> None:
    """InputError for so few requests that no percentile says anything, or more than one sender can send."""
    expected = rate * seconds
    if expected < FEWEST_REQUESTS:
        raise InputError(
            f"{expected:.3g} requests would come in {seconds:g} s at {rate:.3g} per second, and {FEWEST_REQUESTS} are "
            f"the least that say anything; take --seconds {FEWEST_REQUESTS / rate * 1.5:.0f} or more"
        )
    if expected > MOST_REQUESTS:
        raise InputError(f"{expected:,.3g} requests would come, at most {MOST_REQUESTS:,} do; take fewer --seconds")
