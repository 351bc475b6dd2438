from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.cost import queueing
from castbench.cost.objective import Limit, Objective

loads = st.floats(0.05, 0.95)


def erlang_c_by_definition(servers: int, load: float) -> float:
    """The textbook sum."""
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    return last / (math.fsum(load**k / math.factorial(k) for k in range(servers)) + last)


def md1_cdf_by_erlang(load: float, periods: float) -> float:
    """Erlang's alternating sum of 1909, good for few periods only: P(wait ≤ t·D)."""
    terms = (
        (-load * (periods - k)) ** k / math.factorial(k) * math.exp(load * (periods - k))
        for k in range(math.floor(periods) + 1)
    )
    return (1 - load) * math.fsum(terms)


@given(st.integers(1, 30), loads)
def test_erlang_c_is_its_textbook_sum(servers: int, utilization: float) -> None:
    """The recursion gives what the sum of powers over factorials gives."""
    load = utilization * servers
    assert queueing.erlang_c(servers, load) == pytest.approx(erlang_c_by_definition(servers, load), rel=1e-9)


@pytest.mark.parametrize(("servers", "load", "waiting"), [(1, 0.5, 0.5), (2, 1.0, 1 / 3), (10, 8.0, 0.40918)])
def test_erlang_c_at_known_points(servers: int, load: float, waiting: float) -> None:
    """One server waits with probability ρ, two at one erlang with 1/3; ten at eight by the tables."""
    assert queueing.erlang_c(servers, load) == pytest.approx(waiting, rel=1e-4)


def test_erlang_c_of_a_thousand_servers_neither_overflows_nor_vanishes() -> None:
    """Where 1000! would overflow, the recursion goes on; no load never waits, too much always does."""
    assert 0.0 < queueing.erlang_c(1000, 970.0) < 1.0
    assert queueing.erlang_c(3, 0.0) == 0.0
    assert queueing.erlang_c(3, 3.0) == queueing.erlang_c(3, 99.0) == 1.0


@given(loads)
def test_one_server_is_m_m_1(load: float) -> None:
    """Mean wait ρ/(1-ρ), tail ρ·exp(-(1-ρ)t), with service of mean 1; and M/G/1 agrees at a variation of 1."""
    assert queueing.mmc_mean_wait(load, 1.0) == pytest.approx(load / (1 - load))
    assert queueing.mg1_mean_wait(load, 1.0, 1.0) == pytest.approx(load / (1 - load))
    assert queueing.mmc_wait_tail(load, 1.0, 1, 2.0) == pytest.approx(load * math.exp(-2 * (1 - load)))


@given(st.integers(1, 20), loads, st.floats(0.01, 0.999))
def test_a_quantile_has_the_share_it_is_named_after(servers: int, utilization: float, share: float) -> None:
    """P(wait ≤ quantile) is the share where anybody waits, and at least that where the quantile is 0."""
    rate = utilization * servers / 0.2
    quantile = queueing.mmc_wait_quantile(rate, 0.2, servers, share)
    reached = 1 - queueing.mmc_wait_tail(rate, 0.2, servers, quantile)
    assert reached >= share - 1e-9
    assert quantile == 0.0 or reached == pytest.approx(share)


@given(loads, st.floats(0.0, 6.0))
def test_m_d_1_is_erlangs_sum_where_that_can_be_trusted(load: float, periods: float) -> None:
    """The sum of positive terms equals the alternating one of 1909 over the first six services."""
    assert queueing.md1_wait_cdf(load / 3, 3.0, periods * 3.0) == pytest.approx(
        md1_cdf_by_erlang(load, periods), abs=1e-9
    )


@pytest.mark.parametrize("load", [0.3, 0.7, 0.95])
def test_the_distribution_of_m_d_1_has_the_mean_of_pollaczek_and_khinchine(load: float) -> None:
    """The tail integrates to ρ/2(1-ρ), however far it reaches: no digits are lost on the way."""
    step, mean = 0.1, 0.0
    t = step / 2
    while (tail := 1 - queueing.md1_wait_cdf(load, 1.0, t)) > 1e-6:
        mean += tail * step
        t += step
    assert mean == pytest.approx(queueing.mg1_mean_wait(load, 1.0, 0.0), rel=2e-3)


@given(loads, st.floats(0.01, 0.999))
def test_a_quantile_of_m_d_1_inverts_its_distribution(load: float, share: float) -> None:
    """P(wait ≤ quantile) is the share, or the quantile is 0 and those served at once are more."""
    quantile = queueing.md1_wait_quantile(load, 1.0, share)
    reached = queueing.md1_wait_cdf(load, 1.0, quantile)
    assert reached >= share - 1e-9
    assert quantile == 0.0 or reached == pytest.approx(share, abs=1e-6)


@given(st.integers(1, 20), loads, st.floats(0.0, 5.0), st.floats(0.2, 5.0))
def test_the_approximation_is_exact_where_theory_is(
    servers: int, utilization: float, scv: float, mean_s: float
) -> None:
    """G/G/c is M/M/c at variations of 1, Pollaczek and Khinchine's with one server, and Lee and Longton's else."""
    rate = utilization * servers / mean_s
    one = queueing.mgc_mean_wait(rate, mean_s, servers, service_scv=1.0)
    assert one == pytest.approx(queueing.mmc_mean_wait(rate, mean_s, servers))
    assert queueing.mgc_mean_wait(rate, mean_s, servers, service_scv=scv) == pytest.approx(one * (1 + scv) / 2)
    alone = queueing.mgc_mean_wait(rate / servers, mean_s, 1, service_scv=scv)
    assert alone == pytest.approx(queueing.mg1_mean_wait(rate / servers, mean_s, scv))


@given(st.integers(1, 9), loads, st.floats(0.1, 5.0))
def test_the_tail_of_the_approximation_integrates_to_its_mean(servers: int, utilization: float, scv: float) -> None:
    """An exponential wait of those who wait: tail at 0 times the scale is the mean."""
    rate = utilization * servers
    mean = queueing.mgc_mean_wait(rate, 1.0, servers, service_scv=scv)
    waiting = queueing.mgc_wait_tail(rate, 1.0, servers, 0.0, service_scv=scv)
    at_mean = queueing.mgc_wait_tail(rate, 1.0, servers, mean, service_scv=scv)
    assert at_mean == pytest.approx(waiting * math.exp(-waiting))


def test_too_much_work_waits_for_ever() -> None:
    """From a utilisation of 1 on there is no steady state, and no finite number is given."""
    assert queueing.mmc_mean_wait(2.0, 1.0, 2) == math.inf
    assert queueing.mg1_mean_wait(1.0, 1.0, 0.0) == math.inf
    assert queueing.md1_wait_quantile(1.0, 1.0, 0.5) == math.inf
    assert queueing.mmc_wait_quantile(9.0, 1.0, 2, 0.5) == math.inf
    assert queueing.md1_wait_cdf(1.0, 1.0, 5.0) == 0.0
    assert queueing.mgc_wait_tail(2.0, 1.0, 2, 9.0, service_scv=0.0) == 1.0


def test_no_work_waits_for_nothing() -> None:
    """Service of 0 s, or no arrivals, is no wait."""
    assert queueing.mmc_mean_wait(3.0, 0.0) == 0.0
    assert queueing.mgc_wait_tail(3.0, 0.0, 1, 0.0, service_scv=0.0) == 0.0
    assert queueing.md1_wait_cdf(3.0, 0.0, 0.0) == 1.0
    assert queueing.mmc_wait_quantile(0.0, 1.0, 1, 0.99) == 0.0


@given(st.floats(0.1, 50.0), st.floats(0.01, 3.0), st.floats(0.0, 5.0), st.floats(0.01, 5.0))
def test_the_formula_gives_the_fewest_servers_that_keep_the_limit(
    rate: float, service_s: float, scv: float, limit_s: float
) -> None:
    """With as many the tail is within 1 %, with one fewer it is not."""
    found = queueing.servers_by_formula(rate, service_s, scv, Objective((Limit(0.99, limit_s, "wait"),)))
    assert found is not None
    assert queueing.mgc_wait_tail(rate, service_s, found, limit_s, service_scv=scv) <= 0.01 + 1e-9
    if found > 1:
        assert queueing.mgc_wait_tail(rate, service_s, found - 1, limit_s, service_scv=scv) > 0.01 - 1e-9


def test_a_latency_leaves_the_wait_what_service_does_not_take() -> None:
    """2 s of latency with 1.5 s of service is a wait of 0.5 s; with 2.1 s of service no number is enough."""
    latency, wait = Objective((Limit(0.99, 2.0),)), Objective((Limit(0.99, 0.5, "wait"),))
    assert queueing.servers_by_formula(3.0, 1.5, 0.0, latency) == queueing.servers_by_formula(3.0, 1.5, 0.0, wait)
    assert queueing.servers_by_formula(3.0, 2.1, 0.0, latency) is None
    assert queueing.servers_by_formula(3.0, 1.0, 0.5, latency, service_sample_s=[0.9] * 95 + [2.9] * 5) is None


def test_utilisation_alone_is_the_load_over_the_limit() -> None:
    """7 erlangs at 70 % are 10 servers."""
    assert queueing.servers_by_formula(7.0, 1.0, 1.0, Objective(max_utilization=0.7)) == 10
