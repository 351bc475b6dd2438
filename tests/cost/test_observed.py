from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.cost.observed import is_contradicted, is_off
from castbench.cost.spec import Headroom, Price, RangeParts, Reconciled
from castbench.records import Environment, Outcome, RunRecord
from castbench.stats import Estimate
from castbench.workload.spec import Demand, LengthDistribution, Observed, RunningToday
from tests.cost.builder import CAST, DEMAND, PRICE, SDPA, projected, run_of, times

TIMES = times({"sdpa": 0.05, "cast-32": 0.02})


def held(observed: Observed, price: Price | None = PRICE, record: RunRecord | None = None, **stated: Any) -> Reconciled:
    """The model against what is observed; 50 ms at 100 requests per second and 70 % need 8 servers."""
    found = projected(record or run_of(TIMES), price, observed=observed, **stated).savings
    assert found is not None
    assert found.observed is not None
    return found.observed


def value(estimate: Estimate | None) -> float:
    """The value of an estimate that must be there."""
    assert estimate is not None
    return estimate.value


def test_the_bill_is_held_against_whole_servers() -> None:
    """8 servers of 4 GPUs take 8 * 730 * 4 hours, less where a server has more; twice that paid for explains half."""
    assert value(held(Observed(gpu_hours_per_month=2 * 8 * 730.0)).bill_explained) == pytest.approx(0.5)
    four = held(Observed(gpu_hours_per_month=2 * 4 * 730.0), replace(PRICE, gpus=4))
    assert (value(four.bill_explained), four.units_paid, four.bill_usd_per_hour) == (1.0, 2.0, 4.0)
    spared = held(Observed(gpu_hours_per_month=10.5 * 730.0), demand=replace(DEMAND, spare=1))
    assert (value(spared.bill_explained), spared.spare_units) == (pytest.approx(9 / 10.5), 1)


@given(hours=st.floats(1.0, 1e6), ratio=st.floats(0.2, 3.0))
def test_no_more_is_switched_off_than_is_paid_for(hours: float, ratio: float) -> None:
    """Servers to switch off are whole, never negative, and with those needed no more than are paid for."""
    record = run_of(times({"sdpa": 0.05 * ratio, "cast-32": 0.02}))
    found = held(Observed(gpu_hours_per_month=hours), record=record)
    assert found.spare_units is not None
    assert found.units_paid is not None
    needed = value(found.bill_explained) * found.units_paid
    assert 0 <= found.spare_units <= max(0.0, found.units_paid - needed + 1e-6)
    assert found.spare_units + 1 > found.units_paid - needed - 1e-6


@pytest.mark.parametrize(
    ("batch", "how", "shares", "median_ms"),
    [(1, "bucketed", (0.55, 0.45), 10), (1, "bucketed", (0.45, 0.55), 90), (4, "padded", (0.55, 0.45), 360),
     (4, "bucketed", (0.55, 0.45), 40)],
)  # fmt: skip
def test_half_of_the_requests_take_at_most_the_median(
    batch: int, how: Any, shares: tuple[float, float], median_ms: float
) -> None:
    """By hand: a request takes as long as its batch; padded batches of 4 are short in 0.55^4 = 9 % of the cases."""
    record = run_of(
        lambda label, rows, length, _: rows * {512: 0.01, 2048: 0.09}[length], batch_sizes=(1, 4),
        batching=("padded", "bucketed"), mix=LengthDistribution((512, 2048), shares, True, "shares"),
    )  # fmt: skip
    found = held(Observed(p50_ms=720.0), record=record, today=RunningToday(batch, how, "eager"))
    assert value(found.p50_s) * 1e3 == pytest.approx(median_ms)
    assert value(found.latency_explained) == pytest.approx(median_ms / 720)


def test_an_attention_module_says_nothing_of_the_latency() -> None:
    """Where no whole request was timed, no share of its latency is claimed."""
    found = held(Observed(p50_ms=100.0), record=run_of(TIMES, scope="attention"), attention_share=0.2)
    assert (found.latency_explained, found.p50_s) == (None, None)


def test_a_contradiction_needs_the_whole_range() -> None:
    """More than all is one only where the range lies above 1; without a range the number counts."""
    assert is_contradicted(Estimate(1.1, 1.01, 1.2))
    assert is_contradicted(Estimate(1.1))
    assert not is_contradicted(Estimate(1.1, 0.99, 1.2))
    assert not is_contradicted(Estimate(1.0, 1.0, 1.0))
    assert not is_contradicted(None)


def test_the_demand_is_held_against_the_requests() -> None:
    """100 per second are 262.8 million in 730 hours; up to a tenth off is not worth a sentence."""
    assert held(Observed(requests_per_month=262.8e6)).demand_ratio == pytest.approx(1.0)
    assert not is_off(held(Observed(requests_per_month=2.4e8)))
    assert is_off(held(Observed(requests_per_month=2.3e8)))
    assert is_off(held(Observed(requests_per_month=2.95e8)))
    assert held(Observed(requests_per_month=1e8), demand=None).demand_ratio is None


def test_without_a_price_hours_still_compare() -> None:
    """The share of hours needs no price; what they cost does."""
    found = held(Observed(gpu_hours_per_month=2 * 8 * 730.0), None)
    assert (value(found.bill_explained), found.bill_usd_per_hour) == (pytest.approx(0.5), None)


def parts(noise: float, *, held_out: bool = False, rate: float = 100.0, ratio: float = 0.4) -> RangeParts:
    """Where the range of CAST's saving comes from; held out, interpolation is off by some."""

    def seconds(label: str, batch: int, length: int, _: str) -> float:
        bent = 1.15 if held_out and length == 1024 else 1.0
        return {"sdpa": 0.05, "cast-32": 0.05 * ratio}[label] * length / 1024 * bent

    mix = LengthDistribution((512, 1024, 2048), (0.4, 0.3, 0.3), False, "quantiles")
    record = run_of(
        seconds, arms=(SDPA, CAST), mix=mix, lengths=(512, 2048), held_out=1024 if held_out else None, noise=noise,
        rounds=16,
    )  # fmt: skip
    found = projected(record, demand=Demand(rate)).savings
    assert found is not None
    assert found.range_parts is not None
    return found.range_parts


def test_the_part_that_dominates_is_the_one_that_was_put_in() -> None:
    """Noise alone is found as the rounds, an error of the interpolation alone as that; with neither, no range."""
    assert parts(0.2, rate=2000.0).dominant == "rounds"
    assert parts(0.001, held_out=True, rate=2000.0).dominant == "interpolation"
    still = parts(0.0)
    assert (still.width_usd_per_hour, still.fractional_usd_per_hour, still.dominant) == (0.0, 0.0, None)


def test_leaving_a_part_out_leaves_what_the_others_make() -> None:
    """Without its noise a run with noise and a bent curve has the range of the curve alone, and the other way round."""
    both, noisy, bent = (
        dict(parts(n, held_out=h, rate=2000.0).without) for n, h in ((0.1, True), (0.1, False), (0, True))
    )
    assert both["interpolation"] == pytest.approx(dict(noisy)["interpolation"], rel=0.05)
    assert both["rounds"] == pytest.approx(bent["rounds"], rel=0.2)  # the error is measured with noise, too
    assert noisy["rounds"] == pytest.approx(0.0, abs=1e-9)


def test_whole_servers_dominate_where_a_hair_moves_one() -> None:
    """Just above 3 servers a little noise moves the number between 3 and 4: in fractions the range is far narrower."""
    found = parts(0.004, rate=100.0, ratio=0.7 * 3.0003 / (100 * 0.05 * 1.1016))
    assert found.dominant == "whole_servers"
    assert found.fractional_usd_per_hour < 0.2 * found.width_usd_per_hour


def needs(
    peaks: dict[str, int], *, device: str = "cuda:0", memory: int | None = 80 << 30, reserved: int | None = None
) -> dict[str, Headroom]:
    """Headroom by label of a run whose arms peak at so many GiB, with 1 GiB of weights."""
    made = run_of(TIMES)
    groups = tuple(
        replace(g, outcomes=tuple(
            Outcome(o.label, o.status, peak_bytes=peaks[o.label] << 30, weights_bytes=1 << 30, reserved_bytes=reserved)
            for o in g.outcomes
        ))
        for g in made.groups
    )  # fmt: skip
    machine = Environment(device, "a device", "h", "os", "3", "0", device_memory_bytes=memory, memory_bytes=memory)
    found = projected(replace(made, groups=groups, header=replace(made.header, environment=machine))).savings
    assert found is not None
    return {one.label: one for one in found.headroom}


def test_memory_counts_weights_and_the_smallest_gpu_keeps_a_tenth_free() -> None:
    """13 + 1 GiB fit into 16 with a tenth free, 14 + 1 do not and need the next size."""
    found = needs({"sdpa": 14, "cast-32": 13})
    assert (found["sdpa"].needed_bytes >> 30, found["cast-32"].needed_bytes >> 30) == (15, 14)
    assert found["cast-32"].gpu_bytes == 16 << 30
    assert found["sdpa"].gpu_bytes is not None
    assert found["sdpa"].gpu_bytes > 16 << 30


def test_what_the_allocator_took_counts_where_it_is_more() -> None:
    """60 GiB taken from the device are what must be there, whatever the peak was."""
    assert needs({"sdpa": 1, "cast-32": 1}, reserved=60 << 30)["sdpa"].needed_bytes == 60 << 30


def test_no_gpu_is_named_on_a_cpu_or_where_none_would_do() -> None:
    """A CPU run has its machine's memory and no GPU; more than any GPU has fits none; unknown memory says nothing."""
    assert needs({"sdpa": 1, "cast-32": 1}, device="cpu")["sdpa"].gpu is None
    assert needs({"sdpa": 1000, "cast-32": 1})["sdpa"].gpu is None
    assert needs({"sdpa": 1, "cast-32": 1}, memory=None) == {}
