"""The words of a workbook: names of its sheets and columns, by those of the CSV, from the catalogue."""

from __future__ import annotations

from collections.abc import Mapping

from castbench.report.catalogue import Section
from castbench.report.xlsx_book import Field
from castbench.said import Unit

SHEETS = Section("sheets")
COLUMNS = Section("sheet_columns")
IN_CURRENCY = Section("sheet_columns_in_currency")
FACTS = Section("facts")
WORDS = Section("sheet_words")

_TEXTS = {
    "label", "mechanism", "configuration", "recommendation", "quality_status", "verdict", "confirmation", "reason",
    "batching", "regime", "status", "stopped_by", "ran_as", "energy_reason", "caveats", "parameters", "kind_of_note",
    "concerns", "words", "fact", "value", "price_field", "letter", "run", "run_id", "created_at", "device_name",
    "price_plan", "price_source", "price_as_of", "metric", "best",
}  # fmt: skip
"""Columns of words, which are wrapped; the others are numbers."""


def fields(names: Mapping[str, Unit | None]) -> list[Field]:
    """Columns with their headings."""
    return [Field(COLUMNS[name], unit, name in _TEXTS) for name, unit in names.items()]


def words(*names: str) -> list[Field]:
    """Columns of words with their headings."""
    return fields(dict.fromkeys(names))
