from __future__ import annotations

import io
import json
import math
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest

from castbench.cost.spec import Price
from castbench.errors import InputError
from castbench.report import comparison, exporters, extra, xlsx, xlsx_charts, xlsx_comparison, xlsx_prose
from castbench.report.blocks import Axis, Block, Bullets, Chart, Heading, Mark, Paragraph, Point, Series, Table
from castbench.report.catalogue import LANGUAGES, speaking
from castbench.report.nouns import Report
from castbench.report.redact import redact
from castbench.report.text import legible
from castbench.report.xlsx_book import Book, Field
from castbench.said import Unit
from castbench.stats import Estimate
from castbench.units import HOURS_PER_MONTH
from castbench.workload.spec import Currency
from tests.report import builder

SOFFICE = shutil.which("soffice")
needs_soffice = pytest.mark.skipif(SOFFICE is None, reason="LibreOffice (soffice) is not installed")

Cells = list[list[Any]]


def _sheet(data: bytes, name: str, *, formulas: bool = False) -> Cells:
    """Cells of a sheet: what a viewer without arithmetic shows, or formulas."""
    book = openpyxl.load_workbook(io.BytesIO(data), data_only=not formulas)
    return [[cell.value for cell in row] for row in book[name].iter_rows()]


def _tables(cells: Cells) -> Iterator[list[dict[str, Any]]]:
    """Tables of a sheet, each begins with the heading "mechanism"."""
    tops = [index for index, row in enumerate(cells) if row[0] == "mechanism"]
    for top in tops:
        heading = cells[top]
        rows: list[dict[str, Any]] = []
        for row in cells[top + 1 :]:
            if row[0] is None or all(cell is None for cell in row[1:]):
                break
            rows.append({name: cell for name, cell in zip(heading, row, strict=True) if name is not None})
        yield rows


def _document(report: Report) -> Any:
    return json.loads(exporters.render(report, "json"))


def _same(cell: Any, number: float | None) -> bool:
    """Whether a cell holds a number, to the 16 digits that the format's writer keeps; empty where it is not known."""
    return cell is None if number is None else math.isclose(cell, number, rel_tol=1e-15, abs_tol=0.0)


@pytest.mark.parametrize("name", builder.SITUATIONS)
def test_the_summary_holds_the_numbers_of_the_json(name: str) -> None:
    """Money, servers, speed-up and memory of every mechanism, value and range, as openpyxl reads the cached values."""
    report = builder.SITUATIONS[name]()
    projected = _document(report)["projected"]
    money, running = _tables(_sheet(xlsx.of_report(report), "Summary"))
    assert len(money) == len(running) == len(projected["mechanisms"])
    nothing = {"value": None, "low": None, "high": None}
    for arm, bill, how in zip(projected["mechanisms"], money, running, strict=True):
        cost, saving = arm["cost_usd_per_hour"] or nothing, arm["saving_usd_per_hour"] or nothing
        speedup = arm["speedup"] or nothing
        assert _same(bill["servers"], arm["replicas"])
        if projected["money"]["missing"] is None:
            assert _same(bill["cost $/h"], cost["value"])
            assert _same(bill["cost $/h, low"], cost["low"])
            assert _same(bill["cost $/h, high"], cost["high"])
            assert _same(bill["saving $/h"], saving["value"])
            assert _same(bill["saving $/h, low"], saving["low"])
            assert _same(bill["saving $/h, high"], saving["high"])
            month = None if saving["value"] is None else saving["value"] * HOURS_PER_MONTH
            assert _same(bill["saving $/month"], month)
            assert _same(bill["P(saving > 0)"], arm["probability_saving_positive"])
        else:
            assert not any("$" in heading for heading in bill)
        assert _same(how["speed-up"], speedup["value"])
        assert _same(how["speed-up, low"], speedup["low"])
        assert _same(how["busy"], arm["utilization"])


@pytest.mark.parametrize("name", builder.SITUATIONS)
def test_the_cases_hold_the_numbers_of_the_json(name: str) -> None:
    """Every case in order, as pandas reads them, with the same numbers and empty cells where nothing is known."""
    report = builder.SITUATIONS[name]()
    table = pd.read_excel(io.BytesIO(xlsx.of_report(report)), sheet_name="Cases")
    rows = [(g, row) for g in _document(report)["measured"]["groups"] for row in g["rows"]]
    assert len(table) == len(rows)
    for (_, cells), (group, row) in zip(table.iterrows(), rows, strict=True):
        latency = row["latency_ms"] or {"value": None, "low": None, "high": None}
        known = {
            "batch": group["group"]["shape"]["batch_size"], "tokens": group["group"]["shape"]["seq_len"],
            "p50 ms": latency["value"], "p50 ms, low": latency["low"], "p50 ms, high": latency["high"],
            "mean ms": row["mean_ms"], "tokens/s": row["tokens_per_s"], "peak MiB": row["peak_memory_mib"],
            "reserved MiB": row["reserved_memory_mib"], "rounds": row["rounds"],
            "J/sequence": None if row["energy"] is None else row["energy"]["gross_j_per_sequence"]["value"],
        }  # fmt: skip
        for heading, number in known.items():
            assert _same(None if pd.isna(cells[heading]) else cells[heading], number), heading


FORMULA = re.compile(r"\$?([A-Z]+)\$?(\d+)")


def _recomputed(cells: Cells, formula: str, prices: dict[str, float]) -> float:
    """A formula of this workbook by hand: cells, named prices, and arithmetic."""

    def of_cell(found: re.Match[str]) -> str:
        column = 0
        for letter in found[1]:
            column = column * 26 + ord(letter) - ord("A") + 1
        cell = cells[int(found[2]) - 1][column - 1]
        return f"({_recomputed(cells, cell, prices) if isinstance(cell, str) else cell!r})"

    words = formula.removeprefix("=")
    for name in sorted(prices, key=len, reverse=True):
        words = words.replace(name, f"({prices[name]!r})")
    words = FORMULA.sub(of_cell, words)
    assert set(words) <= set("0123456789.()+-*/e "), words
    return float(eval(words))


def _formulas(data: bytes) -> list[tuple[int, int, str]]:
    """Formulas of the summary with their places; text that looks like one is none."""
    sheet = openpyxl.load_workbook(io.BytesIO(data))["Summary"]
    cells = [cell for row in sheet.iter_rows() for cell in row if cell.data_type == "f"]
    return [(cell.row - 1, cell.column - 1, cell.value) for cell in cells]


@pytest.mark.parametrize("name", ["win", "loss", "tune_first", "failures", "few_rounds", "on_a_gpu"])
def test_formulas_give_what_their_cells_hold(name: str) -> None:
    """Every formula, computed by other means, is the number that is cached beside it; money cells are formulas."""
    data = xlsx.of_report(builder.SITUATIONS[name]())
    formulas, shown = _sheet(data, "Summary", formulas=True), _sheet(data, "Summary")
    prices = {"server_price": 3.673, "server_price_of_report": 3.673}
    found = _formulas(data)
    assert len(found) >= 20
    for row, column, formula in found:
        assert math.isclose(_recomputed(formulas, formula, prices), shown[row][column], rel_tol=1e-12, abs_tol=1e-12)


def test_another_price_moves_every_amount_in_proportion() -> None:
    """At twice the price every formula of the summary gives twice the amount, costs are servers times that price, and
    what is no money is no formula.
    """
    data = xlsx.of_report(builder.win())
    formulas, shown = _sheet(data, "Summary", formulas=True), _sheet(data, "Summary")
    dear = {"server_price": 2 * 3.673, "server_price_of_report": 3.673}
    for row, column, formula in _formulas(data):
        assert math.isclose(_recomputed(formulas, formula, dear), 2 * shown[row][column], rel_tol=1e-12, abs_tol=1e-12)
    money, _ = _tables(formulas)
    cast = money[2]
    assert re.fullmatch(r"=C\d+\*server_price", cast["cost $/h"])
    assert re.fullmatch(r"=D\d+-D\d+", cast["saving $/h"])
    assert not any(isinstance(cast[name], str) and cast[name][0] == "=" for name in ("servers", "saving %"))


def test_a_cost_that_is_not_servers_times_price_is_still_the_reports() -> None:
    """Where the report's own number is not servers × price, the formula scales that number instead of replacing it."""
    report = builder.win()
    odd = replace(report.mechanisms[2], cost_usd_per_hour=Estimate(8.0, 7.5, 8.5))
    report = replace(report, mechanisms=(*report.mechanisms[:2], odd))
    data = xlsx.of_report(report)
    money, _ = _tables(_sheet(data, "Summary"))
    formulas, _ = _tables(_sheet(data, "Summary", formulas=True))
    assert money[2]["cost $/h"] == 8.0
    assert formulas[2]["cost $/h"] == "=8.0*server_price/server_price_of_report"


def _converted(data: bytes, folder: Path, to: str) -> Path:
    """A workbook as LibreOffice recalculates it."""
    (folder / "report.xlsx").write_bytes(data)
    assert SOFFICE is not None
    profile = f"-env:UserInstallation={(folder / 'office').as_uri()}"
    command = [SOFFICE, "--headless", profile, "--convert-to", to, "--outdir", str(folder / "out"), "report.xlsx"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=180)
    return next((folder / "out").iterdir())


def _recalculated(data: bytes, folder: Path, **changed: float) -> bytes:
    """A workbook with other numbers in named cells, its formulas computed by LibreOffice from nothing: openpyxl leaves
    the numbers that were cached out.
    """
    book = openpyxl.load_workbook(io.BytesIO(data))
    for name, number in changed.items():
        sheet, cell = next(iter(book.defined_names[name].destinations))
        book[sheet][cell] = number
    book.save(folder / "report.xlsx")
    assert SOFFICE is not None
    profile = f"-env:UserInstallation={(folder / 'office').as_uri()}"
    command = [SOFFICE, "--headless", profile, "--convert-to", "xlsx", "--outdir", str(folder / "out"), "report.xlsx"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=180)
    return (folder / "out" / "report.xlsx").read_bytes()


@needs_soffice
@pytest.mark.slow
def test_libreoffice_computes_the_same_amounts(tmp_path: Path) -> None:
    """Every formula of the summary, computed by LibreOffice, gives the number that is cached in its cell."""
    data = xlsx.of_report(builder.win())
    computed, cached = _sheet(_recalculated(data, tmp_path), "Summary"), _sheet(data, "Summary")
    for row, column, formula in _formulas(data):
        assert math.isclose(computed[row][column], cached[row][column], rel_tol=1e-12, abs_tol=1e-12), formula


@needs_soffice
@pytest.mark.slow
def test_a_changed_price_changes_the_amounts_in_libreoffice(tmp_path: Path) -> None:
    """With 10 in the yellow cell, recalculation gives 2 servers × 10 and a saving of 4 × 10 − 20."""
    made = _recalculated(xlsx.of_report(builder.win()), tmp_path, server_price=10.0)
    money, _ = _tables(_sheet(made, "Summary"))
    assert (money[2]["cost $/h"], money[2]["saving $/h"], money[2]["saving $/month"]) == (20.0, 20.0, 14600.0)
    assert math.isclose(money[2]["saving $/h, low"], 10.0)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_same_run_gives_the_same_bytes(language: str) -> None:
    """Nothing of the moment of writing is inside: dates are fixed or the run's."""
    with speaking(language):
        once, again = (xlsx.of_report(builder.on_a_gpu()) for _ in range(2))
    assert once == again
    with zipfile.ZipFile(io.BytesIO(once)) as parts:
        assert {part.date_time[0] for part in parts.infolist()} == {1980}
        assert b"2026-11-23T09:00:00Z" in parts.read("docProps/core.xml")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_names_for_sheets_and_columns(language: str) -> None:
    """Sheets have short names without forbidden characters, and no heading is missing or left with a brace."""
    with speaking(language):
        data = xlsx.of_report(builder.on_a_gpu())
    book = openpyxl.load_workbook(io.BytesIO(data))
    assert len(book.sheetnames) == 7
    assert all(0 < len(name) <= 31 and not set(name) & set("[]:*?/\\'") for name in book.sheetnames)
    for name in book.sheetnames[2:6]:
        heading = [cell.value for cell in book[name][1]]
        assert all(heading)
        assert not any("{" in str(words) for words in heading)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", builder.SITUATIONS)
def test_plan_risks_and_claims_stand_in_the_workbook_as_on_the_page(name: str, language: str) -> None:
    """Every sentence and cell of those three sections is on the second sheet; there is none where they are empty."""
    report = builder.SITUATIONS[name]()
    with speaking(language):
        said = [words for block in xlsx_prose.blocks(report) for words in _words_of(block)]
        data = xlsx.of_report(report)
    names = openpyxl.load_workbook(io.BytesIO(data)).sheetnames
    assert len(names) == (7 if said else 6)
    if said:
        cells = {str(cell).removeprefix("• ") for row in _sheet(data, names[1]) for cell in row if cell is not None}
        assert {legible(words) for words in said} <= cells


def _words_of(block: Block) -> Iterator[str]:
    """Everything a block says."""
    if isinstance(block, Heading | Paragraph):
        yield block.words
    elif isinstance(block, Bullets):
        yield from block.items
    elif isinstance(block, Table):
        yield from (column.heading for column in block.columns)
        yield from (cell for row in block.rows for cell in row if cell)


def test_hostile_names_stay_words() -> None:
    """Formulas, markup, escapes and turned writing in labels are text cells without formula, link or control."""
    data = xlsx.of_report(builder.hostile())
    with zipfile.ZipFile(io.BytesIO(data)) as parts:
        written = {name: parts.read(name).decode() for name in parts.namelist() if name.endswith(".xml")}
    assert not any("<hyperlink" in words for words in written.values())
    for name, words in written.items():
        if name.startswith("xl/charts"):
            references = re.findall(r"<c:f>(.*?)</c:f>", words)
            assert references
            assert all(re.fullmatch(r"'?(Charts|Summary)'?!\$[A-Z]+\$\d+(:\$[A-Z]+\$\d+)?", one) for one in references)
    cells = _sheet(data, "Cases", formulas=True)
    labels = [row[0] for row in cells]
    assert "=cmd|'/c calc'!A0" in labels
    assert "-1+2" in labels
    assert "x" * 300 in labels
    assert "\ufffd[31mred\ufffdevil" in labels
    allowed = re.compile(r"=(C\d+\*server_price|D\d+-D\d+|[DH]\d+\*\d+|-?[\d.]+\*server_price/server_price_of_report)")
    assert all(allowed.fullmatch(formula) for _, _, formula in _formulas(data))
    book = openpyxl.load_workbook(io.BytesIO(data))
    typed = [cell.data_type for row in book["Cases"].iter_rows(max_col=1) for cell in row]
    assert set(typed) == {"s"}


def test_a_cell_holds_no_more_than_a_cell_can() -> None:
    """A text of 40,000 characters is cut to the limit and marked; what XML forbids is replaced."""
    book = Book("x", "2026-11-23T09:00:00+00:00", "footer & more")
    sheet = book.sheet("a/b:c" * 20)
    sheet.only_table([Field("words", text=True)], [["é" * 40_000], ["\x00\x0b\ud800"], ["_x0041_"]])
    (heading,), (long,), (odd,), (escaped,) = _sheet(book.closed(), ("a b c" * 20)[:31])
    assert (heading, len(long), long[-1]) == ("words", 32_767, "…")
    assert odd == "\ufffd\ufffd\ufffd"
    assert escaped == "_x0041_"


def test_warnings_are_red_and_come_first() -> None:
    """What must be read before any number stands over the headline, in red."""
    data = xlsx.of_report(builder.no_price())
    sheet = openpyxl.load_workbook(io.BytesIO(data))["Summary"]
    words = [row[0] for row in sheet.iter_rows(max_row=12)]
    red = [cell.value for cell in words if cell.font.color is not None and cell.font.color.rgb == "FFB00020"]
    assert red == ["Measured on a CPU: it says nothing about a GPU."]
    assert words[2].value == red[0]


def test_sheets_are_ready_to_be_filtered_and_printed() -> None:
    """Cases keep their heading and labels in sight, can be filtered, and print in landscape with the heading."""
    sheet = openpyxl.load_workbook(io.BytesIO(xlsx.of_report(builder.win())))["Cases"]
    assert sheet.freeze_panes == "B2"
    assert sheet.auto_filter.ref is not None
    assert sheet.page_setup.orientation == "landscape"
    assert sheet.print_title_rows == "$1:$1"
    assert sheet.column_dimensions["A"].width > 10


def test_the_chart_of_costs_is_drawn_from_cells_that_follow_the_price() -> None:
    """The summary has a chart whose numbers are formulas of its table, ranges included."""
    data = xlsx.of_report(builder.tune_first())
    book = openpyxl.load_workbook(io.BytesIO(data))
    assert len(book["Summary"]._charts) == 1
    table = _sheet(data, "Charts", formulas=True)
    bars = [row for row in table if isinstance(row[2], str) and row[2].startswith("='Summary'!")]
    assert [row[0] for row in bars] == ["sdpa", "naive", "cast-32"]
    shown = _sheet(data, "Charts")
    cast = next(row for row in shown if row[0] == "cast-32")
    assert cast[2] == 7.346


CHARTS = (
    Chart(
        "lines", "Lines", "l", "lines", Axis("tokens", True, Unit.TOKENS), Axis("ms", True, Unit.MS),
        (Series("=1+1", (Point(512, 1.0, 0.9, 1.1), Point(4096, 8.0)), "today"),), (Mark(1000.0, "=2+2"),),
    ),
    Chart(
        "fall", "Fall", "f", "waterfall", Axis("step"), Axis("$/h", unit=Unit.USD_PER_HOUR),
        (Series("all", (Point("today", 10.0), Point("less", -4.0), Point("more", 1.0), Point("end", 7.0))),),
    ),
    Chart(
        "torn", "Torn", "t", "tornado", Axis(""), Axis("$/h", unit=Unit.USD_PER_HOUR),
        (Series("what", (Point("price", 5.0, 3.0, 7.0), Point("rate", 5.0, 4.0, 6.0)), "candidate"),),
    ),
    Chart(
        "dots", "Dots", "d", "scatter", Axis("$/h"), Axis("p99 ms", unit=Unit.MS),
        (Series("A", (Point(1.0, 2.0, note="=HYPERLINK(1)"),), "candidate", 5),),
    ),
    Chart("bars", "Bars", "b", "bars", Axis("x"), Axis("y"), (Series("a", (Point("a", 1.0, 0.5, 2.0),)),)),
)  # fmt: skip


def test_every_kind_of_chart_has_its_numbers_beside_it() -> None:
    """Points, ranges and marks stand in cells, unrounded; the steps of a waterfall begin where the one before ended."""
    book = Book("x", "2026-11-23T09:00:00+00:00", "f")
    sheet = book.sheet("Charts")
    xlsx_charts.prepared(sheet)
    xlsx_charts.page(sheet, CHARTS)
    data = book.closed()
    cells = _sheet(data, "Charts")
    rows = {(row[0], row[1]): row for row in cells if row[1] is not None}
    assert rows["=1+1", 512][2:5] == [1, 0.9, 1.1]
    assert math.isclose(rows["=1+1", 512][7], 0.1)
    assert [row[2] for row in cells if row[0] == "=2+2"] == [1, 8]
    steps = [rows["all", step][9:13] for step in ("today", "less", "more", "end")]
    assert steps == [[None, 10, None, None], [6, None, 4, 0], [6, None, 0, 1], [None, 7, None, None]]
    assert rows["what", "price"][2:5] == [5, 3, 7]
    assert rows["A", 1][5] == "=HYPERLINK(1)"
    assert len(openpyxl.load_workbook(io.BytesIO(data))["Charts"]._charts) == len(CHARTS)
    with zipfile.ZipFile(io.BytesIO(data)) as parts:
        log = parts.read("xl/charts/chart1.xml").decode()
    assert '<c:logBase val="2"/>' in log
    assert '<c:logBase val="10"/>' in log


def _compared(forced: bool = False) -> comparison.Comparison:
    first = builder.projection(builder.sdpa(), builder.naive(), builder.winning_cast())
    records = [
        builder.record(),
        builder.record(device_name="NVIDIA L4", scale=3.2, run_id="second", comparable="x" if forced else "c0ffee"),
    ]
    labels = comparison.labels_for(records)
    return comparison.build([(record, first) for record in records], labels, forced=forced)


def test_a_comparison_holds_the_numbers_of_its_json() -> None:
    """Value, low and high of every run and figure; the best by its letter; a row per run with its price."""
    compared = _compared()
    data = exporters.render_comparison(compared, "xlsx")
    document = json.loads(exporters.render_comparison(compared, "json"))
    for sheet, has_group in (("Mechanisms", False), ("Cases", True)):
        heading, *cells = _sheet(data, sheet)
        rows = [row for row in document["rows"] if (row["group"] is not None) == has_group]
        assert len(cells) == len(rows) > 0
        for row, made in zip(rows, cells, strict=True):
            named = dict(zip(heading, made, strict=True))
            for letter, value in zip("AB", row["values"], strict=True):
                assert _same(named[letter], value and value["value"])
                assert _same(named[f"{letter}, low"], value and value["low"])
            assert named["best"] == (", ".join("AB"[place] for place in row["best"]) or None)
    runs = pd.read_excel(io.BytesIO(data), sheet_name="Runs", header=None)
    assert runs[runs[0] == "B"].iloc[0, 1] == "NVIDIA L4"
    assert exporters.render_comparison(compared, "xlsx") == data


def test_unlike_runs_are_marked_in_red() -> None:
    """A forced comparison says so before anything else."""
    data = exporters.render_comparison(_compared(forced=True), "xlsx")
    sheet = openpyxl.load_workbook(io.BytesIO(data))["Runs"]
    assert sheet["A2"].value.startswith("UNLIKE RUNS")
    assert sheet["A2"].font.color.rgb == "FFB00020"


def test_without_the_package_the_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing extra is one sentence with what to type."""

    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(extra, "import_module", missing)
    with pytest.raises(InputError, match=r"xlsx needs xlsxwriter: pip install 'castbench\[xlsx\]'"):
        xlsx.of_report(builder.win())


def test_what_is_committed_does_not_follow_the_price() -> None:
    """Servers of one's own save electricity, which has another price: that cell is a number, not a formula."""
    report = builder.win()
    assert report.money.price is not None
    owned: Price = replace(report.money.price, plan="owned", electricity_usd_per_hour=0.2)
    report = replace(report, money=replace(report.money, price=owned))
    formulas, _ = _tables(_sheet(xlsx.of_report(report), "Summary", formulas=True))
    assert formulas[2]["cash saved $/h"] == 7.346


def test_amounts_in_another_currency_are_dollars_times_the_rate() -> None:
    """With a currency in the profile every amount stands there a second time, as a formula of the dollars and of a rate
    that can be changed; the numbers are those of the JSON.
    """
    report = builder.win()
    report = replace(report, money=replace(report.money, currency=Currency("JPY", 155.0)))
    data = xlsx.of_report(report)
    _, shown, _ = _tables(_sheet(data, "Summary"))
    _, formulas, _ = _tables(_sheet(data, "Summary", formulas=True))
    amounts = _document(report)["projected"]["in_currency"]["mechanisms"]["cast-32"]
    assert _same(shown[2]["cost JPY/h"], amounts["cost_jpy_per_hour"])
    assert _same(shown[2]["saving JPY/h, low"], amounts["saving_low_jpy_per_hour"])
    assert _same(shown[2]["saving JPY/year"], amounts["saving_jpy_per_year"])
    assert re.fullmatch(r"=D\d+\*currency_rate", formulas[2]["cost JPY/h"])
    assert openpyxl.load_workbook(io.BytesIO(data)).defined_names["currency_rate"] is not None


def test_a_stored_reason_is_told_in_the_language_of_the_report() -> None:
    """What a run file says in English is Japanese in a Japanese workbook, where the catalogue knows it."""
    report = builder.on_a_gpu()
    english = _sheet(xlsx.of_report(report), "Cases")
    with speaking("ja"):
        data = xlsx.of_report(report)
    japanese = _sheet(data, openpyxl.load_workbook(io.BytesIO(data)).sheetnames[2])
    column = english[0].index("reason")
    reasons = {row[column]: other[column] for row, other in zip(english[1:], japanese[1:], strict=True) if row[column]}
    assert reasons
    assert all(other != english for english, other in reasons.items())


def test_a_redacted_workbook_tells_nothing() -> None:
    """Host, paths and a contract price are in no part of the file."""
    report = builder.failures()
    assert report.money.price is not None
    contract = replace(report, money=replace(report.money, price=replace(report.money.price, contract=True)))
    data = xlsx.of_report(redact(contract))
    with zipfile.ZipFile(io.BytesIO(data)) as parts:
        written = b"".join(parts.read(name) for name in parts.namelist())
    for secret in (b"gpu-host-7", b"/home/mai", b"GPU-1234", b"3.673", b"14.692"):
        assert secret not in written, secret


def test_a_comparison_draws_the_charts_of_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page of a comparison pictures, the workbook draws from cells on a sheet of its own."""
    monkeypatch.setattr(xlsx_comparison, "page", lambda compared, most_cases: (CHARTS[3],))
    book = openpyxl.load_workbook(io.BytesIO(exporters.render_comparison(_compared(), "xlsx")))
    assert len(book["Charts"]._charts) == 1
