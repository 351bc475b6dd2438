from __future__ import annotations

import re
from dataclasses import replace

import pytest

from castbench.report import comparison, comparison_page, exporters, page, terminal, trim, view
from castbench.report.blocks import Paragraph, Table
from castbench.report.nouns import GroupTable, Report
from tests.report import builder


def _report(labels: int = 8, lengths: int = 50, batch_sizes: int = 1) -> Report:
    """A report of many cases, priced by hand."""
    record = builder.many_cases(labels, lengths, batch_sizes)
    return view.build(record, builder.projection(builder.sdpa(), builder.naive()))


def _case_rows(report: Report, most: int | None) -> int:
    """Rows of tables that name a latency: those by case."""
    blocks = page.of_report(report, most_cases=most)
    return sum(
        len(block.rows)
        for block in blocks
        if isinstance(block, Table) and "p50 ms" in [column.heading for column in block.columns]
    )


def test_a_document_shows_at_most_300_cases_and_names_the_command_for_the_rest() -> None:
    """Of 400 cases a document has the first 296, whole shapes of 8, and says where the other 104 are."""
    report = _report()
    assert _case_rows(report, None) == 400
    assert _case_rows(report, trim.MOST_CASE_ROWS) == 296
    told = [b.words for b in page.of_report(report, most_cases=300) if isinstance(b, Paragraph) and "…" in b.words]
    assert told == ["… 104 more rows: castbench report castbench-runs/contracts.jsonl --format csv --table cases"]


def test_a_run_that_fits_is_shown_whole_and_says_nothing_of_more() -> None:
    """Exactly 300 rows are all there."""
    report = _report(labels=6, lengths=50)
    assert _case_rows(report, 300) == 300
    words = [b.words for b in page.of_report(report, most_cases=300) if isinstance(b, Paragraph)]
    assert "more rows" not in " ".join(words)


def test_a_single_shape_of_more_cases_is_cut() -> None:
    """One shape of 310 cases keeps 300 of them."""
    report = _report(labels=310, lengths=1)
    assert _case_rows(report, 300) == 300


def test_rows_of_energy_and_memory_count_too() -> None:
    """A case that stands in three tables takes three of the rows."""
    table = builder.on_a_gpu().groups[0]
    heavy = tuple(
        replace(row, energy=table.rows[0].energy, reserved_memory_mib=1.0, largest_batch=None) for row in table.rows[:2]
    )
    groups = [GroupTable(table.group, heavy)] * 3
    assert [len(trim.first_cases(groups, most)[0]) for most in (11, 12, 17, 18)] == [1, 2, 2, 3]
    assert trim.first_cases(groups, None) == (tuple(groups), 0)


@pytest.mark.parametrize("most", [1, 7, 40, 299, 300])
def test_nothing_is_lost_between_shown_and_left_out(most: int) -> None:
    """Shown and left out add up to all cases, and what is shown is their beginning."""
    report = _report(labels=7, lengths=20, batch_sizes=3)
    shown, left_out = trim.first_cases(report.groups, most)
    labels = [(t.group.key, row.arm.label) for t in report.groups for row in t.rows]
    kept = [(t.group.key, row.arm.label) for t in shown for row in t.rows]
    assert kept == labels[: len(kept)]
    assert len(kept) + left_out == len(labels)
    assert len(kept) <= most


def test_the_terminal_shows_every_case_and_markdown_does_not() -> None:
    """What is left out of a document is on the terminal."""
    report = _report()
    assert "more rows" not in terminal.draw(page.of_report(report)).decode()
    assert "… 104 more rows" in exporters.render(report, "md").decode()


def test_a_redacted_run_is_not_named_in_the_command() -> None:
    """Without a path the command names no file."""
    report = _report()
    said = list(trim.rest(3, replace(report.run, path=None)))
    assert isinstance(said[0], Paragraph)
    assert "castbench report RUN --format csv" in said[0].words


def test_a_comparison_of_many_cases_is_cut_too() -> None:
    """At most 300 rows by case, over all tables that four runs need."""
    made = builder.projection(builder.sdpa())
    runs = [replace(builder.many_cases(8, 30, 1), path=None) for _ in range(4)]
    runs = [replace(run, header=replace(run.header, run_id=str(i))) for i, run in enumerate(runs)]
    compared = comparison.build([(run, made) for run in runs], ["a", "b", "c", "d"])
    blocks = comparison_page.page(compared, most_cases=300)
    by_case = [b for b in blocks if isinstance(b, Table) and b.columns[1].heading == "batch × tokens"]
    assert sum(len(table.rows) for table in by_case) == 300
    all_rows = sum(row.group is not None for row in compared.rows)
    words = " ".join(b.words for b in blocks if isinstance(b, Paragraph))
    found = re.search(r"… ([\d,]+) more rows", words)
    assert found is not None
    assert int(found[1].replace(",", "")) == all_rows - 150
