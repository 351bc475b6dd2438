from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.cost.outlook_nouns import ArmEnergy
from castbench.energy import summarise
from castbench.records import EnergyBlock, EnergyRecord, RunRecord
from castbench.workload.spec import Demand, Economics, ElectricityTerms, LengthDistribution
from tests.cost.ahead import ahead, with_energy
from tests.cost.builder import DEMAND, run_of, times

TERMS = ElectricityTerms(pue=1.5, usd_per_kwh=0.2, kg_co2_per_kwh=0.4)


def joules(step_j: float, idle_w: float | None = 60.0) -> EnergyRecord:
    """Energy of five blocks of a hundred steps, the middle one at the mean, and of idling before and after."""
    blocks = tuple(EnergyBlock(100, 2.0, 100 * step_j * (1 + 0.01 * i)) for i in range(-2, 3))
    idle = () if idle_w is None else (EnergyBlock(0, 1.0, idle_w),) * 2
    return EnergyRecord("nvml-counter", "gpu", 0.02, idle, blocks)


def run(sdpa: tuple[float, float] = (6.0, 30.0), idle_w: float | None = 60.0) -> RunRecord:
    """The small contest with joules per step of sdpa at 512 and 2048 tokens; cast-32 has them at 512 alone."""
    record = run_of(times({"sdpa": 0.045, "cast-32": 0.022}))
    short, long = (group.key for group in record.header.plan.groups)
    energy = {(short, "sdpa"): joules(sdpa[0], idle_w), (long, "sdpa"): joules(sdpa[1], idle_w)}
    return with_energy(record, {**energy, (short, "cast-32"): joules(3.0, idle_w)})


def energy_of(
    label: str = "sdpa", terms: ElectricityTerms = TERMS, record: RunRecord | None = None,
    demand: Demand | None = DEMAND,
) -> ArmEnergy:  # fmt: skip
    """One mechanism's energy in the small contest."""
    found = ahead(record or run(), demand=demand, economics=Economics(energy=terms)).electricity
    assert found is not None
    arm = found.of(label)
    assert arm is not None
    return arm


def test_energy_of_the_fleet_by_hand() -> None:
    """(6 + 30) / 2 = 18 J a request, 27 with PUE: 1280 tokens on average, 100 requests/s, 730 h a month; 7 servers that
    are 64.3 % busy wait 2.5 hours an hour, at 60 W · 1.5.
    """
    found = energy_of()
    assert found.kwh_per_million_tokens is not None
    assert found.kwh_per_million_tokens.value == pytest.approx(27 / 1280 * 1e6 / 3.6e6)
    assert found.kwh_per_month is not None
    assert found.kwh_per_month.value == pytest.approx(27 * 100 * 730 * 3600 / 3.6e6) == pytest.approx(1971)
    assert found.idle_kwh_per_month == pytest.approx(2.5 * 60 * 1.5 * 730 / 1000) == pytest.approx(164.25)
    assert found.usd_per_month is not None
    assert found.usd_per_month.value == pytest.approx(0.2 * (1971 + 164.25))
    assert found.kg_co2_per_month is not None
    assert found.kg_co2_per_month.value == pytest.approx(0.4 * (1971 + 164.25))
    assert found.kg_co2_per_million_tokens is not None
    assert found.kg_co2_per_million_tokens.value == pytest.approx(0.4 * 27 / 1280 * 1e6 / 3.6e6)
    assert (found.source, found.scope, found.missing) == ("nvml-counter", "gpu", None)


def test_the_range_is_that_of_all_lengths_at_once() -> None:
    """Both ends of both lengths together: (low + low) / 2 to (high + high) / 2 joules a request."""
    ends = [summarise(joules(j), 1, 1.0) for j in (6.0, 30.0)]
    gross = [e.gross_j_per_step for e in ends if e is not None]
    factor = 1.5 / 1280 * 1e6 / 3.6e6 / 2
    found = energy_of().kwh_per_million_tokens
    assert found is not None
    assert found.low == pytest.approx(factor * sum(g.low or 0 for g in gross))
    assert found.high == pytest.approx(factor * sum(g.high or 0 for g in gross))


def test_between_measured_lengths_joules_are_interpolated_as_times_are() -> None:
    """At 1024 tokens, half-way in logarithms between 512 and 2048, it is the geometric mean of both."""
    record = run()
    mix = LengthDistribution((1024, 2048), (0.5, 0.5), False, "quantiles")
    moved = replace(record, header=replace(record.header, plan=replace(record.header.plan, mix=mix)))
    found = energy_of(record=moved).kwh_per_million_tokens
    assert found is not None
    joules_per_request = ((6 * 30) ** 0.5 + 30) / 2
    assert found.value == pytest.approx(1.5 * joules_per_request / 1536 * 1e6 / 3.6e6)


def test_energy_that_was_not_measured_everywhere_is_not_known_and_never_zero() -> None:
    """cast-32 has none at 2048 tokens, so it has none over the traffic, and the reason is told."""
    found = energy_of("cast-32")
    assert found == ArmEnergy("cast-32", found.missing)
    assert found.missing is not None
    assert found.missing.key == "electricity.unmeasured"


def test_an_attention_module_has_no_energy_of_requests() -> None:
    """Joules of a module are not those of a request, whatever share of the time it has."""
    record = run()
    served = replace(record.header.plan.served, scope="attention")
    part = replace(record, header=replace(record.header, plan=replace(record.header.plan, served=served)))
    found = ahead(part, economics=Economics(energy=TERMS), attention_share=0.5).electricity
    assert found is not None
    assert {arm.missing.key for arm in found.arms if arm.missing} == {"electricity.module_only"}


def test_what_is_not_stated_is_not_made_up() -> None:
    """No CO2 without its intensity, no dollars without a price, no month without traffic, no waiting without idle
    watts, and nothing at all where the profile says nothing of electricity.
    """
    bare = energy_of(terms=ElectricityTerms(pue=1.5))
    assert (bare.usd_per_month, bare.kg_co2_per_month, bare.kg_co2_per_million_tokens) == (None, None, None)
    still = energy_of(demand=None)
    assert (still.kwh_per_month, still.idle_kwh_per_month, still.usd_per_month) == (None, None, None)
    assert still.kwh_per_million_tokens == energy_of().kwh_per_million_tokens
    unread = energy_of(record=run(idle_w=None))
    assert unread.idle_kwh_per_month is None
    assert unread.usd_per_month is not None
    assert unread.usd_per_month.value == pytest.approx(0.2 * 1971)
    assert ahead(run()).electricity is None


@given(pue=st.floats(1, 10), times_as_much=st.floats(1, 10))
def test_energy_scales_with_the_pue(pue: float, times_as_much: float) -> None:
    """Twice the PUE is twice the energy, working and waiting, and twice what it costs and gives off."""
    one = energy_of(terms=replace(TERMS, pue=pue))
    more = energy_of(terms=replace(TERMS, pue=pue * times_as_much))
    for name in ("kwh_per_million_tokens", "kwh_per_month", "usd_per_month", "kg_co2_per_month"):
        assert getattr(more, name).value == pytest.approx(times_as_much * getattr(one, name).value)
    assert more.idle_kwh_per_month == pytest.approx(times_as_much * (one.idle_kwh_per_month or 0))
