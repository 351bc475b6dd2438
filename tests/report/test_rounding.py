from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import castbench.report

ROOM = Path(castbench.report.__file__).parent
PRECISION = re.compile(r"\.\d|[,]|[eEfFgGn%]$")
OTHERS = sorted(path for path in ROOM.glob("*.py") if path.name not in ("format.py", "verify.py"))
"""verify.py states deviations to its own tolerance; it says nothing of a report."""


def _roundings(source: str) -> list[str]:
    """Places that turn a number into fewer digits."""
    found = []
    for node in ast.walk(ast.parse(source)):
        name = getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
        if name in ("round", "quantize", "to_integral_value", "floor", "ceil", "trunc"):
            found.append(name)
        if isinstance(node, ast.FormattedValue) and node.format_spec is not None:
            spec = "".join(part.value for part in node.format_spec.values if isinstance(part, ast.Constant))
            found += [spec] if PRECISION.search(spec) else []
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += re.findall(r"\{\w*:[^}]*(?:\.\d|,)[^}]*\}|%\.\d", node.value)
    return found


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.name)
def test_nothing_but_format_rounds(path: Path) -> None:
    """No other file of the room rounds or asks a format for a precision."""
    assert _roundings(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source", ["round(x, 2)", "f'{x:.3g}'", "f'{x:,}'", "'{:.2f}'.format(x)", "'%.2f' % x", "d.quantize(s)", "f'{x:g}'"]
)
def test_the_check_sees_every_way_of_rounding(source: str) -> None:
    """Each spelling of rounding is found."""
    assert _roundings(source)
