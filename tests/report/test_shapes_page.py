from __future__ import annotations

from dataclasses import replace

import pytest

from castbench.plan import Group
from castbench.records import EnergyRecord, Outcome, Status
from castbench.report import exporters, view
from castbench.report.nouns import Report
from castbench.workload.spec import Shape
from tests.report import builder
from tests.report.builder import APPEARED, ARMS, GROUPS, discarding, joules, projection, record, sdpa, winning_cast

NO_GRAPH = "CUDA graphs need a CUDA device"


def _drawn(report: Report, width: int = 400) -> str:
    return exporters.render(report, "terminal", width=width).decode()


def _report(outcomes: dict[tuple[str, str], Outcome], groups: tuple[Group, ...] = GROUPS) -> Report:
    return view.build(
        record(builder.plan(groups=groups), outcomes=outcomes), projection(sdpa(), winning_cast())
    )  # fmt: skip


def _with(source: str, label: str = "sdpa", **changes: float) -> Report:
    energy: EnergyRecord = joules(6.0, source=source, **changes)
    return _report({(GROUPS[0].key, label): Outcome(label, Status.OK, energy=energy)})


def test_every_shape_names_its_regime() -> None:
    """The same shape eager and compiled stands under two headings that differ in that word."""
    drawn = _drawn(builder.on_a_gpu())
    for regime in ("eager", "compiled"):
        assert f"Measured: batch 1, 4,096 tokens, bucketed, {regime}\n" in drawn


def test_shapes_that_nothing_can_run_are_one_line_with_the_reason() -> None:
    """Two lengths as CUDA graphs on a CPU: one line for both, no table and no row of dashes."""
    graphs = tuple(Group(Shape(1, n), "bucketed", regime="graph") for n in (512, 4096))
    none = {(g.key, arm.label): Outcome(arm.label, Status.UNSUPPORTED, NO_GRAPH) for g in graphs for arm in ARMS}
    drawn = _drawn(_report(none, (*GROUPS, *graphs)))
    line = f"- 512 and 4,096 tokens, batch 1, bucketed, graph: all mechanisms unsupported: {NO_GRAPH}"
    assert drawn.count(NO_GRAPH) == 1
    assert line in drawn
    assert drawn.count("\nMeasured: ") == len(GROUPS)


def test_different_reasons_are_told_with_whom_they_stopped() -> None:
    """Where one mechanism failed otherwise, it is named."""
    graph = Group(Shape(1, 512), "bucketed", regime="graph")
    none = {(graph.key, arm.label): Outcome(arm.label, Status.UNSUPPORTED, NO_GRAPH) for arm in ARMS}
    none[graph.key, "naive"] = Outcome("naive", Status.OOM, "12 GiB")
    others = "sdpa, cast-32, ceiling:mixing, ceiling:module"
    assert f"graph: {others} unsupported: {NO_GRAPH}; naive oom: 12 GiB" in _drawn(_report(none, (*GROUPS, graph)))


def test_discarded_rounds_are_counted_with_their_reason() -> None:
    """One reason is told as it is, several with how often each came, many only in part; one round is singular."""
    made = projection(sdpa(), winning_cast())

    def drawn(*reasons: str) -> str:
        return _drawn(view.build(discarding(record(), GROUPS[1], *reasons), made))

    assert f"2 of 18 rounds were discarded: {APPEARED}." in drawn(APPEARED, APPEARED)
    assert f"1 of 17 rounds was discarded: {APPEARED}." in drawn(APPEARED)
    assert "3 of 19 rounds were discarded: 2 × a; 1 × b." in drawn("a", "b", "a")
    assert "5 of 21 rounds were discarded: 1 × a; 1 × b; 1 × c; 2 more reasons." in drawn(*"abcde")
    assert "discarded" not in _drawn(builder.win())


def test_a_group_that_was_given_up_says_so() -> None:
    """Too many disturbed rounds ended it; without a single valid one it has a line, with the count."""
    given_up = record(stopped_by="disturbed")
    assert "16 rounds, given up because too many rounds were disturbed from outside." in _drawn(
        view.build(given_up, projection(sdpa()))
    )
    empty = replace(given_up, rounds=tuple(r for r in given_up.rounds if r.group != GROUPS[1].key))
    drawn = _drawn(view.build(discarding(empty, GROUPS[1], *[APPEARED] * 16), projection(sdpa())))
    assert "given up because too many rounds were disturbed from outside. 16 of 16 rounds were discarded" in drawn


def test_energy_stands_in_a_table_with_how_it_was_read() -> None:
    """Gross leads, net and tokens follow; source, scope, idle power and the disagreement are told."""
    drawn = _drawn(_with("nvml-counter")).partition("Energy (measured)")[2].partition("Assumptions")[0]
    assert "sdpa       1 × 512 bucketed   5.97–6.03   4.77–4.83  11.67–11.77   300" in drawn
    assert "By the GPU's energy counter, for the GPU board; idle 60.0 W" in drawn
    assert "Integrated power readings give 90 % of the counter's energy." in drawn
    assert "No energy of naive (1 × 512 bucketed)" in drawn
    assert "ceiling" not in drawn


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nvml-power", "By integrated power readings, since the GPU has no energy counter, for the GPU board"),
        ("rapl", "By the CPU's energy counter (RAPL), for the CPU sockets, memory excluded"),
    ],
)
def test_a_source_without_a_second_one_states_no_disagreement(source: str, words: str) -> None:
    """Integrated power alone, or the counter alone, is named and held against nothing."""
    drawn = _drawn(_with(source))
    assert words in drawn
    assert "Integrated power readings give" not in drawn


def test_energy_that_nobody_measured_is_one_line_with_the_reason() -> None:
    """The reasons of all cases, each once; no table and no second caveat; with none known, that alone."""
    hidden = {
        (group.key, arm.label): Outcome(arm.label, Status.OK, energy_reason="RAPL can be read by root only")
        for group in GROUPS for arm in ARMS
    }  # fmt: skip
    drawn = _drawn(_report(hidden))
    assert drawn.count("- Energy was not measured: RAPL can be read by root only.") == 1
    assert drawn.count("nergy") == 1
    assert _drawn(builder.win()).count("- Energy was not measured.") == 1
    asked_not = _drawn(builder.loss())
    assert asked_not.count("- Energy was not measured: the profile asks for none (sampling.energy: false).") == 1


def test_reserved_memory_and_the_largest_batch_are_told_where_they_are_known() -> None:
    """What the allocator took beside what was used, and the batch that fits with the one that does not."""
    drawn = _drawn(builder.on_a_gpu())
    assert "sdpa       1 × 4,096 bucketed   160       320     64.0" in drawn
    assert "sdpa at 4,096 tokens (bucketed, eager): the largest batch that fits is 96 (97 does not)." in drawn
    assert "cast-32 at 4,096 tokens (bucketed, eager): no limit met up to a batch of 65,536." in drawn
    assert "Memory (measured)" not in _drawn(builder.win())


def test_a_pass_that_failed_says_why_beside_its_good_numbers() -> None:
    """A case that was timed and whose memory pass failed keeps its row and has a line."""
    failed = Outcome("sdpa", Status.OK, reason="memory pass: it hung")
    assert "- sdpa: ok: memory pass: it hung" in _drawn(_report({(GROUPS[0].key, "sdpa"): failed}))
