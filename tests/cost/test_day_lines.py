from __future__ import annotations

from dataclasses import replace as with_

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.cost.day_lines import Autoscaler, day_lines, scaled_fleet
from castbench.cost.objective import Limit, Objective
from castbench.cost.service import LinearTime, Service
from castbench.cost.sizing import Setting, size_fleet
from castbench.cost.traffic import Traffic
from castbench.errors import InputError
from castbench.report import text

SECOND = Service(LinearTime(0.0, 1e-3))
"""1 s for 1000 tokens."""
P95 = Objective((Limit(0.95, 5.0),))
PROMPT = Autoscaler(period_s=60.0, start_delay_s=0.0, hold_s=0.0, billing_step_s=0.0)


def hours(rates: list[float], hour_s: float = 1800.0, seed: int = 0) -> Traffic:
    """Poisson arrivals at one rate after the other."""
    rng = np.random.default_rng(seed)
    times = [np.sort(rng.uniform(h * hour_s, (h + 1) * hour_s, rng.poisson(r * hour_s))) for h, r in enumerate(rates)]
    together = np.concatenate(times)
    return Traffic.of(together, [1000] * together.size)


TIDE = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
DAY = Setting(hours(TIDE, 600.0), SECOND, P95)


def test_on_a_slow_tide_the_ideal_costs_least_and_the_fixed_fleet_most() -> None:
    """Rising and falling over hours: autoscaling pays less than the fixed fleet and more than what is ideal."""
    needed = size_fleet(DAY).needed or 0
    lines = day_lines(DAY, needed, Autoscaler())
    assert lines.ideal.replica_hours < lines.autoscaled.replica_hours < lines.fixed.replica_hours
    assert lines.fixed.missed == lines.autoscaled.missed == ()
    assert lines.ideal.missed is None
    assert lines.fixed.replica_hours == pytest.approx(needed * lines.hours)
    assert lines.fixed.mean_replicas == needed
    assert lines.ideal.peak_replicas <= needed


@given(st.integers(0, 8), st.integers(1, 12), st.sampled_from((60.0, 300.0)))
def test_the_ideal_never_costs_more_than_the_fixed_fleet(seed: int, replicas: int, period_s: float) -> None:
    """Whatever the fleet, since no period is given more than it."""
    setting = with_(DAY, traffic=hours([0.2, 2.0], 600.0, seed))
    lines = day_lines(setting, replicas, Autoscaler(), period_s=period_s)
    assert lines.ideal.replica_hours <= lines.fixed.replica_hours + 1e-9


def test_a_burst_shorter_than_the_start_up_defeats_autoscaling() -> None:
    """Half a minute of 40 requests a second, ten minutes of start-up: no target keeps the objective, and it says so."""
    rng = np.random.default_rng(1)
    times = np.sort(np.concatenate((rng.uniform(0, 3600, 1800), rng.uniform(1800, 1830, 1200))))
    setting = with_(DAY, traffic=Traffic.of(times, [1000] * times.size))
    lines = day_lines(setting, size_fleet(setting).needed or 0, Autoscaler(start_delay_s=600.0))
    assert lines.fixed.missed == ()
    assert lines.autoscaled.missed
    assert "p95 latency" in text.words(lines.autoscaled.missed[0])
    assert lines.autoscaled.aimed_at == 0.1


def test_the_scaler_follows_the_work_of_the_period_before() -> None:
    """One erlang in the first minute, three in the second, none in the third: wanted one minute later, at 50 %."""
    times = [*np.arange(60.0), *(60 + np.arange(180) / 3), 179.5]
    setting = with_(DAY, traffic=Traffic.of(times, [1000] * 241))
    numbers = scaled_fleet(setting, PROMPT, 0.5)
    assert [(round(at), n) for at, n in numbers] == [(0, 2), (60, 2), (120, 6)]


def test_replicas_are_held_until_fewer_would_have_done_for_long_enough() -> None:
    """A peak of one minute is held for three more."""
    times = [*np.arange(0.0, 60.0, 0.25), *np.arange(60.0, 600.0, 2.0)]
    setting = with_(DAY, traffic=Traffic.of(times, [1000] * len(times)))
    prompt = [n for _, n in scaled_fleet(setting, PROMPT, 1.0)]
    held = [n for _, n in scaled_fleet(setting, with_(PROMPT, hold_s=180.0), 1.0)]
    assert prompt[:6] == [4, 4, 1, 1, 1, 1]
    assert held[:7] == [4, 4, 4, 4, 4, 1, 1]


def test_floor_ceiling_and_step_bound_the_fleet() -> None:
    """Whole lots, never under the floor, never over the ceiling."""
    scaler = Autoscaler(floor=3, ceiling=9, step=2)
    assert [scaler.clamped(wanted) for wanted in (0.0, 3.1, 4.5, 7.9, 20.0)] == [4, 4, 6, 8, 9]


def test_lives_are_paid_in_whole_steps() -> None:
    """Paid by the hour, an hour's peak costs no less than by the second, and every life is a whole hour."""
    fine, coarse = (
        day_lines(DAY, 12, with_(PROMPT, billing_step_s=step)).autoscaled for step in (0.0, 3600.0)
    )  # fmt: skip
    assert coarse.replica_hours > fine.replica_hours
    assert coarse.replica_hours == round(coarse.replica_hours)


def test_start_up_is_paid_for() -> None:
    """The same fleet with a start-up pays at least as much, since replicas are held from when they are ordered."""
    quick, slow = (day_lines(DAY, 12, with_(PROMPT, start_delay_s=d, hold_s=300.0)).autoscaled for d in (0.0, 120.0))
    assert (quick.missed, slow.missed) == ((), ())
    assert slow.replica_hours >= quick.replica_hours


def test_one_request_and_one_moment_have_lines_of_no_length() -> None:
    """No span: nothing is paid for by the fixed fleet, and no mean is made up."""
    setting = with_(DAY, traffic=Traffic.of([5.0, 5.0], [1000, 1000]))
    lines = day_lines(setting, 2, Autoscaler())
    assert lines.hours == 0.0
    assert lines.ideal.mean_replicas is None
    assert lines.autoscaled.mean_replicas is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"period_s": 0.0}, {"start_delay_s": -1.0}, {"hold_s": -1.0}, {"billing_step_s": -1.0}, {"floor": 0},
        {"step": 0}, {"floor": 5, "ceiling": 4},
    ],
)  # fmt: skip
def test_a_scaler_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    """No period, negative delays, a floor of nothing or over the ceiling."""
    with pytest.raises(InputError):
        Autoscaler(**wrong)  # type: ignore[arg-type]
