from __future__ import annotations

from dataclasses import replace

import pytest

from castbench.cost.spec import QualityStatus
from castbench.records import RunRecord
from castbench.report import exporters, method_page, quality_page, risks_page, text, view
from castbench.report.nouns import Report
from tests.cost.builder import CAST, NAIVE, SDPA, projected, run_of
from tests.report import builder


def keys(report: Report) -> list[str]:
    """Which risks are told."""
    return [said.key for said in risks_page.risk_statements(report)]


def test_only_risks_that_apply_are_told() -> None:
    """Exact mechanisms alone have no risk of function or clusters; a run without a number has none at all."""
    exact = builder.ceilings_only()
    assert not [key for key in keys(exact) if key.startswith(("risk.other", "risk.quality", "risk.top_k", "risk.mat"))]
    assert "risk.decoder" in keys(exact)
    assert keys(builder.nothing_measured()) == []
    assert {"risk.other_function", "risk.quality", "risk.top_k", "risk.fixed_clusters", "risk.maturity"} <= set(
        keys(builder.win())
    )


def test_the_way_of_clustering_decides_what_is_left_out() -> None:
    """top_k may leave tokens out; any other way puts each into one cluster."""
    report = builder.win()
    tight = replace(builder.CAST, params=(("clustering", "single_assignment"),))
    other = replace(report, mechanisms=tuple(
        replace(arm, arm=tight) if arm.arm.label == "cast-32" else arm for arm in report.mechanisms
    ))  # fmt: skip
    assert "risk.one_cluster" in keys(other)
    assert "risk.top_k" not in keys(other)


def test_the_share_of_tokens_in_clusters_is_the_least_of_the_run() -> None:
    """Facts of the outcomes, by hand: 0.9 at one shape, 0.7 at the other."""
    record = run_of(lambda label, *_: 1.0, arms=(SDPA, CAST))
    top_k = replace(CAST, params=(("clustering", "top_k"),))
    plan = replace(record.header.plan, arms=(SDPA, top_k))
    groups = tuple(
        replace(
            g,
            outcomes=tuple(replace(o, facts=(("coverage", share),)) if o.label == "cast-32" else o for o in g.outcomes),
        )
        for g, share in zip(record.groups, (0.9, 0.7), strict=True)
    )
    record = replace(record, groups=groups, header=replace(record.header, plan=plan))
    (said,) = [s for s in risks_page.risk_statements(view.build(record, projected(record))) if s.key == "risk.coverage"]
    assert text.say(said).startswith("cast-32: in this run, with weights that nobody trained, as few as 70 %")


def test_a_price_or_a_demand_is_called_an_assumption_where_there_is_one() -> None:
    """Both, the demand alone, or neither."""
    assert "risk.price_and_demand" in keys(builder.win())
    assert "risk.demand" in keys(builder.no_price())
    assert not {"risk.demand", "risk.price_and_demand"} & set(keys(builder.no_demand()))


def test_a_training_run_covers_other_things() -> None:
    """Phase training: it says that only training steps were measured."""
    report = builder.win()
    assert "risk.training_only" in keys(replace(report, run=replace(report.run, phase="training")))


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (QualityStatus.NOT_MEASURED, "cast-32: not_measured. It is another function and needs training"),
        (QualityStatus.LOWER, "cast-32: lower: its quality is lower than the baseline's."),
        (
            QualityStatus.EQUAL,
            "cast-32: equal_within_margin: its quality is equal to the baseline's within the margin.",
        ),
        (QualityStatus.HIGHER, "cast-32: higher: its quality is higher than the baseline's."),
    ],
)
def test_quality_is_told_in_the_words_of_the_table(status: QualityStatus, said: str) -> None:
    """Each mechanism has a line with its status as the CSV has it."""
    arm = replace(builder.winning_cast(), quality_status=status)
    assert text.say(quality_page.quality_line(arm, "sdpa")).startswith(said)


def test_exact_mechanisms_and_the_baseline_need_no_result() -> None:
    """Naive computes what sdpa computes; sdpa is what the others are held against."""
    assert "the same function as sdpa" in text.say(quality_page.quality_line(builder.naive(), "sdpa"))
    assert "held against" in text.say(quality_page.quality_line(builder.sdpa(), "sdpa"))


def discarding(record: RunRecord) -> RunRecord:
    """The run with two rounds discarded."""
    return builder.discarding(record, record.header.plan.groups[0], "heat", "heat")


def test_the_method_tells_this_runs_numbers() -> None:
    """Rounds, processes, windows, steps and discarded rounds, each counted by hand; seed and documents."""
    record = discarding(run_of(lambda label, *_: 1.0, arms=(SDPA, NAIVE, CAST), rounds=16))
    report = view.build(record, projected(record))
    assert report.how is not None
    assert (report.how.windows, report.how.steps) == (2 * 16 * 3, 2 * 16 * 3)
    assert (report.how.discarded, report.how.attempts) == (2, 2 * 16 + 2)
    assert report.how.processes == (6, 6)
    assert dict(report.how.steps_at_best) == {"sdpa": 32, "naive": 32, "cast-32": 32}
    said = " ".join(text.say(s) for s in method_page.method_statements(report, report.how))
    assert "There were 16 rounds per shape, in 6 fresh worker processes each; 96 windows with 96 steps in all." in said
    assert "Of 34 rounds 2 were discarded because something outside disturbed them" in said
    assert "seed 0" in said
    assert said.endswith("More: docs/method.md, docs/cost.md and docs/decisions in castbench's source.")


def test_nothing_measured_has_no_method() -> None:
    """No numbers, no section."""
    assert builder.nothing_measured().how is None
    assert tuple(method_page.method(builder.nothing_measured())) == ()


@pytest.mark.parametrize("name", builder.SITUATIONS)
def test_sections_stand_in_the_order_of_reading(name: str) -> None:
    """Quality before the shapes; claims, plan, risks, assumptions, caveats, method, environment after them."""
    drawn = exporters.render(builder.SITUATIONS[name](), "md").decode()
    headings = ["### Quality", "### What the article claims", "### Introduction plan", "### Risks", "### Assumptions",
                "### Caveats", "### Method in half a page", "### Where and how it was measured"]  # fmt: skip
    places = [place for heading in headings if (place := drawn.find(heading)) >= 0]
    assert places == sorted(places)
    assert len(places) >= 3
