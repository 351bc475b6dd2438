from __future__ import annotations

import math
from dataclasses import replace

import pytest

from castbench.cost.next_measurement import seconds_per_round
from castbench.cost.outlook_nouns import Moved, NextMeasurement, Wanted
from castbench.cost.spec import Price, QualityStatus, Recommendation
from castbench.records import RunRecord, Selected
from castbench.stats import Verdict
from castbench.workload.spec import Batching, LengthDistribution
from tests.cost.ahead import SECONDS, ahead, outlook_of
from tests.cost.builder import NAIVE, PRICE, SDPA, confirming, run_of, times


def next_of(record: RunRecord, price: Price | None = PRICE) -> NextMeasurement:
    """What to measure next after a run."""
    return outlook_of(ahead(record, price)).next_measurement


def close(seed: int = 1, rounds: int = 8, noise: float = 0.2) -> RunRecord:
    """A run whose noise leaves it open whether cast-32 saves anything."""
    return run_of(times({"sdpa": 0.045, "cast-32": 0.0415}), noise=noise, seed=seed, rounds=rounds)


def test_too_few_rounds_are_completed_first_with_their_time_and_price() -> None:
    """Of 8 rounds 5 are missing at both lengths; a round of both takes 67 ms, an hour 2 USD."""
    found = next_of(run_of(times(SECONDS), rounds=3))
    seconds = 2 * 5 * (0.045 + 0.022)
    assert (found.wanted, found.rounds) == (Wanted.FIRST_ROUNDS, 5)
    assert found.seconds == pytest.approx(seconds)
    assert found.usd == pytest.approx(2 * seconds / 3600)
    assert next_of(run_of(times(SECONDS), rounds=3), price=None).usd is None


def test_a_sure_win_waits_for_quality_and_nothing_else() -> None:
    """FASTER, with a saving that is certain and quality not measured: no more timing is proposed."""
    assert next_of(run_of(times(SECONDS))) == NextMeasurement(Wanted.QUALITY)


def test_a_sure_loss_leaves_nothing_to_measure() -> None:
    """A mechanism that is SLOWER and saves nothing stays out, whatever is measured again."""
    assert next_of(run_of(times({"sdpa": 0.022, "cast-32": 0.045}))) == NextMeasurement(Wanted.NOTHING)


def test_fresh_rounds_that_contradict_ask_for_a_new_run() -> None:
    """A winner that its fresh rounds refute is neither adopted nor measured further here."""
    run = run_of(times(SECONDS))
    chosen = Selected(run.header.plan.groups[0].key, "cast-32", "sdpa")
    refuted = confirming(run, chosen, slower=3.0)
    assert ahead(refuted).arm("cast-32").recommendation is Recommendation.KEEP
    assert next_of(refuted) == NextMeasurement(Wanted.FRESH)


def test_an_open_decision_asks_for_rounds_and_says_what_they_cost() -> None:
    """Noise that leaves the saving open asks for rounds, whose time is rounds times what one took, at the price."""
    run = close()
    projection = ahead(run)
    assert projection.arm("cast-32").verdict is Verdict.UNCLEAR
    found = next_of(run)
    assert found.wanted in (Wanted.ROUNDS, Wanted.ALL_ROUNDS)
    assert found.rounds is not None
    assert found.rounds >= 1
    assert found.seconds is not None
    assert found.usd == pytest.approx(2 * found.seconds / 3600)
    if found.wanted is Wanted.ROUNDS:
        assert found.group is not None
        assert found.seconds == pytest.approx(found.rounds * seconds_per_round(run, found.group.key))


def test_the_noisy_length_is_the_one_to_measure_more_of() -> None:
    """Where only the long requests are noisy, the rounds are asked for there."""

    def seconds(label: str, batch: int, length: int, how: Batching) -> float:
        return {"sdpa": 0.045, "cast-32": 0.0415}[label] * (length / 512)

    quiet = run_of(seconds)
    noisy = run_of(seconds, noise=0.08, seed=3)
    long = quiet.header.plan.groups[1].key
    there = (*(r for r in quiet.rounds if r.group != long), *(r for r in noisy.rounds if r.group == long))
    mixed = replace(quiet, rounds=there)
    found = next_of(mixed)
    assert found.wanted is Wanted.ROUNDS
    assert found.group is not None
    assert found.group.key == long


def test_rounds_follow_the_square_of_what_is_missing() -> None:
    """Of one shape: rounds so far times (half the range / distance to the flip)², both in logarithms, less those."""
    one = LengthDistribution((512,), (1.0,), True, "shares")
    projection = ahead(run_of(times({"sdpa": 0.045, "cast-32": 0.040}), mix=one, noise=0.15, seed=1, rounds=16))
    speedup, outlook = projection.arm("cast-32").speedup, outlook_of(projection)
    flips = next(factor for factor in outlook.sensitivity if factor.moved is Moved.TIMES).flips_at
    assert speedup is not None
    assert speedup.low is not None
    assert speedup.high is not None
    assert flips is not None
    half = math.log(speedup.high / speedup.low) / 2
    distance = min(abs(-math.log(speedup.value) - math.log(flips)), abs(-math.log(speedup.value) + 0.01))
    assert outlook.next_measurement.wanted is Wanted.ROUNDS
    assert outlook.next_measurement.rounds == pytest.approx(16 * ((half / distance) ** 2 - 1), rel=0.05, abs=1)


def test_what_sits_on_the_edge_is_not_settled_by_rounds() -> None:
    """A ratio that lies where the decision flips would need rounds without end."""
    on_the_edge = run_of(times({"sdpa": 0.045, "cast-32": 0.045 * 0.99005}), noise=0.05, seed=2)
    assert next_of(on_the_edge, price=None).wanted in (Wanted.ENDLESS, Wanted.ALL_ROUNDS)


def test_interpolation_that_makes_the_range_asks_for_lengths() -> None:
    """Where the held-out length is far off and the rounds agree, more of them would help nothing."""
    mix = LengthDistribution((512, 1024, 2048), (0.4, 0.3, 0.3), False, "quantiles")

    def seconds(label: str, batch: int, length: int, how: Batching) -> float:
        base = {"sdpa": 1.0, "cast-32": 0.9}[label] * length * 2e-5
        return base * (1.5 if length == 1024 and label == "cast-32" else 1.0)

    run = run_of(seconds, mix=mix, lengths=(512, 2048), held_out=1024, noise=0.003)
    found = next_of(run)
    assert (found.wanted, found.rounds) == (Wanted.LENGTHS, None)
    assert found.seconds is not None


def test_an_exact_mechanism_needs_no_quality() -> None:
    """A faster exact rival is no new model: nothing more is asked for once it is sure."""
    run = run_of(times({"sdpa": 0.045, "naive": 0.050}), arms=(SDPA, NAIVE))
    outlook = ahead(run).outlook
    assert outlook is not None
    assert ahead(run).arm(outlook.subject).quality_status is QualityStatus.EQUAL
    assert outlook.next_measurement.wanted is Wanted.NOTHING
