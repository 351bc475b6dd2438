from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from castbench.cost.spec import Configuration
from castbench.report import comparison, comparison_page, pareto
from castbench.report.blocks import Chart, Paragraph
from castbench.stats import Estimate
from tests.report import builder


def _offer(cost: float, ms: float, label: str = "x") -> pareto.Offer:
    return pareto.Offer(0, Configuration(label, 1, "bucketed"), Estimate(cost), Estimate(ms), Estimate(ms))


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12))
def test_the_front_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    """An offer is on the front exactly where no other is as cheap and as fast and better in one; it is never empty."""
    made = [_offer(cost, ms, str(i)) for i, (cost, ms) in enumerate(points)]
    expected = {
        i for i, (c, m) in enumerate(points)
        if not any(c2 <= c and m2 <= m and (c2 < c or m2 < m) for c2, m2 in points)
    }  # fmt: skip
    found = pareto.front(made, "p99")
    assert {int(offer.configuration.label) for offer in found} == expected
    assert expected
    assert [o.cost_usd_per_hour.value for o in found] == sorted(o.cost_usd_per_hour.value for o in found)


def test_percentiles_are_not_mixed() -> None:
    """Where one offer has too few steps for p99, all are drawn at their median."""
    whole = [_offer(1, 2), _offer(2, 1)]
    assert pareto.percentile_of(whole) == "p99"
    assert pareto.percentile_of([*whole, replace(whole[0], p99=None)]) == "p50"


def _compared(scales: tuple[float, ...] = (1.0, 3.0)) -> comparison.Comparison:
    """Machines at the same price, the second one slower."""
    arms = [builder.sdpa(), builder.naive(), builder.winning_cast()]
    arms = [replace(arm, configuration=Configuration(arm.arm.label, 8, "padded")) for arm in arms]
    runs = [
        (builder.record(device_name=f"GPU {i}", scale=scale, run_id=f"run-{i}"), builder.projection(*arms))
        for i, scale in enumerate(scales)
    ]
    return comparison.build(runs, comparison.labels_for([run for run, _ in runs]))


def test_an_offer_is_the_configuration_at_its_longest_length() -> None:
    """Latency is that of the cheapest configuration's longest shape: batch 8 at 4,096 tokens, 65.5 ms for sdpa."""
    first = _compared().offers[0]
    assert str(first.configuration) == "sdpa (batch 8, padded, eager)"
    assert first.p50 is not None
    assert 64 < first.p50.value < 67
    assert first.cost_usd_per_hour.value == 4 * 3.673


def test_the_picture_names_the_front() -> None:
    """The cheapest and fastest mechanism, cast on the faster machine, is alone on the front, and is told in words."""
    blocks = comparison_page.page(_compared())
    chart = next(block for block in blocks if isinstance(block, Chart))
    assert [one.name for one in chart.series] == ["A: GPU 0", "B: GPU 1"]
    assert [len(one.points) for one in chart.series] == [3, 3]
    told = next(b.words for b in blocks if isinstance(b, Paragraph) and "nothing measured is both" in b.words)
    assert "cast-32 (batch 8, padded, eager) on A: GPU 0." in told
    assert "naive" not in told


def test_costs_of_another_demand_are_not_drawn() -> None:
    """A run priced under another demand than the first one's has no offer."""
    arms = (builder.sdpa(), builder.winning_cast())
    other = replace(builder.DEMAND, requests_per_second=80.0)
    records = [builder.record(), builder.record(run_id="b")]
    made = comparison.build(
        [(records[0], builder.projection(*arms)), (records[1], builder.projection(*arms, demand=other))], ["A", "B"]
    )
    assert {offer.run for offer in made.offers} == {0}
