"""A report or a comparison as JSON: everything at full precision, measured and projected apart, keys in fixed order."""

from __future__ import annotations

import json
import math
from typing import Any

from castbench.plain import to_plain
from castbench.report import text
from castbench.report.comparison import Comparison
from castbench.report.nouns import CaveatNote, Report
from castbench.said import Statement

SCHEMA = 1
"""Rises whenever a key is renamed, removed or changes its meaning."""


def of_report(report: Report) -> bytes:
    """The JSON of a report."""
    return encoded(
        {
            "schema": SCHEMA,
            "kind": "report",
            "run": report.run,
            "warnings": [said(s) for s in report.warnings],
            "headline": [said(s) for s in report.headline],
            "projected": {"money": report.money, "mechanisms": report.mechanisms},
            "ceilings": [said(s) for s in report.ceilings],
            "measured": {"groups": report.groups, "confirmations": report.confirmations},
            "assumptions": [said(s) for s in report.assumptions],
            "caveats": [doubt(note) for note in report.caveats],
            "reproduce": report.reproduce,
        }
    )


def of_comparison(comparison: Comparison) -> bytes:
    """The JSON of a comparison; `unlike_runs` is true where the runs did not do the same work."""
    return encoded(
        {
            "schema": SCHEMA,
            "kind": "comparison",
            "unlike_runs": comparison.unlike,
            "notes": [said(s) for s in comparison.notes],
            "runs": comparison.machines,
            "cheapest": comparison.cheapest,
            "rows": comparison.rows,
        }
    )


def said(one: Statement) -> dict[str, Any]:
    """A statement as its sentence, its name and its unrounded values."""
    return {"says": one.key, "text": text.say(one), "values": dict(one.values)}


def doubt(note: CaveatNote) -> dict[str, Any]:
    """A doubt with the labels it touches."""
    return {"caveat": note.caveat, "labels": note.labels, "text": text.CAVEATS[note.caveat]}


def encoded(value: Any) -> bytes:
    """Indented JSON in UTF-8."""
    plain = _finite(to_plain(value))
    return (json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "replace")


def _finite(value: Any) -> Any:
    """Plain values with null for the numbers JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
