from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from castbench.cli.app import app
from castbench.errors import CastbenchError, GateMissed, InputError
from castbench.store import SCHEMA, RunWriter
from castbench.workload.spec import Demand, Economics, PriceChoice
from tests.cost.builder import CAST, NAIVE, SDPA, run_of

TIMES = {"sdpa": 1.0, "naive": 1.8, "cast-32": 0.55}


def write(path: Path, *, seed: int, cast: float = 1.0, everything: float = 1.0, rate: float = 100.0) -> str:
    """A run file in which CAST takes so many times as long as TIMES says, and everything so many times."""
    record = run_of(
        lambda label, batch, length, how: 1e-4 * length * TIMES[label] * everything * (cast if "cast" in label else 1),
        arms=(SDPA, NAIVE, CAST), rounds=16, noise=0.01, seed=seed,
    )  # fmt: skip
    money = Economics(demand=Demand(rate), price_cpu=PriceChoice(2.0))
    header = replace(record.header, run_id=f"run-{seed}", schema=SCHEMA, economics=money)
    with RunWriter.create(path, header) as writer:
        for r in record.rounds:
            writer.append_round(r)
        for g in record.groups:
            writer.append_group(g)
    return str(path)


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, str]:
    """The run before, a repeat of it, and one after CAST got 10 % slower on a machine of half the speed."""
    return {
        "before": write(tmp_path / "before.jsonl", seed=1),
        "again": write(tmp_path / "again.jsonl", seed=2, everything=1.02),
        "after": write(tmp_path / "after.jsonl", seed=3, cast=1.1, everything=2.0),
    }


def run(*words: str) -> Result:
    """The command in this process."""
    return CliRunner().invoke(app, ["diff", *words], env={"COLUMNS": "80", "CASTBENCH_PRICES": ""})


def refused(*words: str) -> str:
    """The one sentence of an error that is the user's."""
    done = run(*words)
    assert isinstance(done.exception, InputError), (done.output, done.exception)
    assert done.exception.exit_code == 2
    assert "\n" not in str(done.exception)
    return str(done.exception)


def code(done: Result) -> int:
    """What the program would end with; main() turns these errors into their codes."""
    return done.exception.exit_code if isinstance(done.exception, CastbenchError) else done.exit_code


@pytest.mark.parametrize(
    ("gates", "ends"),
    [
        ((), 0),
        (("cast-32: speedup_vs_baseline >= 1.5", "naive: slowdown_percent <= 5"), 0),
        (("cast-32: slowdown_percent <= 3",), 5),
        (("cast-32: slowdown_percent <= 10",), 5),
        (("cast-32: slowdown_percent <= 10", "--allow-undecided"), 0),
        (("cast-32: slowdown_percent <= 10", "cast-32: slowdown_percent <= 3", "--allow-undecided"), 5),
        (("*: cost_usd_per_hour <= 1e9", "cast-32: saving_usd_per_hour >= 1"), 0),
    ],
)
def test_gates_that_hold_end_with_0_and_others_with_5(runs: dict[str, str], gates: tuple[str, ...], ends: int) -> None:
    """Missed and undecided both end with 5; --allow-undecided lets only the latter pass; the page is shown all the
    same.
    """
    words = [word for gate in gates for word in ((gate,) if gate.startswith("--") else ("--gate", gate))]
    done = run(runs["before"], runs["after"], *words)
    assert code(done) == ends, (done.output, done.exception)
    assert "castbench diff" in done.stdout
    assert "SLOWER" in done.stdout
    assert isinstance(done.exception, GateMissed) is (ends == 5)


def test_what_is_missed_is_counted_and_the_way_out_named(runs: dict[str, str]) -> None:
    """A sentence on stderr: how many missed, how many are undecided, and what lets those pass."""
    done = run(runs["before"], runs["after"], "--gate", "cast-32: slowdown_percent <= 10")
    assert str(done.exception) == (
        "gates: 0 missed, 1 undecided, of 1; --allow-undecided lets pass what is only not shown"
    )
    assert "UNDECIDED cast-32: slowdown_percent <= 10: " in " ".join(done.stdout.split())


def test_gates_come_from_a_file_too(runs: dict[str, str], tmp_path: Path) -> None:
    """Both kinds count together; an error names the file and the place."""
    path = tmp_path / "gates.yaml"
    path.write_text("gates:\n  - 'cast-32: slowdown_percent <= 50'\n  - naive: slowdown_percent <= 50\n")
    done = run(
        runs["before"], runs["after"], "--gates", str(path), "--gate", "cast-32: slowdown_percent <= 40", "--json"
    )
    assert code(done) == 0
    assert [gate["outcome"] for gate in json.loads(done.stdout)["gates"]] == ["passed"] * 3
    path.write_text("gates:\n  - 'cats-32: slowdown_percent <= 50'\n")
    assert refused(runs["before"], runs["after"], "--gates", str(path)) == (
        f"{path}: gates[0]: no mechanism is labelled 'cats-32'. Did you mean 'cast-32'?"
    )


def test_gates_written_from_a_run_pass_on_that_run_and_on_a_repeat(runs: dict[str, str], tmp_path: Path) -> None:
    """`report --format gates` makes a file that `diff --gates` reads; CAST 30 % slower misses it."""
    path = tmp_path / "gates.yaml"
    made = CliRunner().invoke(app, ["report", runs["before"], "--format", "gates", "--out", str(path)])
    assert made.exit_code == 0, (made.output, made.exception)
    assert "cast-32: speedup_vs_baseline >= 1." in path.read_text()
    for new in ("before", "again"):
        assert code(run(runs["before"], runs[new], "--gates", str(path))) == 0
    worse = write(tmp_path / "worse.jsonl", seed=9, cast=1.3)
    assert code(run(runs["before"], worse, "--gates", str(path))) == 5


def test_absolute_times_need_a_noise_floor(runs: dict[str, str]) -> None:
    """Without one they are refused in a sentence; with a repeat or a stated percentage they are judged."""
    before, after = runs["before"], runs["after"]
    assert "give a repeat of BASE with --noise, or state by how much" in refused(before, after, "--absolute")
    assert "add --absolute" in refused(before, after, "--noise-percent", "3")
    assert "expected 0 or more, got -1" in refused(before, after, "--absolute", "--noise-percent=-1")
    gate = ("--gate", "sdpa: time_change_percent <= 20")
    for floor in (("--noise", runs["again"]), ("--noise-percent", "3")):
        done = run(before, after, "--absolute", *floor, *gate)
        assert code(done) == 5
        assert "Absolute times by case (measured)" in done.stdout
    assert "this is BASE itself" in refused(before, after, "--absolute", "--noise", before)
    assert "give --absolute" in refused(before, after, *gate)


def test_a_stated_percentage_is_the_floor_where_it_is_the_larger(runs: dict[str, str]) -> None:
    """The repeat differs by some 2 %: with 30 % stated, that counts."""
    words = (runs["before"], runs["after"], "--absolute", "--noise", runs["again"], "--json")
    measured, stated = (json.loads(run(*words, *more).stdout) for more in ((), ("--noise-percent", "30")))
    assert 1 < measured["noise_floor_percent"] < 5
    assert stated["noise_floor_percent"] == pytest.approx(30)


def test_a_file_is_written_once_and_formats_agree(runs: dict[str, str], tmp_path: Path) -> None:
    """--out is never overwritten, and found to be there before anything is read; --json is --format json."""
    out = tmp_path / "diff.md"
    assert code(run(runs["before"], runs["after"], "--format", "md", "--out", str(out))) == 0
    assert out.read_text().startswith("## castbench diff")
    assert "exists already" in refused("nowhere", "nothing", "--out", str(out))
    words = (runs["before"], runs["after"])
    assert run(*words, "--json").stdout == run(*words, "--format", "json").stdout


def test_a_price_of_the_new_server_moves_its_cost_gates(runs: dict[str, str]) -> None:
    """--price is of NEW: at a thousandth of it the same gate passes."""
    gate = ("--gate", "cast-32: cost_usd_per_hour <= 1")
    assert code(run(runs["before"], runs["after"], *gate)) == 5
    assert code(run(runs["before"], runs["after"], *gate, "--price", "0.0001")) == 0


def test_costs_are_those_of_the_traffic_of_the_run_before(runs: dict[str, str], tmp_path: Path) -> None:
    """NEW's profile states a hundredth of the requests: its cost under BASE's demand is still that of the same run."""
    quiet = write(tmp_path / "quiet.jsonl", seed=2, rate=1.0)
    gate = ("--gate", "sdpa: cost_usd_per_hour <= 10")
    assert code(run(quiet, quiet, *gate)) == 0
    assert code(run(runs["before"], quiet, *gate)) == 5
