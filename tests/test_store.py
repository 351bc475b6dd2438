from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench import pipeline
from castbench.errors import RunFileError
from castbench.measure.fake_rig import FakeRig
from castbench.measure.runner import Silent
from castbench.plain import canonical_json, from_plain, to_plain
from castbench.plan import Arm, Plan
from castbench.records import (
    BatchSearch,
    Caveat,
    Conditions,
    EnergyBlock,
    EnergyRecord,
    GroupRecord,
    Outcome,
    RoundRecord,
    RunEnd,
    Sample,
    Selected,
    Selection,
    Status,
    WindowState,
)
from castbench.store import RunWriter, find_run, new_run_path, read_run, rounds_sha256, run_files
from tests.examples import example_header, example_plan, example_profile

PLAN = example_plan()
TIMES = st.floats(1e-9, 1e3)
LABELS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
STATES = st.builds(
    WindowState, readings=st.integers(0, 99), sm_clock_mean_hz=st.none() | TIMES, power_mean_w=st.none() | TIMES,
    slowed_s=st.none() | st.lists(st.tuples(LABELS, TIMES), max_size=2).map(tuple),
    foreign=st.none() | st.lists(st.integers(1, 9), max_size=2).map(tuple),
)  # fmt: skip
BLOCKS = st.lists(st.builds(EnergyBlock, st.integers(0, 99), TIMES, st.none() | TIMES, st.none() | TIMES), max_size=2)
ENERGIES = st.builds(
    EnergyRecord, source=LABELS, scope=LABELS, period_s=st.none() | TIMES, idle=BLOCKS.map(tuple),
    blocks=BLOCKS.map(tuple),
)  # fmt: skip
SAMPLES = st.builds(
    Sample, label=LABELS, order=st.integers(0, 9), steps=st.integers(1, 999), elapsed_s=TIMES,
    step_times_s=st.lists(TIMES, max_size=4).map(tuple), device_s=st.none() | TIMES,
    host_launch_s=st.none() | TIMES, preempted=st.none() | st.integers(0, 10**6),
    waited_s=st.none() | TIMES, state=st.none() | STATES, invalid_reason=st.none() | LABELS,
)  # fmt: skip
ROUNDS = st.builds(
    RoundRecord, group=LABELS, round=st.integers(0, 63), epoch=st.integers(0, 9),
    samples=st.lists(SAMPLES, max_size=3).map(tuple), purpose=st.sampled_from(["compare", "confirm"]),
    invalid_reason=st.none() | LABELS,
)  # fmt: skip
OUTCOMES = st.builds(
    Outcome, label=LABELS, status=st.sampled_from(Status), reason=st.none() | LABELS, ran_as=st.none() | LABELS,
    parity_error=st.none() | TIMES, peak_bytes=st.none() | st.integers(0), weights_bytes=st.none() | st.integers(0),
    reserved_bytes=st.none() | st.integers(0), energy=st.none() | ENERGIES, energy_reason=st.none() | LABELS,
    largest_batch=st.none() | st.builds(BatchSearch, st.integers(1, 99), st.none() | st.integers(1, 99)),
    facts=st.lists(st.tuples(LABELS, TIMES), max_size=2).map(tuple),
)  # fmt: skip
GROUPS = st.builds(
    GroupRecord, group=LABELS, rounds=st.integers(0, 64), stopped_by=LABELS,
    outcomes=st.lists(OUTCOMES, max_size=3).map(tuple), elapsed_s=TIMES, rounds_sha256=LABELS,
    conditions=st.builds(Conditions, st.none() | TIMES, st.none() | TIMES, st.none() | TIMES),
    caveats=st.lists(st.sampled_from(Caveat), max_size=2).map(tuple),
)  # fmt: skip


def a_round(number: int) -> RoundRecord:
    """Round `number` of the plan's first group."""
    return RoundRecord(PLAN.groups[0].key, number, 0, (Sample("sdpa", 0, 1, 0.5 + number),))


@given(rounds=st.lists(ROUNDS, max_size=4), groups=st.lists(GROUPS, max_size=3))
def test_what_is_written_is_what_is_read(
    rounds: list[RoundRecord], groups: list[GroupRecord], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any rounds and groups come back equal, header included."""
    path = tmp_path_factory.mktemp("runs") / "run.jsonl"
    header = example_header(PLAN)
    with RunWriter.create(path, header) as writer:
        for r in rounds:
            writer.append_round(r)
        for g in groups:
            writer.append_group(g)
    record = read_run(path)
    assert (record.header, record.rounds, record.groups) == (header, tuple(rounds), tuple(groups))
    assert record.damage == ()


@given(ROUNDS)
def test_a_hash_survives_a_round_trip(record: RoundRecord) -> None:
    """The hash of rounds is the same before writing and after reading."""
    back = from_plain(RoundRecord, json.loads(canonical_json(record)))
    assert rounds_sha256([back]) == rounds_sha256([record])


@pytest.mark.parametrize("cut", range(1, 120, 7))
def test_a_torn_last_line_costs_only_itself(tmp_path: Path, cut: int) -> None:
    """Whatever is cut off the last line, the rounds before it are read and the loss is told."""
    path = tmp_path / "run.jsonl"
    with RunWriter.create(path, example_header(PLAN)) as writer:
        writer.append_round(a_round(0))
        writer.append_round(a_round(1))
    content = path.read_bytes()
    last = len(content) - content[:-1].rindex(b"\n") - 1
    path.write_bytes(content[: -min(cut, last - 1)])
    record = read_run(path)
    assert record.rounds == (a_round(0),)
    assert "torn" in record.damage[0]


def test_resuming_cuts_the_torn_line_off(tmp_path: Path) -> None:
    """After a resumption the file is whole again and the new round follows the last good one."""
    path = tmp_path / "run.jsonl"
    with RunWriter.create(path, example_header(PLAN)) as writer:
        writer.append_round(a_round(0))
    path.write_bytes(path.read_bytes() + b'{"kind":"round","gro')
    writer, before = RunWriter.resume(path)
    assert before.damage
    with writer:
        writer.append_resumed("2026-01-03T00:00:00+00:00")
        writer.append_round(a_round(1))
    record = read_run(path)
    assert record.rounds == (a_round(0), a_round(1))
    assert (record.damage, record.resumed_at) == ((), ("2026-01-03T00:00:00+00:00",))
    assert record.unchained == ()


@pytest.mark.parametrize("line", [1, 2])
def test_a_changed_line_breaks_the_chain(tmp_path: Path, line: int) -> None:
    """Changing or doubling any line but the last shows at the line after it."""
    path = tmp_path / "run.jsonl"
    with RunWriter.create(path, example_header(PLAN)) as writer:
        for number in range(3):
            writer.append_round(a_round(number))
    lines = path.read_bytes().splitlines(keepends=True)
    assert read_run(path).unchained == ()
    path.write_bytes(b"".join([*lines[:line], lines[line].replace(b".5,", b".6,", 1), *lines[line + 1 :]]))
    assert read_run(path).unchained == (line + 2,)
    path.write_bytes(b"".join([*lines[: line + 1], *lines[line:]]))
    assert read_run(path).unchained == (line + 2,)


def test_a_changed_header_breaks_the_chain(tmp_path: Path) -> None:
    """A price edited in the header shows at the second line."""
    path = tmp_path / "run.jsonl"
    with RunWriter.create(path, example_header(PLAN)) as writer:
        writer.append_round(a_round(0))
    path.write_bytes(path.read_bytes().replace(b'"usd_per_hour":2.0', b'"usd_per_hour":1.0', 1))
    assert read_run(path).unchained == (2,)


@pytest.mark.parametrize(
    ("was", "then"),
    [(b'"elapsed_s":0.5', b'"elapsed_s":0.0'), (b'"elapsed_s":0.5', b'"elapsed_s":-0.5'),
     (b'"elapsed_s":0.5', b'"elapsed_s":NaN'), (b'"steps":1', b'"steps":0')],
)  # fmt: skip
def test_windows_that_cannot_have_happened_are_refused(tmp_path: Path, was: bytes, then: bytes) -> None:
    """No time, negative time, NaN or no steps: the line is named, nothing crashes later."""
    path = tmp_path / "run.jsonl"
    with RunWriter.create(path, example_header(PLAN)) as writer:
        writer.append_round(a_round(0))
    path.write_bytes(path.read_bytes().replace(was, then))
    with pytest.raises(RunFileError, match="line 2"):
        read_run(path)


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    """Creating a run where a file stands is refused and leaves the file alone."""
    path = tmp_path / "run.jsonl"
    path.write_text("precious")
    with pytest.raises(RunFileError, match="never overwritten"):
        RunWriter.create(path, example_header(PLAN))
    assert path.read_text() == "precious"


def test_a_file_has_one_writer(tmp_path: Path) -> None:
    """A second castbench that wants to go on with a run being written is refused."""
    path = tmp_path / "run.jsonl"
    with (
        RunWriter.create(path, example_header(PLAN)),
        pytest.raises(RunFileError, match="being written by another"),
    ):
        RunWriter.resume(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no complete line"),
        (b"not json\n", "line 1 is not what a run file holds"),
        (b"[1, 2]\n", "line 1"),
        (b'{"kind": "round"}\n', "first line must be the header"),
        (b'{"kind": "header", "schema": 99}\n', "update castbench"),
        (b'{"kind": "header", "schema": 1}\n', "before its first release; measure anew"),
        (b'{"kind": "header", "schema": 2}\n', "line 1"),
        (b"\x00\xff\x00\n", "line 1"),
        (b'{"kind":' * 3000 + b"\n", "line 1"),
    ],
)
def test_files_that_are_no_runs_are_refused_in_a_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    """Anything that is not a run file is a RunFileError that says what is wrong."""
    path = tmp_path / "run.jsonl"
    path.write_bytes(content)
    with pytest.raises(RunFileError, match=said):
        read_run(path)


def test_damage_inside_a_file_names_the_line(tmp_path: Path) -> None:
    """A broken line that is not the last one is no torn line: it is refused with its number."""
    path = tmp_path / "run.jsonl"
    with RunWriter.create(path, example_header(PLAN)) as writer:
        writer.append_round(a_round(0))
    path.write_bytes(path.read_bytes() + b'{"kind":"round"}\n' + b'{"kind":"resumed","at":"x"}\n')
    with pytest.raises(RunFileError, match="line 3"):
        read_run(path)


@given(st.binary(max_size=300))
def test_no_bytes_make_reading_fail_otherwise(content: bytes) -> None:
    """Reading arbitrary bytes either gives a run or a RunFileError, never another exception."""
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "run.jsonl"
        path.write_bytes(content)
        with pytest.raises(RunFileError):
            read_run(path)


def test_latest_is_the_run_started_last(in_tmp: Path) -> None:
    """`latest` goes by the time of start in the header, not by the file's name or date."""
    header = example_header(PLAN)
    for name, started in (("b", "2026-01-01T00:00:00+00:00"), ("a", "2026-02-01T00:00:00+00:00")):
        changed = from_plain(type(header), {**to_plain(header), "created_at": started})
        RunWriter.create(Path("castbench-runs") / f"{name}.jsonl", changed).close()
    assert find_run("latest").name == "a.jsonl"
    assert [path.name for path in run_files()] == ["b.jsonl", "a.jsonl"]
    assert find_run("b") == Path("castbench-runs/b.jsonl")


def test_a_missing_run_says_what_to_do(in_tmp: Path) -> None:
    """No runs yet, and a name that is not there, are two different sentences."""
    with pytest.raises(RunFileError, match="castbench profile quickstart"):
        find_run("latest")
    with pytest.raises(RunFileError, match="castbench runs"):
        find_run("nothing-of-that-name")


def test_a_new_run_takes_a_free_name(tmp_path: Path) -> None:
    """Two runs started within one second get two files; odd characters do not reach the file system."""
    first = new_run_path("a/b c", "cuda:0", "2026-01-02T03:04:05+00:00", tmp_path)
    assert first.name == "a-b-c-cuda0-20260102-030405.jsonl"
    first.touch()
    assert new_run_path("a/b c", "cuda:0", "2026-01-02T03:04:05+00:00", tmp_path) != first


def test_a_claimed_name_belongs_to_one_run(tmp_path: Path) -> None:
    """Two runs that both asked for a name before either began its file have two files, each with its own header."""
    claimed = [new_run_path("quick", "cpu", "2026-01-02T03:04:05+00:00", tmp_path) for _ in range(3)]
    assert len(set(claimed)) == 3
    for number, path in enumerate(claimed):
        RunWriter.create(path, replace(example_header(PLAN), run_id=f"run {number}")).close()
    assert [read_run(path).header.run_id for path in claimed] == ["run 0", "run 1", "run 2"]


def test_of_two_runs_into_one_file_the_second_is_refused(tmp_path: Path) -> None:
    """While the first writes and after it: the same --out is refused, and the first run's file stays whole."""
    path = tmp_path / "run.jsonl"
    with RunWriter.create(path, example_header(PLAN)) as writer:
        with pytest.raises(RunFileError, match="being written by another"):
            RunWriter.create(path, example_header(PLAN))
        writer.append_round(a_round(0))
    with pytest.raises(RunFileError, match="never overwritten"):
        RunWriter.create(path, example_header(PLAN))
    assert read_run(path).rounds == (a_round(0),)


@pytest.mark.parametrize("place", ["file/run.jsonl", "/proc/castbench/run.jsonl", "pipe", "."])
def test_a_place_that_cannot_be_written_is_a_sentence_before_anything_is_there(tmp_path: Path, place: str) -> None:
    """Under a file, where no files can be made, on a pipe, in place of a folder: refused, with --out named."""
    if place.startswith("/") and sys.platform != "linux":
        pytest.skip("only Linux has this place")
    (tmp_path / "file").write_text("a file")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RunFileError, match="--out"):
        RunWriter.create(tmp_path / place, example_header(PLAN))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "pipe"]


def test_a_read_only_folder_is_a_sentence_when_a_name_is_sought(tmp_path: Path) -> None:
    """A folder for runs that takes no files is told before a run is begun, default name or not."""
    if os.geteuid() == 0:
        (tmp_path / "runs").write_text("root may write everywhere, but not into a file")
    else:
        (tmp_path / "runs").mkdir(mode=0o555)
    with pytest.raises(RunFileError, match=r"cannot write .*; name another place with --out"):
        new_run_path("quick", "cpu", "2026-01-02T03:04:05+00:00", tmp_path / "runs")


LIMITED = """
import resource, sys
from dataclasses import replace
from pathlib import Path
from castbench.store import RunWriter
from tests.test_store import PLAN, a_round
from tests.examples import example_header
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    with RunWriter.create(Path(sys.argv[1]), example_header(PLAN)) as writer:
        for number in range(100):
            writer.append_round(a_round(number))
            print(number, flush=True)
except Exception as error:
    print(type(error).__name__, error)
"""


def written_until_full(path: Path, limit: int) -> list[str]:
    """What a process prints that may write `limit` bytes: numbers of the rounds written, then the error."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path), str(limit)], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[1],
    )  # fmt: skip
    return done.stdout.splitlines()


def test_a_full_disk_keeps_every_finished_round_and_no_torn_line(tmp_path: Path) -> None:
    """When the file may not grow: one sentence, the rounds reported as written are in it whole, and it can go on."""
    path = tmp_path / "run.jsonl"
    RunWriter.create(tmp_path / "size.jsonl", example_header(PLAN)).close()
    *written, said = written_until_full(path, (tmp_path / "size.jsonl").stat().st_size + 2000)
    record = read_run(path)
    assert said.startswith("RunFileError cannot write")
    assert f"castbench profile --resume {path}" in said
    assert 0 < len(written) < 100
    assert [r.round for r in record.rounds] == list(map(int, written))
    assert record.damage == ()
    writer, _ = RunWriter.resume(path)
    with writer:
        writer.append_round(a_round(len(written)))
    assert read_run(path).unchained == ()


def test_a_disk_that_is_full_from_the_start_leaves_no_file(tmp_path: Path) -> None:
    """Where not even the header fits, nothing is left behind, and the sentence says that nothing was measured."""
    (said,) = written_until_full(tmp_path / "run.jsonl", 100)
    assert "nothing was measured" in said
    assert list(tmp_path.iterdir()) == []


def test_a_run_on_a_full_disk_ends_with_4_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """The program says one sentence and exits with 4; resumed with room, it ends complete and verify passes."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    command = [sys.executable, "-m", "castbench"]
    done = subprocess.run(
        [*command, "profile", "quickstart", "--device", "fake", "--out", "run.jsonl"], cwd=tmp_path,
        capture_output=True, text=True, check=False, preexec_fn=limited,
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "Traceback" not in done.stderr
    assert "castbench: cannot write run.jsonl" in done.stderr
    kept = read_run(tmp_path / "run.jsonl")
    assert kept.rounds
    assert (kept.damage, kept.ended) == ((), None)
    for again in (["profile", "--resume", "run.jsonl"], ["verify", "run.jsonl"]):
        assert subprocess.run([*command, *again], cwd=tmp_path, capture_output=True, check=False).returncode == 0
    whole = read_run(tmp_path / "run.jsonl")
    assert whole.rounds[: len(kept.rounds)] == kept.rounds
    assert whole.ended is not None
    assert whole.ended.complete


def test_nothing_is_measured_where_nothing_can_be_written(tmp_path: Path) -> None:
    """A place that cannot be written to is refused before the first mechanism is even checked."""

    class Idle(FakeRig):
        def parity_error(self, plan: Plan, arm: Arm) -> float:
            raise AssertionError("something was measured")

    (tmp_path / "file").write_text("a file")
    with pytest.raises(RunFileError, match="its folder is a file"):
        pipeline.measure(example_profile(), PLAN, Idle(3), Silent(), out=tmp_path / "file" / "run.jsonl")


def test_the_end_is_the_last_line_or_it_is_none(tmp_path: Path) -> None:
    """A run that ended by itself says so until it goes on; then it is open until it ends again."""
    path, end = tmp_path / "run.jsonl", RunEnd(0, 0, complete=False)
    with RunWriter.create(path, example_header(PLAN)) as writer:
        assert read_run(path).ended is None
        writer.append_end(end)
    assert read_run(path).ended == end
    writer, _ = RunWriter.resume(path)
    with writer:
        writer.append_resumed("2026-01-03T00:00:00+00:00")
        assert read_run(path).ended is None
        writer.append_end(RunEnd(0, 2, complete=True))
    assert read_run(path).ended == RunEnd(0, 2, complete=True)


def test_a_selection_is_read_back_and_must_be_of_the_plan(tmp_path: Path) -> None:
    """What is to be confirmed comes back; an arm that was never planned is refused with its line."""
    here = PLAN.groups[0].key
    for key, label, said in ((here, "cast-8", None), (here, "never", "line 2"), ("b9-n9-bucketed", "sdpa", "line 2")):
        chosen = Selection((Selected(key, label, "sdpa"),), "the cheapest")
        path = tmp_path / f"{label}.jsonl"
        with RunWriter.create(path, example_header(PLAN)) as writer:
            writer.append_selection(chosen)
        if said is None:
            assert read_run(path).selection == chosen
        else:
            with pytest.raises(RunFileError, match=said):
                read_run(path)


@pytest.mark.parametrize(
    "unsound",
    [replace(PLAN, baseline="none"), replace(PLAN, arms=PLAN.arms * 2), replace(PLAN, groups=PLAN.groups * 2),
     replace(PLAN, analysis=replace(PLAN.analysis, looks=(8,)))],
)  # fmt: skip
def test_a_plan_that_cannot_be_judged_by_is_refused(tmp_path: Path, unsound: Plan) -> None:
    """No baseline, names twice, or looks without errors: the header's line is named."""
    path = tmp_path / "run.jsonl"
    RunWriter.create(path, example_header(unsound)).close()
    with pytest.raises(RunFileError, match="line 1"):
        read_run(path)
