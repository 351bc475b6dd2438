"""What `castbench rehearse` says, from a run and its rehearsal; no sentence yet."""

from __future__ import annotations

from pathlib import Path

from castbench.cost.capacity_stage import longest_measured
from castbench.cost.rehearsed import Rehearsal
from castbench.findings import run_caveats
from castbench.records import Caveat, RunRecord
from castbench.report import view
from castbench.report.rehearsal_page import RehearsalReport


def build(record: RunRecord, rehearsal: Rehearsal, kept: Path | None) -> RehearsalReport:
    """The report of a rehearsal; `kept` is the file it was added to."""
    warnings = view.warnings(
        view.run_facts(record), is_wrong_device=Caveat.WRONG_DEVICE in run_caveats(record)
    )  # fmt: skip
    return RehearsalReport(rehearsal, tuple(warnings), longest_measured(record), None if kept is None else str(kept))
