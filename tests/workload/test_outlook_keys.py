from __future__ import annotations

import re

import pytest

from castbench.plain import from_plain, to_plain
from castbench.workload.spec import Currency, Economics, ElectricityTerms, OneOffCosts
from castbench.workload.template import Answers, render
from tests.workload.test_profile import parse, sound, written


def test_costs_terms_and_currency_reach_the_profile() -> None:
    """Each key of one_off, energy and currency arrives, and what is left out stays not stated."""
    profile = sound(
        one_off="{retraining_usd: 8000, dual_running_days: 14}",
        energy="{pue: 1.3, kg_co2_per_kwh: 0}",
        currency="{code: JPY, per_usd: 155}",
        demand="{requests_per_second: 40, growth_percent_per_year: -20}",
    )
    assert profile.one_off == OneOffCosts(retraining_usd=8000, dual_running_days=14)
    assert profile.energy == ElectricityTerms(pue=1.3, kg_co2_per_kwh=0)
    assert profile.currency == Currency("JPY", 155)
    assert profile.demand is not None
    assert profile.demand.growth_percent_per_year == -20
    assert sound().economics == Economics()


def test_they_survive_the_run_file() -> None:
    """A header holds them in full, and one written before these keys existed is still read."""
    asked = Economics(one_off=OneOffCosts(1.0), energy=ElectricityTerms(1.2, 0.1, 0.4), currency=Currency("EUR", 0.9))
    plain = to_plain(asked)
    assert from_plain(Economics, plain) == asked
    for key in ("one_off", "energy", "currency"):
        del plain[key]
    assert from_plain(Economics, plain) == Economics()


@pytest.mark.parametrize(
    ("keys", "where", "said"),
    [
        ({"one_off": "{retraining_usd: -1}"}, "one_off.retraining_usd", "expected an amount in USD of at least 0"),
        ({"one_off": "{validation_usd: .nan}"}, "one_off.validation_usd", "expected an amount in USD of at least 0"),
        ({"one_off": "{engineering_usd: .inf}"}, "one_off.engineering_usd", "expected an amount in USD of at least 0"),
        ({"one_off": "{dual_running_days: 30d}"}, "one_off.dual_running_days", "a number of days of at least 0"),
        ({"one_off": "{dual_running_days: 5000}"}, "one_off.dual_running_days", "expected at most 3650"),
        ({"one_off": "{training_usd: 1}"}, "one_off.training_usd", "Did you mean 'retraining_usd'?"),
        ({"one_off": "{}"}, "one_off", "expected at least one of retraining_usd, validation_usd, dual_running_days"),
        ({"energy": "{pue: 0.9}"}, "energy.pue", "expected a ratio of at least 1, got 0.9"),
        ({"energy": "{usd_per_kwh: -0.1}"}, "energy.usd_per_kwh", "expected a price in USD of at least 0, got -0.1"),
        ({"energy": "{kg_co2_per_kwh: .nan}"}, "energy.kg_co2_per_kwh", "expected a mass in kg of at least 0"),
        ({"energy": "{}"}, "energy", "expected at least one of pue, usd_per_kwh, kg_co2_per_kwh"),
        ({"currency": "{code: JPY}"}, "currency.per_usd", "this key is required, but missing"),
        ({"currency": "{per_usd: 155}"}, "currency.code", "this key is required, but missing"),
        ({"currency": "{code: jpy, per_usd: 155}"}, "currency.code", "Did you mean JPY?"),
        ({"currency": "{code: Yen, per_usd: 155}"}, "currency.code", "three capital letters such as JPY"),
        ({"currency": "{code: USD, per_usd: 1}"}, "currency.code", "amounts are in USD already"),
        ({"currency": "{code: JPY, per_usd: 0}"}, "currency.per_usd", "expected a number above 0, got 0"),
        ({"currency": "{code: JPY, per_usd: .nan}"}, "currency.per_usd", "expected a number above 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(keys: dict[str, str], where: str, said: str) -> None:
    """One problem, at the key it is about, that says what was expected."""
    (problem,) = parse(written(**keys)).problems
    assert problem.where == where
    assert said in problem.what


@pytest.mark.parametrize("growth", ["-100", "-101", ".nan", "1001", "10%"])
def test_a_demand_cannot_shrink_to_nothing(growth: str) -> None:
    """Growth of -100 % or less, beyond reason, or that is no number is refused."""
    asked = f"{{requests_per_second: 40, growth_percent_per_year: {growth}}}"
    (problem,) = parse(written(demand=asked)).problems
    assert problem.where == "demand.growth_percent_per_year"
    assert problem.what.startswith("expected")


def test_the_examples_in_a_new_profile_are_sound() -> None:
    """What `workload init` writes as comments can be used as it stands."""
    text = re.sub(r"^#   (one_off|energy|currency):", r"\1:", render(Answers()), flags=re.MULTILINE)
    profile = parse(text).profile
    assert profile is not None
    assert None not in (profile.one_off, profile.energy, profile.currency)
