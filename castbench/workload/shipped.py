"""Finds a profile: a path, or the name of one that ships with castbench."""

from __future__ import annotations

import difflib
from pathlib import Path

import castbench
from castbench.errors import InputError
from castbench.workload.yaml_text import shown

_PACKAGE = Path(castbench.__file__).parent


def shipped_profiles() -> dict[str, Path]:
    """Shipped profiles by name: of the installed package, or of the checkout the package stands in."""
    installed, checkout = _PACKAGE / "profiles", _PACKAGE.parent / "profiles"
    is_checkout = (_PACKAGE.parent / "pyproject.toml").is_file()
    folder = installed if installed.is_dir() or not is_checkout else checkout
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_profile(name_or_path: str) -> Path:
    """The file meant by a path or a shipped profile's name; InputError with a suggestion if there is none."""
    try:
        path = Path(name_or_path)
        if path.is_file():
            return path
        shipped = shipped_profiles()
        if name_or_path in shipped:
            return shipped[name_or_path]
        if path.exists():
            return path
        raise InputError(f"{_printable(name_or_path)}: there is no such file or shipped profile.{_hint(path, shipped)}")
    except (OSError, ValueError) as error:
        raise InputError(f"{_printable(name_or_path)}: not a usable file name: {error}") from error


def _printable(asked: str) -> str:
    """What was asked for, unless that would flood the screen or control the terminal."""
    return asked if asked.isprintable() and len(asked) <= 200 else shown(asked)


def _hint(path: Path, shipped: dict[str, Path]) -> str:
    """What was probably meant: a shipped profile, or a neighbouring file."""
    if near := difflib.get_close_matches(path.stem, shipped, n=1):
        return f" Did you mean the shipped profile {near[0]}?"
    folder = path.parent if path.parent.is_dir() else Path()
    neighbours = [entry.name for entry in folder.glob("*.y*ml")]
    if near := difflib.get_close_matches(path.name, neighbours, n=1):
        return f" Did you mean {folder / near[0]}?"
    return f" Shipped profiles are {', '.join(shipped)}."
