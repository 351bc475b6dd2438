"""Packages that only some formats need: there, or one sentence that says how to get them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from castbench.errors import InputError


def needed(module: str, fmt: str, package: str | None = None) -> Any:
    """A module that the format `fmt` needs; InputError with the command that installs it."""
    try:
        return import_module(module)
    except ImportError:
        raise InputError(f"{fmt} needs {package or module}: pip install 'castbench[{fmt}]'") from None
