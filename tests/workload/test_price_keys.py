from __future__ import annotations

import pytest

from castbench.plain import from_plain, to_plain
from castbench.workload.spec import Economics, OwnedHardware, PriceChoice
from tests.workload.test_profile import parse, sound, written

OWNED = "purchase_usd: 280320, years: 4, utilization: 0.5"


def test_a_reservation_reaches_the_profile() -> None:
    """Discount and term of a catalogue row; of a contract price only the term, since the price is net of it."""
    stated = sound(price="{cloud: aws, instance: x, plan: reserved, discount_percent: 40, term_years: 1}").price
    assert stated == PriceChoice(
        plan="reserved", cloud="aws", instance="x", discount_percent=40, term_years=1
    )  # fmt: skip
    assert sound(price="{usd_per_hour: 2, plan: reserved, term_years: 3}").price == PriceChoice(
        2, "reserved", term_years=3
    )


def test_a_server_of_ones_own_reaches_the_profile() -> None:
    """With all its keys and its GPUs, and for a CPU with its vCPUs."""
    whole = f"{{owned: {{{OWNED}, power_w: 6000, pue: 1.5, usd_per_kwh: 0.2, maintenance_share: 0.05}}, gpus: 8}}"
    assert sound(price=whole).price == PriceChoice(gpus=8, owned=OwnedHardware(280320, 4, 0.5, 6000, 1.5, 0.2, 0.05))
    bare = sound(price_cpu=f"{{owned: {{{OWNED}}}, vcpus: 64}}").price_cpu
    assert bare == PriceChoice(gpus=0, vcpus=64, owned=OwnedHardware(280320, 4, 0.5))


def test_prices_survive_the_run_file() -> None:
    """A header holds them in full, and one written before these keys existed is still read."""
    asked = Economics(price=PriceChoice(owned=OwnedHardware(1.0, 2.0, 0.5)), price_cpu=PriceChoice(2.0, term_years=1))
    plain = to_plain(asked)
    assert from_plain(Economics, plain) == asked
    for key in ("discount_percent", "term_years", "owned"):
        del plain["price_cpu"][key]
    assert from_plain(Economics, plain).price_cpu == PriceChoice(2.0)


@pytest.mark.parametrize(
    ("price", "where", "said"),
    [
        ("{cloud: a, instance: b, plan: reserved}", "price.plan", "state your discount as discount_percent"),
        ("{cloud: a, instance: b, discount_percent: 40}", "price.discount_percent", "only used with plan: reserved"),
        ("{usd_per_hour: 1, term_years: 1}", "price.term_years", "only used with plan: reserved"),
        ("{usd_per_hour: 1, plan: reserved, discount_percent: 4}", "price.discount_percent", "what is paid already"),
        ("{cloud: a, instance: b, plan: reserved, discount_percent: 100}", "price.discount_percent", "at most 99"),
        ("{cloud: a, instance: b, plan: reserved, discount_percent: 40%}", "price.discount_percent", "per cent"),
        ("{cloud: a, instance: b, plan: reserved, discount_percent: -4}", "price.discount_percent", "above 0"),
        ("{usd_per_hour: 1, plan: reserved, term_years: 1.5}", "price.term_years", "expected a positive integer"),
        ("{usd_per_hour: 1, plan: monthly}", "price.plan", "expected on_demand or spot or reserved, got 'monthly'"),
        ("{usd_per_hour: -1}", "price.usd_per_hour", "expected a price in USD above 0, got -1"),
        ("{usd_per_hour: .nan}", "price.usd_per_hour", "expected a price in USD above 0"),
        ("{usd_per_hour: 0}", "price.usd_per_hour", "expected a price in USD above 0, got 0"),
        (f"{{owned: {{{OWNED}}}, usd_per_hour: 1}}", "price", "give one of them"),
        (f"{{owned: {{{OWNED}}}, cloud: aws}}", "price", "give one of them"),
        (f"{{owned: {{{OWNED}}}, plan: spot}}", "price.plan", "a server of your own has no plan"),
        (f"{{owned: {{{OWNED}, power_w: 6000}}}}", "price.owned", "pue and usd_per_kwh is missing"),
        (f"{{owned: {{{OWNED}, power_w: 1, pue: 0.5, usd_per_kwh: 1}}}}", "price.owned.pue", "at least 1, got 0.5"),
        (f"{{owned: {{{OWNED}, pues: 1}}}}", "price.owned.pues", "Did you mean 'pue'?"),
        ("{owned: {purchase_usd: 1, years: 4}}", "price.owned.utilization", "required, but missing"),
        ("{owned: {purchase_usd: 1, years: 4, utilization: 50}}", "price.owned.utilization", "at most 1"),
        ("{owned: {purchase_usd: 0, years: 4, utilization: 1}}", "price.owned.purchase_usd", "above 0"),
        ("{owned: 3}", "price.owned", "expected a mapping of keys, got 3"),
    ],
)
def test_terms_that_do_not_fit_together_are_refused(price: str, where: str, said: str) -> None:
    """One problem, at the key it is about, that says what was expected."""
    (problem,) = parse(written(price=price)).problems
    assert problem.where == where
    assert said in problem.what
