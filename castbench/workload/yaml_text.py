"""YAML read as plain values and nothing else: no tags, no aliases, no repeated keys, no guessed types, bounded size.

YAML 1.1 turns `no` into false, `1:30` into 90, `010` into 8 and `1e-2` into text. Here only null, true and false,
decimal whole numbers and decimal numbers are resolved; everything else is text, so that the schema can refuse it
with the right spelling. Keys are always text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
)

from castbench.errors import InputError, Problem

MAX_BYTES = 1024**2
MAX_DEPTH = 20
_LONGEST_SHOWN = 60

_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,299})")
_DECIMAL = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,4})?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.-]{1,60}")
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_text(path: Path) -> str:
    """A text file's contents; InputError if it is missing, a folder, unreadable, too large or not UTF-8."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: expected a file, but this is a folder") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{str(path)!r}: not a usable file name: {error}") from error
    if len(data) > MAX_BYTES:
        raise InputError(f"{path}: larger than {MAX_BYTES // 1024**2} MiB; expected a page of text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}: line {line}: not text in UTF-8; is it a binary file?") from error


def parse_yaml(text: str, source: str) -> Any:
    """The one document of `text` as dicts, lists, text, numbers, booleans and None.

    Raises InputError with the line of whatever is not plain YAML, and for a text without a document.
    """
    try:
        return _Reader(source, yaml.parse(text, Loader=yaml.SafeLoader)).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        _refuse(source, mark.line + 1 if mark else 1, f"not valid YAML: {_plain_words(error)}")
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        what = f"a character that text files do not have (#x{int(error.character):04x}); is it a binary file?"
        _refuse(source, line, what)
    except (ValueError, OverflowError) as error:
        _refuse(source, 1, f"not valid YAML: {error}")


def resolve(text: str) -> str | int | float | bool | None:
    """What an unquoted scalar means."""
    if text in _WORDS:
        return _WORDS[text]
    if _WHOLE.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        return float(text)
    return float(text.replace(".", "")) if _NOT_FINITE.fullmatch(text) else text


class _Reader:
    """Builds values from parser events; recursion is bounded by MAX_DEPTH, size by the file's."""

    def __init__(self, source: str, events: Iterator[Event]) -> None:
        self._source = source
        self._events = events

    def document(self) -> Any:
        """The value of the only document."""
        next(self._events)
        if not isinstance(next(self._events), DocumentStartEvent):
            raise InputError(f"{self._source}: the file is empty")
        value = self._value(next(self._events), 0)
        next(self._events)
        after = next(self._events)
        if isinstance(after, DocumentStartEvent):
            _refuse(self._source, _line(after), "a second document starts here; expected one only")
        if value is None:
            raise InputError(f"{self._source}: the file is empty")
        return value

    def _value(self, event: Event, depth: int) -> Any:
        """The value that starts with `event`."""
        self._check(event, depth)
        if isinstance(event, ScalarEvent):
            return resolve(event.value) if event.implicit[0] else event.value
        if isinstance(event, MappingStartEvent):
            return self._mapping(depth)
        items = []
        while not isinstance(event := next(self._events), SequenceEndEvent):
            items.append(self._value(event, depth + 1))
        return items

    def _mapping(self, depth: int) -> dict[str, Any]:
        """A mapping's values by key."""
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            self._check(event, depth)
            if not isinstance(event, ScalarEvent):
                _refuse(self._source, _line(event), "expected a plain word as a key, got a list or a mapping")
            key = event.value
            if key in values:
                _refuse(self._source, _line(event), f"the key {shown(key)} was already given on line {lines[key]}")
            lines[key] = _line(event)
            values[key] = self._value(next(self._events), depth + 1)
        return values

    def _check(self, event: Event, depth: int) -> None:
        """Refuse whatever could run code, grow without bound or break a terminal."""
        line = _line(event)
        if isinstance(event, AliasEvent) or (isinstance(event, NodeEvent) and event.anchor):
            _refuse(self._source, line, "anchors and aliases (&x, *x) are not allowed; write the value out")
        tag = getattr(event, "tag", None)
        if tag is not None:
            _refuse(self._source, line, f"tags such as {shown(tag)} are not allowed; write the plain value")
        if depth > MAX_DEPTH:
            _refuse(self._source, line, f"nested more than {MAX_DEPTH} levels deep")
        if isinstance(event, ScalarEvent) and _SURROGATE.search(event.value):
            _refuse(self._source, line, "an escape stands for half a character; write the character itself")


def shown(value: object) -> str:
    """A value as an error message shows it: one line, quoted if text, cut if long."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else f"{'-' if value < 0 else ''}.inf"
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def shown_key(key: str) -> str:
    """A key as part of a place in an error message; quoted unless it is a plain word."""
    return key if _PLAIN_KEY.fullmatch(key) else shown(key)


def _line(event: Event) -> int:
    """Line of an event in the file, from 1."""
    return event.start_mark.line + 1 if event.start_mark else 1


def _plain_words(error: yaml.MarkedYAMLError) -> str:
    """The parser's complaint, with the usual cause where it is known."""
    said = ", ".join(part for part in (error.context, error.problem) if part)
    if "'\\t'" in said:
        return f"{said} (indent with spaces, not tabs)"
    return said


def _refuse(source: str, line: int, what: str) -> NoReturn:
    """Raise the sentence with its line."""
    raise InputError.of(source, [Problem(f"line {line}", what)])
