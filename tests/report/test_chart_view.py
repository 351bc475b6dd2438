from __future__ import annotations

import math
from dataclasses import replace

import pytest

from castbench.plan import Group
from castbench.report import chart_view, page, view
from castbench.report.blocks import Block, Chart, Paragraph
from castbench.report.charts.numbers import numbers_of
from castbench.report.nouns import Report
from castbench.stats import Estimate
from castbench.workload.spec import Shape
from tests.report import builder


def _charts(report: Report) -> dict[str, Chart]:
    return {block.name: block for block in page.of_report(report) if isinstance(block, Chart)}


def test_cost_is_drawn_by_mechanism_from_the_least_upwards() -> None:
    """Each bar is a mechanism's cost per hour with its interval, cheapest first; today's is named as such."""
    chart = _charts(builder.win())["cost-by-mechanism"]
    assert [one.name for one in chart.series] == ["cast-32", "sdpa (today)", "naive"]
    assert [one.points[0].y for one in chart.series] == [2 * 3.673, 4 * 3.673, 7 * 3.673]
    assert [one.role for one in chart.series] == ["candidate", "today", "candidate"]
    assert "from 7.35 $/h for cast-32 to 25.7 $/h for naive" in chart.alt


def test_without_money_the_time_of_a_request_is_drawn() -> None:
    """No price, no dollars: the bars are milliseconds."""
    charts = _charts(builder.no_price())
    assert "cost-by-mechanism" not in charts
    assert {one.points[0].y for one in charts["time-by-mechanism"].series} == {12.3}
    assert not any("$" in chart.title + chart.alt for chart in charts.values())


def test_nothing_measured_draws_nothing() -> None:
    """A run without a number has no picture."""
    assert _charts(builder.nothing_measured()) == {}


def test_rough_figures_have_no_interval_and_say_so() -> None:
    """Below 8 rounds a bar has no whisker, its number a mark, and the description says what the mark means."""
    chart = _charts(builder.few_rounds())["cost-by-mechanism"]
    assert all(point.low is None for one in chart.series for point in one.points)
    assert "95 %" not in chart.alt
    assert "fewer than 8 rounds" in chart.alt
    assert all(row[1].startswith("~") for row in numbers_of(chart).rows)


def test_lines_hold_the_measured_numbers_at_batch_one() -> None:
    """Latency, throughput and memory over the length are those of batch 1, unrounded; ceilings are no lines."""
    report = builder.win()
    charts = _charts(report)
    rows = {
        (row.arm.label, table.group.shape.seq_len): row
        for table in report.groups if table.group.shape.batch_size == 1 for row in table.rows
    }  # fmt: skip
    for name, read in (
        ("latency-by-length", lambda row: row.latency_ms.value),
        ("throughput-by-length", lambda row: row.tokens_per_s),
        ("memory-by-length", lambda row: row.peak_memory_mib),
    ):
        chart = charts[name]
        assert chart.x.log
        assert chart.y.log
        drawn = {(one.name.split(" ")[0], point.x): point.y for one in chart.series for point in one.points}
        assert drawn == {key: read(row) for key, row in rows.items() if not key[0].startswith("ceiling")}


def test_the_original_and_the_fused_transformer_are_both_in_sight() -> None:
    """Among thirty mechanisms naive and sdpa are drawn, and stronger than the rest."""
    record = builder.many_cases(labels=30, lengths=4, batch_sizes=1)
    arms = [builder.sdpa(), builder.naive()]
    arms += [
        builder.projected(arm, 3, speedup=Estimate(1.0 + i / 100), saving=(1.0, 0.5, 1.5))
        for i, arm in enumerate(record.header.plan.arms) if arm.label.startswith("cast")
    ]  # fmt: skip
    report = view.build(record, builder.projection(*arms))
    blocks: list[Block] = list(chart_view.over_length(report))
    chart = next(block for block in blocks if isinstance(block, Chart))
    roles = {one.name: one.role for one in chart.series}
    assert len(chart.series) == chart_view.MOST_LINES
    assert roles["sdpa (today)"] == "today"
    assert roles["naive"] == "candidate"
    told = [block.words for block in blocks if isinstance(block, Paragraph)]
    assert told[0].startswith("14 of 28 mechanisms are drawn")


def test_a_candidate_has_the_same_colour_in_every_picture() -> None:
    """The place that picks the colour belongs to the mechanism, whatever the order of the series."""
    charts = _charts(builder.win())
    places = [{one.name: one.place for one in chart.series if one.role == "candidate"} for chart in charts.values()]
    named = [{name: place for name, place in found.items() if name in ("cast-32", "naive")} for found in places]
    assert {tuple(sorted(found.items())) for found in named if len(found) == 2} == {(("cast-32", 0), ("naive", 1))}


def test_the_crossover_is_marked_where_time_is_drawn() -> None:
    """The bracket of what the headline speaks of stands in latency and throughput, not in memory."""
    charts = _charts(builder.win())
    assert [mark.at for mark in charts["latency-by-length"].marks] == [512, 4096]
    assert charts["latency-by-length"].marks == charts["throughput-by-length"].marks
    assert charts["memory-by-length"].marks == ()


def test_without_a_crossover_nothing_is_marked() -> None:
    """A mechanism that never wins has no length from which it does."""
    assert _charts(builder.loss())["latency-by-length"].marks == ()


def test_the_split_of_the_time_adds_up() -> None:
    """Mixing is what its ceiling leaves out (1 - 1/1.94), the rest what the module's keeps (1/2.4)."""
    parts = [one.points[0].y for one in _charts(builder.win())["time-split"].series]
    assert parts == pytest.approx([100 * (1 - 1 / 1.94), 100 * (1 / 1.94 - 1 / 2.4), 100 / 2.4])
    assert math.fsum(parts) == pytest.approx(100)


def test_the_split_needs_ceilings_that_are_stated() -> None:
    """A ceiling below what it bounds is noise, and splits nothing."""
    noisy = view.build(builder.record(), builder.projection(builder.sdpa(), ceiling=Estimate(0.9)))
    assert "time-split" not in _charts(noisy)
    assert "time-split" not in _charts(builder.few_rounds())


def test_one_length_is_no_line() -> None:
    """A run of one length has no chart over lengths."""
    of = builder.plan(groups=(Group(Shape(1, 512), "bucketed"),))
    report = view.build(builder.record(of), builder.projection(builder.sdpa(), builder.winning_cast()))
    assert not [name for name in _charts(report) if name.endswith("by-length")]


def test_the_table_of_a_chart_has_its_numbers() -> None:
    """Every point stands in the table beside the picture; a missing one is a dash."""
    chart = _charts(builder.win())["latency-by-length"]
    shorter = replace(chart.series[0], points=chart.series[0].points[:1])
    table = numbers_of(replace(chart, series=(shorter, *chart.series[1:])))
    assert [column.heading for column in table.columns] == ["median of a step, ms", "512 tokens", "4,096 tokens"]
    assert table.rows[0][2] == "–"
    assert all("(" in cell for row in table.rows[1:] for cell in row[1:])


def test_every_chart_describes_itself() -> None:
    """Every picture of every situation has a title, a description that is a sentence, and a name for anchors."""
    for made in builder.SITUATIONS.values():
        for name, chart in _charts(made()).items():
            assert chart.title
            assert chart.alt.endswith(".")
            assert name == name.lower().replace(" ", "-")
