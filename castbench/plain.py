"""Frozen dataclasses to plain JSON values and back, and the one canonical spelling that hashes are taken of."""

from __future__ import annotations

import hashlib
import json
import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def to_plain(value: Any, made: Mapping[type, Callable[[Any], Any]] | None = None) -> Any:
    """Dataclasses as objects, tuples as lists, enums as their values; the rest as it is. `made` says what becomes of
    values of some types instead.
    """
    if made is not None and type(value) in made:
        return made[type(value)](value)
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name), made) for f in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (tuple, list)):
        return [to_plain(item, made) for item in value]
    if isinstance(value, dict):
        return {key: to_plain(item, made) for key, item in value.items()}
    return value


def from_plain(kind: type[T], data: Any) -> T:
    """A dataclass rebuilt from `to_plain`'s result; ValueError or TypeError says what does not fit."""
    made: T = _rebuilt(kind, data, kind.__name__)
    return made


def canonical_json(value: Any) -> str:
    """One line of JSON with sorted keys and no spaces; refuses NaN and infinities with ValueError."""
    return json.dumps(to_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_of(value: Any) -> str:
    """sha256 in hex of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    """Resolved field types of a dataclass."""
    return get_type_hints(kind)


def _rebuilt(hint: Any, data: Any, where: str) -> Any:
    """`data` as a value of type `hint`."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _rebuilt_union(get_args(hint), data, where)
    if origin is tuple:
        return _rebuilt_tuple(get_args(hint), data, where)
    if origin is Literal:
        return _checked(data in get_args(hint), data, hint, where)
    if is_dataclass(hint):
        return _rebuilt_dataclass(hint, data, where)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(data)
    if hint is float:
        return float(_checked(isinstance(data, (int, float)) and not isinstance(data, bool), data, hint, where))
    return _checked(hint is Any or type(data) is hint, data, hint, where)


def _rebuilt_dataclass(kind: Any, data: Any, where: str) -> Any:
    """A dataclass from an object; unknown and missing keys are errors."""
    _checked(isinstance(data, dict), data, "an object", where)
    hints = _hints(kind)
    unknown = set(data) - set(hints)
    if unknown:
        raise ValueError(f"{where}: unknown key {sorted(unknown)[0]!r}")
    return kind(**{name: _rebuilt(hints[name], item, f"{where}.{name}") for name, item in data.items()})


def _rebuilt_union(options: tuple[Any, ...], data: Any, where: str) -> Any:
    """The first option of a union that fits exactly; an int is not turned into a float while int is an option."""
    if data is None and type(None) in options:
        return None
    exact = [option for option in options if isinstance(option, type) and type(data) is option]
    rest = [option for option in options if option is not type(None) and option not in exact]
    for option in (*exact, *rest):
        try:
            return _rebuilt(option, data, where)
        except (TypeError, ValueError):
            continue
    raise ValueError(f"{where}: {data!r} fits none of {options}")


def _rebuilt_tuple(items: tuple[Any, ...], data: Any, where: str) -> Any:
    """A tuple from a list: of one type throughout, or one type per place."""
    _checked(isinstance(data, list), data, "a list", where)
    if len(items) == 2 and items[1] is Ellipsis:
        if items[0] is float and all(type(item) is float for item in data):
            return tuple(data)  # most of a run file: the times of steps
        return tuple(_rebuilt(items[0], item, f"{where}[{i}]") for i, item in enumerate(data))
    _checked(len(items) == len(data), data, f"{len(items)} values", where)
    return tuple(_rebuilt(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(items, data, strict=True)))


def _checked(fits: bool, data: Any, hint: Any, where: str) -> Any:
    """`data` if it fits."""
    if not fits:
        raise ValueError(f"{where}: expected {hint}, got {data!r}")
    return data
