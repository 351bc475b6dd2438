"""Which column of a trace holds the times and which the lengths: known layouts, telling names, or as the user says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from castbench.errors import InputError
from castbench.workload.spec import TimeUnit
from castbench.workload.spelling import close_to, did_you_mean
from castbench.workload.yaml_text import shown

TIME_UNITS: tuple[str, ...] = get_args(TimeUnit)
_MOST_LISTED = 30
_TIME_NAMES = {
    "arrival", "arrival_time", "arrived_at", "created_at", "date", "datetime", "received_at", "request_time",
    "start_time", "started_at", "time", "timestamp", "ts",
}  # fmt: skip
_SUFFIXES: dict[str, TimeUnit] = {
    "_s": "s", "_sec": "s", "_seconds": "s", "_ms": "ms", "_us": "us", "_ns": "ns",
}  # fmt: skip
_LENGTH_NAMES = {
    "context_length", "context_tokens", "contexttokens", "input_len", "input_length", "input_tokens", "length",
    "num_prefill_tokens", "num_tokens", "prefill_tokens", "prompt_len", "prompt_length", "prompt_tokens",
    "request_tokens", "seq_len", "token_count", "tokens",
}  # fmt: skip
_OUTPUT_NAMES = {
    "completion_tokens", "decode_tokens", "generated_tokens", "generatedtokens", "num_decode_tokens", "output_len",
    "output_length", "output_tokens", "response_tokens",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class AskedColumns:
    """What the user says of the columns; None: to be recognised."""

    time: str | None = None
    unit: TimeUnit | None = None
    tokens: str | None = None
    output: str | None = None


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column holds what.

    layout   how the columns were found, in words
    time     None: the trace has no times, or none that could be recognised
    unit     None: the name of the time column does not say; only ISO 8601 can then be read without asking
    output   tokens a decoder generated, which an encoder does not; None: there is no such column
    """

    layout: str
    time: str | None
    unit: TimeUnit | None
    tokens: str
    output: str | None


@dataclass(frozen=True, slots=True)
class _Layout:
    """A published layout; `beside`: the only other columns it may have, any if None."""

    name: str
    time: str
    unit: TimeUnit
    tokens: str
    output: str
    beside: frozenset[str] | None = None

    def fits(self, header: Sequence[str]) -> bool:
        """Whether these columns are that layout's."""
        own = {self.time, self.tokens, self.output}
        return own <= set(header) and (self.beside is None or set(header) - own <= self.beside)


# Mooncake's names are used by other traces too, in other units: only with nothing strange beside them they are its own.
_LAYOUTS = (
    _Layout("Azure LLM", "TIMESTAMP", "iso", "ContextTokens", "GeneratedTokens"),
    _Layout("Mooncake", "timestamp", "ms", "input_length", "output_length", frozenset({"hash_ids"})),
    _Layout("BurstGPT", "Timestamp", "s", "Request tokens", "Response tokens"),
    _Layout("vidur", "arrived_at", "s", "num_prefill_tokens", "num_decode_tokens"),
)


def choose_columns(header: Sequence[str], asked: AskedColumns) -> Columns:
    """The columns to read: what is asked for, else those of a published layout, else those whose names speak.

    Raises InputError for a column that is not there, twice there or not the only candidate, and where none can hold
    the lengths.
    """
    for name in (asked.time, asked.tokens, asked.output):
        if name is not None:
            _require(name, header)
    known = next((layout for layout in _LAYOUTS if layout.fits(header)), None)
    if known is None:
        time = asked.time or _only(_times_among(header), "times", "--time-column")
        tokens = asked.tokens or _only(_named(header, _LENGTH_NAMES), "lengths", "--tokens-column")
        output = asked.output or _only(_named(header, _OUTPUT_NAMES), "output tokens", "--output-column")
    else:
        time, tokens = asked.time or known.time, asked.tokens or known.tokens
        output = asked.output or known.output
    if tokens is None:
        raise InputError(
            f"no column is recognised as the lengths; there are {listed(header)}. Name it with --tokens-column"
        )
    if time is None and asked.unit is not None:
        raise InputError(f"--time-unit is given, but no column is recognised as the times; {_name_the_time(header)}")
    for name in (time, tokens, output):
        if name is not None:
            _require(name, header)
    unit = asked.unit or (known.unit if known and time == known.time else _unit_of(time or ""))
    return Columns(_layout_words(asked, known), time, unit, tokens, output)


def listed(names: Iterable[str]) -> str:
    """Column names as an error lists them: quoted, and not without end."""
    every = [shown(name) for name in names]
    more = f" and {len(every) - _MOST_LISTED} more" if len(every) > _MOST_LISTED else ""
    return ", ".join(every[:_MOST_LISTED]) + more


def unit_needed(column: str, number: float) -> str:
    """What is said of numbers in a time column whose name has no unit; with a guess where they look like a date."""
    ages = {"s": 1e9, "ms": 1e12, "us": 1e15, "ns": 1e18}
    guess = next((unit for unit, age in ages.items() if age <= number < 10 * age), None)
    hint = f" (as the time since 1970 they would be {guess})" if guess else ""
    return (
        f"the column {shown(column)} holds numbers, and its name does not say in which unit{hint}; say so with "
        "--time-unit s, ms, us or ns"
    )


def _require(name: str, header: Sequence[str]) -> None:
    """InputError unless exactly one column has that name."""
    if name not in header:
        hint = did_you_mean(close_to(name, header[:1000])) or "."
        raise InputError(f"no column is named {shown(name)}; there are {listed(header)}{hint}")
    if header.count(name) > 1:
        raise InputError(f"{header.count(name)} columns are named {shown(name)}; give each its own name")


def _only(candidates: Sequence[str], what: str, option: str) -> str | None:
    """The only candidate, None without one; InputError where it would have to be guessed."""
    if len(set(candidates)) > 1:
        raise InputError(f"several columns could be the {what}: {listed(candidates)}; say which with {option}")
    return candidates[0] if candidates else None


def _named(header: Sequence[str], names: set[str]) -> list[str]:
    """The columns with one of these names, however they are written."""
    return [name for name in header if _plain(name) in names]


def _times_among(header: Sequence[str]) -> list[str]:
    """The columns whose name is one of a time, with or without a unit behind it."""
    return [name for name in header if _without_unit(_plain(name)) in _TIME_NAMES]


def _without_unit(name: str) -> str:
    """A column's name without its unit: timestamp for timestamp_ms."""
    return next((name.removesuffix(suffix) for suffix in _SUFFIXES if name.endswith(suffix)), name)


def _unit_of(name: str) -> TimeUnit | None:
    """The unit that a column's name ends in."""
    return next((unit for suffix, unit in _SUFFIXES.items() if _plain(name).endswith(suffix)), None)


def _plain(name: str) -> str:
    """A column's name in small letters, with one kind of separator."""
    return re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")


def _name_the_time(header: Sequence[str]) -> str:
    """What to do about a time column that was not recognised."""
    return f"there are {listed(header)}. Name it with --time-column"


def _layout_words(asked: AskedColumns, known: _Layout | None) -> str:
    """How the columns were found."""
    if asked.time or asked.tokens:
        return "columns as given"
    return f"{known.name} layout" if known else "columns by their names"
