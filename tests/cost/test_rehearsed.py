from __future__ import annotations

from dataclasses import replace as with_

import numpy as np
import pytest

from castbench.cost.capacity_stage import Measured
from castbench.cost.rehearsed import (
    MOST_OFF,
    SHARES,
    Course,
    Percentile,
    band,
    compared,
    full_batch_seconds,
    service_ratio,
    session_factors,
    step_factors,
    stretch,
)
from castbench.cost.replay import ONE_AT_A_TIME, BatchingPolicy, Replay, replay
from castbench.cost.service import LinearTime, Service
from castbench.cost.traffic import Traffic
from castbench.errors import InputError
from castbench.records import RunRecord
from tests.cost.builder import MIX, run_of, times
from tests.rehearsal.builder import SESSION, rehearsal


def poisson(requests: int = 800, rate: float = 10.0, seed: int = 0) -> Traffic:
    """Random arrivals of both lengths."""
    rng = np.random.default_rng(seed)
    return Traffic.of(np.cumsum(rng.exponential(1 / rate, requests)), rng.choice(MIX.tokens, requests))


def course(record: RunRecord | None = None, policy: BatchingPolicy = ONE_AT_A_TIME, **changes: object) -> Course:
    """sdpa, 50 ms a row."""
    record = record or run_of(times({"sdpa": 0.05, "cast-32": 0.03}), batch_sizes=(1, 4), batching=("padded",))
    way = next(iter(Measured.of(record).ways("sdpa")))
    return with_(Course(record, "sdpa", way, poisson(), policy, 0.0, 0), **changes)  # type: ignore[arg-type]


def served(of: Course, slower: float = 1.0, seed: int = 5) -> Replay:
    """What a server would do whose batches take that many times as long."""
    return replay(of.traffic, of.service.slower(slower), 1, of.policy, seed)


def test_a_server_that_does_as_said_is_borne_out() -> None:
    """Without noise prediction, band and observation are one."""
    of = course()
    found = compared(of, served(of), band(of, 20), is_overhead_measured=True, cut=0, source=None, session=SESSION)
    assert found.is_borne_out
    assert [one.share for one in found.percentiles] == list(SHARES)
    assert [one.error for one in found.percentiles] == pytest.approx([0.0, 0.0, 0.0])
    assert found.service_ratio == pytest.approx(1.0)
    assert found.observed_batch == found.predicted_batch == 1.0
    assert (found.requests, found.label, found.run_id) == (800, "sdpa", "0")
    assert found.load == pytest.approx((of.traffic.rate_per_s or 0.0) * 0.05)


def test_a_slow_server_is_not_and_its_batches_are_found_to_be_the_cause() -> None:
    """30 % slower batches miss the band; replayed at that speed nothing is left of the error."""
    of = course(run_of(times({"sdpa": 0.05, "cast-32": 0.03}), noise=0.02))
    slow = served(with_(of, way=with_(of.way, service=with_(of.way.service, factors=(1.0,)))), 1.3)
    found = compared(of, slow, band(of, 50), is_overhead_measured=True, cut=0, source=None, session=SESSION)
    assert not found.is_borne_out
    assert found.at(0.99).error < -0.2
    assert found.service_ratio == pytest.approx(1.3, rel=0.02)
    assert found.predicted_at_speed_s[-1] == pytest.approx(found.at(0.99).observed_s, rel=0.1)


def test_overhead_is_part_of_what_is_said() -> None:
    """20 ms a batch outside the model are 20 ms in every latency at least."""
    of = course(overhead_s=0.02)
    plain = course().replayed().seconds_at(0.5) or 0.0
    assert (of.replayed().seconds_at(0.5) or 0.0) >= plain + 0.02
    assert band(of, 5)[0][0] >= plain + 0.02


def test_the_band_holds_the_point_and_repeats() -> None:
    """Its middle is the replay's own; one seed gives one band."""
    of = course(run_of(times({"sdpa": 0.05, "cast-32": 0.03}), noise=0.05, rounds=16))
    found = band(of, 100)
    for share, (low, high) in zip(SHARES, found, strict=True):
        assert low < (of.replayed().seconds_at(share) or 0.0) < high
    assert found == band(of, 100)
    assert found != band(with_(of, seed=1), 100)


def test_the_band_grows_with_the_noise_of_the_run() -> None:
    """Twice the noise, a wider band; none, none."""
    widths = []
    for noise in (0.0, 0.03, 0.1):
        record = run_of(times({"sdpa": 0.05, "cast-32": 0.03}), noise=noise, rounds=16)
        low, high = band(course(record), 60)[2]
        widths.append(high / low - 1)
    assert widths[0] == pytest.approx(0.0, abs=1e-12)
    assert widths[0] < widths[1] < widths[2]


def test_servers_of_such_a_run_lie_in_the_band_as_often_as_it_says() -> None:
    """Sessions that are off as sessions of the run are, steps that scatter as its steps do: 95 % of them, about."""
    rng = np.random.default_rng(3)
    inside = 0
    for trial in range(40):
        record = run_of(times({"sdpa": 0.05, "cast-32": 0.03}), noise=0.03, rounds=12, seed=trial)
        of = course(record, traffic=poisson(300, 8.0, trial), seed=trial)
        truth = Service(LinearTime(0.05, 0.0), factors=tuple(rng.lognormal(0.0, 0.03, 200).tolist()))
        epoch = float(rng.lognormal(0.0, 0.03 / 3**0.5))
        real = replay(of.traffic, truth.slower(epoch), 1, of.policy, trial)
        low, high = band(of, 100)[2]
        inside += low <= (real.seconds_at(0.99) or 0.0) <= high
    assert 34 <= inside <= 40


def test_sessions_are_off_as_worker_processes_of_the_run_are() -> None:
    """The spread of processes' means, pooled; of one process alone, that of its rounds; of one round, nothing."""
    rng = np.random.default_rng(0)
    record = run_of(times({"sdpa": 0.05, "cast-32": 0.03}), noise=0.06, rounds=30)
    way = course(record).way
    found = np.log(session_factors(record, way, rng, 4000))
    assert float(found.std()) == pytest.approx(0.06 / 3**0.5, rel=0.4)
    assert float(np.median(found)) == pytest.approx(0.0, abs=0.01)
    one = with_(record, rounds=tuple(with_(r, epoch=0) for r in record.rounds))
    assert float(np.log(session_factors(one, way, rng, 4000)).std()) == pytest.approx(0.06, rel=0.4)
    single = run_of(times({"sdpa": 0.05, "cast-32": 0.03}), rounds=1)
    assert session_factors(single, course(single).way, rng, 3) == [1.0, 1.0, 1.0]


def test_no_session_is_off_by_more_than_a_stated_factor() -> None:
    """Two processes that differ tenfold have one degree of freedom, and tails without end."""
    record = run_of(times({"sdpa": 0.05, "cast-32": 0.03}), noise=1.5, rounds=6)
    found = session_factors(record, course(record).way, np.random.default_rng(0), 2000)
    assert max(found) == pytest.approx(MOST_OFF)
    assert min(found) == pytest.approx(1 / MOST_OFF)


def test_single_steps_scatter_more_than_their_windows() -> None:
    """Steps that were kept are used, each over its case's mean in its process; windows where none were."""
    record = run_of(times({"sdpa": 0.05, "cast-32": 0.03}))
    assert set(np.round(step_factors(record, course(record).way), 9)) == {1.0}
    stepped = with_(
        record,
        rounds=tuple(
            with_(r, samples=tuple(with_(s, step_times_s=(0.5 * s.elapsed_s, 1.5 * s.elapsed_s)) for s in r.samples))
            for r in record.rounds
        ),
    )
    assert set(np.round(step_factors(stepped, course(stepped).way), 9)) == {0.5, 1.5}


def test_a_full_batch_is_as_long_as_the_longest_in_it() -> None:
    """Four neighbours of 512 and 2048 tokens are padded to 2048; within buckets of length they are not."""
    record = run_of(
        lambda label, batch, length, how: batch * length * 1e-4, batch_sizes=(1, 4), batching=("padded", "bucketed")
    )
    padded, bucketed = Measured.of(record).ways("sdpa")
    mixed = Traffic.of([0.0, 1.0, 2.0, 3.0, 4.0], [512, 512, 2048, 512, 512])
    assert full_batch_seconds(padded, mixed, BatchingPolicy(4)) == pytest.approx(0.2048)
    by_length = BatchingPolicy(4, 0.0, bucketed.edges)
    assert full_batch_seconds(bucketed, mixed, by_length) == pytest.approx(1e-4 * (4 * 512 + 2048) / 5)
    assert full_batch_seconds(padded, mixed, ONE_AT_A_TIME) == pytest.approx(1e-4 * (4 * 512 + 2048) / 5)
    assert full_batch_seconds(padded, mixed, BatchingPolicy(4), 0.4) == pytest.approx(0.2048 + 0.1)


def test_batches_are_compared_with_those_of_their_size_and_length() -> None:
    """A server that only ever serves pairs is not slow for taking twice as long as for one."""
    of = course(policy=BatchingPolicy(4))
    assert service_ratio(of, served(of)) == pytest.approx(1.0)
    assert service_ratio(of, served(of, 1.25)) == pytest.approx(1.25)


def test_a_stretch_is_neighbours_of_the_trace_at_the_rate_asked_for() -> None:
    """So many as come in that time, from another place for another seed, their gaps in proportion."""
    trace = poisson(1000, 3.0)
    part = stretch(trace, 30.0, 10.0, 0)
    assert part.requests == 300
    assert part.rate_per_s == pytest.approx(30.0)
    gaps = np.diff(part.arrival_s)
    first = int(np.flatnonzero(np.isclose(trace.arrival_s, part.arrival_s[0]))[0])
    whole = np.diff(trace.arrival_s[first : first + 300])
    np.testing.assert_allclose(gaps / gaps.sum(), whole / whole.sum())
    assert stretch(trace, 30.0, 10.0, 1).arrival_s[0] != part.arrival_s[0]
    assert stretch(trace, 30.0, 1e6, 0).requests == 1000
    with pytest.raises(InputError, match="at one moment"):
        stretch(Traffic.of([1.0] * 9, [5] * 9), 30.0, 1.0, 0)


def test_errors_are_signed_and_bands_have_both_ends() -> None:
    """Predicted too little is below 0; the ends count as inside."""
    assert Percentile(0.99, 0.020, 0.018, 0.0, 1.0).error == pytest.approx(-0.1)
    assert Percentile(0.5, 0.02, 0.018, 0.02, 0.03).is_inside
    assert not Percentile(0.5, 0.0199, 0.018, 0.02, 0.03).is_inside
    with pytest.raises(KeyError):
        rehearsal().at(0.9)


def test_only_the_median_and_p99_decide_and_only_a_band_that_says_something() -> None:
    """p95 outside changes nothing; a band whose ends are far apart bears nothing out."""
    made = rehearsal()
    low, middle, high = made.percentiles
    assert made.is_borne_out
    assert with_(made, percentiles=(low, with_(middle, observed_s=9.0), high)).is_borne_out
    assert not with_(made, percentiles=(low, middle, with_(high, observed_s=9.0))).is_borne_out
    wide = with_(made, percentiles=(low, middle, with_(high, low_s=0.001)))
    assert not wide.is_borne_out
    assert not wide.is_telling
    assert made.is_telling
