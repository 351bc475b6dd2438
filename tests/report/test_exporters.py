from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from castbench.errors import CastbenchError, InputError
from castbench.report import exporters
from castbench.report.nouns import Report
from tests.report.builder import win


def shout(report: Report, options: exporters.Options) -> bytes:
    """A third party's exporter."""
    return f"{report.run.run_id} {options.table}".upper().encode()


def _install(monkeypatch: pytest.MonkeyPatch, *points: EntryPoint) -> None:
    monkeypatch.setattr(exporters, "entry_points", lambda group: [p for p in points if p.group == group])


def test_a_third_party_adds_a_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point becomes a format and gets the options."""
    _install(monkeypatch, EntryPoint("shout", f"{__name__}:shout", exporters.ENTRY_POINT_GROUP))
    assert exporters.render(win(), "shout", table="cases") == b"CONTRACTS-20261123-1 CASES"
    assert exporters.formats()[-1] == "shout"


def test_a_shipped_format_cannot_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point called csv is not asked."""
    _install(monkeypatch, EntryPoint("csv", f"{__name__}:shout", exporters.ENTRY_POINT_GROUP))
    assert exporters.render(win(), "csv").startswith(b"label,")


def test_a_broken_third_party_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their failure is a sentence with the entry point, not a traceback."""
    _install(monkeypatch, EntryPoint("shout", "no_such_module:x", exporters.ENTRY_POINT_GROUP))
    with pytest.raises(CastbenchError, match="no_such_module:x"):
        exporters.render(win(), "shout")


@pytest.mark.parametrize("wrong", [{"fmt": "docx"}, {"fmt": "csv", "table": "rows"}])
def test_an_unknown_format_or_table_says_what_there_is(wrong: dict[str, str]) -> None:
    """The error names the option and the choices."""
    with pytest.raises(InputError, match=r"--(format|table): expected .*(terminal|summary)"):
        exporters.render(win(), **wrong)


@pytest.mark.parametrize(
    ("given", "meant"), [("HTML", "Did you mean 'html'?"), ("xlxs", "Did you mean 'xlsx'?"), ("markdown", None)]
)
def test_a_mistyped_format_is_told_what_was_meant(given: str, meant: str | None) -> None:
    """The closest name is offered, and none where none is close."""
    with pytest.raises(InputError) as told:
        exporters.render(win(), given)
    assert str(told.value).endswith(meant or f"got '{given}'")


@pytest.mark.parametrize(
    ("fmt", "options", "option"),
    [("html", {"table": "cases"}, "--table is for --format csv"), ("json", {"table": "summary"}, "--table"),
     ("csv", {"metrics": (("latency", "x"),)}, "--metric is for --format prometheus")],
)  # fmt: skip
def test_what_another_format_takes_is_refused_and_not_ignored(fmt: str, options: Any, option: str) -> None:
    """A table of an HTML report or a metric of a CSV would be silently without effect."""
    with pytest.raises(InputError, match=option):
        exporters.render(win(), fmt, **options)


def test_reporting_imports_neither_torch_nor_pandas_nor_numpy() -> None:
    """A report needs a run file and nothing heavy, in a fresh interpreter."""
    code = (
        "import sys; from castbench.errors import InputError; from tests.report.builder import win\n"
        "from castbench.report import exporters\n"
        "for fmt in exporters.SHIPPED:\n"
        "    try:\n"
        "        exporters.render(win(), fmt)\n"
        "    except InputError as error:\n"
        "        assert 'pip install' in str(error)\n"
        "print([m for m in ('torch', 'pandas', 'numpy', 'pydantic') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
