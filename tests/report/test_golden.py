from __future__ import annotations

import os
from pathlib import Path

import pytest

from castbench.report import comparison, exporters
from tests.report import builder

GOLDEN = Path(__file__).parents[1] / "golden" / "report"


def _comparison(fmt: str) -> bytes:
    """Two machines side by side."""
    first = builder.projection(builder.sdpa(), builder.naive(), builder.winning_cast())
    records = [builder.record(), builder.record(device_name="NVIDIA L4", scale=3.2, run_id="contracts-20261123-2")]
    made = comparison.build([(record, first) for record in records], comparison.labels_for(records))
    return exporters.render_comparison(made, fmt)


FILES = {
    "win.txt": lambda: exporters.render(builder.win(), "terminal"),
    "win.md": lambda: exporters.render(builder.win(), "md"),
    "few-rounds.json": lambda: exporters.render(builder.few_rounds(), "json"),
    "win.csv": lambda: exporters.render(builder.win(), "csv"),
    "win-cases.csv": lambda: exporters.render(builder.win(), "csv", table="cases"),
    "loss.txt": lambda: exporters.render(builder.loss(), "terminal"),
    "tune-first.txt": lambda: exporters.render(builder.tune_first(), "terminal"),
    "few-rounds.txt": lambda: exporters.render(builder.few_rounds(), "terminal"),
    "single-round.txt": lambda: exporters.render(builder.single_round(), "terminal"),
    "no-price.txt": lambda: exporters.render(builder.no_price(), "terminal"),
    "failures.txt": lambda: exporters.render(builder.failures(), "terminal"),
    "gpu.txt": lambda: exporters.render(builder.on_a_gpu(), "terminal"),
    "gpu-wide.txt": lambda: exporters.render(builder.on_a_gpu(), "terminal", width=160),
    "gpu-cases.csv": lambda: exporters.render(builder.on_a_gpu(), "csv", table="cases"),
    "compare.txt": lambda: _comparison("terminal"),
    "compare.md": lambda: _comparison("md"),
}


@pytest.mark.parametrize("name", FILES)
def test_what_is_printed_is_what_was_looked_at(name: str) -> None:
    """Every byte of the shown examples is known; CASTBENCH_UPDATE_GOLDEN=1 writes them anew, to be read in the diff."""
    made, path = FILES[name](), GOLDEN / name
    if os.environ.get("CASTBENCH_UPDATE_GOLDEN") == "1":
        path.write_bytes(made)
    assert made.decode() == path.read_text(encoding="utf-8")
