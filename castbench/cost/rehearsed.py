"""A rehearsal on one replica against what the replay said before: percentiles with their band, and who was wrong.

run file ─▶ service ─▶ predicted: the capacity stage's own replay          ┐
        └─▶ services as another session might have met them ─▶ the band    ├─▶ compared ─▶ Rehearsal
a real server, the same arrivals and the same batching ─▶ observed         ┘
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from castbench.cost.capacity_stage import Way, drawn_services
from castbench.cost.quantiles import rank_of
from castbench.cost.replay import BatchingPolicy, Replay, replay
from castbench.cost.service import Service, round_factors
from castbench.cost.traffic import Traffic
from castbench.errors import InputError
from castbench.findings import sample_of
from castbench.records import RoundRecord, RunRecord, Sample
from castbench.workload.spec import Regime

if TYPE_CHECKING:
    import numpy as np

SHARES = (0.5, 0.95, 0.99)
REPLAYS = 200
LEVEL = 0.95
WIDEST = 4.0
"""A band whose upper end is more than this many times its lower one bears nothing out."""
MOST_OFF = 3.0
"""Factor beyond which no session is taken to be off, however few sessions were measured."""


@dataclass(frozen=True, slots=True)
class Percentile:
    """One percentile of latency: as served, as the replay said, and the band it said it with; seconds."""

    share: float
    observed_s: float
    predicted_s: float
    low_s: float
    high_s: float

    @property
    def error(self) -> float:
        """Predicted over observed, minus 1: below 0 the replay promised too much."""
        return self.predicted_s / self.observed_s - 1

    @property
    def is_inside(self) -> bool:
        """Whether what was served lies in the band."""
        return self.low_s <= self.observed_s <= self.high_s

    @property
    def is_telling(self) -> bool:
        """Whether the band is narrow enough for that to mean something."""
        return self.high_s <= WIDEST * self.low_s


@dataclass(frozen=True, slots=True)
class Session:
    """Where and when it was served; `differs`: what is not as it was when the run was measured, in sentences.

    late_p99_s     99 % of the requests were sent no later than this after their time
    waited_share   time the server's threads stood behind others in the run queue, as a share of the time they served
    """

    created_at: str
    castbench: str
    device: str
    device_name: str
    threads: int | None
    differs: tuple[str, ...]
    late_p99_s: float
    waited_share: float | None


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """One replica of one mechanism, served and replayed with the same arrivals and the same batching.

    source              where the arrivals came from; None: independent, made up from the rate
    load                work per second with full batches, as predicted
    overhead_s          what a batch spends outside the model; measured on the server before the first request, or given
    observed_batch      requests per batch; predicted_batch as the replay said
    observed_busy       share of the time the server worked; predicted_busy likewise
    service_ratio       seconds its batches took over what was measured for batches of that size and length
    predicted_at_speed_s  the replay's percentiles with all batches that many times as slow: what is left of the error
                        then is the queue's
    replays             that the band is made of; `level` of them lie in it
    """

    run_id: str
    label: str
    regime: Regime
    policy: BatchingPolicy
    source: str | None
    requests: int
    cut: int
    span_s: float
    rate_per_s: float
    load: float
    overhead_s: float
    is_overhead_measured: bool
    percentiles: tuple[Percentile, ...]
    level: float
    replays: int
    observed_batch: float
    predicted_batch: float
    observed_busy: float
    predicted_busy: float
    service_ratio: float
    predicted_at_speed_s: tuple[float, ...]
    seed: int
    session: Session

    def at(self, share: float) -> Percentile:
        """One of the percentiles; KeyError if it is none of them."""
        for one in self.percentiles:
            if one.share == share:
                return one
        raise KeyError(share)

    @property
    def is_telling(self) -> bool:
        """Whether the bands of median and p99 say anything."""
        return self.at(0.5).is_telling and self.at(0.99).is_telling

    @property
    def is_borne_out(self) -> bool:
        """Whether both the median and p99 lie in their bands, and the bands say anything."""
        return self.is_telling and self.at(0.5).is_inside and self.at(0.99).is_inside


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """What is rehearsed: requests that come so, to one replica that batches so."""

    record: RunRecord
    label: str
    way: Way
    traffic: Traffic
    policy: BatchingPolicy
    overhead_s: float
    seed: int

    @property
    def service(self) -> Service:
        """The service time the capacity stage uses, with this overhead."""
        return replace(self.way.service, overhead_s=self.overhead_s)

    def replayed(self, slowdown: float = 1.0) -> Replay:
        """The capacity stage's own replay."""
        return replay(self.traffic, self.service.slower(slowdown), 1, self.policy, self.seed)


def full_batch_seconds(way: Way, traffic: Traffic, policy: BatchingPolicy, overhead_s: float = 0.0) -> float:
    """Seconds of one replica that a request takes with full batches: of neighbours, as long as the longest of them; in
    buckets of length, each as long as it is itself.
    """
    import numpy as np

    size = min(policy.max_batch, traffic.requests)
    tokens = traffic.tokens
    if size > 1 and not policy.bucket_edges:
        tokens = tokens[: tokens.size // size * size].reshape(-1, size).max(axis=1)
    held = replace(way.service, overhead_s=overhead_s).mean_seconds(size, np.asarray(tokens))
    return float(held.mean()) / size


def stretch(traffic: Traffic, rate: float, seconds: float, seed: int) -> Traffic:
    """So many neighbouring requests of a trace as come in `seconds` at this rate, from a place drawn by the seed, their
    gaps scaled alike so that they come at it; all of them where the trace has no more.
    """
    import numpy as np

    count = min(traffic.requests, max(2, round(rate * seconds)))
    first = int(np.random.default_rng(seed).integers(0, traffic.requests - count + 1))
    part = Traffic(traffic.arrival_s[first : first + count], traffic.tokens[first : first + count])
    if part.rate_per_s is None:
        raise InputError("rehearsal: all requests of this stretch arrive at one moment; take another --seed")
    return part.faster(rate / part.rate_per_s)


def band(
    course: Course, replays: int = REPLAYS, level: float = LEVEL, on_replay: Callable[[int], None] | None = None
) -> tuple[tuple[float, float], ...]:
    """For each of SHARES the middle `level` of what other sessions might have served, the same requests coming.

    Every replay has other times: a draw of the measured means with what interpolation may be off by, one factor for the
    whole session (as sessions of the run differ from one another), and for every batch a single step of the run over
    its case's mean. Arrivals are the same in all, so that the band holds nothing of the traffic.
    """
    import numpy as np

    rng = np.random.default_rng([course.seed % 2**63, 1])
    drawn = drawn_services(course.way, course.seed, course.label, replays)
    off, steps = session_factors(course.record, course.way, rng, replays), step_factors(course.record, course.way)
    found = []
    for index in range(replays):
        service = drawn[index % len(drawn)] if drawn else course.way.service
        service = replace(service, overhead_s=course.overhead_s, factors=steps).slower(off[index])
        served = replay(course.traffic, service, 1, course.policy, int(rng.integers(2**62)))
        found.append([served.seconds_at(share) or 0.0 for share in SHARES])
        if on_replay is not None:
            on_replay(index + 1)
    tails = ((1 - level) / 2, (1 + level) / 2)
    columns = (sorted(column) for column in zip(*found, strict=True))
    return tuple((c[rank_of(tails[0], replays) - 1], c[rank_of(tails[1], replays) - 1]) for c in columns)


def session_factors(record: RunRecord, way: Way, rng: np.random.Generator, count: int) -> list[float]:
    """Factors by which whole sessions may be slower or faster than the mean of the measured ones.

    exp(s·t): s is the standard deviation, pooled over the way's cases, of the logarithm of the mean window of one
    worker process; t is Student's with its degrees of freedom. Where no case had two processes, of single rounds.
    """
    import numpy as np

    cases = list(_windows(record, way))
    by_epoch = [_epoch_means(case) for case in cases]
    groups = by_epoch if any(len(means) > 1 for means in by_epoch) else [list(_times(case)) for case in cases]
    degrees = sum(max(0, len(means) - 1) for means in groups)
    if not degrees:
        return [1.0] * count
    squares = math.fsum(float(np.var(np.log(means))) * len(means) for means in groups if len(means) > 1)
    spread = math.sqrt(squares / degrees)
    off = np.exp(np.clip(spread * rng.standard_t(degrees, count), -math.log(MOST_OFF), math.log(MOST_OFF)))
    return [float(factor) for factor in off]


def step_factors(record: RunRecord, way: Way) -> tuple[float, ...]:
    """Single steps over the mean of their case in their worker process, pooled; windows where no steps were kept."""
    steps: list[list[float]] = []
    windows: list[list[float]] = []
    for case in _windows(record, way):
        for samples in _by_epoch(case).values():
            steps.append([step_s for sample in samples for step_s in sample.step_times_s])
            windows.append([sample.mean_step_s for sample in samples])
    return round_factors(steps if any(steps) else windows)


def compared(
    course: Course, observed: Replay, bands: Sequence[tuple[float, float]], *, is_overhead_measured: bool, cut: int,
    source: str | None, session: Session, replays: int = REPLAYS, level: float = LEVEL,
) -> Rehearsal:  # fmt: skip
    """What was served beside what was said. `observed`: the same traffic with starts and seconds of real batches."""
    predicted, ratio = course.replayed(), service_ratio(course, observed)
    at_speed = course.replayed(ratio)
    lines = tuple(
        Percentile(share, observed.seconds_at(share) or 0.0, predicted.seconds_at(share) or 0.0, low, high)
        for share, (low, high) in zip(SHARES, bands, strict=True)
    )
    traffic = course.traffic
    rate = traffic.rate_per_s or 0.0
    return Rehearsal(
        run_id=course.record.header.run_id, label=course.label, regime=course.way.regime, policy=course.policy,
        source=source, requests=traffic.requests, cut=cut, span_s=traffic.span_s, rate_per_s=rate,
        load=rate * full_batch_seconds(course.way, traffic, course.policy, course.overhead_s),
        overhead_s=course.overhead_s, is_overhead_measured=is_overhead_measured, percentiles=lines, level=level,
        replays=replays, service_ratio=ratio, observed_busy=observed.utilization or 0.0,
        observed_batch=observed.mean_batch_size or 0.0, predicted_batch=predicted.mean_batch_size or 0.0,
        predicted_busy=predicted.utilization or 0.0,
        predicted_at_speed_s=tuple(at_speed.seconds_at(share) or 0.0 for share in SHARES), seed=course.seed,
        session=session,
    )  # fmt: skip


def service_ratio(course: Course, observed: Replay) -> float:
    """Seconds that real batches took over those measured for batches of their sizes and longest requests."""
    import numpy as np

    sizes = observed.batch_sizes
    longest = np.zeros(sizes.size, dtype=np.int64)
    np.maximum.at(longest, observed.batch_of, observed.traffic.tokens)
    expected = 0.0
    for size in np.unique(sizes).tolist():
        expected += float(course.service.mean_seconds(size, longest[sizes == size]).sum())
    return observed.busy_s / expected


def _windows(record: RunRecord, way: Way) -> Iterator[list[tuple[RoundRecord, Sample]]]:
    """Rounds and windows of every case of the way."""
    for case in (case for surface in way.surfaces for case in surface.cases):
        rounds = record.rounds_of(case.group.key)
        found = [(one, sample_of(one, case.arm.label)) for one in rounds]
        yield [(one, sample) for one, sample in found if sample is not None]


def _times(case: Iterable[tuple[RoundRecord, Sample]]) -> Iterator[float]:
    """Window means."""
    return (sample.mean_step_s for _, sample in case)


def _by_epoch(case: Iterable[tuple[RoundRecord, Sample]]) -> dict[int, list[Sample]]:
    """The windows of every worker process."""
    found: dict[int, list[Sample]] = {}
    for one, sample in case:
        found.setdefault(one.epoch, []).append(sample)
    return found


def _epoch_means(case: Iterable[tuple[RoundRecord, Sample]]) -> list[float]:
    """Mean window of every worker process."""
    return [math.fsum(s.mean_step_s for s in samples) / len(samples) for samples in _by_epoch(case).values()]
