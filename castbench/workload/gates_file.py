"""Reads a file of gates: YAML with a list `gates` of lines such as 'cast-32: speedup_vs_baseline >= 1.3'."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from castbench.errors import InputError
from castbench.workload.yaml_text import parse_yaml, read_text, shown

_FORM = "expected a text such as 'cast-32: speedup_vs_baseline >= 1.3'"


def read_gates(path: Path) -> tuple[tuple[str, str], ...]:
    """(where it stands, text) of every gate of a file; InputError for a file that is no such list."""
    data = parse_yaml(read_text(path), str(path))
    unknown = [key for key in data if key != "gates"] if isinstance(data, dict) else []
    if not isinstance(data, dict) or unknown or not isinstance(data.get("gates"), list):
        got = f"the key {shown(unknown[0])}" if unknown else shown(data)
        raise InputError(f"{path}: expected one key, gates, with a list of gates, got {got}")
    if not data["gates"]:
        raise InputError(f"{path}: gates: the list is empty")
    return tuple((f"{path}: gates[{i}]", _text(item, f"{path}: gates[{i}]")) for i, item in enumerate(data["gates"]))


def _text(item: Any, where: str) -> str:
    """A gate's text; one that was not quoted is read by YAML as a mapping of one key."""
    if isinstance(item, str):
        return item
    if isinstance(item, dict) and len(item) == 1:
        ((label, rest),) = item.items()
        if isinstance(rest, str):
            return f"{label}: {rest}"
    raise InputError(f"{where}: {_FORM}, got {shown(item)}")
