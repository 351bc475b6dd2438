from __future__ import annotations

import re
from dataclasses import replace
from datetime import date, timedelta

import pytest

from castbench.cost import prices
from castbench.cost.prices import load_catalogue, resolve_price
from castbench.cost.spec import Price
from castbench.errors import InputError
from castbench.records import Caveat
from castbench.workload.spec import PriceChoice

DAY = date(2026, 6, 1)
ROW = Price(1.0, "x one", "on_demand", 1, "2026-05-20", "a/b@c:d", "x", "r", "L4", True, instance="one")


def _row(choice: PriceChoice, kind: prices.DeviceKind = "cuda", gpu: str | None = None, on: date = DAY) -> Price:
    """The price resolved, which must be there."""
    price, missing = resolve_price(choice, device_kind=kind, gpu=gpu, on_date=on)
    assert price is not None
    assert missing is None
    return price


@pytest.mark.parametrize("price", load_catalogue(), ids=lambda price: price.name)
def test_every_row_says_where_and_when_its_figures_are_from(price: Price) -> None:
    """A source of the form owner/repository@commit:path and a day that is not in the future of the data."""
    assert re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{7,40}:\S+", price.source)
    assert price.as_of is not None
    assert date(2025, 1, 1) <= date.fromisoformat(price.as_of) <= date(2026, 12, 31)


@pytest.mark.parametrize("price", load_catalogue(), ids=lambda price: price.name)
def test_every_price_is_of_a_sane_size(price: Price) -> None:
    """GPUs rent for 0.3 to 20 USD per hour, CPU servers for 0.02 to 0.1 USD per vCPU; spot is not dearer."""
    if price.accelerator is None:
        assert price.vcpus is not None
        assert 0.02 <= price.usd_per_hour / price.vcpus <= 0.1
        assert price.gpus == 0
    else:
        assert 0.3 <= price.usd_per_hour / price.gpus <= 20
    assert price.spot_usd_per_hour is None or 0 < price.spot_usd_per_hour <= price.usd_per_hour


def test_the_catalogue_is_unambiguous_and_has_cpu_servers() -> None:
    """Cloud and instance name one row; at least 3 CPU servers and 20 GPU servers of 4 clouds are there."""
    rows = load_catalogue()
    assert len({(p.cloud, p.instance) for p in rows}) == len({p.name for p in rows}) == len(rows)
    assert sum(p.gpus == 0 for p in rows) >= 3
    assert sum(p.gpus > 0 for p in rows) >= 20
    assert {p.cloud for p in rows} == {"gcp", "azure", "aws", "lambda"}


def test_suspect_rows_of_the_shipped_catalogue_are_few_and_flagged() -> None:
    """The one row whose spot price equals its on-demand price is flagged by rule, the others are clean."""
    suspect = [p for p in load_catalogue() if p.flags]
    assert [p.instance for p in suspect] == ["Standard_ND96isr_H200_v5"]
    assert suspect[0].caveats == (Caveat.PRICE_SUSPECT,)


@pytest.mark.parametrize(
    ("own", "spot", "flagged"),
    [
        (1.0, None, False),
        (1.26, None, True),
        (0.79, None, True),
        (1.2, None, False),
        (1.0, 0.95, True),
        (1.0, 0.5, False),
        (0.0, None, True),
    ],
)
def test_what_looks_wrong_beside_its_neighbours_is_flagged(own: float, spot: float | None, flagged: bool) -> None:
    """Under 0.8 or over 1.25 times the cloud's median per GPU, at most 1.1 times spot, or 0."""
    neighbours = [replace(ROW, gpus=n, usd_per_hour=float(n)) for n in (1, 2, 4, 8)]
    row = replace(ROW, usd_per_hour=own, spot_usd_per_hour=spot)
    assert bool(prices._checked(row, [*neighbours, row]).flags) is flagged


def test_a_contract_price_wins_and_has_no_age() -> None:
    """What the user states is taken as it is, with its GPUs per billing unit."""
    price = _row(PriceChoice(3.673, gpus=4), on=date(2030, 1, 1))
    assert (price.usd_per_hour, price.gpus, price.devices, price.contract) == (3.673, 4, 4, True)
    assert price.flags == ()


def test_a_contract_price_of_a_cpu_server_has_no_gpus() -> None:
    """One CPU server is one device, whatever the default number of GPUs is."""
    price = _row(PriceChoice(0.1), "cpu")
    assert (price.gpus, price.devices) == (0, 1)


def test_a_catalogue_row_is_found_by_cloud_and_instance() -> None:
    """Price, GPUs, region, source and date are the row's."""
    price = _row(PriceChoice(cloud="azure", instance="Standard_NC48ads_A100_v4"), gpu="A100-PCIe-80GB")
    assert (price.usd_per_hour, price.gpus, price.region) == (7.346, 2, "eastus")
    assert (price.as_of, price.plan, price.flags) == ("2026-05-20", "on_demand", ())


def test_the_spot_plan_takes_the_spot_price() -> None:
    """plan: spot is another price of the same row."""
    price = _row(PriceChoice(plan="spot", cloud="gcp", instance="a2-highgpu-1g"))
    assert (price.usd_per_hour, price.plan) == (1.8038, "spot")


def test_a_price_older_than_90_days_at_the_run_is_flagged_on_that_day_only() -> None:
    """The run's date decides, not today's: 90 days are not old, 91 are."""
    choice = PriceChoice(cloud="gcp", instance="a2-highgpu-1g")
    taken = date(2026, 5, 20)
    assert _row(choice, on=taken + timedelta(days=90)).caveats == ()
    old = _row(choice, on=taken + timedelta(days=91))
    assert old.caveats == (Caveat.PRICE_OLD,)
    assert old.flags == ("it was 91 days old on the day of the run",)


def test_the_price_of_another_gpu_than_the_profiles_is_flagged() -> None:
    """A T4's price for an A100 is used, since it was asked for, but looks wrong."""
    price = _row(PriceChoice(cloud="aws", instance="g4dn.xlarge"), gpu="A100-PCIe-80GB", on=date(2026, 3, 1))
    assert price.caveats == (Caveat.PRICE_SUSPECT,)
    assert "has T4, the profile names A100-PCIe-80GB" in price.flags[0]


@pytest.mark.parametrize(
    ("choice", "kind", "said"),
    [
        (PriceChoice(cloud="azure", instance="standard_nc24ads_a100_v5"), "cuda", "Standard_NC24ads_A100_v4"),
        (PriceChoice(cloud="aws", instance="m7i.larg"), "cpu", "aws m7i.large"),
        (PriceChoice(cloud="asw", instance="g5.xlarge"), "cuda", "aws g5.xlarge"),
        (PriceChoice(cloud="gcp", instance="a2-highgpu-1g", region="mars"), "cuda", "us-east1, not in mars"),
        (PriceChoice(plan="reserved", cloud="gcp", instance="a2-highgpu-1g"), "cuda", "no reserved price"),
        (PriceChoice(plan="spot", cloud="aws", instance="g5.xlarge"), "cuda", "no spot price"),
        (PriceChoice(cloud="aws", instance="g5.xlarge"), "cpu", "is a GPU server"),
        (PriceChoice(cloud="aws", instance="m7i.large"), "cuda", "is a CPU server"),
    ],
)
def test_a_row_that_cannot_be_used_is_refused_with_what_can(
    choice: PriceChoice, kind: prices.DeviceKind, said: str
) -> None:
    """Unknown names get near ones; a CPU run never takes a GPU's price, nor the other way round."""
    with pytest.raises(InputError) as error:
        resolve_price(choice, device_kind=kind, gpu=None, on_date=DAY)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "gpu", "said"),
    [
        ("cpu", "A100-PCIe-80GB", ("--price", "price_cpu", "aws m7i.large")),
        ("cuda", "A100-PCIe-80GB", ("--price", "azure Standard_NC24ads_A100_v4")),
        ("cuda", "GPU of the moon", ("--price", "usd_per_hour")),
        ("fake", None, ("--price",)),
    ],
)
def test_without_a_stated_price_none_is_guessed(
    kind: prices.DeviceKind, gpu: str | None, said: tuple[str, ...]
) -> None:
    """The sentence says what is missing and how to state it, with rows of the right kind as examples."""
    price, missing = resolve_price(None, device_kind=kind, gpu=gpu, on_date=DAY)
    assert price is None
    assert missing is not None
    assert all(part in missing for part in said)


def test_a_cpu_run_is_shown_no_gpu_server() -> None:
    """The examples for a CPU run are CPU servers, even where the profile names a GPU."""
    _, missing = resolve_price(None, device_kind="cpu", gpu="T4", on_date=DAY)
    assert missing is not None
    assert "g4dn" not in missing
