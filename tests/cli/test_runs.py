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
