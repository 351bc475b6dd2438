from __future__ import annotations

from dataclasses import replace

import pytest

from castbench.cost.owned import owned_price
from castbench.cost.rented import even_share, rented_twin
from castbench.cost.spec import Price
from castbench.workload.spec import OwnedHardware

SERVER = OwnedHardware(280_320, 4, 0.5, power_w=6000, pue=1.5, usd_per_kwh=0.2, maintenance_share=0.05)
"""21 USD per hour of use at 50 %, of which 1.8 are electricity; at full use 9.6 + 1.8."""
ROW = Price(24.0, "x8", "on_demand", 8, "2026-11-01", "a list", cloud="aws", accelerator="H100-SXM")


def test_an_hour_of_one_gpu_either_way() -> None:
    """21 USD over 8 GPUs beside the cheapest row of the same GPU, and the use at which both cost the same."""
    rows = [ROW, replace(ROW, name="x1", gpus=1, usd_per_hour=2.5), replace(ROW, accelerator="L4", usd_per_hour=1.0)]
    found = rented_twin(SERVER, owned_price(SERVER, 8, None), "H100-SXM", rows)
    assert found is not None
    assert (found.name, found.rented_usd_per_gpu_hour) == ("x1", 2.5)
    assert found.owned_usd_per_gpu_hour == pytest.approx(21 / 8)
    assert found.even_at_share == pytest.approx(9.6 / (2.5 * 8 - 1.8))


def test_at_the_even_share_both_cost_the_same() -> None:
    """A server of one's own that is used for just that share costs per hour of use what renting does."""
    share = even_share(SERVER, 20.0)
    assert share is not None
    assert owned_price(replace(SERVER, utilization=share), 8, None).usd_per_hour == pytest.approx(20.0)


def test_what_never_pays_is_said_and_what_is_not_known_is_not() -> None:
    """A rent below the electricity, or below the cost at full use, has no even share; another GPU has no twin."""
    assert even_share(SERVER, 1.8) is None
    assert even_share(SERVER, 11.3) is None
    assert even_share(SERVER, 11.5) is not None
    price = owned_price(SERVER, 8, None)
    assert rented_twin(SERVER, price, "L4", [ROW]) is None
    assert rented_twin(SERVER, price, None, [ROW]) is None
    assert rented_twin(SERVER, price, "H100-SXM", [replace(ROW, flags=("too cheap",))]) is None
