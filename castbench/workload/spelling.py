"""Guesses what a refused value was meant to be, so that the error can show the right spelling."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from castbench.workload.yaml_text import resolve

_BINARY = {"": 1, "k": 2**10, "K": 2**10, "ki": 2**10, "Ki": 2**10, "m": 2**20, "M": 2**20, "Mi": 2**20}
_DECIMAL = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "%": 1e-2}
_SECONDS = {"ms": 1e-3, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_NUMBER = re.compile(r"[$€]?(?P<number>[-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*(?P<unit>[A-Za-z%]*)(?:\s*tokens)?")
_SEPARATORS = re.compile(r"(?<=[0-9])[_,'](?=[0-9]{3}(?![0-9]))")
_LONGEST = 40


def meant_whole(value: object) -> int | None:
    """The whole number that `value` seems to stand for: 2k is 2048, 4Ki 4096, 512.0 and "512" are 512."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 10**18:
        return int(value)
    if not isinstance(value, str) or len(value) > _LONGEST:
        return None
    if re.fullmatch(r"0x[0-9a-fA-F]{1,15}", value):
        return int(value, 16)
    match = _NUMBER.fullmatch(_SEPARATORS.sub("", value.strip()))
    if match is None or match["unit"] not in _BINARY:
        return None
    number = float(match["number"]) * _BINARY[match["unit"]]
    return int(number) if abs(number) < 10**18 and number.is_integer() else None


def meant_number(value: object, unit: str = "") -> float | int | None:
    """The number that `value` seems to stand for, in `unit` (ms, s or none): 250ms is 250, 50% is 0.5."""
    if not isinstance(value, str) or len(value) > _LONGEST:
        return None
    match = _NUMBER.fullmatch(_SEPARATORS.sub("", value.strip()))
    if match is None:
        return None
    written = match["unit"]
    if unit and written in _SECONDS:
        factor = _SECONDS[written] / _SECONDS[unit]
    elif written in _DECIMAL:
        factor = _DECIMAL[written]
    else:
        return None
    number = float(f"{float(match['number']) * factor:.12g}")
    return int(number) if number.is_integer() and abs(number) < 10**18 else number


def did_you_mean(suggestion: object) -> str:
    """The question that ends an error message; empty without a suggestion."""
    return "" if suggestion is None else f". Did you mean {suggestion}?"


def close_to(word: object, known: Iterable[str]) -> str | None:
    """The known word that looks most like `word`, quoted; None if none does."""
    if not isinstance(word, str):
        return None
    near = difflib.get_close_matches(word[:_LONGEST].lower(), list(known), n=1, cutoff=0.55)
    return repr(near[0]) if near else None


def quoted(value: object) -> str | None:
    """`value` as the text it was probably meant to be: 32 is "32" in quotes."""
    return f'"{value}"' if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def is_plain_number(text: object) -> bool:
    """Whether this text is a number that only its quotes make a text."""
    return isinstance(text, str) and isinstance(resolve(text), (int, float))
