from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.cost.service import (
    LinearTime,
    MeasuredTime,
    Service,
    measured_service,
    measured_time,
    round_factors,
    surfaces_for,
)
from castbench.cost.spec import Configuration
from castbench.cost.surface import LatencySurface, build_surfaces, drawn_times
from castbench.errors import InputError
from castbench.findings import case_findings
from tests.cost.builder import run_of

TABLE = MeasuredTime((1, 8), (100, 400, 1600), ((1.0, 2.0, 16.0), (4.0, 10.0, 100.0)))


def at(model: MeasuredTime, batch: int, tokens: int) -> float:
    """Seconds at one point."""
    return float(model.seconds(batch, np.array([tokens]))[0])


def test_measured_points_come_out_as_measured() -> None:
    """Nothing is smoothed."""
    for row, batch in zip(TABLE.step_s, TABLE.batch_sizes, strict=True):
        assert [at(TABLE, batch, n) for n in TABLE.lengths] == pytest.approx(row)


def test_between_points_it_is_log_log_in_length_and_in_batch() -> None:
    """Half way in the logarithm is the geometric mean, both ways."""
    assert at(TABLE, 1, 200) == pytest.approx(2**0.5)
    assert at(TABLE, 1, 800) == pytest.approx(32**0.5)
    cube = MeasuredTime((1, 4), (100,), ((1.0,), (9.0,)))
    assert at(cube, 2, 100) == pytest.approx(3.0)


def test_less_than_measured_costs_what_the_least_measured_costs() -> None:
    """Shorter requests and emptier batches are padded up, not extrapolated."""
    assert at(TABLE, 1, 10) == 1.0
    assert at(MeasuredTime((8,), (100,), ((4.0,),)), 3, 100) == pytest.approx(4.0)


@given(st.integers(1, 8), st.integers(1, 1600), st.integers(1, 1600))
def test_interpolation_keeps_the_order_of_lengths(batch: int, first: int, second: int) -> None:
    """Where measured times grow with length, so do interpolated ones."""
    low, high = sorted((first, second))
    assert at(TABLE, batch, low) <= at(TABLE, batch, high) * (1 + 1e-12)


def test_overhead_is_neither_sped_up_nor_drawn() -> None:
    """A model twice as fast halves its own time only; the mean is that over the rounds."""
    service = Service(LinearTime(1.0, 0.0), overhead_s=0.5, factors=(0.8, 1.4)).slower(0.5)
    assert service.mean_seconds(1, np.array([7])).tolist() == pytest.approx([0.5 * 1.1 + 0.5])


def test_surfaces_become_a_table_whose_draws_are_paired() -> None:
    """One surface per batch size, in the order of batches; draw i is draw i of each."""
    drawn = [np.array([1.0, 1.1]), np.array([2.0, 2.2])]
    surfaces = [
        LatencySurface(Configuration("a", batch, "padded"), (100, 400), tuple(batch * d for d in drawn), ())
        for batch in (4, 1)
    ]
    assert measured_time(surfaces) == MeasuredTime((1, 4), (100, 400), ((1.0, 2.0), (4.0, 8.0)))
    assert measured_time(surfaces, 1).step_s == ((1.1, 2.2), (4.4, 8.8))
    with pytest.raises(InputError, match="no batch size"):
        measured_time([])


def test_factors_are_rounds_over_their_cases_mean() -> None:
    """Cases of different length are pooled, each over its own mean; nothing measured is the mean itself."""
    assert round_factors([[1.0, 3.0], [], [20.0, 20.0]]) == (0.5, 1.5, 1.0, 1.0)
    assert round_factors([]) == (1.0,)


def test_a_run_becomes_a_service_with_its_rounds_to_draw_from() -> None:
    """Mean times at every measured batch and length, one factor per round and shape, of mean 1 per shape."""
    record = run_of(
        lambda label, batch, length, how: batch * length * 1e-5, batch_sizes=(1, 4), batching=("bucketed", "padded"),
        noise=0.1, rounds=8,
    )  # fmt: skip
    findings = case_findings(record)
    surfaces = build_surfaces(record.header.plan, findings, drawn_times(record, findings, 0))
    padded = surfaces_for(surfaces, "cast-32")
    assert [(s.configuration.batch_size, s.configuration.batching) for s in padded] == [(1, "bucketed"), (4, "padded")]
    assert {s.configuration.batching for s in surfaces_for(surfaces, "cast-32", bucketed=True)} == {"bucketed"}
    assert surfaces_for(surfaces, "cast-32", "graph") == ()
    service = measured_service(record, padded, overhead_s=0.5)
    assert len(service.factors) == 2 * 2 * 8
    assert sum(service.factors) / 32 == pytest.approx(1.0)
    found = service.mean_seconds(4, np.array([2048]))[0]
    assert found == pytest.approx(0.5 + float(padded[1].seconds_at(2048)[0]))
    drawn = measured_service(record, padded, draw=7).mean_seconds(4, np.array([2048]))[0]
    assert drawn == pytest.approx(float(padded[1].seconds_at(2048)[7]))
