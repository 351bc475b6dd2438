from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from castbench import pipeline
from castbench.cli.app import app
from castbench.cli.settings import Settings
from castbench.cli.work_bar import work_bar
from castbench.cost import capacity_stage
from castbench.errors import InputError
from castbench.workload.spec import Demand

PROFILE = """
name: small
model: {{layers: 1, embed_dim: 32, num_heads: 2, vocab_size: 100}}
lengths: [{{tokens: 64, share: 0.5}}, {{tokens: 128, share: 0.5}}]
batch_sizes: [1, 4]
mechanisms: [sdpa, {{cast: {{num_clusters: 4}}, label: cast}}]
sampling: {{energy: false, confirm: false}}
{rest}
"""
DEMAND = """
demand: {requests_per_second: 5, objective: {p99_ms: 5}, max_utilization: 0.9}
price_cpu: {usd_per_hour: 0.1}
"""


def run(*words: str) -> Result:
    """The program in this process."""
    return CliRunner().invoke(app, list(words), env={"COLUMNS": "80", "CASTBENCH_PRICES": ""})


def shown(*words: str) -> str:
    """What a command prints, which must succeed; on one line."""
    done = run(*words)
    assert done.exit_code == 0, (done.output, done.exception)
    return " ".join(done.stdout.split())


def told(*words: str) -> dict[str, Any]:
    """What a command says to machines."""
    done = run(*words, "--json")
    assert done.exit_code == 0, (done.output, done.exception)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def refused(*words: str) -> str:
    """The sentence a command is refused with, as bad input."""
    done = run(*words)
    assert isinstance(done.exception, InputError), (done.output, done.exception)
    assert done.stdout == ""
    return str(done.exception)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs of the fake device, one that states demand and price and one that states neither."""
    folder = tmp_path_factory.mktemp("runs")
    for name, rest in (("run", DEMAND), ("bare", "")):
        (folder / f"{name}.yaml").write_text(PROFILE.format(rest=rest))
        out = str(folder / f"{name}.jsonl")
        done = run("-q", "profile", str(folder / f"{name}.yaml"), "--device", "fake", "--out", out)
        assert done.exit_code == 0, (done.output, done.exception)
    return folder


@pytest.fixture
def measured(runs: Path, in_tmp: Path) -> Path:
    """A working directory with those runs, their profiles, and a trace."""
    shutil.copytree(runs, in_tmp, dirs_exist_ok=True)
    (in_tmp / "trace.csv").write_bytes(trace())
    return in_tmp


def trace(longest: int = 128) -> bytes:
    """600 requests in the layout of vidur's traces, in bursts of 20."""
    rng = np.random.default_rng(0)
    at_s = np.repeat(np.cumsum(rng.exponential(0.05, 30)), 20) + rng.uniform(0, 0.002, 600)
    text = io.StringIO()
    arrivals = np.sort(at_s - at_s.min()).round(6).tolist()
    rows = [(at, int(rng.integers(30, longest + 1)), 7) for at in arrivals]
    csv.writer(text, lineterminator="\n").writerows([("arrived_at", "num_prefill_tokens", "num_decode_tokens"), *rows])
    return text.getvalue().encode()


def test_the_profiles_demand_is_the_question_where_nothing_else_is_asked(measured: Path) -> None:
    """Rate, objective, utilisation and price of the profile, an hour of independent arrivals, and a proof."""
    found = shown("capacity", "run.jsonl", "--resamples", "0")
    assert re.search(r"independent arrivals in (1\.0|0\.99)\d+ h, [45]\.\d\d per second", found)
    assert "Objective: p99 latency ≤ 5 ms, utilisation ≤ 90 %." in found
    assert "Price: 0.1 USD per hour" in found
    assert "sdpa (one at a time, eager): 1 replica keeps the objective" in found


def test_the_same_question_has_the_same_answer(measured: Path) -> None:
    """Byte for byte with one seed, and another one with another."""
    words = ("capacity", "run.jsonl", "--hours", "0.2", "--resamples", "5")
    assert told(*words) == told(*words)
    assert told(*words)["traffic"] != told(*words, "--seed", "1")["traffic"]


def test_a_trace_is_replayed_as_it_came_or_at_another_rate(measured: Path) -> None:
    """All of its requests, at its rate or at the one asked for; what a decoder generated is said not to be modelled."""
    words = ("capacity", "run.jsonl", "--trace", "trace.csv", "--resamples", "0")
    once, faster = told(*words), told(*words, "--rate", "5000")
    assert once["traffic"]["requests"] == faster["traffic"]["requests"] == 600
    assert faster["traffic"]["rate_per_s"] == pytest.approx(5000)
    assert faster["traffic"]["span_s"] < once["traffic"]["span_s"]
    assert "trace trace.csv; 600 requests" in shown(*words)
    assert "trace trace.csv, at another rate" in shown(*words, "--rate", "5000")
    assert "is not modelled" in shown(*words)


def test_a_profile_that_names_a_trace_stands_for_it(measured: Path) -> None:
    """Columns, units and rows to leave out are said once, in `workload from-trace`, and its profile is named here."""
    odd = (measured / "trace.csv").read_text().replace("arrived_at,num_prefill", "when,what").splitlines()
    (measured / "odd.csv").write_text("\n".join([*odd[:9], "3.5,-1,0", *odd[9:]]) + "\n")
    hint = refused("capacity", "run.jsonl", "--trace", "odd.csv")
    assert "odd.csv" in hint
    assert "name the profile that it writes with --trace" in hint
    columns = ("--time-column", "when", "--time-unit", "s", "--tokens-column", "what_tokens", "--skip-unusable")
    assert run("workload", "from-trace", "odd.csv", *columns, "-o", "odd.yaml").exit_code == 0
    found = shown("capacity", "run.jsonl", "--trace", "odd.yaml", "--resamples", "0")
    assert "600 requests" in found
    assert "rows that cannot be used left out" in found
    assert "names no trace" in refused("capacity", "run.jsonl", "--trace", "run.yaml")
    assert "bad.yaml" in refused("capacity", "run.jsonl", "--trace", _written(measured / "bad.yaml", "name: 3\n"))


def _written(path: Path, text: str) -> str:
    """A file, by its name."""
    path.write_text(text)
    return path.name


def test_a_run_whose_profile_names_a_trace_replays_that(measured: Path) -> None:
    """Measured in one folder, asked for in another: the trace lies beside the profile."""
    assert run("workload", "from-trace", "trace.csv", "-o", "t.yaml").exit_code == 0
    demand = (measured / "t.yaml").read_text().partition("\ndemand:\n")[2].partition("\n\n")[0]
    (measured / "traced.yaml").write_text(PROFILE.format(rest=f"demand:\n{demand}\n"))
    folder = measured / "elsewhere"
    folder.mkdir()
    out = str(folder / "r.jsonl")
    assert run("-q", "profile", str(measured / "traced.yaml"), "--device", "fake", "--out", out).exit_code == 0
    os.chdir(folder)
    assert told("capacity", "r.jsonl", "--p99-ms", "9", "--resamples", "0")["traffic"]["requests"] == 600
    (measured / "trace.csv").unlink()
    assert "is not there" in refused("capacity", "r.jsonl", "--p99-ms", "9")


def test_a_latency_given_here_replaces_the_profiles(measured: Path) -> None:
    """The utilisation stays unless it is given too."""
    words = ("capacity", "run.jsonl", "--hours", "0.2", "--resamples", "0", "--p95-ms", "3")
    assert "Objective: p95 latency ≤ 3 ms, utilisation ≤ 90 %." in shown(*words)
    assert "Objective: p95 latency ≤ 3 ms, utilisation ≤ 50 %." in shown(*words, "--max-utilization", "0.5")


def test_floors_and_spares_are_bought(measured: Path) -> None:
    """Two replicas in each of three zones, and one spare, cost seven servers."""
    words = ("capacity", "run.jsonl", "--hours", "0.2", "--resamples", "2", "--only", "sdpa", "--price", "2")
    found = told(*words, "--min-replicas", "2", "--zones", "3", "--spare", "1")["mechanisms"]
    assert [arm["label"] for arm in found] == ["sdpa"]
    assert (found[0]["units"]["whole"], found[0]["cost_usd_per_hour"]) == (7, 14.0)
    assert found[0]["bought_range"] == [7, 7]


def test_the_rate_of_stated_replicas_and_the_fleets_over_the_day_are_said_when_asked(measured: Path) -> None:
    """Two replicas bear about twice what one does; three fleets for every mechanism."""
    words = ("capacity", "run.jsonl", "--hours", "0.2", "--resamples", "0")
    one, two = (told(*words, "--replicas", count)["mechanisms"][0]["sustained_per_s"] for count in ("1", "2"))
    assert 1.9 < two["value"] / one["value"] < 2.1
    assert "per second of such traffic with 2 replicas." in shown(*words, "--replicas", "2")
    assert set(told(*words, "--day")["day_lines"]) == {"sdpa", "cast"}
    assert "a bound, not an offer" in shown(*words, "--day")
    assert told(*words)["day_lines"] == {}


def test_requests_longer_than_measured_are_refused_or_cut(measured: Path) -> None:
    """The option that cuts is named in the refusal."""
    (measured / "long.csv").write_bytes(trace(longest=300))
    words = ("capacity", "run.jsonl", "--trace", "long.csv", "--resamples", "0")
    assert "longer than the 128 tokens measured" in refused(*words)
    assert "Requests longer than the 128 tokens measured, cut to that" in shown(*words, "--truncate")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("bare.jsonl", "--p99-ms", "5"), "no traffic is known: give --trace FILE or --rate"),
        (("bare.jsonl", "--rate", "9"), "nothing is asked of the servers: give --p99-ms"),
        (("run.jsonl", "--only", "lstm"), "--only: no mechanism is labelled lstm; labels are sdpa, cast"),
        (("run.jsonl", "--replicas", "0"), "--replicas: expected 1 or more, got 0"),
        (("run.jsonl", "--resamples", "-1"), "--resamples: expected 0 or more, got -1"),
        (("run.jsonl", "--seed", "-1"), "--seed: expected 0 or more, got -1"),
        (("run.jsonl", "--overhead-ms", "nan"), "--overhead-ms: expected 0 or more, got nan"),
        (("run.jsonl", "--overhead-ms", "-2"), "--overhead-ms: expected 0 or more, got -2"),
        (("run.jsonl", "--rate", "nan"), "--rate: expected a number above zero"),
        (("run.jsonl", "--p99-ms", "0"), "--p99-ms: expected a number above zero"),
        (("run.jsonl", "--max-utilization", "1.5"), "max_utilization must be above 0 and at most 1"),
        (("run.jsonl", "--zones", "0"), "--zones: expected a number above zero"),
        (("run.jsonl", "--p99-ms", "9", "--spare", "-1"), "--spare: expected 0 or more"),
        (("run.jsonl", "--p99-ms", "9", "--zones", "1000000000"), "at most 100,000 replicas"),
        (("run.jsonl", "--hours", "2", "--trace", "trace.csv"), "--hours: it is for traffic made up from a rate"),
        (("run.jsonl", "--rate", "1e9"), "requests would be made up"),
        (("run.jsonl", "--rate", "0.0001"), "take more --hours"),
        (("run.jsonl", "--trace", "nowhere.csv"), "nowhere.csv"),
        (("run.jsonl", "--out", "trace.csv"), "trace.csv exists already"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_a_sentence(
    measured: Path, words: tuple[str, ...], expected: str
) -> None:
    """Each names the option and what to do, and nothing is printed or written."""
    assert expected in refused("capacity", *words)
    assert (measured / "trace.csv").read_bytes() == trace()


def test_an_objective_that_nothing_keeps_is_an_answer_and_no_error(measured: Path) -> None:
    """No number, and the reason for every mechanism."""
    found = told("capacity", "run.jsonl", "--p50-ms", "0.0001", "--hours", "0.2")["mechanisms"]
    assert [arm["units"] for arm in found] == [None, None]
    assert all("no number of replicas keeps the objective" in arm["reason"] for arm in found)


def test_the_answer_goes_to_a_file_once(measured: Path) -> None:
    """Without colour, and never over one that is there."""
    words = ("capacity", "run.jsonl", "--hours", "0.2", "--resamples", "0", "--out", "answer.txt")
    done = run(*words)
    assert (done.exit_code, done.stdout) == (0, "")
    assert (measured / "answer.txt").read_text(encoding="utf-8").startswith("castbench capacity\n")
    assert "answer.txt exists already" in refused(*words)


def test_ctrl_c_ends_it_with_130_and_leaves_nothing_behind(measured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted in the middle of the replays, no file is written."""
    before = sorted(path.name for path in measured.iterdir())

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(capacity_stage, "replica_interval", interrupt)
    done = run("capacity", "run.jsonl", "--hours", "0.2", "--resamples", "3", "--out", "answer.txt")
    assert done.exit_code == 130
    assert sorted(path.name for path in measured.iterdir()) == before


@pytest.mark.slow
def test_a_real_ctrl_c_is_told_in_a_word(measured: Path) -> None:
    """SIGINT to the process: exit 130, no traceback."""
    words = ["capacity", "run.jsonl", "--resamples", "100000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "castbench", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    # Python's own imports may still be going on at first; either way it must end like this.
    time.sleep(3.0)
    process.send_signal(signal.SIGINT)
    try:
        out, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in errors
    assert "interrupted" in errors


class _Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_that_names_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done and its share, anew for the next kind of work; under --quiet and elsewhere there is none."""
    monkeypatch.setenv("TERM", "xterm")
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    for what, shares, shown_share in (("reading the trace", (0.5, 0.75), "75%"), ("sdpa", (0.75, 0.25), "25%")):
        with work_bar(Settings()) as on_progress:
            assert on_progress is not None
            for share in shares:
                on_progress(what, share)
        assert what in terminal.getvalue()
        assert shown_share in terminal.getvalue()
    with work_bar(Settings(quiet=True)) as on_progress:
        assert on_progress is None
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with work_bar(Settings()) as on_progress:
        assert on_progress is None
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]


def test_reading_a_trace_and_every_mechanism_are_told_as_progress(
    measured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bar hears of the trace first, then of the labels."""
    from castbench.pipeline import CapacityQuestion, capacity, read_run
    from castbench.traffic_source import TrafficChoice

    seen: list[str] = []
    on_progress: Callable[[str, float], None] = lambda what, share: seen.append(what)  # noqa: E731
    question = CapacityQuestion(traffic=TrafficChoice(Path("trace.csv")), resamples=2)
    capacity(read_run("run.jsonl"), question, on_progress=on_progress)
    assert list(dict.fromkeys(seen)) == ["reading the trace", "sdpa", "cast"]


def test_the_profiles_redundancy_holds_unless_another_is_given() -> None:
    """Fewest replicas, zones and spares come from the demand, each replaced by itself by its option."""
    demand = Demand(3.0, None, 0.7, None, min_replicas=2, zones=3, spare=1)
    stated = pipeline._objective(demand, pipeline.CapacityQuestion())
    assert (stated.floor, stated.spare, stated.bought(4), stated.bought(9)) == (6, 1, 7, 10)
    given = pipeline._objective(demand, pipeline.CapacityQuestion(zones=1, spare=0))
    assert (given.floor, given.spare) == (2, 0)
    bare = pipeline._objective(None, pipeline.CapacityQuestion(max_utilization=0.5))
    assert (bare.floor, bare.spare) == (1, 0)
