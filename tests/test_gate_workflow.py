from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from castbench.cost.gates import Metric
from castbench.report.prometheus_page import METRICS
from tests.test_docs import commands

ROOT = Path(__file__).parents[1]
WORKFLOW = ROOT / "docs" / "examples" / "castbench-gate.yml"
GUIDE = ROOT / "docs" / "introduction.md"


def steps() -> list[dict[str, Any]]:
    """The steps of the only job."""
    ((job,),) = [tuple(yaml.safe_load(WORKFLOW.read_text())["jobs"].values())]
    found: list[dict[str, Any]] = job["steps"]
    return found


def test_the_workflow_calls_commands_that_exist() -> None:
    """Every castbench command of it, with every option, is one the program has."""
    known = commands()
    called = [line for step in steps() for line in re.findall(r"castbench ([a-z]+ [^\n|]*)", step.get("run", ""))]
    assert [line.split()[0] for line in called] == ["profile", "diff", "report"]
    for line in called:
        assert set(re.findall(r"--[a-z-]+", line)) <= known[line.split()[0]], line


def test_a_missed_gate_fails_the_job_and_the_report_is_kept_all_the_same() -> None:
    """The pipe into the summary keeps the exit code; report and upload run always, where there is a run."""
    by_name = {step.get("name", step.get("uses")): step for step in steps()}
    assert "set -o pipefail" in by_name["Hold it against the kept run"]["run"]
    for name in ("Make the report", "Keep run and report"):
        assert by_name[name]["if"].startswith("always()")


def test_the_guide_names_every_metric() -> None:
    """Of gates, and of alert rules with their placeholders."""
    text = GUIDE.read_text()
    assert {metric.value for metric in Metric} <= set(re.findall(r"`(\w+)`", text))
    assert {name for pair in METRICS.items() for name in pair} <= set(re.findall(r"`(\w+)`", text))
