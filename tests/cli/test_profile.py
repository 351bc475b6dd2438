from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from castbench.store import read_run

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "cli"
SMALL = """
name: small
model: {layers: 1, embed_dim: 32, num_heads: 2, vocab_size: 100}
lengths: [{tokens: 64, share: 0.5}, {tokens: 128, share: 0.5}]
mechanisms: [sdpa, naive, {cast: {num_clusters: 4}, label: cast}]
demand: {requests_per_second: 1000}
price_cpu: {usd_per_hour: 0.1}
sampling: {target_ci: 1.0e-6, same_within: 1.0e-9, max_seconds_per_case: 30, min_window_ms: 20}
"""


def castbench(*args: str, cwd: Path, **options: object) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "castbench", *args], cwd=cwd, capture_output=True, text=True, check=False,
        env={**os.environ, "COLUMNS": "80"}, **options,  # type: ignore[call-overload]
    )  # fmt: skip
    assert isinstance(done, subprocess.CompletedProcess)
    return done


def told(done: subprocess.CompletedProcess[str], code: int) -> str:
    """Standard error of a refusal: the right exit code and no traceback."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_the_whole_program_on_the_fake_device_is_reproducible(tmp_path: Path) -> None:
    """From profile to report twice: the same bytes, run file included, and those kept as golden files."""
    outputs = []
    for name in ("a", "b"):
        cwd = tmp_path / name
        cwd.mkdir()
        shown = castbench("profile", "quickstart", "--device", "fake", "--out", "run.jsonl", cwd=cwd)
        assert shown.returncode == 0, shown.stderr
        exported = {
            f"report.{fmt}": castbench("report", "run.jsonl", "--format", fmt, "--rate", "90000", cwd=cwd).stdout
            for fmt in ("terminal", "csv", "json", "md")
        }
        cases = castbench("report", "run.jsonl", "--format", "csv", "--table", "cases", cwd=cwd).stdout
        outputs.append({"profile.txt": shown.stdout, "cases.csv": cases, **exported})
        outputs[-1]["run.jsonl"] = (cwd / "run.jsonl").read_text()
    assert outputs[0] == outputs[1]
    assert_golden({name: text for name, text in outputs[0].items() if name != "run.jsonl"})


def assert_golden(files: dict[str, str]) -> None:
    """Equal to the kept files; CASTBENCH_UPDATE_GOLDEN=1 writes them anew."""
    for name, text in files.items():
        kept = GOLDEN / name
        if os.environ.get("CASTBENCH_UPDATE_GOLDEN"):
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(text)
        assert kept.read_text() == text, name


def test_results_go_to_stdout_and_the_rest_to_stderr(tmp_path: Path) -> None:
    """--json on stdout parses as it stands; notes are on stderr, and -q silences them."""
    loud = castbench("profile", "quickstart", "--device", "fake", "--json", cwd=tmp_path)
    assert json.loads(loud.stdout)["schema"]
    assert "Run kept in castbench-runs/" in loud.stderr
    quiet = castbench("-q", "profile", "quickstart", "--device", "fake", "--json", cwd=tmp_path)
    assert (quiet.stdout, quiet.stderr) != ("", "")
    assert quiet.stderr == ""


def test_a_dry_run_measures_nothing(tmp_path: Path) -> None:
    """--dry-run prints cases and time, and writes no file."""
    done = castbench("profile", "quickstart", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0
    assert "b1-n4096" in done.stdout or "4096" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_only_keeps_the_named_label_the_baseline_and_the_ceilings(tmp_path: Path) -> None:
    """--only cast measures cast and sdpa, not naive."""
    castbench("profile", "quickstart", "--device", "fake", "--only", "cast", "--out", "r.jsonl", cwd=tmp_path)
    labels = {arm.label for arm in read_run(tmp_path / "r.jsonl").header.plan.arms}
    assert labels == {"sdpa", "cast", "ceiling:mixing", "ceiling:module"}


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["profile"], 2, "castbench profile quickstart"),
        (["profile", "nothing.yaml"], 2, "nothing.yaml"),
        (["profile", "quickstart", "--device", "gpu"], 2, "--device: expected one of"),
        (["profile", "quickstart", "--device", "cuda:7"], 3, "--device cuda:7"),
        (["profile", "quickstart", "--budget", "5"], 2, "--budget: expected a duration"),
        (["profile", "quickstart", "--budget", "0s"], 2, "--budget: expected a duration"),
        (["profile", "quickstart", "--device", "fake", "--only", "cost"], 2, "no mechanism is labelled cost"),
        (["profile", "quickstart", "--device", "fake", "--out", "/proc/x/y.jsonl"], 4, "cannot write"),
        (["profile", "--resume", "latest"], 4, "there are no runs"),
        (["report", "latest"], 4, "there are no runs"),
        (["report", "gone.jsonl"], 4, "no run file 'gone.jsonl'"),
        (["compare", "a", "b"], 4, "no run file 'a'"),
        (["verify", "nothing"], 4, "no run file"),
        (["runs", "remove", "latest"], 2, "name the run itself"),
    ],
)
def test_refusals_are_one_sentence_with_their_exit_code(tmp_path: Path, args: list[str], code: int, said: str) -> None:
    """What the user gave and cannot be used is refused in a sentence that says what to do, without a traceback."""
    assert said in told(castbench(*args, cwd=tmp_path), code)


def test_debug_shows_where_and_keeps_it(tmp_path: Path) -> None:
    """--debug adds the traceback and writes it to a file."""
    done = castbench("--debug", "report", "gone.jsonl", cwd=tmp_path)
    assert done.returncode == 4
    assert "Traceback" in done.stderr
    assert "RunFileError" in (tmp_path / "castbench-debug.log").read_text()


def test_an_existing_run_file_is_kept(tmp_path: Path) -> None:
    """--out on a file that is there is refused before anything is measured."""
    (tmp_path / "run.jsonl").write_text("mine")
    done = castbench("profile", "quickstart", "--device", "fake", "--out", "run.jsonl", cwd=tmp_path)
    assert "never overwritten" in told(done, 4)
    assert (tmp_path / "run.jsonl").read_text() == "mine"


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    """`castbench report | head -1` prints no traceback."""
    castbench("profile", "quickstart", "--device", "fake", "--out", "run.jsonl", cwd=tmp_path)
    command = f"{sys.executable} -m castbench report run.jsonl --format json | head -c 1"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "{"
    assert done.stderr == ""


def test_the_csv_opens_in_pandas_with_the_numbers_of_the_json(tmp_path: Path) -> None:
    """Both CSV tables are plain tables whose figures equal the JSON's."""
    import pandas as pd

    castbench("profile", "quickstart", "--device", "fake", "--out", "run.jsonl", cwd=tmp_path)
    text = castbench("report", "run.jsonl", "--format", "csv", cwd=tmp_path).stdout
    frame = pd.read_csv(io.StringIO(text))
    assert list(frame["label"]) == ["sdpa", "naive", "cast"]
    assert frame["cost_usd_per_hour"].dtype == float
    assert next(csv.reader(io.StringIO(text)))[:2] == ["label", "mechanism"]


def started(tmp_path: Path, *args: str) -> subprocess.Popen[str]:
    """A real run on one CPU thread in a process group of its own."""
    (tmp_path / "small.yaml").write_text(SMALL)
    return subprocess.Popen(
        [sys.executable, "-m", "castbench", "profile", "small.yaml", "--device", "cpu", "--threads", "1",
         "--out", "run.jsonl", *args],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def wait_for_rounds(path: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Until the run file holds that many rounds."""
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        if path.exists() and path.read_bytes().count(b'"kind":"round"') >= count:
            return
        time.sleep(0.02)
    raise AssertionError(f"no {count} rounds: {process.communicate()}")


def test_sigkill_then_resume_loses_and_repeats_no_round(tmp_path: Path) -> None:
    """Killed in mid-run, the file keeps every finished round; resumed, each round is there once and verify passes."""
    process = started(tmp_path)
    wait_for_rounds(tmp_path / "run.jsonl", 5, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    kept = read_run(tmp_path / "run.jsonl").rounds
    assert len(kept) >= 5
    done = castbench("profile", "--resume", "run.jsonl", "--budget", "6s", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = read_run(tmp_path / "run.jsonl")
    assert record.rounds[: len(kept)] == kept
    assert len(record.rounds) > len(kept)
    assert len({(r.group, r.purpose, r.round) for r in record.rounds}) == len(record.rounds)
    assert len(record.resumed_at) == 1
    assert castbench("verify", "run.jsonl", cwd=tmp_path).returncode == 0


def test_ctrl_c_keeps_what_is_there_and_says_how_to_go_on(tmp_path: Path) -> None:
    """SIGINT to the whole process group, as a terminal sends it: exit 130, the file whole, the way on printed."""
    process = started(tmp_path)
    wait_for_rounds(tmp_path / "run.jsonl", 3, process)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "castbench profile --resume run.jsonl" in errors
    record = read_run(tmp_path / "run.jsonl")
    assert len(record.rounds) >= 3
    assert record.damage == ()
    assert castbench("report", "run.jsonl", cwd=tmp_path).returncode == 0


def test_resume_with_a_changed_profile_is_refused(tmp_path: Path) -> None:
    """Rounds of two profiles are never mixed."""
    castbench("profile", "quickstart", "--device", "fake", "--out", "run.jsonl", cwd=tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL)
    done = castbench("profile", "small.yaml", "--resume", "run.jsonl", cwd=tmp_path)
    assert "small.yaml is not the profile" in told(done, 4)


def test_a_profile_without_a_measurable_baseline_exits_with_1(tmp_path: Path) -> None:
    """A baseline ruled out by its own limits leaves nothing to compare; the exit code says so."""
    cast = "{cast: {num_clusters: 2, cluster_size: 4, clustering: single_assignment}, label: tight}"
    text = SMALL.replace("mechanisms: [sdpa,", f"baseline: tight\nmechanisms: [{cast}, sdpa,")
    (tmp_path / "small.yaml").write_text(text)
    done = castbench("profile", "small.yaml", "--device", "fake", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "baseline could not be measured" in done.stderr


def test_reading_a_run_never_imports_torch(tmp_path: Path) -> None:
    """Report in every format, compare, runs and verify work in a process that never imports torch."""
    for name, seed in (("a.jsonl", "0"), ("b.jsonl", "1")):
        castbench("profile", "quickstart", "--device", "fake", "--seed", seed, "--out", name, cwd=tmp_path)
    commands = [
        *(["report", "a.jsonl", "--format", fmt] for fmt in ("terminal", "csv", "json", "md")),
        ["compare", "a.jsonl", "b.jsonl", "--force"], ["runs"], ["runs", "show", "a.jsonl"], ["verify", "a.jsonl"],
    ]  # fmt: skip
    script = (
        "import sys\n"
        "from castbench.cli.app import app\n"
        f"for command in {commands!r}:\n"
        "    try:\n        app(command)\n"
        "    except SystemExit as end:\n        assert not end.code, (command, end.code)\n"
        "print('torch' in sys.modules, 'pandas' in sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "False False"


def test_a_price_that_is_not_in_the_catalogue_is_refused_before_measuring(tmp_path: Path) -> None:
    """An unknown instance costs the user a sentence, not a run."""
    text = SMALL.replace("{usd_per_hour: 0.1}", "{cloud: aws, instance: m7i.48xlarge}")
    (tmp_path / "small.yaml").write_text(text)
    done = castbench("profile", "small.yaml", "--device", "cpu", cwd=tmp_path)
    assert "the catalogue has no aws m7i.48xlarge" in told(done, 2)
    assert not (tmp_path / "castbench-runs").exists()


def test_verbose_says_what_is_done(tmp_path: Path) -> None:
    """-v names group, round and mechanism on stderr; without it a log gets one line per group."""
    loud = castbench("-v", "profile", "quickstart", "--device", "fake", cwd=tmp_path).stderr
    plain = castbench("profile", "quickstart", "--device", "fake", cwd=tmp_path).stderr
    assert "b1-n256-bucketed round 7: naive" in loud
    assert plain.count("b1-n256-bucketed") == 1


@pytest.mark.parametrize("option", [["--dry-run"], ["--seed", "1"], ["--threads", "1"], ["--only", "cast"]])
def test_resume_refuses_options_that_would_change_the_run(tmp_path: Path, option: list[str]) -> None:
    """An option that --resume would have to ignore is refused, and the file is left as it was."""
    castbench("profile", "quickstart", "--device", "fake", "--out", "run.jsonl", cwd=tmp_path)
    before = (tmp_path / "run.jsonl").read_bytes()
    done = castbench("profile", "--resume", "run.jsonl", *option, cwd=tmp_path)
    assert f"leave out {option[0]}" in told(done, 2)
    assert (tmp_path / "run.jsonl").read_bytes() == before


def test_losing_stderr_does_not_end_a_measurement(tmp_path: Path) -> None:
    """With stderr closed the run is measured to its end and the report printed."""
    command = f"{sys.executable} -m castbench profile quickstart --device fake --out run.jsonl 2>&-"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "castbench report" in done.stdout
    assert len(read_run(tmp_path / "run.jsonl").groups) == 4


def test_the_parent_of_the_workers_never_imports_torch(tmp_path: Path) -> None:
    """After asking workers for the environment, this process has no torch of its own."""
    script = (
        "import sys\n"
        "from castbench.measure.torch_rig import TorchRig, usable_device\n"
        "if __name__ == '__main__':\n"
        "    usable_device('auto')\n"
        "    assert TorchRig('cpu', 1).environment().torch\n"
        "    print('torch' in sys.modules)\n"
    )
    (tmp_path / "parent.py").write_text(script)
    done = subprocess.run([sys.executable, "parent.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
