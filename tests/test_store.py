from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.errors import RunFileError
from castbench.plain import canonical_json, from_plain, to_plain
from castbench.records import Caveat, Conditions, GroupRecord, Outcome, RoundRecord, Sample, Status
from castbench.store import RunWriter, find_run, new_run_path, read_run, rounds_sha256, run_files
from tests.examples import example_header, example_plan

PLAN = example_plan()
TIMES = st.floats(1e-9, 1e3)
LABELS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
SAMPLES = st.builds(
    Sample, label=LABELS, order=st.integers(0, 9), steps=st.integers(1, 999), elapsed_s=TIMES,
    step_times_s=st.lists(TIMES, max_size=4).map(tuple), device_s=st.none() | TIMES,
    host_launch_s=st.none() | TIMES, preempted=st.none() | st.integers(0, 10**6),
    invalid_reason=st.none() | LABELS,
)  # fmt: skip
ROUNDS = st.builds(
    RoundRecord, group=LABELS, round=st.integers(0, 63), epoch=st.integers(0, 9),
    samples=st.lists(SAMPLES, max_size=3).map(tuple), purpose=st.sampled_from(["compare", "confirm"]),
    invalid_reason=st.none() | LABELS,
)  # fmt: skip
OUTCOMES = st.builds(
    Outcome, label=LABELS, status=st.sampled_from(Status), reason=st.none() | LABELS, ran_as=st.none() | LABELS,
    parity_error=st.none() | TIMES, peak_bytes=st.none() | st.integers(0), weights_bytes=st.none() | st.integers(0),
    facts=st.lists(st.tuples(LABELS, TIMES), max_size=2).map(tuple),
)  # fmt: skip
GROUPS = st.builds(
    GroupRecord, group=LABELS, rounds=st.integers(0, 64), stopped_by=LABELS,
    outcomes=st.lists(OUTCOMES, max_size=3).map(tuple), elapsed_s=TIMES, rounds_sha256=LABELS,
    conditions=st.builds(Conditions, st.none() | TIMES, st.none() | TIMES, st.none() | st.integers(0, 9)),
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
        (b'{"kind": "header", "schema": 1}\n', "line 1"),
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
