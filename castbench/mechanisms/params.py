"""Checks and builds the parameters of a mechanism from what a profile says of them."""

from __future__ import annotations

import difflib
import types
from dataclasses import asdict
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from castbench.errors import Problem
from castbench.mechanisms.spec import MechanismSpec

_NOUNS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null"}


def problems_of(spec: MechanismSpec, given: dict[str, Any], where: str) -> list[Problem]:
    """What is wrong with the parameters given for a mechanism: unknown names, wrong types, refused values."""
    hints = get_type_hints(spec.params)
    problems = []
    for name, value in given.items():
        place = f"{where}.{spec.name}.{name}"
        if name not in hints:
            problems.append(Problem(place, _unknown(spec, name, list(hints))))
        elif not _fits(value, hints[name]):
            problems.append(Problem(place, f"expected {_described(hints[name])}, got {value!r}"))
    if problems:
        return problems
    try:
        make(spec, given)
    except (TypeError, ValueError) as error:
        return [Problem(f"{where}.{spec.name}", str(error))]
    return []


def make(spec: MechanismSpec, given: dict[str, Any]) -> Any:
    """The parameters dataclass with `given` over the defaults; its own __post_init__ may raise ValueError."""
    hints = get_type_hints(spec.params)
    return spec.params(**{k: float(v) if hints.get(k) is float else v for k, v in given.items()})


def as_pairs(params: Any) -> tuple[tuple[str, Any], ...]:
    """A parameters dataclass as (name, value) pairs in the order declared."""
    return tuple(asdict(params).items())


def _fits(value: Any, hint: Any) -> bool:
    """Whether a YAML value is of a parameter's type; a whole number fits float, true does not fit int."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    if hint in (int, float):
        return isinstance(value, hint if hint is int else (int, float)) and not isinstance(value, bool)
    return isinstance(value, hint)


def _described(hint: Any) -> str:
    """A parameter's type in words."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_described(option) for option in get_args(hint))
    if origin is Literal:
        return " or ".join(repr(option) for option in get_args(hint))
    return _NOUNS.get(hint, str(hint))


def _unknown(spec: MechanismSpec, name: str, known: list[str]) -> str:
    """Sentence for a parameter that the mechanism does not have."""
    if not known:
        return f"{spec.name} has no parameters"
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"unknown parameter; {spec.name} has {', '.join(known)}.{hint}"
