from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from castbench.cli.plan_text import plan_text, plan_values
from castbench.pipeline import load_plan

PROFILE = """
name: small
model: {layers: 1, embed_dim: 32, num_heads: 2, vocab_size: 100}
lengths: {quantiles: {p0: 1, p50: 2730, p100: 4054}}
batch_sizes: [1, 8]
mechanisms: [sdpa, {cast: {num_clusters: 4}, label: cast}]
demand: {requests_per_second: 1000}
price_cpu: {usd_per_hour: 0.1}
"""


def _planned(folder: Path, more: str) -> tuple[Any, Any]:
    """The profile with some more keys, and its plan."""
    path = folder / "small.yaml"
    path.write_text(PROFILE + more)
    return load_plan(str(path))


def test_every_group_names_its_regime_within_80_columns(tmp_path: Path) -> None:
    """Each regime has the shapes of the others, in a column of its own, and the longest name still fits."""
    profile, plan = _planned(tmp_path, "regimes: [eager, compiled]\n")
    drawn = plan_text(profile, plan)
    rows = [line.split() for line in drawn.splitlines() if line.startswith(("b1-", "b8-"))]
    regimes = [row[3] for row in rows]
    assert regimes.count("eager") == regimes.count("compiled") == len(plan.groups) / 2
    assert all(row[0].endswith(("-compiled", "-compiled-heldout")) is (row[3] == "compiled") for row in rows)
    assert max(map(len, drawn.splitlines())) <= 80
    assert [group["regime"] for group in plan_values(profile, plan)["groups"]] == regimes


@pytest.mark.parametrize(
    ("more", "device", "words"),
    [
        ("regimes: [eager, graph]\n", "cpu", "regime graph needs a CUDA device"),
        ("regimes: [graph]\nphase: training\n", "cuda:0", "regime graph is measured for inference only"),
        ("regimes: [eager, graph]\n", "cuda:0", None),
        ("regimes: [compiled]\n", "cpu", None),
    ],
)
def test_a_regime_that_cannot_run_is_said_before_it_is_tried(
    tmp_path: Path, more: str, device: str, words: str | None
) -> None:
    """CUDA graphs on a CPU or in training are a warning of the plan; elsewhere nothing is said."""
    warnings = " ".join(plan_values(*_planned(tmp_path, more), device)["warnings"])
    assert ("regime graph" in warnings) is (words is not None)
    assert words is None or words in warnings


@pytest.mark.parametrize(
    ("more", "told"),
    [("", True), ("sampling: {confirm: false}\n", False)],
)
def test_the_fresh_rounds_at_the_end_are_announced(tmp_path: Path, more: str, told: bool) -> None:
    """Unless the profile asks for none."""
    drawn = plan_text(*_planned(tmp_path, more))
    assert ("fresh rounds" in drawn) is told
    assert not told or "then 8 fresh rounds of what comes out cheapest" in drawn
