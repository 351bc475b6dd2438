from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from castbench.cost.spec import Configuration, QualityStatus, Recommendation
from castbench.findings import expected_tokens
from castbench.plan import Group
from castbench.records import Caveat, RunEnd
from castbench.report import exporters, page, text, view
from castbench.report.nouns import Report
from castbench.report.redact import redact
from castbench.stats import Estimate
from castbench.workload.spec import Shape
from tests.report import builder


def _headline(report: Report) -> str:
    return " ".join(text.say(said) for said in report.headline)


def test_a_win_names_the_word_the_cost_the_condition_and_the_saving() -> None:
    """The headline of a win says PILOT, under which condition, how much per hour, month and year, and how sure."""
    said = _headline(builder.win())
    assert said.startswith("PILOT cast-32 (batch 8, bucketed, eager).")
    adopt = "If a retrained CAST model meets your quality gate, it would cost 7.35 $/h, 5,360 $ per month;"
    assert f"{adopt} quality was not measured" in said
    assert "3.67–7.35 $/h less than sdpa" in said
    assert "2,680–5,360 $ per month, 32,200–64,400 $ per year" in said
    assert "P(saving > 0) > 99 %" in said
    assert "Not measured: quality, and whether the objective p99 ≤ 250 ms is met." in said


def test_a_loss_is_told_as_plainly_as_a_gain() -> None:
    """The headline of a loss says keep, and what the alternative would cost more."""
    said = _headline(builder.loss())
    assert said.startswith(
        "KEEP. Keep what you have: sdpa (batch 8, bucketed, eager), at 14.7 $/h, 10,700 $ per month."
    )
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


@pytest.mark.parametrize(("name", "why"), [("no_price", "no price is known"), ("no_demand", "no demand is stated")])
def test_without_money_the_reason_and_the_speed_are_said(name: str, why: str) -> None:
    """No dollar sign appears where there is no money, and the measured speed is said instead."""
    said = _headline(builder.SITUATIONS[name]())
    assert "No cost can be given" in said
    assert why in said
    assert "the speed of sdpa" in said
    assert "$" not in said


@pytest.mark.parametrize("name", ["few_rounds", "single_round"])
def test_few_rounds_recommend_nothing(name: str) -> None:
    """Below 8 rounds the headline opens with that, says what to do, and gives no amount, advice or speed."""
    said = _headline(builder.SITUATIONS[name]())
    rounds = "3 rounds" if name == "few_rounds" else "1 round"
    assert said.startswith(f"Not enough was measured to recommend anything: {rounds} per shape where 8 are needed;")
    assert "(--budget or sampling.max_seconds_per_case)" in said
    assert "no verdict can be given and the ranges are rough" in said
    assert not any(word in said for word in ("$", "per month", "KEEP", "PILOT", "speed of"))


@pytest.mark.parametrize("few", ["sdpa", "naive", "cast-32"])
def test_few_rounds_of_any_configuration_the_money_rests_on_count(few: str) -> None:
    """The baseline's, today's and the best alternative's rounds each suffice to refuse a recommendation."""
    arms = [builder.sdpa(), builder.naive(), builder.winning_cast()]
    arms = [builder.unproven(arm) if arm.arm.label == few else arm for arm in arms]
    said = _headline(view.build(builder.record(), builder.projection(*arms, today="naive")))
    assert said.startswith("Not enough was measured")


@pytest.mark.parametrize("changes", [{}, {"money_missing": "no price", "price": None}])
def test_a_proven_exact_gain_stands_beside_an_unproven_rival(changes: dict[str, Any]) -> None:
    """TUNE-FIRST needs only today's and the better configuration; of the rival nothing is claimed."""
    arms = (builder.sdpa(recommendation=Recommendation.TUNE_FIRST), builder.naive(),
            builder.unproven(builder.winning_cast()))  # fmt: skip
    said = _headline(view.build(builder.record(), builder.projection(*arms, today="naive", **changes)))
    assert "TUNE-FIRST: run sdpa" in said
    assert "Not enough was measured of cast-32" in said
    assert "P(saving" not in said


def test_rough_figures_in_the_summary_are_marked_points() -> None:
    """Below 8 rounds the summary has no range and no probability, and a note says what the mark means."""
    drawn = exporters.render(builder.few_rounds(), "terminal", width=200).decode()
    summary = drawn.partition("Summary")[2].partition("How each")[0]
    assert "~7.35" in summary
    assert "3.67–7.35" not in summary
    assert "> 99 %" not in summary
    assert "~ marks rough figures from fewer than 8 rounds" in summary
    assert "Rough: fewer than 8 rounds." in " ".join(drawn.partition("How each")[2].split())
    assert "95 % intervals" not in summary
    assert "only give" not in drawn
    assert "~" not in exporters.render(builder.win(), "terminal").decode()


def test_a_price_for_another_size_is_said_beside_how_sure() -> None:
    """The headline carries the doubt where there is money."""
    arm = replace(builder.winning_cast(), caveats=(Caveat.PRICED_SIZE,))
    priced = _headline(view.build(builder.record(), builder.projection(builder.sdpa(), arm)))
    assert "on this day. The price is for a server of another size than the machine measured" in priced
    assert "another size" not in _headline(builder.win())


@pytest.mark.parametrize(
    ("saving", "both"), [((3.6, 0.0, 7.3), False), ((3.6, -1.0, 7.3), True), ((0.0, -3.7, 3.7), True)]
)
@pytest.mark.parametrize("word", ["PILOT", "KEEP"])
def test_a_sign_is_explained_only_where_there_may_be_both(
    saving: tuple[float, float, float], both: bool, word: str
) -> None:
    """A range that ends at zero cannot be negative."""
    arm = replace(builder.winning_cast(), saving_usd_per_hour=Estimate(*saving), recommendation=Recommendation(word))
    said = _headline(view.build(builder.record(), builder.projection(builder.sdpa(), arm)))
    assert ("negative means it costs more" in said) is both


def _advice(report: Report) -> list[str]:
    """The last column of the summary."""
    summary = next(block for block in page.of_report(report) if isinstance(block, page.Table))
    return [row[-1] for row in summary.rows]


def test_nobody_reads_keep_beside_a_rival() -> None:
    """KEEP stands only beside what runs today and is not to be replaced; without a configuration there is no advice."""
    unmeasured = replace(builder.winning_cast(), configuration=None)
    cut = view.build(builder.record(), builder.projection(builder.sdpa(), builder.naive(), unmeasured))
    assert _advice(builder.loss()) == ["KEEP", "–", "–"]
    assert _advice(builder.win()) == ["KEEP", "–", "PILOT"]
    assert _advice(builder.tune_first()) == ["TUNE-FIRST", "–", "PILOT"]
    assert _advice(cut) == ["KEEP", "–", "–"]
    assert "KEEP" in exporters.render(builder.loss(), "csv").decode().splitlines()[3]


@pytest.mark.parametrize(
    ("device", "tail"), [("cpu", " --device cpu --seed 0 --threads 2"), ("cuda:0", " --device cuda:0 --seed 0")]
)
def test_to_see_it_again_states_what_the_result_hangs_on(device: str, tail: str) -> None:
    """Device and seed always, threads on a CPU; redacted likewise."""
    report = view.build(builder.record(device=device), builder.projection(builder.sdpa()))
    assert report.reproduce[0] == f"castbench profile /home/mai/secret/contracts.yaml{tail}"
    assert redact(report).reproduce == (f"castbench profile contracts.yaml{tail}",)


def _ceilings(report: Report) -> str:
    return " ".join(text.say(said) for said in report.ceilings)


def test_a_ceiling_needs_eight_rounds() -> None:
    """Fewer rounds in the shapes it rests on, and it is not stated; other shapes do not matter."""
    used = Configuration("sdpa", 8, "padded")
    for rounds, stated in ((5, False), (8, True)):
        said = _ceilings(view.build(builder.record(rounds=rounds), builder.projection(builder.sdpa(), baseline=used)))
        assert ("only give 1.94×" in said) is stated
        assert ("rests on fewer than 8 rounds" in said) is not stated


@pytest.mark.parametrize(
    ("ceiling", "module", "stated"), [(1.94, 2.4, True), (0.97, 2.4, False), (1.7, 2.4, False), (1.94, 1.5, False)]
)
def test_a_ceiling_below_what_it_bounds_is_noise(ceiling: float, module: float, stated: bool) -> None:
    """Slower than the baseline or than the best mechanism (1.82×): no ceiling is claimed."""
    arms = (builder.sdpa(), builder.winning_cast())
    projected = builder.projection(*arms, ceiling=Estimate(ceiling), module_ceiling=Estimate(module))
    said = _ceilings(view.build(builder.record(), projected))
    assert ("would only give" in said) is stated
    assert ("too noisy to measure it" in said) is not stated


@pytest.mark.parametrize(
    ("bracket", "words"),
    [
        ((4096, None), "crossover not determined: UNCLEAR at 512 and 4,096 tokens (batch 1, eager)"),
        ((512, 4096), "from 4,096 tokens on; not determined below that: UNCLEAR at 512 and 4,096 tokens"),
    ],
)
def test_not_shown_is_not_called_not_faster(bracket: tuple[int | None, int | None], words: str) -> None:
    """Where the last length that is not FASTER is UNCLEAR, nothing is said against the mechanism."""
    arm = replace(builder.winning_cast(), crossover=bracket)
    said = _ceilings(view.build(builder.record(rounds=5), builder.projection(builder.sdpa(), arm)))
    assert words in said
    assert "is not FASTER" not in said


def test_a_ceiling_bounds_only_what_runs_like_the_baseline() -> None:
    """A mechanism that is faster than the ceiling in another regime or batch does not make the ceiling noise."""
    for other in (
        Configuration("cast-32", 8, "bucketed", "graph"), Configuration("cast-32", 16, "bucketed"),
        Configuration("cast-32", 8, "padded"),
    ):  # fmt: skip
        arm = replace(builder.winning_cast(), configuration=other)
        made = builder.projection(builder.sdpa(), arm, ceiling=Estimate(1.7), module_ceiling=Estimate(1.75))
        assert "only give 1.70× over sdpa" in _ceilings(view.build(builder.record(), made))


def test_a_ceilings_rounds_are_those_of_its_regime() -> None:
    """Five rounds of the compiled shapes do not make a ceiling of the eager ones rest on too few."""
    eager, compiled = (Group(Shape(8, 512), "bucketed", regime=regime) for regime in ("eager", "compiled"))
    run = builder.record(builder.plan(groups=(eager, compiled)))
    short = replace(run, rounds=tuple(r for r in run.rounds if r.group == eager.key or r.round < 5))
    for regime, stated in (("eager", True), ("compiled", False)):
        used = Configuration("sdpa", 8, "bucketed", regime)
        said = _ceilings(view.build(short, builder.projection(builder.sdpa(), baseline=used)))
        assert ("rests on fewer than 8 rounds" in said) is not stated


def test_a_crossover_names_its_regime_and_counts_no_other() -> None:
    """UNCLEAR compiled says nothing of a bracket that is eager, and the other way round."""
    eager, compiled = (Group(Shape(1, 512), "bucketed", regime=regime) for regime in ("eager", "compiled"))
    run = builder.record(builder.plan(groups=(eager, compiled)))
    short = replace(run, rounds=tuple(r for r in run.rounds if r.group == eager.key or r.round < 5))
    arm = replace(builder.winning_cast(), crossover=(512, None))
    for regime, words in (("eager", "is not FASTER than sdpa (batch 1, eager)"), ("compiled", "not determined")):
        used = Configuration("sdpa", 8, "bucketed", regime)
        said = _ceilings(view.build(short, builder.projection(builder.sdpa(), arm, baseline=used)))
        assert words in said
        assert f"(batch 1, {regime})" in said


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (None, "UNFINISHED: the run was interrupted, or lines were cut off the end of its file"),
        (RunEnd(1, 1, False), "UNFINISHED: the time budget was over before everything was measured"),
    ],
)
def test_a_run_that_was_not_finished_says_so_first(ended: RunEnd | None, words: str) -> None:
    """Without a closing line, or with one that left something out, a warning stands over the headline."""
    report = view.build(replace(builder.record(), ended=ended), builder.projection(builder.sdpa()))
    assert words in text.say(report.warnings[0])
    assert builder.win().warnings == ()


def test_the_verdicts_are_counted_with_what_they_allow() -> None:
    """Two arms and two ceilings against the baseline at three shapes are twelve verdicts, 0.6 of them false at 5 %;
    the baseline and shapes with fewer than 8 rounds are none.
    """
    said = " ".join(text.say(s) for s in builder.win().assumptions)
    assert "hold 12 such verdicts, each judged by itself: one is false with a probability of at most 5.0 %" in said
    assert "on average up to 0.60 of them are" in said
    few = " ".join(text.say(s) for s in builder.few_rounds().assumptions)
    assert "such verdicts" not in few


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
    assert expected_tokens(padded, builder.MIX) == pytest.approx(2048 + 7 * mean)
    assert expected_tokens(Group(Shape(8, 2048), "bucketed"), builder.MIX) == 8 * 2048


def test_servers_come_with_the_range_of_their_draws() -> None:
    """The interval of the servers holds 95 % of the draws and the value itself."""
    arm = replace(builder.winning_cast(), replicas=2, replicas_shares=((1, 0.01), (2, 0.9), (3, 0.08), (4, 0.01)))
    assert view.replicas_estimate(arm) == Estimate(2, 2, 3)


def test_a_report_is_a_function_of_its_inputs() -> None:
    """Building twice gives equal reports, and no number of them is rounded."""
    assert builder.win() == builder.win()
    assert builder.win().mechanisms == builder.projection(builder.sdpa(), builder.naive(), builder.winning_cast()).arms
