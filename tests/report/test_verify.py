from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from castbench import energy, findings, pipeline, stats
from castbench.cli.app import app
from castbench.cost import (
    bills,
    capacity,
    demand,
    draws,
    headroom,
    request_times,
    savings,
    surface,
    uncertainty,
    verdicts,
    waterfall,
)
from castbench.cost.spec import Price
from castbench.errors import InputError
from castbench.measure.fake_rig import FakeEpoch, FakeRig
from castbench.measure.runner import Silent
from castbench.plain import sha256_of
from castbench.plan import Arm, Group, Plan, make_plan
from castbench.records import EnergyBlock, EnergyRecord, RunRecord, Sample, Status
from castbench.report import csv_table, headline, rows, view
from castbench.report.verify import Check, export_check, verify_run
from castbench.report.verify.draws import group_draws
from castbench.report.verify.intervals import (
    order_statistic,
    signed_rank_interval,
    signed_rank_p,
    step_down,
    t_quantile,
)
from castbench.report.verify.money import Recount, Terms
from castbench.report.verify.raw import read_raw
from castbench.report.verify.reported import cell_pairs
from castbench.stats import Verdict
from castbench.store import RunWriter, read_run
from castbench.workload.spec import Demand, Economics, Observed, RunningToday
from tests.cost.builder import CAST, DEMAND, MIXING, NAIVE, PRICE, SDPA, run_of
from tests.examples import example_profile

PROFILE = """
name: small
model: {layers: 2, embed_dim: 64, num_heads: 4, vocab_size: 1000}
lengths: [{tokens: 256, share: 0.5}, {tokens: 1024, share: 0.5}]
mechanisms: [sdpa, naive, {cast: {num_clusters: 8}, label: cast-8}]
demand: {requests_per_second: 20000}
price: {usd_per_hour: 2.0}
price_cpu: {usd_per_hour: 0.1}
sampling: {min_window_ms: 5}
"""
TERMS = Terms(2.0, 1, 20000.0, 0.7)
Line = dict[str, Any]
Tamper = Callable[[list[Line]], list[Line]]


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run on the fake device, with a selection and fresh rounds."""
    folder = tmp_path_factory.mktemp("verified")
    (folder / "small.yaml").write_text(PROFILE)
    profile = pipeline.load_profile(str(folder / "small.yaml"))
    out = folder / "run.jsonl"
    pipeline.measure(profile, make_plan(profile), FakeRig(profile.seed), Silent(), out=out)
    return out


def checks_of(path: Path, **terms: float | None) -> dict[str, Check]:
    """Every check of a run file by its name."""
    record = read_run(path)
    projection = pipeline.project(record, **terms)  # type: ignore[arg-type]
    found = verify_run(record, projection, pipeline.comparable_sha256(record.header.plan))
    return {check.what: check for check in found}


def failed(path: Path) -> list[str]:
    """Names of the checks that fail."""
    return [name for name, check in checks_of(path).items() if not check.ok]


def written(record: RunRecord, path: Path) -> RunRecord:
    """A made-up run as read back from a file."""
    with RunWriter.create(path, replace(record.header, schema=2)) as writer:
        for r in record.rounds:
            writer.append_round(r)
        for g in record.groups:
            writer.append_group(g)
    return read_run(path)


def number_problems(record: RunRecord, **terms: Any) -> list[str]:
    """What of the numbers differs."""
    stated = {"price": PRICE, "demand": DEMAND, "money_missing": None, "seed": record.header.plan.served.seed, **terms}
    projection = savings.project(record, **stated)
    return [str(d) for check in verify_run(record, projection, "") for d in check.differences]


# the numbers


def test_a_whole_run_passes_and_every_kind_of_number_is_counted(run_file: Path) -> None:
    """A run as measured has no failing check, and the count says that all kinds were worked out anew."""
    found = checks_of(run_file)
    assert [name for name, check in found.items() if not check.ok] == []
    kinds = dict(found["numbers of the report, recomputed from the raw rounds"].numbers)
    assert {"times", "ratios", "throughput", "memory", "servers", "money", "words"} <= set(kinds)
    assert sum(kinds.values()) > 200
    assert found["end of the run"].detail == "complete"


PRICES = (
    None, PRICE, replace(PRICE, plan="reserved", term_years=3), replace(PRICE, plan="owned", gpus=4),
    replace(PRICE, plan="owned", electricity_usd_per_hour=0.3),
)  # fmt: skip
DEMANDS = (None, DEMAND, replace(DEMAND, min_replicas=3, zones=2, spare=1))
FAILURES = (None, {("b1-n2048-bucketed", "naive"): Status.OOM}, {("b1-n512-bucketed", "sdpa"): Status.CRASH})


@given(
    noise=st.sampled_from([0.0, 0.01, 0.2]), rounds=st.sampled_from([1, 2, 5, 8, 11, 64]), seed=st.integers(0, 99),
    batching=st.sampled_from([("bucketed",), ("bucketed", "padded")]), held_out=st.sampled_from([None, 1024]),
    scope=st.sampled_from(["encoder", "attention"]), attention_share=st.sampled_from([None, 0.3]),
    failed=st.sampled_from(FAILURES), priced=st.sampled_from(PRICES), asked=st.sampled_from(DEMANDS),
    today=st.sampled_from([None, RunningToday(1, "bucketed", "eager"), RunningToday(4, "padded", "eager")]),
    observed=st.sampled_from([None, Observed(p50_ms=3.0), Observed(4000.0, 1e8, 900.0)]),
)  # fmt: skip
@settings(max_examples=30)
def test_every_number_comes_out_the_same_twice(
    tmp_path_factory: pytest.TempPathFactory, noise: float, rounds: int, seed: int, batching: Any, held_out: int | None,
    scope: Any, attention_share: float | None, failed: Any, priced: Price | None, asked: Demand | None,
    today: RunningToday | None, observed: Observed | None,
) -> None:  # fmt: skip
    """Whatever was measured and stated, with and without money, padding, commitments, failures: both implementations
    agree on all of it.
    """
    speeds = {"sdpa": 1.0, "naive": 1.03, "cast-32": 0.7, "ceiling:mixing": 0.5}
    record = run_of(
        lambda label, batch, tokens, _: 1e-6 * speeds[label] * batch * tokens**1.1, arms=(SDPA, NAIVE, CAST, MIXING),
        batch_sizes=(1, 4), batching=batching, held_out=held_out, rounds=rounds, noise=noise, seed=seed, scope=scope,
        failed=failed,
    )  # fmt: skip
    economics = Economics(attention_share=attention_share, today=today, observed=observed)
    record = replace(record, header=replace(record.header, economics=economics))
    record = written(record, tmp_path_factory.mktemp("any") / "run.jsonl")
    terms = {"price": priced, "demand": asked, "today": today, "observed": observed}
    assert number_problems(record, attention_share=attention_share, **terms) == []


def faulty(module: Any, name: str, change: Callable[..., Any]) -> Any:
    """A fault: `module.name` answers what `change` makes of its answer."""
    right = getattr(module, name)
    return pytest.param(module, name, lambda *a, **k: change(right(*a, **k)), id=f"{module.__name__}.{name}")


@pytest.mark.parametrize(
    ("module", "name", "wrong"),
    [
        faulty(stats, "hodges_lehmann", lambda value: value * (1 + 1e-6)),
        faulty(stats, "_critical_rank", lambda rank: rank + 1),
        faulty(stats, "student_t_975", lambda t: t * 1.00001),
        faulty(stats, "percentile", lambda value: value and value * 1.001),
        faulty(stats, "holm", lambda adjusted: [1.0 for _ in adjusted]),
        faulty(stats, "claim_p_value", lambda p: p / 2),
        faulty(findings, "fmean", lambda mean: mean * (1 + 1e-7)),
        faulty(findings, "median", lambda value: value * (1 + 1e-7)),
        faulty(findings, "log_ratios", lambda logs: logs[1:]),
        faulty(surface, "drawn_means", lambda drawn: {label: d * 1.0001 for label, d in drawn.items()}),
        faulty(request_times, "shifted", lambda drawn: drawn * 1.0001),
        faulty(savings, "estimate", lambda e: replace(e, low=e.low and e.low * 0.999)),
        faulty(bills, "share", lambda share: share + 1e-6),
        faulty(bills, "estimate", lambda e: replace(e, high=e.high and e.high * 1.001)),
        faulty(bills, "cash_usd_per_hour", lambda cash: cash * 1.001),
        faulty(waterfall, "_differs_in", lambda names: names[:1]),
        faulty(uncertainty, "_width", lambda width: width and width * 1.001),
        faulty(headroom, "_needed", lambda needed: needed and needed + 1),
        faulty(savings, "median_seconds", lambda drawn: drawn * 1.0001),
        faulty(savings, "reconciled", lambda found: replace(found, units_paid=found.units_paid * 1.001)),
        faulty(savings, "usd_per_million_tokens", lambda e: replace(e, value=e.value * 2)),
        faulty(savings, "crossover", lambda bracket: (bracket[1], bracket[0])),
        faulty(headline, "rounds_per_shape", lambda said: replace(said, value=said.value + 1)),
        faulty(savings, "recommend", lambda _: verdicts.Recommendation.ROLL_OUT),
        faulty(demand, "paid_lengths", lambda mix: replace(mix, shares=tuple(reversed(mix.shares)))),
        faulty(verdicts, "holm", lambda adjusted: [1.0 for _ in adjusted]),
        faulty(capacity, "estimate", lambda e: replace(e, value=e.value + 1)),
        faulty(rows, "ms", lambda value: value * 1.001),
        faulty(rows, "expected_tokens", lambda tokens: tokens + 1),
        faulty(rows, "mib", lambda value: value * 1.048576),
        faulty(csv_table, "replicas_estimate", lambda e: e and replace(e, low=0.5)),
    ],
)  # fmt: skip
def test_a_mistake_in_the_first_implementation_is_found(
    run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, wrong: Any
) -> None:
    """A fault in any part of the ordinary path, however small, makes numbers differ: nothing of it is shared."""
    speeds = {"sdpa": 1.0, "naive": 1.03, "cast-32": 0.7}
    record = run_of(
        lambda label, batch, tokens, _: 1e-6 * speeds[label] * batch * tokens**1.1, arms=(SDPA, NAIVE, CAST),
        batch_sizes=(1, 4), batching=("padded",), lengths=(512, 2048), held_out=1024, rounds=12, noise=0.03,
        regimes=("eager", "compiled"), speedup_in=lambda _, regime: 1.2 if regime == "compiled" else 1.0,
    )  # fmt: skip
    terms = {"today": RunningToday(1, "bucketed", "eager"), "observed": Observed(9e3, 2e8, 40.0)}
    machine = replace(record.header.environment, device="cpu", memory_bytes=1 << 34)
    header = replace(record.header, economics=Economics(**terms), environment=machine)
    record = written(replace(record, header=header), tmp_path / "run.jsonl")
    assert number_problems(record, **terms) == []
    stats._critical_rank.cache_clear()
    monkeypatch.setattr(module, name, wrong)
    other = {name: check for name, check in checks_of(run_file).items() if check.differences}
    assert number_problems(record, **terms) or other


def test_ceilings_are_worked_out_anew(run_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ceiling that is off differs by name, whether or not a sentence speaks of it."""
    right = savings._ceiling
    monkeypatch.setattr(savings, "_ceiling", lambda *a: (e := right(*a)) and replace(e, value=e.value * 1.001))
    named = {d.name for check in checks_of(run_file).values() for d in check.differences}
    assert {"ceiling.value", "module_ceiling.value"} <= named


def test_energy_is_worked_out_anew(tmp_path: Path) -> None:
    """Gross, net, idle, drift and disagreement agree, and a changed formula is found."""
    made = run_of(lambda label, batch, tokens, how: 1e-3, arms=(SDPA, CAST))
    idle = (EnergyBlock(0, 2.0, 100.0, 101.0), EnergyBlock(0, 2.0, 104.0, 103.0))
    blocks = tuple(EnergyBlock(1000, 1.0 + i / 50, 300.0 + 7 * i, None if i == 2 else 310.0 + i) for i in range(5))
    for source in ("nvml-counter", "nvml-power"):
        found = EnergyRecord(source, "gpu", 0.1, idle, blocks)
        groups = tuple(replace(g, outcomes=tuple(replace(o, energy=found) for o in g.outcomes)) for g in made.groups)
        record = written(replace(made, groups=groups), tmp_path / f"{source}.jsonl")
        assert number_problems(record) == []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(energy, "t_half_width", lambda values: 2.0 * stats.t_half_width(values))
            # A record of its own, since what was found of this one is kept with it.
            assert any("energy.gross_j_per_step.low" in problem for problem in number_problems(replace(record)))


@given(st.lists(st.floats(-0.2, 0.2), min_size=8, max_size=20), st.sampled_from([0.01, 0.0125, 0.05]))
def test_the_interval_inverted_by_ranks_is_the_interval_by_averages(values: list[float], error: float) -> None:
    """Two ways to one interval: ranks counted at every candidate, and order statistics of the averages."""
    there = stats.signed_rank_estimate(values, error)
    assert signed_rank_interval(values, error) == pytest.approx((there.low, there.high), abs=1e-12)


@given(
    st.lists(st.floats(-0.2, 0.2).filter(lambda v: abs(v) > 1e-3), min_size=4, max_size=12, unique_by=abs),
    st.sampled_from([Verdict.FASTER, Verdict.SLOWER, Verdict.SAME, Verdict.UNCLEAR]),
)
def test_exact_p_values_agree(values: list[float], claim: Verdict) -> None:
    """A claim's p-value by sums of ranks is the one by averages of pairs."""
    margin = 0.01 + 1e-7 * 3.14159
    expected = stats.claim_p_value(values, margin, claim)
    assert signed_rank_p(values, claim.value, margin) == pytest.approx(expected, rel=1e-12)


@given(st.lists(st.sampled_from([0.001, 0.01, 0.02, 0.04, 0.5]), max_size=6))
def test_holm_agrees(p_values: list[float]) -> None:
    """Adjusted p-values by the definition are those of the running maximum, ties included."""
    assert step_down(p_values) == pytest.approx(stats.holm(p_values))


@pytest.mark.parametrize("degrees", [1, 2, 3, 5, 8, 30, 100])
def test_students_quantile_agrees(degrees: int) -> None:
    """The integrated density gives the quantile of the finite sums."""
    assert t_quantile(degrees) == pytest.approx(stats.student_t_975(degrees), rel=1e-11)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=400), st.sampled_from([95, 99]))
def test_percentiles_agree(values: list[float], percent: int) -> None:
    """Whole-number arithmetic finds the same order statistic."""
    assert order_statistic(values, percent, 72) == stats.percentile(values, percent / 100, 72)


@given(st.integers(2, 12), st.integers(0, 9))
@settings(max_examples=15)
def test_draws_agree_digit_for_digit(rounds: int, seed: int) -> None:
    """The documented formula, written twice, gives the same 4000 draws."""
    windows = {
        "a": [1.0 + 0.01 * i * i for i in range(rounds)],
        "b": [None, *(2.0 - 0.1 * i for i in range(1, rounds))],
    }
    mine = group_draws(windows, seed, "key")
    for label, theirs in draws.drawn_means(windows, seed, "key").items():
        held = mine[label].draws
        assert mine[label].value == pytest.approx(theirs[0], rel=1e-12)
        if held is not None:
            assert held == pytest.approx(theirs[1:], rel=1e-11)


# the file


def lines_of(path: Path) -> list[Line]:
    """A run file's lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def save(lines: list[Line], path: Path, *, rehash: bool) -> Path:
    """Lines as a file; `rehash` makes the chain anew, as somebody who knows the format would."""
    before = None
    out = []
    for line in lines:
        if rehash and before is not None:
            line["prev"] = hashlib.sha256(before).hexdigest()
        before = (json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n").encode()
        out.append(before)
    path.write_bytes(b"".join(out))
    return path


def of_kind(lines: list[Line], kind: str) -> list[int]:
    """Places of the lines of a kind."""
    return [place for place, line in enumerate(lines) if line["kind"] == kind]


def edit(kind: str, nth: int, change: Callable[[Line], Any]) -> Tamper:
    """Change the n-th line of a kind."""

    def tamper(lines: list[Line]) -> list[Line]:
        change(lines[of_kind(lines, kind)[nth]])
        return lines

    return tamper


def drop(kind: str, nth: int) -> Tamper:
    """Take the n-th line of a kind out."""
    return lambda lines: [line for place, line in enumerate(lines) if place != of_kind(lines, kind)[nth]]


def double(kind: str, nth: int) -> Tamper:
    """Say the n-th line of a kind twice."""

    def tamper(lines: list[Line]) -> list[Line]:
        at = of_kind(lines, kind)[nth]
        return [*lines[: at + 1], json.loads(json.dumps(lines[at])), *lines[at + 1 :]]

    return tamper


def swap_rounds(lines: list[Line]) -> list[Line]:
    """Two rounds change places."""
    first, second = of_kind(lines, "round")[:2]
    lines[first], lines[second] = lines[second], lines[first]
    return lines


def swap_labels(line: Line) -> None:
    """Two arms of a round change names."""
    one, two = line["samples"][:2]
    one["label"], two["label"] = two["label"], one["label"]


def slower(line: Line) -> None:
    """One window takes 0.1 % longer."""
    line["samples"][0]["elapsed_s"] *= 1.001


def with_plan(change: Callable[[Line], Any]) -> Callable[[Line], None]:
    """Change the header's plan and make its hash anew."""

    def changed(header: Line) -> None:
        change(header["plan"])
        header["plan_sha256"] = sha256_of(header["plan"])

    return changed


ROUNDS, DRAWN, CLOSED = "rounds in order, none twice", "order of every round as drawn", "groups as they were closed"
STATED, END, SELECTED = "header as the profile's text states", "end of the run", "selection and fresh rounds"
TAMPERS: dict[str, tuple[Tamper, str]] = {
    "a changed time": (edit("round", 1, slower), CLOSED),
    "labels swapped": (edit("round", 2, swap_labels), DRAWN),
    "a window left out": (edit("round", 2, lambda r: r["samples"].pop(1)), DRAWN),
    "a window doubled": (edit("round", 2, lambda r: r["samples"].append(r["samples"][0])), DRAWN),
    "a round dropped": (drop("round", 3), ROUNDS),
    "a group's last round dropped": (drop("round", 7), CLOSED),
    "the last fresh round dropped": (drop("round", -1), END),
    "a round doubled": (double("round", 3), ROUNDS),
    "rounds reordered": (swap_rounds, ROUNDS),
    "a round discarded afterwards": (edit("round", 3, lambda r: r.update(invalid_reason="noisy")), CLOSED),
    "a round moved to another process": (edit("round", 3, lambda r: r.update(epoch=7)), CLOSED),
    "a round given another purpose": (edit("round", 0, lambda r: r.update(purpose="confirm")), ROUNDS),
    "a round of another group": (edit("round", 0, lambda r: r.update(group="b9-n9-bucketed")), ROUNDS),
    "a group dropped": (drop("group", 0), END),
    "a group closed twice": (double("group", 0), CLOSED),
    "what stopped a group": (edit("group", 0, lambda g: g.update(stopped_by="rounds")), CLOSED),
    "the number of rounds": (edit("group", 0, lambda g: g.update(rounds=16)), CLOSED),
    "the selection dropped": (drop("selection", 0), SELECTED),
    "another selection": (edit("selection", 0, lambda s: s["selected"][0].update(label="ceiling:module")), SELECTED),
    "completeness claimed": (
        lambda lines: edit("end", 0, lambda end: end.update(groups=1))(drop("group", -1)(lines)), END,
    ),
    "the margin": (edit("header", 0, lambda h: h["plan"]["sampling"].update(same_within=0.2)), "analysis plan hash"),
    "the margin, rehashed": (edit("header", 0, with_plan(lambda p: p["sampling"].update(same_within=0.2))), STATED),
    "looks that spend more, rehashed": (
        edit("header", 0, with_plan(lambda p: p["analysis"].update(look_errors=[0.1, 0.1, 0.1, 0.1]))), CLOSED,
    ),
    "the seed, rehashed": (edit("header", 0, with_plan(lambda p: p["served"].update(seed=99))), DRAWN),
    "a length's share, rehashed": (edit("header", 0, with_plan(lambda p: p["mix"].update(shares=[0.9, 0.1]))), STATED),
    "the price": (edit("header", 0, lambda h: h["economics"]["price"].update(usd_per_hour=1.0)), STATED),
    "the demand": (edit("header", 0, lambda h: h["economics"]["demand"].update(requests_per_second=9.0)), STATED),
    "the profile's text": (edit("header", 0, lambda h: h.update(profile_text="name: other\n")), "profile hash"),
    "another model": (edit("header", 0, lambda h: h["plan"]["served"]["model"].update(layers=9)), "comparability hash"),
}  # fmt: skip
"""What is done to a file, and the check that fails even when its author makes the chain of hashes anew."""


@pytest.mark.parametrize("name", TAMPERS)
def test_a_tampered_file_fails(run_file: Path, tmp_path: Path, name: str) -> None:
    """Each change breaks the chain, and where the chain was made anew a check of its own fails."""
    tamper, caught_by = TAMPERS[name]
    plainly = save(tamper(lines_of(run_file)), tmp_path / "plain.jsonl", rehash=False)
    assert read_run(plainly).unchained
    rehashed = save(tamper(lines_of(run_file)), tmp_path / "rehashed.jsonl", rehash=True)
    assert read_run(rehashed).unchained == ()
    assert caught_by in failed(rehashed)


def test_an_untouched_copy_passes(run_file: Path, tmp_path: Path) -> None:
    """Reading and writing the lines, chain made anew, changes nothing: the tampering above is what fails."""
    assert failed(save(lines_of(run_file), tmp_path / "copy.jsonl", rehash=True)) == []


def test_discarded_rounds_are_kept_and_counted_apart(tmp_path: Path) -> None:
    """A run in which windows were disturbed passes, says how many rounds do not count, and uses none of them."""

    class Disturbed(FakeEpoch):
        def window(self, arm: Arm, round_index: int, order: int, steps: int) -> Sample:
            made = super().window(arm, round_index, order, steps)
            return replace(made, invalid_reason="another process") if round_index in (2, 5) and not order else made

    class Rig(FakeRig):
        def open_epoch(self, plan: Plan, group: Group, *, one_at_a_time: bool = False) -> FakeEpoch:
            return Disturbed(self, plan, group)

    profile = example_profile()
    pipeline.measure(profile, make_plan(profile), Rig(3), Silent(), out=tmp_path / "run.jsonl")
    assert failed(tmp_path / "run.jsonl") == []
    discarded = sum(not r.valid for r in read_run(tmp_path / "run.jsonl").rounds)
    assert discarded >= 4
    assert f"{discarded} of them discarded" in checks_of(tmp_path / "run.jsonl")[ROUNDS].detail


def test_every_column_is_worked_out_anew_or_stated(run_file: Path) -> None:
    """A new column of numbers in a CSV table is either recomputed here or named as no result."""
    record = read_run(run_file)
    report = view.build(record, pipeline.project(record))
    cells = {pair.name.removeprefix("cell.") for pair in cell_pairs(report, Recount(read_raw(run_file), TERMS))}
    words = {
        "label", "mechanism", "parameters", "recommendation", "quality_status", "baseline_config", "regime", "verdict",
        "caveats", "batching_used", "price_source", "price_as_of", "reason", "device_name", "run_id", "phase", "dtype",
        "status", "stopped_by", "batching", "held_out", "ran_as", "confirmation", "confirmed_against", "confirmed_at",
        "crossover_regime", "today_config", "energy_source", "energy_scope", "energy_reason",
    }  # fmt: skip
    stated = {"price_usd_per_hour", "requests_per_second", "batch_size", "seq_len"}
    assert {*csv_table.SUMMARY, *csv_table.CASES} - cells - words - stated == set()


@pytest.mark.parametrize("cut", [1, 2, 9])
def test_a_run_without_its_end_says_that_lines_may_be_missing(run_file: Path, tmp_path: Path, cut: int) -> None:
    """With the tail cut off nothing is wrong inside, so verify says what it cannot tell."""
    cut_off = save(lines_of(run_file)[:-cut], tmp_path / "cut.jsonl", rehash=False)
    check = checks_of(cut_off)[END]
    assert check.ok
    assert "lines were cut off" in check.detail


# exported reports


def forged(path: Path, out: Path) -> Path:
    """A run rewritten as a whole, every hash made anew: one arm a tenth faster throughout."""
    lines = lines_of(path)
    for line in lines:
        for sample in line.get("samples", ()):
            if sample["label"] == "naive":
                sample["elapsed_s"] *= 0.9
                sample["step_times_s"] = [t * 0.9 for t in sample["step_times_s"]]
    for group in (line for line in lines if line["kind"] == "group"):
        rounds = [
            {k: v for k, v in line.items() if k not in ("kind", "prev")}
            for line in lines
            if line["kind"] == "round" and (line["group"], line["purpose"]) == (group["group"], "compare")
        ]
        group["rounds_sha256"] = sha256_of(rounds)
    return save(lines, out, rehash=True)


def export_of(path: Path, fmt: str, table: str | None = None, **terms: Any) -> bytes:
    """A run's report in a format."""
    return pipeline.report_bytes(read_run(path), fmt, table=table, **terms)


EXPORTS = [("csv", "summary"), ("csv", "cases"), ("json", None)]


@pytest.mark.parametrize(("fmt", "table"), EXPORTS)
def test_an_export_is_held_against_its_run(run_file: Path, tmp_path: Path, fmt: str, table: str | None) -> None:
    """The report of a run agrees with it; with one written after the run was forged as a whole, it does not."""
    kept = tmp_path / f"report.{fmt}"
    kept.write_bytes(export_of(run_file, fmt, table))
    arguments = ["verify", str(run_file), "--report", str(kept)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    other = forged(run_file, tmp_path / "forged.jsonl")
    assert failed(other) == []
    done = CliRunner().invoke(app, ["verify", str(other), "--report", str(kept), "--json"])
    assert done.exit_code == 4
    last = json.loads(done.stdout)[-1]
    assert not last["ok"]
    assert len(last["differences"]) > 3


@pytest.mark.parametrize(("fmt", "table"), EXPORTS)
def test_every_single_number_of_an_export_is_compared(
    run_file: Path, tmp_path: Path, fmt: str, table: str | None
) -> None:
    """Whichever number or word of an exported report is changed, the comparison finds it."""
    content = export_of(run_file, fmt, table)
    path = tmp_path / f"report.{fmt}"
    if fmt == "json":
        pieces = [p for p in range(len(content)) if content[p : p + 2] == b": " and content[p + 2 : p + 3].isdigit()]
        changed = [content[: p + 2] + b"7" + content[p + 2 :] for p in pieces[::3]]
    else:
        rows = content.decode().splitlines()
        width = len(csv_table.SUMMARY if table == "summary" else csv_table.CASES)
        changed = [f"{content.decode()}{'1,' * (width - 1)}1\n".encode(), "\n".join(rows[:-1]).encode() + b"\n"]
        first = rows[2].split(",")
        changed += [
            "\n".join([*rows[:2], ",".join([*first[:i], f"7{first[i]}", *first[i + 1 :]]), *rows[3:]]).encode()
            for i in range(len(first))
            if '"' not in first[i]
        ]
    assert len(changed) > 20
    for tampered in changed:
        path.write_bytes(tampered)
        assert not export_check(path, lambda f, t: content).ok


def test_an_export_at_another_price_needs_that_price(run_file: Path, tmp_path: Path) -> None:
    """A report made with --price and --rate agrees only where both are given again; redacted ones with --redact."""
    (tmp_path / "r.csv").write_bytes(export_of(run_file, "csv", price_usd_per_hour=3.5, rate=777777.0, redact=True))
    asked = ["verify", str(run_file), "--report", str(tmp_path / "r.csv")]
    assert CliRunner().invoke(app, asked).exit_code == 4
    assert CliRunner().invoke(app, [*asked, "--price", "3.5", "--rate", "777777"]).exit_code == 4
    assert CliRunner().invoke(app, [*asked, "--price", "3.5", "--rate", "777777", "--redact"]).exit_code == 0


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"{not json", b"\xff\xfe", b"# A report\n"])
def test_what_is_no_export_is_refused_in_a_sentence(run_file: Path, tmp_path: Path, content: bytes) -> None:
    """Anything but a CSV table or a JSON of `castbench report` is an InputError that names --report."""
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(InputError, match="--report"):
        export_check(tmp_path / "x", lambda f, t: export_of(run_file, f, t))
    with pytest.raises(InputError, match="cannot read"):
        export_check(tmp_path / "missing", lambda f, t: export_of(run_file, f, t))


def test_the_second_implementation_imports_nothing_of_the_first() -> None:
    """The files that work numbers out anew import no code of stats, findings, energy, carry-over and cost."""
    room = Path(pipeline.__file__).parent / "report" / "verify"
    for name in ("raw", "intervals", "cases", "draws", "money", "confirmed", "joules"):
        text = (room / f"{name}.py").read_text()
        imported = {
            line.split()[1] for line in text.splitlines() if line.startswith(("from castbench", "import castb"))
        }
        assert {i for i in imported if not i.startswith("castbench.report.verify.")} == set()
