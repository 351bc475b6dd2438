from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from castbench.cost.replay import BatchingPolicy
from castbench.errors import RunFileError
from castbench.records import RunRecord
from castbench.rehearsal.kept import MOST_KEPT, keep, kept_rehearsals, path_beside
from tests.cost.builder import run_of, times
from tests.rehearsal.builder import rehearsal


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    """A run that lies in a file, as far as its rehearsals care."""
    return replace(run_of(times({"sdpa": 0.01, "cast-32": 0.01})), path=str(tmp_path / "a.b.jsonl"))


def test_a_rehearsal_is_kept_beside_its_run_and_read_back(record: RunRecord, tmp_path: Path) -> None:
    """Nothing is lost or rounded, and no other file stays."""
    assert kept_rehearsals(record) == ()
    path = keep(record, rehearsal(source="trace x.csv"))
    assert path == tmp_path / "a.b.rehearsal.json" == path_beside(record.path or "")
    assert kept_rehearsals(record) == (rehearsal(source="trace x.csv"),)
    assert [found.name for found in tmp_path.iterdir()] == ["a.b.rehearsal.json"]


def test_of_every_mechanism_and_way_of_batching_the_newest_counts(record: RunRecord) -> None:
    """All are in the file, in order."""
    made = [
        rehearsal(seed=1), rehearsal(seed=2, label="cast-32"), rehearsal(seed=3, policy=BatchingPolicy()),
        rehearsal(seed=4),
    ]  # fmt: skip
    for one in made:
        path = keep(record, one)
    assert [one.seed for one in kept_rehearsals(record)] == [2, 3, 4]
    assert path is not None
    assert [one["seed"] for one in json.loads(path.read_text())["rehearsals"]] == [1, 2, 3, 4]


def test_the_file_has_an_end(record: RunRecord) -> None:
    """The oldest go."""
    path = path_beside(record.path or "")
    keep(record, rehearsal())
    held = json.loads(path.read_text())
    held["rehearsals"] *= MOST_KEPT
    path.write_text(json.dumps(held))
    keep(record, rehearsal(seed=9))
    seeds = [one["seed"] for one in json.loads(path.read_text())["rehearsals"]]
    assert (len(seeds), seeds[-1]) == (MOST_KEPT, 9)


def test_those_of_another_run_under_this_name_are_not_this_runs(record: RunRecord) -> None:
    """Nor do they stay when one of this run is kept."""
    other = replace(record, header=replace(record.header, run_id="other"))
    keep(other, rehearsal(seed=7))
    assert kept_rehearsals(record) == ()
    keep(record, rehearsal(seed=8))
    assert [one.seed for one in kept_rehearsals(record)] == [8]


def test_a_run_without_a_file_keeps_none(record: RunRecord) -> None:
    """Made in memory, forgotten there."""
    assert keep(replace(record, path=None), rehearsal()) is None
    assert kept_rehearsals(replace(record, path=None)) == ()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"schema": 99, "run_id": "0", "rehearsals": []}', '{"schema": 1, "run_id": "0"}',
     '{"schema": 1, "run_id": "0", "rehearsals": [{"label": "x"}]}'],
)  # fmt: skip
def test_a_damaged_file_is_named_and_not_overwritten(record: RunRecord, text: str) -> None:
    """With what to do, whether it is read or added to."""
    path = path_beside(record.path or "")
    path.write_text(text)
    for use in (lambda: kept_rehearsals(record), lambda: keep(record, rehearsal())):
        with pytest.raises(RunFileError, match=r"a\.b\.rehearsal\.json: no rehearsals can be read from it .*remove it"):
            use()
    assert path.read_text() == text


def test_a_rehearsal_without_its_percentiles_is_damage(record: RunRecord) -> None:
    """Median and p99 are spoken of wherever it is shown."""
    keep(record, rehearsal(percentiles=rehearsal().percentiles[:1]))
    with pytest.raises(RunFileError, match="a percentile is missing"):
        kept_rehearsals(record)


def test_a_place_that_cannot_be_written_is_told(record: RunRecord) -> None:
    """The figure was shown to nobody yet: the error names the file."""
    with pytest.raises(RunFileError, match="cannot write"):
        keep(replace(record, path="/nowhere/at/all.jsonl"), rehearsal())
