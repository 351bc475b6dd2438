from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from castbench.cli.app import app
from castbench.records import RunEnd, RunRecord
from castbench.store import RUNS_DIR, SCHEMA, RunWriter
from tests.report.builder import GROUPS, discarding, record


def _written(run: RunRecord, name: str, end: RunEnd | None) -> None:
    """A run as a file in ./castbench-runs."""
    with RunWriter.create(RUNS_DIR / f"{name}.jsonl", replace(run.header, schema=SCHEMA)) as writer:
        for r in run.rounds:
            writer.append_round(r)
        for g in run.groups:
            writer.append_group(g)
        if end is not None:
            writer.append_end(end)


@pytest.mark.parametrize(
    ("end", "word"),
    [(None, "interrupted"), (RunEnd(48, 3, True), "complete"), (RunEnd(48, 3, False), "out of budget")],
)
def test_how_a_run_ended_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: RunEnd | None, word: str
) -> None:
    """Interrupted, complete, or out of budget: in the list, in show and in the JSON, with the discarded rounds."""
    monkeypatch.chdir(tmp_path)
    _written(discarding(record(), GROUPS[0], "a power brake"), "one", end)
    listed = CliRunner().invoke(app, ["runs"])
    assert listed.stdout.splitlines()[1].endswith(f"3 of 3 groups, 49 rounds, {word}")
    (row,) = json.loads(CliRunner().invoke(app, ["runs", "--json"]).stdout)
    assert (row["ended"], row["rounds"], row["discarded rounds"]) == (word, 49, 1)
    assert f"ended             {word}" in CliRunner().invoke(app, ["runs", "show", "one"]).stdout


def test_removing_a_run_removes_its_rehearsals_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No rehearsal is left behind for a later run of the same name; other runs keep theirs."""
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        _written(record(), name, RunEnd(48, 3, True))
        (RUNS_DIR / f"{name}.rehearsal.json").write_text("{}")
    assert CliRunner().invoke(app, ["runs", "remove", "one", "--yes"]).exit_code == 0
    assert sorted(path.name for path in RUNS_DIR.iterdir()) == ["two.jsonl", "two.rehearsal.json"]
