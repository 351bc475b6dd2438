from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.cost.owned import capital_usd_per_hour, electricity_usd_per_hour, owned_price, owned_usd_per_hour
from castbench.workload.spec import OwnedHardware

SERVER = OwnedHardware(280_320, 4, 0.5, power_w=6000, pue=1.5, usd_per_kwh=0.2, maintenance_share=0.05)


def test_the_worked_example_of_the_docs() -> None:
    """280,320 USD over 4 years at 50 %: 16 for the purchase, 3.2 for maintenance and 1.8 for electricity per hour."""
    assert capital_usd_per_hour(replace(SERVER, maintenance_share=None)) == pytest.approx(16.0)
    assert capital_usd_per_hour(SERVER) == pytest.approx(19.2)
    assert electricity_usd_per_hour(SERVER) == pytest.approx(1.8)
    assert owned_usd_per_hour(SERVER) == pytest.approx(21.0)


def test_the_source_is_the_formula_with_its_numbers() -> None:
    """Whoever reads the price can work it out again."""
    price = owned_price(SERVER, 8, None)
    assert price.source == (
        "stated by you: (280320 USD / 4 years + 0.05 of it per year for maintenance) / (8760 h * 0.5 used)"
        " + 6000 W * PUE 1.5 * 0.2 USD per kWh"
    )
    assert (price.plan, price.gpus, price.as_of, price.contract) == ("owned", 8, None, True)


def test_what_is_not_stated_is_left_out_and_said() -> None:
    """Without electricity and maintenance the price is the purchase alone, and the source says that it is."""
    bare = OwnedHardware(280_320, 4, 0.5)
    assert electricity_usd_per_hour(bare) is None
    assert owned_usd_per_hour(bare) == pytest.approx(16.0)
    assert owned_price(bare, 8, None).source == (
        "stated by you: 280320 USD / 4 years / (8760 h * 0.5 used), without maintenance and electricity (not stated)"
    )


@given(
    usd=st.floats(1, 1e7), years=st.floats(0.5, 20), used=st.floats(0.01, 1), factor=st.floats(1.01, 10),
    power=st.floats(1, 1e5), pue=st.floats(1, 3), kwh=st.floats(0.01, 2), kept=st.floats(0.001, 1),
)  # fmt: skip
def test_more_use_and_a_longer_life_never_cost_more_per_hour(
    usd: float, years: float, used: float, factor: float, power: float, pue: float, kwh: float, kept: float
) -> None:
    """Purchase and power scale the price up, years and use down, and all of it paid back by the hours of use."""
    server = OwnedHardware(usd, years, used, power, pue, kwh, kept)
    price = owned_usd_per_hour(server)
    assert owned_usd_per_hour(replace(server, years=years * factor)) < price
    assert owned_usd_per_hour(replace(server, purchase_usd=usd * factor)) > price
    assert owned_usd_per_hour(replace(server, power_w=power * factor)) > price
    assert owned_usd_per_hour(replace(server, utilization=used / factor)) > price
    paid = capital_usd_per_hour(server) * 8760 * years * used
    assert paid == pytest.approx(usd * (1 + years * kept))
