from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from castbench import pipeline
from castbench.cli.compare import compare_command, prices_of
from castbench.cli.report import report_command
from castbench.cost.spec import Projection
from castbench.errors import InputError
from castbench.records import RunRecord
from tests.report import builder

app = typer.Typer()
app.command("report")(report_command)
app.command("compare")(compare_command)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Two stored runs, a and b; what the money stage is asked for is kept."""
    kept: list[dict[str, Any]] = []
    stored = {
        "latest": builder.record(),
        "a": builder.record(),
        "b": builder.record(device_name="NVIDIA L4", run_id="run-b"),
    }

    def project(record: RunRecord, **asked_for: Any) -> Projection:
        kept.append({"of": record.header.environment.device_name, **asked_for})
        return builder.projection(builder.sdpa(), builder.naive(), builder.winning_cast())

    monkeypatch.setattr(pipeline, "read_run", stored.__getitem__)
    monkeypatch.setattr(pipeline, "project", project)
    return kept


def _run(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def test_report_prints_the_latest_run(asked: list[dict[str, Any]]) -> None:
    """Without arguments: the latest run, for a terminal, at the profile's price."""
    done = _run("report")
    assert done.exit_code == 0
    assert "PILOT cast-32" in done.stdout
    assert asked[0]["price_usd_per_hour"] is None


def test_report_passes_price_and_rate_on(asked: list[dict[str, Any]]) -> None:
    """--price and --rate re-price the stored run."""
    assert _run("report", "a", "--price", "2.5", "--rate", "120").exit_code == 0
    assert (asked[0]["price_usd_per_hour"], asked[0]["rate"]) == (2.5, 120.0)


@pytest.mark.parametrize("option", ["--price", "--rate"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
def test_a_price_or_rate_that_is_none_is_refused(asked: list[dict[str, Any]], option: str, value: str) -> None:
    """The error names the option and what was given."""
    done = _run("report", option, value)
    assert isinstance(done.exception, InputError)
    assert option in str(done.exception)


def test_report_writes_a_file_once(asked: list[dict[str, Any]], tmp_path: Path) -> None:
    """A file is written without colour, not overwritten, and overwritten when asked."""
    out = tmp_path / "report.csv"
    assert _run("report", "--format", "csv", "--table", "cases", "--out", str(out)).exit_code == 0
    assert out.read_text(encoding="utf-8").startswith("label,mechanism,parameters,phase")
    assert isinstance(_run("report", "--format", "csv", "--out", str(out)).exception, InputError)
    assert _run("report", "--format", "csv", "--out", str(out), "--force").exit_code == 0
    assert out.read_text(encoding="utf-8").startswith("label,mechanism,parameters,recommendation")


def test_report_redacts_when_asked(asked: list[dict[str, Any]]) -> None:
    """--redact reaches the report."""
    assert "gpu-host-7" in _run("report").stdout
    assert "gpu-host-7" not in _run("report", "--redact").stdout


def test_compare_prices_each_run_under_the_first_ones_demand(asked: list[dict[str, Any]]) -> None:
    """Prices go to the run they name, the demand of the first run to all."""
    done = _run("compare", "a", "b", "--price", "NVIDIA L4=0.71")
    assert done.exit_code == 0
    assert [call["price_usd_per_hour"] for call in asked] == [None, 0.71]
    assert {call["demand_of"].header.environment.device_name for call in asked} == {"NVIDIA A100-PCIE-80GB"}
    assert "Cheapest overall" in done.stdout


def test_comparing_a_run_with_itself_is_refused(asked: list[dict[str, Any]]) -> None:
    """Before anything is priced, the error says that it is the same run."""
    done = _run("compare", "a", "latest", "--force")
    assert isinstance(done.exception, InputError)
    assert "is the same run" in str(done.exception)
    assert asked == []


@pytest.mark.parametrize("text", ["0.71", "T4=0.71", "A=cheap", "A=", "A=0", "A=nan"])
def test_a_price_that_names_no_run_or_no_number_is_refused(text: str) -> None:
    """The error says what was expected and what was got."""
    with pytest.raises(InputError, match=r"--price: expected .* got "):
        prices_of([text], ("NVIDIA A100", "NVIDIA L4"))


def test_a_letter_or_a_label_names_a_run() -> None:
    """Labels may hold an equals sign; the last one separates."""
    assert prices_of(["B=0.71", "x=y=2"], ("x=y", "NVIDIA L4")) == {"NVIDIA L4": 0.71, "x=y": 2.0}
