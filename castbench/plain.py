"""Frozen dataclasses to plain JSON values and back, and the one canonical spelling that hashes are taken of."""

from __future__ import annotations

import hashlib
import json
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache, cached_property, partial
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
_Reader = Callable[[Any], Any]


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
    hint: Any = kind
    try:
        made: T = _reader(hint)(data)
    except _Misfit as misfit:
        raise ValueError(f"{kind.__name__}{misfit.where}: {misfit.what}") from None
    return made


def canonical_json(value: Any) -> str:
    """One line of JSON with sorted keys and no spaces; refuses NaN and infinities with ValueError."""
    return json.dumps(to_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_of(value: Any) -> str:
    """sha256 in hex of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


class _Misfit(ValueError):  # noqa: N818 - it is told as a ValueError
    """A value that does not fit its type, and the way to it from where reading began."""

    def __init__(self, what: str, where: str = "") -> None:
        super().__init__(what)
        self.what, self.where = what, where


@cache
def _reader(hint: Any) -> _Reader:
    """What turns plain values into those of type `hint`, worked out once per type: a large run file has 100,000
    objects. Raises _Misfit.
    """
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _UnionReader(get_args(hint))
    if origin is tuple:
        return _tuple_reader(get_args(hint))
    if origin is Literal:
        return partial(_literal, get_args(hint))
    if is_dataclass(hint):
        return _DataclassReader(hint)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return partial(_enum, hint)
    return _float if hint is float else partial(_of_type, hint)


class _DataclassReader:
    """Reads objects as one dataclass; unknown and missing keys are errors."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind

    @cached_property
    def _fields(self) -> dict[str, _Reader]:
        """A reader per field; not before it is needed, since a type may hold itself."""
        return {name: _reader(hint) for name, hint in get_type_hints(self._kind).items()}

    def __call__(self, data: Any) -> Any:
        fields = self._fields
        try:
            values = {name: fields[name](item) for name, item in data.items()}
        except (KeyError, ValueError, AttributeError):
            self._refuse(data)
        return self._kind(**values)

    def _refuse(self, data: Any) -> NoReturn:
        """Raise what does not fit, with its place."""
        if not isinstance(data, dict):
            raise _Misfit(f"expected an object, got {data!r}")
        unknown = set(data) - set(self._fields)
        if unknown:
            raise _Misfit(f"unknown key {min(unknown)!r}")
        for name, item in data.items():
            with _within(f".{name}"):
                self._fields[name](item)
        raise AssertionError("unreachable: what did not fit does now")


@contextmanager
def _within(step: str) -> Iterator[None]:
    """Add a step to the way to whatever does not fit."""
    try:
        yield
    except _Misfit as misfit:
        raise _Misfit(misfit.what, step + misfit.where) from None


class _UnionReader:
    """Reads the first option of a union that fits exactly; an int is not turned into a float while int is an option."""

    def __init__(self, options: tuple[Any, ...]) -> None:
        self._options = options

    @cached_property
    def _readers(self) -> dict[Any, _Reader]:
        """A reader per option, in order; not before they are needed, since a type may hold itself."""
        return {option: _reader(option) for option in self._options if option is not type(None)}

    def __call__(self, data: Any) -> Any:
        if data is None and type(None) in self._options:
            return None
        readers = self._readers
        exact = readers.get(type(data))
        for read in readers.values() if exact is None else (exact, *readers.values()):
            try:
                return read(data)
            except (TypeError, ValueError):
                continue
        raise _Misfit(f"{data!r} fits none of {self._options}")


def _tuple_reader(items: tuple[Any, ...]) -> _Reader:
    """What reads a list as a tuple: of one type throughout, or one type per place."""
    if len(items) == 2 and items[1] is Ellipsis:
        return _floats if items[0] is float else partial(_all_alike, _reader(items[0]))
    return partial(_one_by_one, items)


def _floats(data: Any) -> tuple[float, ...]:
    """A tuple of floats from a list: most of a run file are the times of steps."""
    if isinstance(data, list) and set(map(type, data)) <= {float}:
        return tuple(data)
    return _all_alike(_float, data)


def _all_alike(read: _Reader, data: Any) -> tuple[Any, ...]:
    """A tuple of one type throughout."""
    if not isinstance(data, list):
        raise _Misfit(f"expected a list, got {data!r}")
    try:
        return tuple(map(read, data))
    except ValueError:
        for i, item in enumerate(data):
            with _within(f"[{i}]"):
                read(item)
        raise


def _one_by_one(kinds: tuple[Any, ...], data: Any) -> tuple[Any, ...]:
    """A tuple with one type per place."""
    if not isinstance(data, list):
        raise _Misfit(f"expected a list, got {data!r}")
    if len(kinds) != len(data):
        raise _Misfit(f"expected {len(kinds)} values, got {data!r}")
    made = []
    for i, (kind, item) in enumerate(zip(kinds, data, strict=True)):
        with _within(f"[{i}]"):
            made.append(_reader(kind)(item))
    return tuple(made)


def _literal(allowed: tuple[Any, ...], data: Any) -> Any:
    """One of a few values."""
    if data in allowed:
        return data
    raise _Misfit(f"expected one of {allowed}, got {data!r}")


def _enum(kind: type[Enum], data: Any) -> Enum:
    """A member by its value."""
    try:
        return kind(data)
    except ValueError as error:
        raise _Misfit(str(error)) from None


def _float(data: Any) -> float:
    """A number; whole ones become floats."""
    if type(data) is float:
        return data
    if isinstance(data, (int, float)) and not isinstance(data, bool):
        return float(data)
    raise _Misfit(f"expected a number, got {data!r}")


def _of_type(kind: Any, data: Any) -> Any:
    """A value of exactly this type; anything where the type is Any."""
    if type(data) is kind or kind is Any:
        return data
    raise _Misfit(f"expected {kind}, got {data!r}")
