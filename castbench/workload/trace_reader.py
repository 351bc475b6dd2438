"""Reads a whole trace as compact arrays, counts everything that is wrong with it, and refuses what cannot be replayed.

Of every request 12 bytes are kept (its time and its length); all else passes through a block of 16,384 rows at a time.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from castbench.errors import InputError
from castbench.workload.trace_cells import WHOLE_ROW, WORDS, ArrivalTimes, Fault, output_counts, token_counts
from castbench.workload.trace_layouts import AskedColumns, Columns, choose_columns
from castbench.workload.trace_tables import Block, Table, open_table
from castbench.workload.yaml_text import shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from castbench.workload.spec import TimeUnit
    from castbench.workload.trace_cells import Faults, Numbers

SORT_WITHIN_S = 60.0
"""How far back a time may lie and still be sorted: servers write their logs when a request ends, so that neighbours
change places; hours back are two files in one, or a day that began anew.
"""
MOST_REQUESTS = 100_000_000
LONGEST_SPAN_S = 20 * 365 * 86400.0
HIGHEST_RATE = 1e7
"""Requests per second that a profile takes at most."""
_MOST_FAULTS_TOLD = 12


@dataclass(frozen=True, slots=True)
class Reading:
    """How a trace is to be read; `sha256`: what the file must have, if that is known."""

    columns: AskedColumns = field(default_factory=AskedColumns)
    sort_within_s: float = SORT_WITHIN_S
    skip_unusable: bool = False
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Unusable:
    """Rows that cannot be used for one reason: how many, and the first with its number and its cell.

    column   empty where the row as a whole is at fault
    """

    column: str
    what: str
    count: int
    first: int
    example: str


@dataclass(frozen=True, slots=True)
class OutputTokens:
    """What a decoder generated for these requests, which is not modelled; `unknown`: cells without a number."""

    column: str
    requests: int
    total: float
    zero: int
    unknown: int


@dataclass(frozen=True, slots=True, eq=False)
class ReadTrace:
    """A trace as it was read; arrival_s and tokens in order of arrival, arrival_s from 0 or None without times.

    rows            rows of the file, used or not
    out_of_order    requests whose time lies before an earlier row's, by `furthest_back_s` at most, first in row
                    `first_out_of_order`
    """

    path: Path
    sha256: str
    kind: str
    noun: str
    columns: Columns
    unit: TimeUnit | None
    rows: int
    blank: int
    arrival_s: NDArray[np.float64] | None
    tokens: NDArray[np.int32]
    unusable: tuple[Unusable, ...]
    out_of_order: int
    furthest_back_s: float
    first_out_of_order: int | None
    output: OutputTokens | None

    @property
    def left_out(self) -> int:
        """Rows that are not used."""
        return self.rows - len(self.tokens)


def read_trace(
    path: Path, reading: Reading | None = None, on_progress: Callable[[float], None] | None = None
) -> ReadTrace:
    """The requests of a trace; `on_progress` is told the share of the file that was read.

    Raises InputError for a file that cannot be read, has no column of lengths, rows that cannot be used (unless they
    are skipped), fewer than two requests, times that go back further than is sorted or that are all the same, and
    rates and spans that nobody has.
    """
    reading = reading or Reading()
    with open_table(path) as table:
        digest = _same_file(path, reading.sha256)
        try:
            columns = choose_columns(table.header, reading.columns)
            kept = _Kept(columns, table.noun)
            for block in table.blocks(kept.names):
                kept.add(block)
                if len(kept.tokens) > MOST_REQUESTS:
                    raise InputError(f"it has over {MOST_REQUESTS:,} requests; take a part of it")
                if on_progress is not None:
                    on_progress(table.done())
        except InputError as error:
            raise InputError(_with_path(path, str(error))) from None
        return _checked(path, digest, table, kept, reading)


def file_sha256(path: Path) -> str:
    """sha256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _same_file(path: Path, expected: str | None) -> str:
    """The file's sha256; InputError where another was expected."""
    digest = file_sha256(path)
    if expected is not None and digest != expected:
        raise InputError(
            f"{path}: this is not the trace that the profile was written from: its sha256 is {digest[:16]}…, expected "
            f"{expected[:16]}…; fetch that file again, or write the profile anew with castbench workload from-trace"
        )
    return digest


def _with_path(path: Path, message: str) -> str:
    """The message, beginning with the file it is about."""
    return message if message.startswith(str(path)) else f"{path}: {message}"


@dataclass(slots=True)
class _Found:
    """Rows of one fault so far."""

    count: int
    first: int
    example: str


@dataclass(slots=True)
class _Kept:
    """What is kept of the blocks: two arrays and counts."""

    columns: Columns
    noun: str
    times: array[float] = field(default_factory=lambda: array("d"))
    tokens: array[int] = field(default_factory=lambda: array("i"))
    rows: int = 0
    faults: dict[tuple[str, int], _Found] = field(default_factory=dict)
    latest_s: float = float("-inf")
    out_of_order: int = 0
    furthest_back_s: float = 0.0
    furthest_row: int = 0
    first_out_of_order: int | None = None
    output_known: int = 0
    output_total: float = 0.0
    output_zero: int = 0
    arrivals: ArrivalTimes | None = None

    def __post_init__(self) -> None:
        if self.columns.time is not None:
            self.arrivals = ArrivalTimes(self.columns.time, self.columns.unit)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns to read: lengths, then times and output tokens where there are such."""
        wanted = (self.columns.tokens, self.columns.time, self.columns.output)
        return tuple(name for name in wanted if name is not None)

    def add(self, block: Block) -> None:
        """Keep the usable requests of a block and count the rest."""
        import numpy as np

        cells = dict(zip(self.names, block.columns, strict=True))
        tokens, faults = token_counts(cells[self.columns.tokens], self.columns.tokens)
        usable = faults == Fault.NONE
        seconds = None
        if self.arrivals is not None:
            column = self.arrivals.column
            seconds, time_faults = self.arrivals.seconds(cells[column])
            self._count(column, time_faults, cells[column], block.numbers)
            faults[time_faults != Fault.NONE] = Fault.NONE  # a row is counted once, under its time
            usable &= time_faults == Fault.NONE
        self._count(self.columns.tokens, faults, cells[self.columns.tokens], block.numbers)
        self.rows += len(block.numbers)
        self.tokens.frombytes(tokens[usable].astype(np.int32).tobytes())
        if seconds is not None:
            self._keep_times(seconds[usable], usable, block.numbers)
        if self.columns.output is not None:
            self._count_output(output_counts(cells[self.columns.output], self.columns.output)[usable])

    def _count(self, column: str, faults: Faults, cells: Sequence[object], numbers: Sequence[int]) -> None:
        """Count the faults of one column, and remember the first of each kind."""
        import numpy as np

        if not faults.any():
            return
        for fault in np.unique(faults[faults != Fault.NONE]).tolist():
            places = np.flatnonzero(faults == fault)
            first = int(places[0])
            where = "" if fault in WHOLE_ROW else column
            found = self.faults.setdefault((where, fault), _Found(0, numbers[first], _example(cells[first])))
            found.count += len(places)

    def _keep_times(self, seconds: Numbers, usable: NDArray[np.bool_], numbers: Sequence[int]) -> None:
        """Keep the times of usable rows, and count those that lie before an earlier one."""
        import numpy as np

        if not seconds.size:
            return
        latest = np.maximum.accumulate(np.concatenate(([self.latest_s], seconds)))
        back = latest[:-1] - seconds
        late = np.flatnonzero(back > 0)
        if late.size:
            rows = np.flatnonzero(usable)
            if self.first_out_of_order is None:
                self.first_out_of_order = numbers[int(rows[late[0]])]
            furthest = int(np.argmax(back))
            if back[furthest] > self.furthest_back_s:
                self.furthest_back_s = float(back[furthest])
                self.furthest_row = numbers[int(rows[furthest])]
            self.out_of_order += len(late)
        self.latest_s = float(latest[-1])
        self.times.frombytes(np.ascontiguousarray(seconds, dtype=np.float64).tobytes())

    def _count_output(self, counts: Numbers) -> None:
        """Add up the output tokens of usable rows."""
        import numpy as np

        known = counts[~np.isnan(counts)]
        self.output_known += len(known)
        self.output_total += float(known.sum())
        self.output_zero += int((known == 0).sum())


def _example(cell: object) -> str:
    """A cell as an error shows it; nothing for one that says nothing."""
    return shown(cell) if isinstance(cell, (str, int, float)) and str(cell).strip() else ""


def _checked(path: Path, digest: str, table: Table, kept: _Kept, reading: Reading) -> ReadTrace:
    """The trace, or the reason why it cannot be used."""
    unusable = tuple(
        Unusable(column, WORDS[Fault(fault)], found.count, found.first, found.example)
        for (column, fault), found in sorted(kept.faults.items(), key=lambda item: item[1].first)
    )
    _refuse_unusable(path, table.noun, kept, unusable, reading)
    arrival_s, tokens = _in_order(path, kept, reading)
    output = None
    if kept.columns.output is not None:
        unknown = len(tokens) - kept.output_known
        output = OutputTokens(
            kept.columns.output, kept.output_known, kept.output_total, kept.output_zero, unknown
        )  # fmt: skip
    return ReadTrace(
        path, digest, table.kind, table.noun, kept.columns, kept.arrivals.unit if kept.arrivals else None, kept.rows,
        table.blank, arrival_s, tokens, unusable, kept.out_of_order, kept.furthest_back_s, kept.first_out_of_order,
        output,
    )  # fmt: skip


def _refuse_unusable(path: Path, noun: str, kept: _Kept, unusable: Sequence[Unusable], reading: Reading) -> None:
    """InputError for rows that cannot be used and may not be left out, and for too few that can."""
    count = sum(each.count for each in unusable)
    if kept.rows == 0:
        raise InputError(f"{path}: there is no request in it, only the names of columns")
    told = "; ".join(fault_words(unusable, noun))
    if count and not reading.skip_unusable:
        raise InputError(
            f"{path}: {count:,} of {kept.rows:,} rows cannot be used: {told}. Mend the file, or leave these rows out "
            "with --skip-unusable, which counts them in the report and the profile"
        )
    if len(kept.tokens) < 2:
        left = "only one request" if len(kept.tokens) else "no request"
        why = f" ({told})" if told else ""
        raise InputError(f"{path}: {left} can be used{why}; a rate and a distribution need at least two")


def fault_words(unusable: Iterable[Unusable], noun: str) -> list[str]:
    """Rows that cannot be used, in words per kind: 'ContextTokens' negative in 3 rows (first: line 7, '-1')."""
    every = list(unusable)
    words = []
    for each in every[:_MOST_FAULTS_TOLD]:
        example = f", {each.example}" if each.example else ""
        rows = "1 row" if each.count == 1 else f"{each.count:,} rows"
        column = f"{shown(each.column)} " if each.column else ""
        words.append(f"{column}{each.what} in {rows} (first: {noun} {each.first}{example})")
    if len(every) > _MOST_FAULTS_TOLD:
        words.append(f"and {len(every) - _MOST_FAULTS_TOLD} more kinds")
    return words


def _in_order(path: Path, kept: _Kept, reading: Reading) -> tuple[NDArray[np.float64] | None, NDArray[np.int32]]:
    """Times from 0 and lengths in the order of arrival; None for the times of a trace without; InputError for times
    that cannot be those of one trace.
    """
    import numpy as np

    tokens = np.frombuffer(kept.tokens, dtype=np.int32)
    if kept.arrivals is None:
        return None, tokens
    times = np.frombuffer(kept.times, dtype=np.float64)
    if kept.furthest_back_s > reading.sort_within_s:
        raise InputError(
            f"{path}: the time goes back by {kept.furthest_back_s:,.6g} s at {kept.noun} {kept.furthest_row}; two "
            f"files in one, or a clock set back? Up to {reading.sort_within_s:g} s is sorted (--sort-within)"
        )
    if kept.out_of_order:
        order = np.argsort(times, kind="stable")
        times, tokens = times[order], tokens[order]
    times -= times[0]
    _refuse_impossible(path, times, kept.arrivals)
    return times, tokens


def _refuse_impossible(path: Path, times: NDArray[np.float64], arrivals: ArrivalTimes) -> None:
    """InputError for times without a rate, or with one that only a wrong unit gives."""
    span_s, column = float(times[-1]), shown(arrivals.column)
    if span_s == 0:
        raise InputError(f"{path}: all {len(times):,} requests have the same time in {column}, so they have no rate")
    rate = (len(times) - 1) / span_s
    if span_s > LONGEST_SPAN_S or rate > HIGHEST_RATE:
        what = f"{rate:,.3g} requests/s over {span_s:,.3g} s"
        raise InputError(
            f"{path}: read in {arrivals.unit}, the times in {column} give {what}; say the right unit with --time-unit"
        )
