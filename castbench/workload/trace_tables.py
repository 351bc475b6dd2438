"""Opens a trace, plain or gzipped, and hands out the cells of a few columns block by block: CSV, JSON lines, Parquet.

file ─▶ gzip? ─▶ CSV │ JSON lines │ Parquet ─▶ Block(numbers, columns) ─▶ …     one block in memory at a time
"""

from __future__ import annotations

import csv
import gzip
import importlib
import io
import json
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import IO, Any, Protocol

from castbench.errors import InputError
from castbench.workload.trace_layouts import listed
from castbench.workload.yaml_text import shown

BLOCK_ROWS = 16_384
LONGEST_LINE = 16 * 1024**2
"""Characters of one line: a JSON line may hold the whole prompt, but a file without line ends must not fill memory."""
_DELIMITERS = ",\t;|"
_PACKED = {
    b"PK\x03\x04": ("zip", "unzip"), b"\x28\xb5\x2f\xfd": ("zstd", "zstd -d"), b"\xfd7zXZ": ("xz", "xz -d"),
    b"BZh": ("bzip2", "bzip2 -d"),
}  # fmt: skip
_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"


class NoCell(Enum):
    """Stands in every cell of a row that has none."""

    MISFIT = "another number of cells than the header"
    UNREADABLE = "not a JSON object"


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows: the number of each in the file, and per asked column their cells as they were written."""

    numbers: Sequence[int]
    columns: tuple[list[Any], ...]


class Table(Protocol):
    """A file of rows; `noun` is what its numbers count, `blank` how many blank lines were passed over so far."""

    kind: str
    noun: str
    header: tuple[str, ...]
    blank: int

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """The rows of these columns, in the order of the file; once."""

    def done(self) -> float:
        """The share of the file that was read so far."""


@contextmanager
def open_table(path: Path) -> Iterator[Table]:
    """The table in a file, whatever its format; it is closed on leaving.

    Raises InputError for what cannot be read, at once or while the blocks are read: no file, another format, damaged
    or truncated compression, another encoding than UTF-8.
    """
    if "\0" in str(path):
        raise InputError(f"{str(path)!r}: not a usable file name")
    try:
        if path.exists() and not path.is_dir() and not path.is_file():
            raise InputError(f"{path}: expected a file, because it is read more than once; save the stream first")
        with path.open("rb") as file, ExitStack() as stack:
            yield _table(file, path, stack)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: expected a file, but this is a folder") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: its gzip data are damaged or cut off ({error}); fetch the file again") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def _table(file: io.BufferedReader, path: Path, stack: ExitStack) -> Table:
    """The table of an opened file, by what the file begins with; its name does not matter."""
    stream = file
    kind = ""
    if file.peek(2)[:2] == _GZIP:
        # Buffered once more, because a GzipFile has no peek that waits for enough bytes.
        stream = io.BufferedReader(stack.enter_context(gzip.GzipFile(fileobj=file)))
        kind = ", gzip"
    begins = stream.peek(4096)[:4096]
    _refuse_other_formats(begins, path)
    if begins.startswith(_PARQUET):
        return _ParquetTable(_seekable(stream, file, stack), kind, path)
    source = _Source(stream, file, path)
    if begins.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{"):
        return _JsonTable(source, kind, path)
    return _CsvTable(source, kind, path)


def _refuse_other_formats(begins: bytes, path: Path) -> None:
    """InputError for an empty file, and for formats that are known and not read."""
    if not begins.strip():
        raise InputError(f"{path}: the file is empty")
    for magic, (name, command) in _PACKED.items():
        if begins.startswith(magic):
            raise InputError(f"{path}: the file is packed with {name}; unpack it first ({command}), or use gzip")
    if begins.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{path}: the file is UTF-16; convert it to UTF-8, such as with iconv -f utf-16 -t utf-8")
    if b"\0" in begins and not begins.startswith(_PARQUET):
        raise InputError(f"{path}: expected CSV, JSON lines or Parquet, plain or gzipped; this is another binary file")
    if begins.lstrip().startswith(b"["):
        raise InputError(f"{path}: expected one JSON object per line, got a JSON list; convert it with jq -c '.[]'")


def _seekable(stream: IO[bytes], file: IO[bytes], stack: ExitStack) -> IO[bytes]:
    """A file that can be read from its end, as Parquet must be: a gzipped one is unpacked into a temporary file."""
    if stream is file:
        return file
    unpacked = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
    shutil.copyfileobj(stream, unpacked, 1024**2)
    unpacked.seek(0)
    return unpacked


class _Source:
    """Lines of text from a stream of bytes, how many there were, and how far into the file they reach."""

    def __init__(self, stream: io.BufferedReader, file: IO[bytes], path: Path) -> None:
        self._text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
        self.lines = 0
        self._file = file
        self._path = path
        self._size = path.stat().st_size

    def __iter__(self) -> Iterator[str]:
        """The lines with their ends; InputError for one that does not end or is not UTF-8."""
        while line := self._line():
            if len(line) == LONGEST_LINE:
                raise InputError(
                    f"{self._path}: a line has over {LONGEST_LINE:,} characters; is it a table of requests?"
                )
            self.lines += 1
            yield line

    def _line(self) -> str:
        """The next line; empty at the end."""
        try:
            return self._text.readline(LONGEST_LINE)
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            where = f"after line {self.lines}" if self.lines else "at its beginning"
            raise InputError(
                f"{self._path}: {where} there is a byte (0x{byte:02x}) that is not UTF-8; "
                "convert the file, such as with iconv -f latin1 -t utf-8"
            ) from None

    def done(self) -> float:
        """The share of the file's bytes that was read."""
        return self._file.tell() / self._size if self._size else 1.0


class _CsvTable:
    """A CSV file with a header, its cells separated by commas, tabs, semicolons or bars."""

    noun = "line"

    def __init__(self, source: _Source, packed: str, path: Path) -> None:
        self.kind = f"CSV{packed}"
        self._source = source
        lines = iter(source)
        first = next(line for line in lines if line.strip())
        self._before = source.lines
        self.blank = self._before - 1
        delimiter = max(_DELIMITERS, key=first.count)
        self.header = tuple(name.strip() for name in next(csv.reader([first], delimiter=delimiter)))
        if all(_is_value(name) for name in self.header):
            raise InputError(f"{path}: line 1 holds values ({listed(self.header)}), not names; add a line of names")
        self._path = path
        self._rows = csv.reader(lines, delimiter=delimiter, strict=True)

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """See Table."""
        places = [self.header.index(name) for name in names]
        before = 0
        while rows := self._some_rows():
            numbers = _line_numbers(rows, self._before + before + 1, self._rows.line_num - before)
            before = self._rows.line_num
            if set(map(len, rows)) != {len(self.header)}:
                numbers, rows = self._mended(numbers, rows)
            yield Block(numbers, tuple([row[place] for row in rows] for place in places))

    def done(self) -> float:
        """See Table."""
        return self._source.done()

    def _some_rows(self) -> list[list[Any]]:
        """The next rows; empty at the end."""
        # A cell may hold the whole prompt; lines are bounded already. The limit is the whole process's.
        usual = csv.field_size_limit(LONGEST_LINE)
        try:
            return list(islice(self._rows, BLOCK_ROWS))
        except csv.Error as error:
            line = self._before + self._rows.line_num + 1
            raise InputError(f"{self._path}: line {line}: not readable as CSV: {error}") from None
        finally:
            csv.field_size_limit(usual)

    def _mended(self, numbers: Sequence[int], rows: list[list[Any]]) -> tuple[Sequence[int], list[list[Any]]]:
        """The rows without blank lines, and what stands for cells in a row that has too few or too many."""
        kept = [(number, row) for number, row in zip(numbers, rows, strict=True) if row]
        self.blank += len(rows) - len(kept)
        width = len(self.header)
        misfit: list[Any] = [NoCell.MISFIT] * width
        return [number for number, _ in kept], [row if len(row) == width else misfit for _, row in kept]


def _line_numbers(rows: Sequence[Sequence[str]], first: int, lines: int) -> Sequence[int]:
    """The line each row begins on; cells may hold line ends."""
    if lines == len(rows):
        return range(first, first + lines)
    numbers, at = [], first
    for row in rows:
        numbers.append(at)
        at += 1 + sum(cell.count("\n") for cell in row)
    return numbers


def _is_value(cell: str) -> bool:
    """Whether a cell of the first line is a number or a date, as no name is."""
    from datetime import datetime

    for read in (float, datetime.fromisoformat):
        try:
            read(cell)
        except ValueError:
            continue
        return True
    return False


class _JsonTable:
    """A file with one JSON object per line; the first one's keys are the columns."""

    noun = "line"

    def __init__(self, source: _Source, packed: str, path: Path) -> None:
        self.kind = f"JSON lines{packed}"
        self.blank = 0
        self._source = source
        self._numbered = enumerate(source, start=1)
        number, line = next((n, line) for n, line in self._numbered if line.strip())
        self.blank = number - 1
        first = _object(line)
        if not isinstance(first, dict):
            raise InputError(f"{path}: line {number}: expected one JSON object per line, got {shown(line.strip())}")
        self.header = tuple(first)
        self._first = (number, first)

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """See Table."""
        records = self._records()
        while block := list(islice(records, BLOCK_ROWS)):
            numbers = [number for number, _ in block]
            yield Block(numbers, tuple([_value(record, name) for _, record in block] for name in names))

    def done(self) -> float:
        """See Table."""
        return self._source.done()

    def _records(self) -> Iterator[tuple[int, dict[str, Any] | NoCell]]:
        """The objects with their line numbers."""
        yield self._first
        for number, line in self._numbered:
            if line.isspace():
                self.blank += 1
            else:
                yield number, _object(line)


def _object(line: str) -> dict[str, Any] | NoCell:
    """The JSON object of a line."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):  # a line may be nested until Python gives up
        return NoCell.UNREADABLE
    return value if isinstance(value, dict) else NoCell.UNREADABLE


def _value(record: dict[str, Any] | NoCell, name: str) -> Any:
    """The cell of a record."""
    return record if isinstance(record, NoCell) else record.get(name)


class _ParquetTable:
    """A Parquet file, read through pyarrow a batch of rows at a time."""

    noun = "row"

    def __init__(self, file: IO[bytes], packed: str, path: Path) -> None:
        self.kind = f"Parquet{packed}"
        self.blank = 0
        self._arrow, parquet = _arrow_modules(path)
        self._path = path
        self._read = 0
        with self._told():
            self._file = parquet.ParquetFile(file)
        self.header = tuple(self._file.schema_arrow.names)

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """See Table."""
        with self._told():
            for batch in self._file.iter_batches(BLOCK_ROWS, columns=list(names)):
                columns = tuple(self._cells(batch.column(name)) for name in names)
                yield Block(range(self._read + 1, self._read + 1 + batch.num_rows), columns)
                self._read += batch.num_rows

    def done(self) -> float:
        """See Table."""
        return float(self._read / max(1, self._file.metadata.num_rows))

    def _cells(self, column: Any) -> list[Any]:
        """A column as Python values; times to the microsecond, which is what Python's can hold."""
        if self._arrow.types.is_timestamp(column.type):
            column = column.cast(self._arrow.timestamp("us", column.type.tz), safe=False)
        values: list[Any] = column.to_pylist()
        return values

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Say what pyarrow found in a sentence."""
        try:
            yield
        except self._arrow.ArrowException as error:
            raise InputError(f"{self._path}: not readable as Parquet: {_first_line(error)}") from None


def _arrow_modules(path: Path) -> tuple[Any, Any]:
    """The modules of pyarrow, an extra and therefore imported by name; InputError where they are missing."""
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise InputError(f"{path}: Parquet needs pyarrow; install it with: pip install 'castbench[parquet]'") from None


def _first_line(error: Exception) -> str:
    """The first line of a message that may have many."""
    return str(error).partition("\n")[0]
