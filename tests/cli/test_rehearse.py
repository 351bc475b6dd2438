from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from castbench.cli.app import app
from castbench.errors import InputError

PROFILE = """
name: small
model: {layers: 1, embed_dim: 32, num_heads: 2, vocab_size: 100}
lengths: [{tokens: 32, share: 0.5}, {tokens: 64, share: 0.5}]
batch_sizes: [1, 4]
batching: [padded]
mechanisms: [sdpa, {cast: {num_clusters: 4}, label: cast}]
demand: {requests_per_second: 100, objective: {p99_ms: 50}}
sampling: {energy: false, confirm: false, min_window_ms: 5, max_seconds_per_case: 2, target_ci: 0.5}
"""

FEW = ("rehearse", "run.jsonl", "--rate", "300", "--seconds", "2")


def run(*words: str) -> Result:
    """The program in this process."""
    return CliRunner().invoke(app, list(words), env={"COLUMNS": "80", "CASTBENCH_PRICES": ""})


def told(*words: str) -> dict[str, Any]:
    """What a command says to machines."""
    done = run(*words, "--json")
    assert done.exit_code == 0, (done.output, done.exception)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of the fake device and its profile."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "small.yaml").write_text(PROFILE)
    done = run(
        "-q", "profile", str(folder / "small.yaml"), "--device", "fake", "--out", str(folder / "run.jsonl")
    )  # fmt: skip
    assert done.exit_code == 0, (done.output, done.exception)
    return folder


@pytest.fixture
def fake(runs: Path, in_tmp: Path) -> Path:
    """A working directory with them."""
    shutil.copytree(runs, in_tmp, dirs_exist_ok=True)
    return in_tmp


def test_a_fake_run_is_rehearsed_on_the_fake_device_and_repeats(fake: Path) -> None:
    """The whole command on a virtual clock: the same bytes twice, kept beside the run, said by capacity."""
    done = run(*FEW)
    assert done.exit_code == 0, (done.output, done.exception)
    assert "FAKE DEVICE" in done.stdout
    assert "BORNE OUT" in done.stdout
    assert done.stdout == run(*FEW).stdout
    held = json.loads((fake / "run.rehearsal.json").read_text())
    assert len(held["rehearsals"]) == 2
    assert held["rehearsals"][0] == held["rehearsals"][1]
    said = run("capacity", "run.jsonl", "--hours", "0.005", "--resamples", "0").stdout
    assert "Rehearsed on" in said
    assert "castbench rehearse" not in said


def test_every_option_reaches_the_rehearsal(fake: Path) -> None:
    """Label, rate, batch limit, window, overhead and seed."""
    words = ("rehearse", "run.jsonl", "--label", "cast", "--rate", "500", "--seconds", "1", "--max-batch", "2")
    found = told(*words, "--window-ms", "3", "--overhead-ms", "0.5", "--seed", "4")
    assert (found["label"], found["policy"]["max_batch"], found["policy"]["batch_window_s"]) == ("cast", 2, 0.003)
    assert found["rate_per_s"] == pytest.approx(500, rel=0.1)
    assert (found["overhead_s"], found["is_overhead_measured"], found["seed"]) == (0.0005, False, 4)
    assert told("rehearse", "run.jsonl", "--load", "0.3", "--seconds", "0.05")["load"] == pytest.approx(0.3, rel=0.25)


def test_a_trace_is_served_in_a_stretch(fake: Path) -> None:
    """Or not, where independent arrivals are asked for."""
    rows = "\n".join(f"{i // 3},{30 + i % 30},1" for i in range(3000))
    (fake / "t.csv").write_text(f"arrived_at,num_prefill_tokens,num_decode_tokens\n{rows}\n")
    found = told("rehearse", "run.jsonl", "--trace", "t.csv", "--rate", "300", "--seconds", "2")
    assert (found["source"], found["requests"]) == ("trace t.csv", 600)
    assert told("rehearse", "run.jsonl", "--smooth", "--rate", "300", "--seconds", "2")["source"] is None
    done = run("rehearse", "run.jsonl", "--smooth", "--trace", "t.csv")
    assert isinstance(done.exception, InputError)
    assert "--smooth and --trace exclude each other" in str(done.exception)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--label", "lstm"), "--label: no mechanism is labelled lstm"),
        (("--load", "0"), "--load: expected a number above zero"),
        (("--seconds", "nan"), "--seconds: expected a number above zero"),
        (("--window-ms", "-1"), "--window-ms: expected 0 or more, got -1"),
        (("--overhead-ms", "inf"), "--overhead-ms: expected 0 or more, got inf"),
        (("--max-batch", "64"), "--max-batch: a batch of 64 was not measured"),
        (("--out", "small.yaml"), "small.yaml exists already"),
    ],
)
def test_what_cannot_be_rehearsed_is_refused_in_a_sentence(fake: Path, words: tuple[str, ...], expected: str) -> None:
    """Nothing is printed, and nothing kept."""
    done = run("rehearse", "run.jsonl", *words)
    assert isinstance(done.exception, InputError), (done.output, done.exception)
    assert expected in str(done.exception)
    assert done.stdout == ""
    assert not (fake / "run.rehearsal.json").exists()


def test_ctrl_c_keeps_nothing_and_says_so(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a rehearsal is none."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("castbench.rehearsal.stage.play", interrupt)
    done = run(*FEW)
    assert "nothing of this rehearsal is kept" in str(done.exception)
    assert done.exception is not None
    assert getattr(done.exception, "exit_code", None) == 130
    assert not (fake / "run.rehearsal.json").exists()
