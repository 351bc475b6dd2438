from __future__ import annotations

import re
from dataclasses import replace
from datetime import date, timedelta

import pytest

from castbench.cost.prices import DeviceKind, PriceBook, load_catalogue, price_book, resolve_price
from castbench.cost.spec import Price
from castbench.errors import InputError
from castbench.hardware.datasheet import find_gpu
from castbench.records import Caveat
from castbench.report import text
from castbench.workload.spec import OwnedHardware, PriceChoice

DAY = date(2026, 6, 1)
NOT_IN_THE_DATA_SHEETS = {"Quadro RTX 6000"}
FIRST_SHIPPED = """
gcp a2-highgpu-1g 3.6734, gcp a3-highgpu-8g 87.8325, gcp a3-ultragpu-8g 86.7599, gcp g2-standard-4 0.7045,
gcp n1-highmem-4 0.6365, gcp n1-highmem-8 2.9532, azure Standard_NC24ads_A100_v4 3.673, lambda gpu_1x_h100_sxm5 4.29,
azure Standard_NC4as_T4_v3 0.526, aws g4dn.xlarge 0.526, aws g5.xlarge 1.006, aws p4d.24xlarge 21.957642,
aws p5.48xlarge 55.04, aws m7i.large 0.1008, gcp c4-standard-8 0.39534
"""
"""Rows of the first catalogue: profiles that name them without a region must go on meaning these prices."""


def _row(
    choice: PriceChoice,
    kind: DeviceKind = "cuda",
    gpu: str | None = None,
    on: date = DAY,
    book: PriceBook | None = None,
) -> Price:
    """The price resolved, which must be there."""
    price, missing = resolve_price(choice, book=book or price_book(), device_kind=kind, gpu=gpu, on_date=on)
    assert price is not None
    assert missing is None
    return price


def _refusal(choice: PriceChoice, kind: DeviceKind = "cuda", book: PriceBook | None = None) -> str:
    """What the user is told of a price that cannot be used: one sentence."""
    with pytest.raises(InputError) as error:
        resolve_price(choice, book=book or price_book(), device_kind=kind, gpu=None, on_date=DAY)
    assert "\n" not in str(error.value)
    return str(error.value)


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
        assert find_gpu(price.accelerator) is not None or price.accelerator in NOT_IN_THE_DATA_SHEETS
    assert price.spot_usd_per_hour is None or 0 < price.spot_usd_per_hour <= price.usd_per_hour


def test_the_catalogue_is_unambiguous_and_has_cpu_servers() -> None:
    """Cloud, instance and region name one row; at least 5 CPU servers and 100 GPU servers of 4 clouds are there."""
    rows = load_catalogue()
    assert len({(p.cloud, p.instance, p.region) for p in rows}) == len({p.name for p in rows}) == len(rows)
    assert len({(p.cloud, p.instance, p.accelerator, p.gpus) for p in rows}) == len(
        {(p.cloud, p.instance) for p in rows}
    )
    assert sum(p.gpus == 0 for p in rows) >= 5
    assert sum(p.gpus > 0 for p in rows) >= 100
    assert {p.cloud for p in rows} == {"gcp", "azure", "aws", "lambda"}


@pytest.mark.parametrize("named", re.findall(r"(\S+) (\S+) ([\d.]+)", FIRST_SHIPPED.replace(",", " ")))
def test_the_rows_of_the_first_catalogue_mean_what_they_meant(named: tuple[str, str, str]) -> None:
    """New regions and counts neither change a price that is named without a region, nor make it suspect."""
    cloud, instance, usd = named
    price = next(p for p in load_catalogue() if (p.cloud, p.instance) == (cloud, instance))
    assert (price.usd_per_hour, price.flags) == (float(usd), ())


def test_the_suspect_rows_of_the_shipped_catalogue_are_known() -> None:
    """Rules and stated doubts find these units and no other: each was looked at."""
    suspect = {(str(p.instance), p.region) for p in load_catalogue() if p.flags}
    counts = (1, 2, 4, 8)
    assert suspect == {
        ("Standard_ND96isr_H200_v5", "eastus2"), ("p4d.24xlarge", "ap-northeast-2"), ("a2-megagpu-16g", "europe-west4"),
        ("a3-megagpu-8g", "europe-west1"), ("a3-ultragpu-8g", "asia-south1"), ("a4-highgpu-8g", "us-east4"),
        ("a4-highgpu-8g", "asia-northeast1"), ("Standard_NC8ads_A10_v4", "southcentralus"),
        ("Standard_NC8ads_A10_v4", "westus3"), *((f"a2-highgpu-{n}g", "europe-west4") for n in counts),
        *((f"a3-highgpu-{n}g", "us-central1") for n in counts),
        *((f"a2-ultragpu-{n}g", region) for n in counts for region in ("us-central1", "us-east4", "us-east5")),
    }  # fmt: skip
    assert all(p.caveats == ((Caveat.PRICE_SUSPECT,) if p.flags else ()) for p in load_catalogue())


def test_a_suspect_row_is_refused_with_reason_and_option_and_used_when_accepted() -> None:
    """Without --accept-suspect a sentence names the reason and the option; with it the flags travel with the price."""
    choice = PriceChoice(cloud="azure", instance="Standard_ND96isr_H200_v5")
    said = _refusal(choice)
    assert "84.8 on demand is hardly above 84.8 spot" in said
    assert "--accept-suspect" in said
    price = _row(choice, book=price_book(accept_suspect=True))
    assert (price.usd_per_hour, price.caveats) == (84.8, (Caveat.PRICE_SUSPECT,))
    assert len(price.flags) == 1


def test_a_contract_price_wins_and_has_no_age() -> None:
    """What the user states is taken as it is, with its GPUs per billing unit, even beside a row of the catalogue."""
    price = _row(PriceChoice(3.673, gpus=4, cloud="azure", instance="Standard_ND96isr_H200_v5"), on=date(2030, 1, 1))
    assert (price.usd_per_hour, price.gpus, price.devices, price.contract) == (3.673, 4, 4, True)
    assert price.flags == ()


def test_a_contract_price_wins_over_every_price_list() -> None:
    """No row of a list of one's own, sound or not, changes what the contract says; the list need not have it."""
    for rows in ((), load_catalogue(), tuple(replace(p, usd_per_hour=0.01) for p in load_catalogue())):
        assert _row(PriceChoice(3.673), book=PriceBook(rows, "ours.csv")).usd_per_hour == 3.673


def test_a_contract_price_of_a_cpu_server_has_no_gpus() -> None:
    """One CPU server is one device, whatever the default number of GPUs is."""
    price = _row(PriceChoice(0.1), "cpu")
    assert (price.gpus, price.devices) == (0, 1)


def test_a_catalogue_row_is_found_by_cloud_and_instance() -> None:
    """Price, GPUs, region, source and date are the row's."""
    price = _row(PriceChoice(cloud="azure", instance="Standard_NC48ads_A100_v4"), gpu="A100-PCIe-80GB")
    assert (price.usd_per_hour, price.gpus, price.region) == (7.346, 2, "eastus")
    assert (price.as_of, price.plan, price.flags) == ("2026-05-20", "on_demand", ())
    assert not price.contract


def test_a_region_chooses_among_the_rows_of_an_instance() -> None:
    """Without one the first row counts, which is the reference region's."""
    named = PriceChoice(cloud="aws", instance="p5.48xlarge", region="ap-south-1")
    assert _row(named).usd_per_hour == 66.048
    assert _row(replace(named, region=None)).region == "us-east-1"


def test_the_spot_plan_takes_the_spot_price() -> None:
    """plan: spot is another price of the same row."""
    price = _row(PriceChoice(plan="spot", cloud="gcp", instance="a2-highgpu-1g"))
    assert (price.usd_per_hour, price.plan) == (1.8038, "spot")


def test_a_reservation_is_the_on_demand_price_less_the_stated_discount() -> None:
    """60 % of 3.673 remain of a discount of 40 %; the source says so, and the term is there for what is committed."""
    price = _row(
        PriceChoice(
            plan="reserved", cloud="azure", instance="Standard_NC24ads_A100_v4", discount_percent=40, term_years=1
        )
    )
    assert price.usd_per_hour == pytest.approx(2.2038)
    assert (price.plan, price.term_years, price.as_of, price.contract) == ("reserved", 1, "2026-05-20", True)
    assert price.source.startswith("3.673 USD per hour on demand less 40 % for 1 year, stated by you; anycloud-sh/")


def test_the_discount_is_no_way_around_a_suspect_row() -> None:
    """A discount off a price that looks wrong is refused like the price itself."""
    terms = PriceChoice(plan="reserved", cloud="gcp", instance="a2-ultragpu-1g", discount_percent=40)
    assert "--accept-suspect" in _refusal(terms)


def test_the_term_of_a_reservation_by_contract_is_kept() -> None:
    """A contract price is what is paid already, and its term says for how long."""
    price = _row(PriceChoice(2.2, "reserved", term_years=3))
    assert (price.usd_per_hour, price.plan, price.term_years) == (2.2, "reserved", 3)


def test_a_server_of_ones_own_needs_no_catalogue() -> None:
    """Its price is of the plan `owned`, with its GPUs, on a CPU none, and is the user's own as a contract's is."""
    choice = PriceChoice(gpus=8, owned=OwnedHardware(280_320, 4, 0.5))
    price = _row(choice, book=PriceBook((), "ours.csv"))
    assert (price.usd_per_hour, price.plan, price.gpus, price.contract) == (pytest.approx(16.0), "owned", 8, True)
    on_cpu = _row(replace(choice, vcpus=64), "cpu")
    assert (on_cpu.gpus, on_cpu.devices, on_cpu.vcpus) == (0, 1, 64)


def test_a_price_older_than_90_days_at_the_run_is_flagged_on_that_day_only() -> None:
    """The run's date decides, not today's: 90 days are not old, 91 are; an old price is used all the same."""
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
        (PriceChoice(cloud="gcp", instance="a2-highgpu-2g", region="mars"), "cuda", "europe-west4, not in mars"),
        (PriceChoice(plan="reserved", cloud="gcp", instance="a2-highgpu-1g"), "cuda", "state the discount_percent"),
        (PriceChoice(plan="spot", cloud="aws", instance="g5.xlarge"), "cuda", "no spot price"),
        (PriceChoice(plan="monthly", cloud="aws", instance="g5.xlarge"), "cuda", "no monthly price"),
        (PriceChoice(cloud="aws", instance="g5.xlarge"), "cpu", "is a GPU server"),
        (PriceChoice(cloud="aws", instance="m7i.large"), "cuda", "is a CPU server"),
    ],
)
def test_a_row_that_cannot_be_used_is_refused_with_what_can(choice: PriceChoice, kind: DeviceKind, said: str) -> None:
    """Unknown names get near ones; a CPU run never takes a GPU's price, nor the other way round."""
    assert said in _refusal(choice, kind)


def test_a_refusal_names_the_list_that_was_searched() -> None:
    """Whoever uses a list of their own is told that it is this one that lacks the row."""
    book = PriceBook(load_catalogue()[:3], "ours.csv")
    assert "ours.csv has no aws g5.xlarge; near it are" in _refusal(
        PriceChoice(cloud="aws", instance="g5.xlarge"), book=book
    )


@pytest.mark.parametrize(
    ("kind", "gpu", "said"),
    [
        ("cpu", "A100-PCIe-80GB", ("--price", "price_cpu", "aws m7i.large")),
        ("cuda", "A100-PCIe-80GB", ("--price", "azure Standard_NC24ads_A100_v4, azure Standard_NC48ads_A100_v4")),
        ("cuda", "GPU of the moon", ("--price", "usd_per_hour")),
        ("fake", None, ("--price",)),
    ],
)
def test_without_a_stated_price_none_is_guessed(kind: DeviceKind, gpu: str | None, said: tuple[str, ...]) -> None:
    """The sentence says what is missing and how to state it, with rows of the right kind as examples, each once."""
    price, missing = resolve_price(None, book=price_book(), device_kind=kind, gpu=gpu, on_date=DAY)
    assert price is None
    assert missing is not None
    assert all(part in text.say(missing) for part in said)


@pytest.mark.parametrize(("kind", "gpu", "never"), [("cpu", "T4", "g4dn"), ("cuda", "B200-SXM", "a4-highgpu")])
def test_examples_are_of_the_right_kind_and_sound(kind: DeviceKind, gpu: str, never: str) -> None:
    """A CPU run is shown no GPU server, and nobody is shown a price that would be refused."""
    _, missing = resolve_price(None, book=price_book(), device_kind=kind, gpu=gpu, on_date=DAY)
    assert missing is not None
    assert never not in text.say(missing)
