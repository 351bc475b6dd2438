"""Writes the tables in docs/mechanisms.md: mechanisms from their descriptions, CAST's limits from a kept result."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from castbench.cli.mechanisms import shown
from castbench.mechanisms import registry
from castbench.mechanisms.spec import MechanismSpec

DOCUMENT = Path(__file__).parents[1] / "docs" / "mechanisms.md"
RESULTS = Path(__file__).parents[1] / "results"
LIMITS = {"limits": "cast-limit-cpu.json", "limits-bf16": "cast-limit-cpu-bf16.json"}
"""Kept results by the marker that their tables stand behind."""


def table() -> str:
    """All mechanisms that are not hidden, then the hidden ones."""
    specs = sorted(registry.all_specs().values(), key=lambda spec: (spec.hidden, spec.name))
    head = (
        "| name | kind | cost in N | exact | causal | source | parameters (default) | remark |\n" + "| --- " * 8 + "|\n"
    )
    return head + "".join(_row(spec) for spec in specs)


def _row(spec: MechanismSpec) -> str:
    """One mechanism."""
    params = ", ".join(f"`{name}` ({shown(value)})" for name, value in spec.param_defaults().items())
    source = f"{spec.paper}, {spec.year}" if spec.paper else ""
    cells = (
        f"`{spec.name}`", spec.family, "" if spec.hidden else spec.complexity, *(
            "" if spec.hidden else "yes" if fact else "no" for fact in (spec.exact, spec.causal)
        ), source, params, spec.remark or (spec.summary if spec.hidden else ""),
    )  # fmt: skip
    return f"| {' | '.join(cells)} |\n"


def limits(result: Mapping[str, Any]) -> str:
    """CAST's ratios beside what is wanted, a table per width, and why each missed one of top_k is missed."""
    machine, parts = result["machine"], []
    parts.append(
        f"{machine['device']}, {machine['threads']} threads, torch {machine['torch']}, {result['dtype']}, "
        f"{machine['recorded_at'][:10]}; medians of ratios within up to {result['rounds']} rounds, and their range."
    )
    for width in dict.fromkeys(table["width"] for table in result["tables"]):
        parts += _limits_of(result, width)
    return "\n\n".join(parts) + "\n"


def _limits_of(result: Mapping[str, Any], width: int) -> Iterator[str]:
    """One width: the table, then the reasons."""
    tables = [table for table in result["tables"] if table["width"] == width and "targets" in table]
    rows = [row for table in tables for row in table["targets"]]
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    lines = [f"| {width} wide | wanted | {' | '.join(f'`{arm}`' for arm in arms)} |", "| --- " * (len(arms) + 2) + "|"]
    for target in dict.fromkeys(row["target"] for row in rows):
        same = {row["arm"]: row for row in rows if row["target"] == target}
        cells = [_limit_cell(same[arm]) if arm in same else "" for arm in arms]
        lines.append(f"| {target} | {next(iter(same.values()))['limit']} | {' | '.join(cells)} |")
    yield "\n".join(lines)
    missed = [row for row in rows if row["arm"] == arms[0] and row["why"]]
    yield "\n".join(f"- {row['target']}: {row['why']}." for row in missed) or "Every target is met."


def _limit_cell(row: Mapping[str, Any]) -> str:
    """A ratio with its range; bold where it is what is wanted."""
    shown = f"{row['value']:.3g}"
    shown = f"**{shown}**" if row["met"] else shown
    return shown + (f" ({row['low']:.3g}–{row['high']:.3g})" if row["rounds"] > 1 else "")


def written(document: str) -> str:
    """The document with every table between its markers."""
    document = _between("mechanisms", table(), document)
    for marker, name in LIMITS.items():
        document = _between(marker, limits(json.loads((RESULTS / name).read_text(encoding="utf-8"))), document)
    return document


def _between(marker: str, shown: str, document: str) -> str:
    """The document with this between a pair of markers."""
    begin, end = f"<!-- {marker}:begin -->\n", f"<!-- {marker}:end -->"
    head, _, rest = document.partition(begin)
    return f"{head}{begin}{shown}{end}{rest.partition(end)[2]}"


if __name__ == "__main__":
    DOCUMENT.write_text(written(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
