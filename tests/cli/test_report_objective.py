"""Servers at the stated objective in a report."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from castbench import pipeline
from castbench.cli.app import app
from castbench.errors import InputError
from castbench.units import SECONDS_PER_HOUR

PROFILE = """
name: small
model: {{layers: 1, embed_dim: 32, num_heads: 2, vocab_size: 100}}
lengths: [{{tokens: 64, share: 0.5}}, {{tokens: 128, share: 0.5}}]
batch_sizes: [1, 4]
mechanisms: [sdpa, {{cast: {{num_clusters: 4}}, label: cast}}]
sampling: {{energy: false, confirm: false}}
price_cpu: {{usd_per_hour: 0.1}}
{demand}
"""
DEMANDS = {
    "kept": "demand: {requests_per_second: 500, objective: {p99_ms: 5}}",
    "impossible": "demand: {requests_per_second: 500, objective: {p50_ms: 0.0001}}",
    "none": "demand: {requests_per_second: 500}",
    "traced": "demand: {requests_per_second: 2, objective: {p99_ms: 5}, trace: {file: requests.csv, sha256: SHA, "
    "rows: 3, time_unit: s, tokens_column: tokens, time_column: timestamp}}",
}


def run(*words: str) -> str:
    """What a command prints, which must succeed."""
    done = CliRunner().invoke(app, list(words), env={"COLUMNS": "80", "CASTBENCH_PRICES": ""})
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of the fake device per demand."""
    folder = tmp_path_factory.mktemp("objective")
    trace = folder / "requests.csv"
    trace.write_text("timestamp,tokens\n0.0,64\n0.5,128\n1.0,64\n")
    digest = hashlib.sha256(trace.read_bytes()).hexdigest()
    for name, demand in DEMANDS.items():
        (folder / f"{name}.yaml").write_text(PROFILE.format(demand=demand.replace("SHA", digest)))
        run("-q", "profile", str(folder / f"{name}.yaml"), "--device", "fake", "--out", str(folder / f"{name}.jsonl"))
    return folder


def reported(path: Path, *words: str) -> dict[str, Any]:
    """The JSON of a report."""
    found: dict[str, Any] = json.loads(run("report", str(path), "--format", "json", *words))
    return found


def test_a_report_has_the_servers_that_capacity_finds_for_the_same_traffic(runs: Path) -> None:
    """Both replay the same made-up requests, so servers, cost and latencies are equal."""
    found = reported(runs / "kept.jsonl")["projected"]["at_objective"]
    hours = str(pipeline.MADE_UP / 500 / SECONDS_PER_HOUR)
    asked = json.loads(run("capacity", str(runs / "kept.jsonl"), "--hours", hours, "--resamples", "0", "--json"))
    by_label = {arm["label"]: arm for arm in asked["mechanisms"]}
    assert {arm["label"] for arm in found["arms"]} == {"sdpa", "cast"}
    for arm in found["arms"]:
        other = by_label[arm["label"]]
        assert arm["servers"] == other["units"]["whole"]
        assert arm["cost_usd_per_hour"] == pytest.approx(other["cost_usd_per_hour"])
        assert [seconds for _, seconds in arm["latencies_s"]] == [other["latency_s"][p] for p in ("p50", "p95", "p99")]


def test_more_traffic_given_by_hand_needs_more_servers(runs: Path) -> None:
    """--rate moves the replayed rate too, not the formula's alone."""
    few, many = (
        {arm["label"]: arm["servers"] for arm in found["projected"]["at_objective"]["arms"]}
        for found in (reported(runs / "kept.jsonl"), reported(runs / "kept.jsonl", "--rate", "200000"))
    )
    assert all(many[label] > few[label] for label in few)


def test_the_headline_names_servers_and_cost_at_the_objective(runs: Path) -> None:
    """The sentence has the numbers of the JSON, and nothing says any more that the objective was not tested."""
    said = " ".join(run("report", str(runs / "kept.jsonl")).split())
    servers = {a["label"]: a["servers"] for a in reported(runs / "kept.jsonl")["projected"]["at_objective"]["arms"]}
    noun = "server" if servers["sdpa"] == 1 else "servers"
    assert f"To keep p99 ≤ 5 ms, the replayed traffic needs {servers['sdpa']} {noun} of sdpa" in said
    assert "Not measured: whether the objective" not in said


def test_an_objective_that_nobody_keeps_is_said_of_each(runs: Path) -> None:
    """No number of servers is a result, not a blank."""
    found = reported(runs / "impossible.jsonl")
    assert [arm["servers"] for arm in found["projected"]["at_objective"]["arms"]] == [None, None]
    said = " ".join(run("report", str(runs / "impossible.jsonl")).split())
    assert "No number of servers of sdpa keeps p50 ≤ 0.0001 ms." in said


def test_without_an_objective_nothing_is_replayed(runs: Path) -> None:
    """No section and no number."""
    assert reported(runs / "none.jsonl")["projected"]["at_objective"] is None
    assert "Servers at the objective" not in run("report", str(runs / "none.jsonl"))


def test_a_trace_is_replayed_and_one_that_went_away_is_told(runs: Path) -> None:
    """A report is given all the same, with the reason why the objective was not tested."""
    found = reported(runs / "traced.jsonl")["projected"]["at_objective"]
    assert (found["requests"], found["untested"]) == (3, None)
    (runs / "requests.csv").rename(runs / "elsewhere.csv")
    lost = reported(runs / "traced.jsonl")["projected"]["at_objective"]
    assert lost["arms"] == []
    assert "requests.csv" in lost["untested"]
    assert "was not tested" in " ".join(run("report", str(runs / "traced.jsonl")).split())


def test_a_rate_beyond_reason_is_told_and_not_replayed(runs: Path) -> None:
    """Servers by the rate alone are counted; nobody waits for a replay of millions of them."""
    found = reported(runs / "kept.jsonl", "--rate", "1e12")["projected"]["at_objective"]
    assert "more than 10,000 servers" in found["untested"]


def test_a_folder_or_a_missing_one_is_said_with_what_to_do(runs: Path) -> None:
    """--out names a file in a folder that is there; --force changes nothing of it."""
    for out, words in ((runs, "is a folder"), (runs / "nowhere" / "x.md", "make it first")):
        for force in ([], ["--force"]):
            done = CliRunner().invoke(
                app, ["report", str(runs / "none.jsonl"), "--format", "md", "--out", str(out), *force]
            )
            assert isinstance(done.exception, InputError)
            assert words in str(done.exception)
