from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from castbench.errors import InputError
from castbench.report import charts, comparison_page, exporters, extra, page, pdf
from castbench.report.blocks import Block, Bullets, Column, Commands, Heading, Paragraph, Table
from castbench.report.catalogue import LANGUAGES, speaking
from castbench.report.text import legible
from castbench.report.trim import MOST_CASE_ROWS
from tests.report import builder
from tests.report.test_xlsx import _compared

pytestmark = [
    pytest.mark.extra,
    pytest.mark.skipif(
        any(find_spec(name) is None for name in ("typst", *charts.NEEDED)), reason="not installed (extra: pdf)"
    ),
]
needs_poppler = pytest.mark.skipif(shutil.which("pdftotext") is None, reason="pdftotext and pdfinfo are not installed")
WHEN = "2026-11-23T09:00:00+00:00"


def _text(data: bytes, folder: Path) -> str:
    """What can be read and searched in a PDF, on one line and without the marks where words may break."""
    (folder / "report.pdf").write_bytes(data)
    done = subprocess.run(["pdftotext", "-layout", "report.pdf", "-"], cwd=folder, check=True, capture_output=True)
    return _flat(done.stdout.decode())


def _flat(words: str) -> str:
    return re.sub(r"[\s\u200b]+", "", words)


def _facts(data: bytes, folder: Path) -> dict[str, str]:
    """What pdfinfo says of a PDF."""
    (folder / "report.pdf").write_bytes(data)
    done = subprocess.run(["pdfinfo", "report.pdf"], cwd=folder, check=True, capture_output=True)
    lines = (line.partition(":") for line in done.stdout.decode().splitlines())
    return {name: value.strip() for name, _, value in lines}


def _font_or_skip(language: str) -> None:
    import typst  # type: ignore[import-not-found, unused-ignore]

    if language == "ja" and not set(pdf.JAPANESE) & set(typst.Fonts().families()):
        pytest.skip("no Japanese font is installed")


@needs_poppler
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", ["win", "loss", "no_price", "on_a_gpu", "failures"])
def test_headline_and_every_heading_can_be_read(name: str, language: str, tmp_path: Path) -> None:
    """Title, headline, warnings, all headings and all headings of tables are in the document's text."""
    _font_or_skip(language)
    report = builder.SITUATIONS[name]()
    with speaking(language):
        read = _text(pdf.of_report(report), tmp_path)
        blocks = page.of_report(report, most_cases=MOST_CASE_ROWS)
    wanted = [block.words for block in blocks if isinstance(block, Heading)]
    wanted += [block.words for block in blocks if isinstance(block, Paragraph) and block.tone in ("lead", "warning")]
    wanted += [column.heading for block in blocks if isinstance(block, Table) for column in block.columns]
    assert len(wanted) > 15
    # Headings of narrow columns and long sentences are broken over lines that -layout interleaves with neighbours.
    for words in wanted:
        for part in words.split():
            assert _flat(part) in read, words


@needs_poppler
def test_a_document_says_what_it_is(tmp_path: Path) -> None:
    """It parses, is A4, tagged, has its title, and is dated as the run."""
    facts = _facts(exporters.render(builder.win(), "pdf"), tmp_path)
    assert facts["Title"] == "castbench report: contracts"
    assert facts["Page size"].endswith("(A4)")
    assert facts["Tagged"] == "yes"
    assert "Nov 23" in facts["CreationDate"]
    assert "2026" in facts["CreationDate"]
    assert int(facts["Pages"]) >= 2


@needs_poppler
def test_every_page_names_the_run_and_its_number(tmp_path: Path) -> None:
    """The footer has the run's id and date, and the page of how many."""
    data = pdf.of_report(builder.win())
    pages = int(_facts(data, tmp_path)["Pages"])
    read = _text(data, tmp_path)
    assert read.count("contracts-20261123-1·2026-11-23T09:00:00+00:00") == pages
    assert all(f"{number}/{pages}" in read for number in range(1, pages + 1))


def test_the_same_run_gives_the_same_bytes() -> None:
    """In one process, and in a fresh one."""
    once = pdf.of_report(builder.tune_first())
    assert pdf.of_report(builder.tune_first()) == once
    code = (
        "import sys; from tests.report import builder; from castbench.report import pdf;"
        "sys.stdout.buffer.write(pdf.of_report(builder.tune_first()))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == once


@needs_poppler
def test_hostile_names_are_shown_and_not_obeyed(tmp_path: Path) -> None:
    """Markup of typst, HTML, formulas and 300 characters appear as they are; nothing is evaluated or read from disk."""
    evil = '#read("/etc/passwd") #{1+1} $x^2$ *bold* _it_ @ref <label> `raw` \\ // no comment'
    blocks: tuple[Block, ...] = (
        Heading(f"Title {evil}", 1), Paragraph(evil, "warning"), Paragraph(evil, "lead"), Paragraph(evil),
        Bullets((evil,)), Commands((evil,)), Table((Column(evil, numeric=False),), ((evil,), ("x" * 300,))),
    )  # fmt: skip
    read = _text(pdf.draw(blocks, evil, WHEN), tmp_path)
    assert read.count(_flat("#{1+1}")) >= 7
    assert "root:" not in read
    assert "x" * 300 in read
    assert _flat("//nocomment") in read


@needs_poppler
def test_hostile_labels_of_a_run_are_shown(tmp_path: Path) -> None:
    """Every label of a run stands in the document, control characters replaced."""
    report = builder.hostile()
    read = _text(pdf.of_report(report), tmp_path)
    for label in (arm.arm.label for arm in report.mechanisms if len(arm.arm.label) < 20):
        assert _flat(legible(label)) in read


@needs_poppler
def test_long_tables_repeat_their_headings(tmp_path: Path) -> None:
    """A table over several pages has its heading on each."""
    rows = tuple((f"row {index}", "1") for index in range(200))
    data = pdf.draw((Heading("Long", 1), Table((Column("UNIQUE", numeric=False), Column("n")), rows)), "f", WHEN)
    assert int(_facts(data, tmp_path)["Pages"]) == _text(data, tmp_path).count("UNIQUE") > 2


def test_a_comparison_is_a_document_too() -> None:
    """Same page as in the other formats, same bytes every time."""
    compared = _compared()
    data = exporters.render_comparison(compared, "pdf")
    assert data.startswith(b"%PDF-")
    assert exporters.render_comparison(compared, "pdf") == data


@pytest.mark.parametrize("language", LANGUAGES)
def test_without_a_japanese_font_only_japanese_is_refused(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install is said in one sentence; English documents need no font."""
    monkeypatch.setattr(pdf, "JAPANESE", ())
    with speaking(language):
        if language == "en":
            assert pdf.draw((Heading("x", 1),), "f", WHEN).startswith(b"%PDF-")
        else:
            with pytest.raises(InputError, match="fonts-noto-cjk"):
                pdf.draw((Heading("x", 1),), "f", WHEN)


def test_without_the_package_the_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing extra is one sentence with what to type."""

    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(extra, "import_module", missing)
    with pytest.raises(InputError, match=r"pdf needs typst: pip install 'castbench\[pdf\]'"):
        pdf.of_report(builder.win())


def test_at_most_three_hundred_cases_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long run is cut, and the rest named with the command that shows it."""
    drawn: list[tuple[Block, ...]] = []
    monkeypatch.setattr(pdf, "draw", lambda blocks, footer, created_at: drawn.append(blocks) or b"")
    pdf.of_report(builder.many_groups(100))
    words = [block.words for block in drawn[0] if isinstance(block, Paragraph)]
    assert any("more rows" in one and "--table cases" in one for one in words)
    assert drawn[0] == page.of_report(builder.many_groups(100), most_cases=MOST_CASE_ROWS)
    assert comparison_page.page(_compared(), most_cases=MOST_CASE_ROWS)
