from __future__ import annotations

from dataclasses import replace

import pytest

from castbench.cost.spec import QualityStatus, Recommendation
from castbench.plan import Group
from castbench.records import Caveat
from castbench.report import text, view
from castbench.report.nouns import Report
from castbench.stats import Estimate
from castbench.workload.spec import Shape
from tests.report import builder


def _headline(report: Report) -> str:
    return " ".join(text.say(said) for said in report.headline)


def test_a_win_names_the_word_the_cost_the_condition_and_the_saving() -> None:
    """The headline of a win says PILOT, under which condition, how much per hour, month and year, and how sure."""
    said = _headline(builder.win())
    assert said.startswith("PILOT cast-32 (batch 8, bucketed, eager).")
    assert "If a retrained CAST model meets your quality gate, it would cost 7.35 $/h; quality was not measured" in said
    assert "3.67–7.35 $/h less than sdpa" in said
    assert "2,680–5,360 $ per month, 32,200–64,400 $ per year" in said
    assert "P(saving > 0) > 99 %" in said
    assert "Not measured: quality, and whether the objective p99 ≤ 250 ms is met." in said


def test_a_loss_is_told_as_plainly_as_a_gain() -> None:
    """The headline of a loss says keep, and what the alternative would cost more."""
    said = _headline(builder.loss())
    assert said.startswith("KEEP. Keep what you have: sdpa (batch 8, bucketed, eager), at 14.7 $/h.")
    assert "would cost 3.7–11.0 $/h more" in said
    assert "less" not in said


def test_what_the_best_exact_configuration_saves_comes_first() -> None:
    """Where today's costs more than the cheapest exact one, that saving leads, and CAST's stands on top of it."""
    said = _headline(builder.tune_first())
    assert said.startswith("TUNE-FIRST: run sdpa (batch 8, bucketed, eager) instead of naive")
    assert said.index("11.0–14.7 $/h") < said.index("PILOT cast-32")
    assert "less than sdpa" in said


def test_an_exact_gain_that_is_not_advised_is_not_called_tune_first() -> None:
    """Without the recommendation the gain is mentioned as unsure, and what runs today is kept."""
    report = view.build(
        builder.record(), builder.projection(builder.sdpa(), builder.naive(), builder.losing_cast(), today="naive")
    )
    said = _headline(report)
    assert "TUNE-FIRST" not in said
    assert "not sure enough to act on" in said
    assert "Keep what you have: naive" in said


def test_an_exact_gain_without_a_whole_server_says_so() -> None:
    """Faster, but the same bill: the advice does not promise money."""
    advised = builder.sdpa(recommendation=Recommendation.TUNE_FIRST)
    same = replace(builder.naive(), saving_usd_per_hour=Estimate(0.0, 0.0, 0.0))
    said = _headline(view.build(builder.record(), builder.projection(advised, same, today="naive")))
    assert "saves no whole server" in said


def test_the_same_bill_is_called_the_same() -> None:
    """No saving and no loss is not dressed up as either."""
    same = replace(builder.losing_cast(), saving_usd_per_hour=Estimate(0.0, 0.0, 0.0))
    assert "would cost the same" in _headline(view.build(builder.record(), builder.projection(builder.sdpa(), same)))


def test_a_saving_that_may_be_a_loss_is_not_called_less() -> None:
    """An interval that holds zero is told with both signs."""
    open_end = replace(builder.winning_cast(), saving_usd_per_hour=Estimate(3.6, -1.0, 7.3))
    said = _headline(view.build(builder.record(), builder.projection(builder.sdpa(), open_end)))
    assert "-1.00 to 7.30 $/h" in said
    assert "negative means it costs more" in said


def test_a_quality_result_removes_the_condition() -> None:
    """Once quality is known it is said, and no longer listed as unmeasured."""
    scored = replace(builder.winning_cast(), recommendation=Recommendation.ROLL_OUT, quality_status=QualityStatus.EQUAL)
    said = _headline(view.build(builder.record(), builder.projection(builder.sdpa(), scored, demand=None)))
    assert said.startswith("ROLL-OUT cast-32")
    assert "its quality is equal to the baseline's within the margin" in said
    assert "retrained" not in said
    assert "Not measured" not in said


@pytest.mark.parametrize(("name", "why"), [("no_price", "no price is known"), ("no_demand", "states no demand")])
def test_without_money_the_reason_and_the_speed_are_said(name: str, why: str) -> None:
    """No dollar sign appears where there is no money, and the measured speed is said instead."""
    said = _headline(builder.SITUATIONS[name]())
    assert "No cost can be given" in said
    assert why in said
    assert "the speed of sdpa" in said
    assert "$" not in said


def test_few_rounds_are_admitted() -> None:
    """Below 8 rounds nobody is told to be sure."""
    assert "How sure: hardly. Only 3 rounds per shape" in _headline(builder.few_rounds())


def test_an_unmeasured_baseline_recommends_nothing() -> None:
    """Without a baseline there is no advice at all."""
    said = _headline(builder.nothing_measured())
    assert said.startswith("Nothing can be recommended: the baseline sdpa has no usable measurement.")
    assert "KEEP" not in said


def test_only_one_mechanism_has_no_rival() -> None:
    """A run of the baseline alone says that there was nothing to compare."""
    assert "Nothing was measured that could replace it." in _headline(builder.ceilings_only())


def test_a_cpu_and_a_fake_are_announced_before_everything() -> None:
    """The warning is there for a CPU and for the fake device, and only for them."""
    assert "says nothing about a GPU" in text.say(builder.no_price().warnings[0])
    assert text.say(builder.no_price("fake").warnings[0]).startswith("FAKE DEVICE")
    assert builder.win().warnings == ()


def test_ceilings_are_apart_from_the_mechanisms() -> None:
    """Ceilings are statements and cases, not rows of the summary."""
    report = builder.win()
    assert [arm.arm.label for arm in report.mechanisms] == ["sdpa", "naive", "cast-32"]
    assert "only give 1.94×" in text.say(report.ceilings[0])
    assert any(row.arm.role == "ceiling" for row in report.groups[0].rows)


@pytest.mark.parametrize(
    ("bracket", "words"),
    [
        ((512, 4096), "FASTER than sdpa from 4,096 tokens on, not at 512 tokens"),
        ((None, 512), "at every measured length, from 512 tokens on"),
        ((4096, None), "crossover not in the measured range; at 4,096 tokens"),
    ],
)
def test_the_crossover_is_a_bracket(bracket: tuple[int | None, int | None], words: str) -> None:
    """Each form of the bracket has its own sentence."""
    arm = replace(builder.winning_cast(), crossover=bracket)
    report = view.build(builder.record(), builder.projection(builder.sdpa(), arm))
    assert words in text.say(report.ceilings[-1])


def test_each_doubt_is_listed_once_with_whom_it_touches() -> None:
    """Caveats of cases and of the projection come together, in one order, without repetition."""
    report = builder.few_rounds()
    caveats = [note.caveat for note in report.caveats]
    assert caveats == sorted(set(caveats), key=list(Caveat).index)
    few = next(note for note in report.caveats if note.caveat is Caveat.FEW_ROUNDS)
    assert set(few.labels) == {"sdpa", "naive", "cast-32"}


def test_padding_is_not_counted_as_tokens() -> None:
    """A padded batch counts its longest row and the mean of what else fits; a bucketed one counts every token."""
    padded = Group(Shape(8, 2048), "padded")
    mean = (512 * 0.5 + 2048 * 0.3) / 0.8
    assert view.expected_tokens(padded, builder.MIX) == pytest.approx(2048 + 7 * mean)
    assert view.expected_tokens(Group(Shape(8, 2048), "bucketed"), builder.MIX) == 8 * 2048


def test_servers_come_with_the_range_of_their_draws() -> None:
    """The interval of the servers holds 95 % of the draws and the value itself."""
    arm = replace(builder.winning_cast(), replicas=2, replicas_shares=((1, 0.01), (2, 0.9), (3, 0.08), (4, 0.01)))
    assert view.replicas_estimate(arm) == Estimate(2, 2, 3)


def test_a_report_is_a_function_of_its_inputs() -> None:
    """Building twice gives equal reports, and no number of them is rounded."""
    assert builder.win() == builder.win()
    assert builder.win().mechanisms == builder.projection(builder.sdpa(), builder.naive(), builder.winning_cast()).arms
