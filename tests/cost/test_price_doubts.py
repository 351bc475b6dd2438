from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.cost.price_doubts import age_days, aged, doubted
from castbench.cost.spec import Price
from castbench.records import Caveat

ROW = Price(1.0, "x one", "on_demand", 1, "2026-05-20", "a/b@c:d", "x", "r", "L4", True, instance="one", vcpus=8)


def row(usd_per_gpu: float, gpus: int = 1, **changes: object) -> Price:
    """A row at that price per GPU, its host growing with its GPUs."""
    made = replace(ROW, usd_per_hour=usd_per_gpu * gpus, gpus=gpus, vcpus=8 * gpus)
    return replace(made, **changes)  # type: ignore[arg-type]


def flags(price: Price, *neighbours: Price) -> tuple[str, ...]:
    """What is doubted of the first row beside the others."""
    return doubted([price, *neighbours])[0].flags


@pytest.mark.parametrize(
    ("own", "spot", "flagged"),
    [
        (1.0, None, False),
        (1.26, None, True),
        (1.25, None, False),
        (0.79, None, True),
        (0.8, None, False),
        (1.0, 0.95, True),
        (1.1, 1.0, True),
        (1.0, 0.5, False),
        (0.0, None, True),
    ],
)
def test_what_looks_wrong_beside_its_neighbours_is_flagged(own: float, spot: float | None, flagged: bool) -> None:
    """Under 0.8 or over 1.25 times the cloud's median per GPU, at most 1.1 times spot, or 0."""
    neighbours = [row(1.0, region=f"r{n}", gpus=n) for n in (1, 2, 4, 8)]
    found = doubted([row(own, spot_usd_per_hour=spot, region="other"), *neighbours])
    assert bool(found[0].flags) is flagged
    assert found[0].caveats == ((Caveat.PRICE_SUSPECT,) if flagged else ())
    assert not any(price.flags for price in found[1:])


@pytest.mark.parametrize("changes", [{"cloud": "y"}, {"accelerator": "T4"}])
def test_only_the_same_gpu_of_the_same_cloud_is_a_neighbour(changes: dict[str, str]) -> None:
    """Another cloud's price, or another GPU's, says nothing of a row."""
    assert flags(row(3.0), *(row(1.0, region=f"r{n}", **changes) for n in range(4))) == ()


def test_units_with_another_host_are_no_neighbours() -> None:
    """A GPU with 24 vCPUs costs more than one with 8, and neither is wrong; with the host unknown, all are compared."""
    small = [row(1.0, region=f"r{n}") for n in range(3)]
    assert flags(row(2.0, vcpus=24), *small) == ()
    assert flags(row(2.0, memory_gib=64.0), *(replace(p, memory_gib=16.0) for p in small)) == ()
    assert len(flags(row(2.0, vcpus=12), *small)) == 1
    assert len(flags(row(2.0, vcpus=None), *small)) == 1


def test_a_row_that_states_a_doubt_is_flagged_and_no_measure_for_others() -> None:
    """Half of two prices is wrong, and the row that says so of itself is the one that does not count."""
    doubtful = row(0.5, region="s", flags=("another product's price",))
    sound, found = doubted([row(1.0), doubtful])
    assert sound.flags == ()
    assert found.flags[0] == "another product's price"
    assert "far from 1" in found.flags[1]


def test_a_price_of_0_is_no_measure_for_others() -> None:
    """Three blanks do not make a sound price suspect."""
    assert flags(row(1.0), *(row(0.0, region=f"r{n}") for n in range(3))) == ()


def test_a_larger_memory_that_is_cheaper_is_flagged() -> None:
    """The same chip with 80 GB below the one with 40 GB in its region, or in the cloud if its region has none."""
    small, large = row(3.0, accelerator="A100-SXM-40GB"), row(2.9, accelerator="A100-SXM-80GB")
    assert "below 3 for A100-SXM-40GB, which has less memory" in flags(large, small)[0]
    assert flags(small, large) == ()
    assert flags(row(3.1, accelerator="A100-SXM-80GB"), small) == ()
    assert flags(large, replace(small, region="elsewhere")) != ()
    near = row(2.5, accelerator="A100-SXM-40GB")
    assert flags(large, replace(small, usd_per_hour=4.0, region="elsewhere"), near) == ()


@pytest.mark.parametrize("other", ["A100-PCIe-40GB", "A100-SXM-80GB", "H100-SXM"])
def test_another_form_factor_or_chip_is_no_sibling(other: str) -> None:
    """A100-PCIe and A100-SXM are two products."""
    assert flags(row(1.0, accelerator="A100-SXM-80GB"), row(1.2, accelerator=other)) == ()


@pytest.mark.parametrize(
    ("usd_per_gpu", "region", "flagged"), [(1.14, "r", False), (0.9, "r", False), (1.2, "r", True), (1.2, "s", False)]
)
def test_a_price_per_gpu_that_changes_with_their_number_is_flagged(
    usd_per_gpu: float, region: str, flagged: bool
) -> None:
    """More than 15 % between 1 and 8 GPUs of one region: one of the two is wrong, so both are flagged."""
    one, eight = doubted([row(1.0), row(usd_per_gpu, gpus=8, region=region)])
    assert bool(one.flags) is bool(eight.flags) is flagged
    assert not flagged or f"{usd_per_gpu:g} per GPU with 8, but 1 with 1 (one)" in eight.flags


def test_a_cpu_server_has_no_gpus_to_compare() -> None:
    """Only its spot price and 0 are looked at."""
    server = row(1.0, gpus=0, accelerator=None, usd_per_hour=0.1)
    assert flags(server, replace(server, usd_per_hour=5.0)) == ()
    assert len(flags(replace(server, spot_usd_per_hour=0.1), server)) == 1


@given(
    st.lists(
        st.tuples(st.floats(0, 1e4), st.integers(1, 16), st.sampled_from(["r", "s"]), st.floats(0, 1e4) | st.none()),
        max_size=12,
    )
)
def test_rules_never_change_a_row_or_its_place(drawn: list[tuple[float, int, str, float | None]]) -> None:
    """Whatever the prices, each row comes back in its place with nothing but flags and caveats added."""
    rows = [row(usd, gpus, region=region, spot_usd_per_hour=spot) for usd, gpus, region, spot in drawn]
    assert [replace(p, flags=(), caveats=()) for p in doubted(rows)] == rows


@given(st.lists(st.tuples(st.floats(0.01, 100), st.integers(1, 8)), min_size=1, max_size=8), st.sampled_from([0.5, 4]))
def test_the_rules_know_no_currency(drawn: list[tuple[float, int]], factor: float) -> None:
    """All prices times a constant are doubted as before."""
    rows = [row(usd, gpus) for usd, gpus in drawn]
    scaled = [replace(p, usd_per_hour=p.usd_per_hour * factor) for p in rows]
    assert [bool(p.flags) for p in doubted(rows)] == [bool(p.flags) for p in doubted(scaled)]


def test_age_is_counted_from_the_day_it_was_taken_down() -> None:
    """A price without a day has no age, and one of the future none to speak of."""
    assert age_days(ROW, date(2026, 5, 30)) == 10
    assert age_days(replace(ROW, as_of=None), date(2026, 5, 30)) is None
    assert aged(ROW, date(2020, 1, 1)) == ROW
