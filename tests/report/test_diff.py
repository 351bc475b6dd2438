from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from statistics import fmean, median
from typing import Any

import pytest

from castbench.cost.gates import Outcome, parse_gate
from castbench.cost.spec import Projection
from castbench.errors import InputError
from castbench.plan import Arm
from castbench.records import Outcome as CaseOutcome
from castbench.records import RunRecord, Status
from castbench.report import diff_page, diff_view, text
from castbench.report.diff_view import Diff
from castbench.report.gate_figures import with_gates
from castbench.stats import Verdict, signed_rank_estimate
from tests.cost.builder import CAST, NAIVE, SDPA, projected, run_of
from tests.report.builder import hostile

TIMES = {"sdpa": 1.0, "naive": 1.8, "cast-32": 0.55}
Run = tuple[RunRecord, Projection]


def run(seed: int = 0, noise: float = 0.01, rounds: int = 16, **factors: float) -> Run:
    """A run whose arms take TIMES, times a factor of their own (cast, naive, sdpa, everything)."""
    scale = {"cast-32": factors.get("cast", 1.0), "naive": factors.get("naive", 1.0), "sdpa": factors.get("sdpa", 1.0)}
    everything = factors.get("everything", 1.0)
    record = run_of(
        lambda label, batch, length, how: 1e-6 * length * batch * TIMES[label] * scale[label] * everything,
        arms=(SDPA, NAIVE, CAST), rounds=rounds, noise=noise, seed=seed,
    )  # fmt: skip
    record = replace(record, header=replace(record.header, run_id=f"run-{seed}-{factors}-{rounds}"))
    return record, projected(record)


def diff(base: Run, new: Run, *gates: str, **kwargs: Any) -> Diff:
    """Two runs with gates judged."""
    made = diff_view.build((base[0], new[0]), (base[1], new[1]), **kwargs)
    return with_gates(made, [parse_gate(gate, ("sdpa", "naive", "cast-32")) for gate in gates])


def verdicts(made: Diff) -> dict[tuple[str, int | None], Verdict | None]:
    """Verdicts by label and length; None for the whole traffic."""
    return {
        (r.label, r.group.shape.seq_len if r.group else None): r.verdict
        for r in (*made.traffic, *made.cases)
        if r.verdict is not Verdict.BASELINE
    }


def outcomes(made: Diff) -> list[Outcome]:
    """What became of each gate."""
    return [gate.outcome for gate in made.gates]


@pytest.mark.parametrize("noise", [0.0, 0.002, 0.01, 0.1])
def test_a_run_against_itself_changed_nowhere(noise: float) -> None:
    """Whatever the noise: no row is FASTER or SLOWER, every change is 0, and the page says that it is one run."""
    made = diff(run(noise=noise), run(noise=noise))
    assert set(verdicts(made).values()) <= {Verdict.SAME, Verdict.UNCLEAR}
    assert {row.change.value for row in (*made.traffic, *made.cases) if row.change} == {0.0}
    assert "diff.same_run" in [note.key for note in made.notes]


def test_runs_of_the_same_truth_are_called_changed_no_more_often_than_stated() -> None:
    """Of 40 pairs of sessions with the same truth at most 5 tables have a FASTER or SLOWER (5 % and binomial room)."""
    accused = 0
    for seed in range(40):
        made = diff(run(2 * seed, rounds=8), run(2 * seed + 1, rounds=8))
        accused += any(row.verdict in (Verdict.FASTER, Verdict.SLOWER) for row in made.cases)
    assert accused <= 5


def test_a_planted_slowdown_of_ten_percent_is_found_and_only_there() -> None:
    """CAST takes 10 % longer: SLOWER over the traffic and at each length, within the interval; naive is not accused."""
    made = diff(run(1), run(2, cast=1.1))
    found = verdicts(made)
    assert [v for (label, _), v in found.items() if label == "cast-32"] == [Verdict.SLOWER] * 3
    assert all(v in (Verdict.SAME, Verdict.UNCLEAR) for (label, _), v in found.items() if label == "naive")
    for row in (*made.traffic, *made.cases):
        if row.label == "cast-32":
            assert row.change is not None
            assert row.change.low is not None
            assert row.change.high is not None
            assert row.change.low <= 10.0 <= row.change.high


def test_a_faster_baseline_makes_the_others_slower_relative_to_it() -> None:
    """What is judged is the ratio: sdpa at half its time doubles every other's."""
    made = diff(run(1), run(2, sdpa=0.5))
    assert set(verdicts(made).values()) == {Verdict.SLOWER}


@pytest.mark.parametrize("factor", [0.5, 2.0, 10.0])
def test_a_machine_that_is_slower_as_a_whole_changes_nothing(factor: float) -> None:
    """All times of NEW times a factor: every change with its interval, and every verdict, stays what it was."""
    base, new = run(1), run(2, cast=1.04)
    slow = run(2, cast=1.04, everything=factor)
    one, other = diff(base, new), diff(base, slow)
    assert verdicts(one) == verdicts(other)
    for mine, theirs in zip((*one.traffic, *one.cases), (*other.traffic, *other.cases), strict=True):
        if mine.label == "sdpa":
            continue
        assert mine.change is not None
        assert theirs.change is not None
        for end in ("value", "low", "high"):
            assert getattr(mine.change, end) == pytest.approx(getattr(theirs.change, end), abs=1e-6)


def test_a_change_is_the_quotient_of_the_speed_ups_beside_it() -> None:
    """By hand from the rounds: exp of the difference of both pseudo-medians, less 1; and from the printed speed-ups."""
    base, new = run(1), run(2, cast=1.1)
    row = next(r for r in diff(base, new).cases if r.label == "cast-32")
    assert row.group is not None
    middles = []
    for record, _ in (base, new):
        logs = [math.log(r.samples[2].elapsed_s / r.samples[0].elapsed_s) for r in record.rounds_of(row.group.key)]
        middles.append(signed_rank_estimate(logs, None).value)
    assert row.change is not None
    assert row.base.figure is not None
    assert row.new.figure is not None
    assert row.change.value == pytest.approx(100 * (math.exp(middles[1] - middles[0]) - 1))
    assert row.change.value == pytest.approx(100 * (row.base.figure.value / row.new.figure.value - 1))


def test_gates_pass_miss_and_stay_undecided() -> None:
    """One of each, on ratios, changes and memory; memory is counted and is never undecided."""
    made = diff(
        run(1), run(2, cast=1.1), "cast-32: speedup_vs_baseline >= 1.5", "cast-32: slowdown_percent <= 3",
        "cast-32: slowdown_percent <= 10", "*: peak_memory_change_percent <= 0", "*: peak_memory_mib <= 0.001",
        "cast-32: slowdown_percent <= 15 @ 2048", "sdpa: peak_memory_mib <= 2 @ 2048",
        "*: cost_usd_per_hour <= 1000", "cast-32: saving_usd_per_hour >= 0",
    )  # fmt: skip
    assert [o.value for o in outcomes(made)] == [
        "passed", "missed", "undecided", "passed", "missed", "passed", "passed", "passed", "passed"
    ]  # fmt: skip


def test_a_star_means_every_mechanism_and_names_the_worst() -> None:
    """Only CAST is slower, and it is CAST that the sentence of the missed gate names; of its cases if a length is."""
    made = diff(run(1), run(2, cast=1.3), "*: slowdown_percent <= 5", "*: slowdown_percent <= 5 @ 512")
    said = [text.say(diff_page.gate_sentence(gate)) for gate in made.gates]
    assert said[0].startswith("MISSED *: slowdown_percent <= 5: ")
    assert said[0].endswith("of cast-32.")
    assert said[1].endswith("of cast-32 at 1 × 512 bucketed.")


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ("sdpa: slowdown_percent <= 3", "sdpa is the baseline"),
        ("cast-32: slowdown_percent <= 3 @ 777", "no case of 777 tokens was measured; lengths are 512, 2048"),
        ("cast-32: time_change_percent <= 3", "give --absolute with --noise or --noise-percent"),
    ],
)
def test_a_gate_that_nothing_can_be_held_against_is_refused(gate: str, said: str) -> None:
    """The sentence has the gate and what to do."""
    with pytest.raises(InputError) as caught:
        diff(run(1), run(2), gate)
    assert str(caught.value).startswith(gate)
    assert said in str(caught.value)


def test_a_case_that_runs_out_of_memory_now_leaves_its_gates_undecided() -> None:
    """No number, no verdict: the row says in which run and why, and the gate is not shown to be met."""
    broken = run_of(
        lambda label, batch, length, how: 1e-6 * length * TIMES[label], arms=(SDPA, NAIVE, CAST), rounds=16, noise=0.01,
        failed={("b1-n2048-bucketed", "cast-32"): Status.OOM},
    )  # fmt: skip
    groups = tuple(
        replace(
            g, outcomes=tuple(replace(o, reason="12 GiB wanted") if o.status is Status.OOM else o for o in g.outcomes)
        )
        for g in broken.groups
    )
    broken = replace(broken, groups=groups, header=replace(broken.header, run_id="broken"))
    made = diff(
        run(1), (broken, projected(broken)), "cast-32: slowdown_percent <= 3 @ 2048", "*: slowdown_percent <= 90"
    )
    assert [o.value for o in outcomes(made)] == ["undecided", "undecided"]
    page = diff_page.render(made, "terminal", width=200).decode()
    assert "cast-32, 1 × 2,048 bucketed: not measured in NEW: oom (12 GiB wanted)." in page
    assert "not measured in NEW: oom (12 GiB wanted)" in text.say(diff_page.gate_sentence(made.gates[0]))


def test_too_few_rounds_give_no_verdict_and_no_shown_gate() -> None:
    """Five rounds: every row UNCLEAR with the reason, gates on ratios and costs undecided, memory still counts."""
    gates = ("cast-32: slowdown_percent <= 50", "cast-32: speedup_vs_baseline >= 1", "cast-32: cost_usd_per_hour <= 99",
             "cast-32: peak_memory_mib <= 99")  # fmt: skip
    made = diff(run(1), run(2, rounds=5), *gates)
    assert set(verdicts(made).values()) == {Verdict.UNCLEAR}
    assert [o.value for o in outcomes(made)] == ["undecided"] * 3 + ["passed"]
    assert "too few rounds or processes in NEW" in diff_page.render(made, "terminal", width=200).decode()


def test_absolute_times_are_judged_beyond_the_floor_only() -> None:
    """Everything takes 20 % longer, sdpa too: the ratio says SAME or UNCLEAR, absolute times are SLOWER beyond a floor
    of 1 %, and nothing is said beyond a floor of 30 %.
    """
    base, slow = run(1, noise=0.001), run(2, noise=0.001, everything=1.2)
    low, high = (diff(base, slow, "*: time_change_percent <= 5", floor=math.log(f)) for f in (1.01, 1.3))
    assert {row.verdict for row in low.absolute} == {Verdict.SLOWER}
    assert {row.label for row in low.absolute} == {"sdpa", "naive", "cast-32"}
    assert {row.verdict for row in high.absolute} == {Verdict.UNCLEAR}
    assert set(verdicts(low).values()) <= {Verdict.SAME, Verdict.UNCLEAR}
    assert [o.value for o in (*outcomes(low), *outcomes(high))] == ["missed", "undecided"]
    row = low.absolute[0]
    assert row.base.figure is not None
    assert row.new.figure is not None
    assert row.change is not None
    assert row.change.value == pytest.approx(100 * (row.new.figure.value / row.base.figure.value - 1))


def test_the_noise_floor_is_the_largest_difference_of_a_repeat() -> None:
    """By hand over every case; other work, another machine and BASE itself are no repeats."""
    base, again = run(1)[0], run(2, everything=1.07)[0]
    apart = [
        abs(math.log(_latency(again, group.key, place) / _latency(base, group.key, place)))
        for group in base.header.plan.groups for place in range(3)
    ]  # fmt: skip
    assert diff_view.noise_floor(base, [("again", again)]) == pytest.approx(max(apart))
    assert max(apart) == pytest.approx(math.log(1.07), abs=0.02)


def _latency(record: RunRecord, key: str, place: int) -> float:
    """Mean over worker processes of the median window."""
    by_process: dict[int, list[float]] = {}
    for r in record.rounds_of(key):
        by_process.setdefault(r.epoch, []).append(r.samples[place].elapsed_s)
    return fmean(median(times) for times in by_process.values())


def _elsewhere(record: RunRecord) -> RunRecord:
    return replace(record, header=replace(record.header, environment=replace(record.header.environment, host="other")))


def _other_work(record: RunRecord) -> RunRecord:
    return replace(record, header=replace(record.header, comparable_sha256="f"))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (lambda record: run(1)[0], "this is BASE itself"),
        (_elsewhere, "host is other, in BASE it is host"),
        (_other_work, "these runs did not do the same work"),
    ],
)
def test_what_is_no_repeat_is_no_noise(changed: Callable[[RunRecord], RunRecord], said: str) -> None:
    """One sentence with the name of the run and the difference."""
    with pytest.raises(InputError) as caught:
        diff_view.noise_floor(run(1)[0], [("aa.jsonl", changed(run(2)[0]))])
    assert str(caught.value).startswith("--noise aa.jsonl: ")
    assert said in str(caught.value)


def test_unlike_runs_are_refused_and_marked_when_forced() -> None:
    """The difference is named; forced, every format carries the mark."""
    base, new = run(1), run(2)
    other = replace(new[0].header.plan, served=replace(new[0].header.plan.served, dtype="bf16"))
    unlike = replace(new[0], header=replace(new[0].header, plan=other, comparable_sha256="f"))
    with pytest.raises(InputError, match="BASE and NEW differ in dtype: fp32 against bf16"):
        diff(base, (unlike, new[1]))
    forced = diff(base, (unlike, new[1]), forced=True)
    marks = {"terminal": "UNLIKE RUNS", "md": "UNLIKE RUNS", "csv": "UNLIKE RUNS", "json": '"unlike_runs": true'}
    for fmt, mark in marks.items():
        assert mark in diff_page.render(forced, fmt).decode()


def test_csv_and_json_give_the_same_numbers() -> None:
    """Every number of the rows, read back from both, is the difference's own at full precision."""
    made = diff(run(1), run(2, cast=1.1), floor=0.01)
    rows = list(csv.DictReader(io.StringIO(diff_page.render(made, "csv").decode())))
    data = json.loads(diff_page.render(made, "json"), parse_constant=pytest.fail)
    plain = [*data["traffic"], *data["cases"], *data["absolute"]]
    assert len(rows) == len(plain) == len((*made.traffic, *made.cases, *made.absolute))
    for cells, row, own in zip(rows, plain, (*made.traffic, *made.cases, *made.absolute), strict=True):
        unit = "ms" if cells["table"] == "absolute" else "speedup"
        assert float(cells["new_peak_memory_mib"] or 0) == (row["new_peak_memory_mib"] or 0)
        if own.verdict is Verdict.BASELINE:
            assert (cells["change_percent"], row["change_percent"], cells["verdict"]) == ("", None, "BASELINE")
            continue
        assert own.change is not None
        assert own.base.figure is not None
        assert float(cells["change_percent"]) == row["change_percent"]["value"] == own.change.value
        assert float(cells[f"base_{unit}"]) == row["base"]["value"] == own.base.figure.value
        assert cells["verdict"] == row["verdict"]
        assert (cells["change_low_percent"] == "") is (row["change_percent"]["low"] is None)


@pytest.mark.parametrize("fmt", ["terminal", "md", "csv", "json"])
def test_hostile_labels_harm_no_format(fmt: str) -> None:
    """Formulas, markup, escape sequences and 300 characters: the page keeps 80 columns, nothing steers a terminal."""
    labels = [arm.arm.label for arm in hostile().mechanisms[1:]]
    arms = (SDPA, *(Arm(label, "cast", (), "candidate", False) for label in labels))
    record = run_of(lambda label, *_: 1.0 if label == "sdpa" else 0.5, arms=arms, noise=0.01)
    pair = (record, projected(record))
    made = diff_view.build((record, record), (pair[1], pair[1]))
    made = with_gates(made, [parse_gate(f"{label}: slowdown_percent <= 5", labels) for label in labels])
    drawn = diff_page.render(made, fmt).decode()
    if fmt != "csv":  # a table for programs keeps labels as they are
        assert not {"\x1b", "\u202e"} & set(drawn) or fmt == "json"
    if fmt == "terminal":
        assert max(map(len, drawn.splitlines())) <= 80
    if fmt == "csv":
        assert not any(row["label"].startswith("=") for row in csv.DictReader(io.StringIO(drawn)))
    assert "<script>" not in drawn or fmt != "md"


def test_an_unknown_format_says_what_there_is() -> None:
    """The error names the option and the choices."""
    with pytest.raises(InputError, match="--format: expected one of terminal, md, json, csv, got 'pdf'"):
        diff_page.render(diff(run(1), run(1)), "pdf")


def test_peak_memory_that_rose_has_a_table_of_its_own() -> None:
    """By how much, in per cent of BASE, and only for the cases where it changed."""
    record, money = run(2)
    doubled = tuple(
        replace(g, outcomes=tuple(_doubled(o) if o.label == "cast-32" else o for o in g.outcomes))
        for g in record.groups
    )
    made = diff(run(1), (replace(record, groups=doubled), money), "cast-32: peak_memory_change_percent <= 10 @ 512")
    assert outcomes(made) == [Outcome.MISSED]
    page = diff_page.render(made, "terminal").decode()
    assert "Peak memory by case, where it changed" in page
    assert "100" in page.partition("where it changed")[2]
    assert "naive" not in page.partition("where it changed")[2]


def _doubled(outcome: CaseOutcome) -> CaseOutcome:
    assert outcome.peak_bytes is not None
    return replace(outcome, peak_bytes=2 * outcome.peak_bytes)
