from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from castbench import pipeline
from castbench.cli.app import app
from castbench.errors import InputError
from castbench.pipeline import write_out
from castbench.report import json_schema
from tests.report import builder


class _Stream:
    """A standard output."""

    def __init__(self, *, terminal: bool) -> None:
        self.buffer = io.BytesIO()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize("data", [b"%PDF-1.7\n%\xb5\xed\xae\xfb", b"PK\x03\x04\x00\x00", b"\xff\xfe"])
def test_a_terminal_gets_no_binary_format(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not text is refused with the option that helps, and nothing is written; a pipe gets it all."""
    terminal, pipe = _Stream(terminal=True), _Stream(terminal=False)
    monkeypatch.setattr(sys, "stdout", terminal)
    with pytest.raises(InputError, match="--out"):
        write_out(data, None)
    assert terminal.buffer.getvalue() == b""
    monkeypatch.setattr(sys, "stdout", pipe)
    write_out(data, None)
    assert pipe.buffer.getvalue() == data


def test_a_terminal_gets_every_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words in any script are text."""
    terminal = _Stream(terminal=True)
    monkeypatch.setattr(sys, "stdout", terminal)
    write_out("コスト × 2 😀\n".encode(), None)
    assert terminal.buffer.getvalue().decode() == "コスト × 2 😀\n"


def test_a_workbook_is_written_to_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`castbench report --format xlsx --out` writes it, byte for byte what the exporter gives, and not twice."""
    monkeypatch.setattr(pipeline, "read_run", lambda _: builder.record())
    monkeypatch.setattr(
        pipeline, "project", lambda record, **_: builder.projection(builder.sdpa(), builder.winning_cast())
    )
    out = tmp_path / "report.xlsx"
    command = ["report", "any", "--format", "xlsx", "--out", str(out)]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert out.read_bytes()[:2] == b"PK"
    again = CliRunner().invoke(app, command)
    assert again.exit_code != 0
    assert "--force" in str(again.exception)


def test_the_schema_is_printed_and_nothing_else() -> None:
    """`castbench report --json-schema` needs no run and prints what is shipped."""
    printed = CliRunner().invoke(app, ["report", "--json-schema"])
    assert printed.exit_code == 0
    assert printed.stdout.encode() == json_schema.published()
    assert json.loads(printed.stdout)["$schema"].endswith("2020-12/schema")
