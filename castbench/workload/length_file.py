"""Reads document lengths from a text file (one length per line) or from a column of a CSV file."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable
from pathlib import Path

from castbench.errors import InputError
from castbench.workload.lengths import from_lengths
from castbench.workload.spec import LengthDistribution
from castbench.workload.spelling import close_to, did_you_mean
from castbench.workload.yaml_text import shown

MAX_BYTES = 64 * 1024**2
MAX_TOKENS = 10_000_000
"""Longest length believed; anything above is a mistake in the file or its units."""


def read_length_file(path: Path, column: str | None = None) -> LengthDistribution:
    """The mix of the lengths in a file, its sha256 recorded in `source`.

    Raises InputError with the line of the first length that is missing or no whole number from 1 to 10 million,
    and the number of such lines: a file with holes is refused, not repaired.
    """
    data = _read(path)
    try:
        text = data.decode("utf-8-sig").rstrip()
    except UnicodeDecodeError:
        raise InputError(f"{path} is not text in UTF-8; is it a binary file?") from None
    cells = list(_cells(text, path, column))
    lengths = [length for _, cell in cells if (length := _length(cell)) is not None]
    if len(lengths) < len(cells):
        line, cell = next((line, cell) for line, cell in cells if _length(cell) is None)
        raise InputError(
            f"{path}: {len(cells) - len(lengths)} of {len(cells)} lines have no usable length; the first is line "
            f"{line}: expected a whole number from 1 to {MAX_TOKENS}, got {shown(cell)}"
        )
    if not lengths:
        raise InputError(f"{path}: there is no length in it")
    digest = hashlib.sha256(data).hexdigest()[:16]
    return from_lengths(lengths, f"file {path.name} ({len(lengths)} lengths, sha256 {digest})")


def _read(path: Path) -> bytes:
    """The file's bytes."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file (paths are relative to the profile)") from None
    except IsADirectoryError:
        raise InputError(f"{path}: expected a file, but this is a folder") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{str(path)!r} cannot be read: {error}") from error
    if len(data) > MAX_BYTES:
        raise InputError(f"{path} is larger than {MAX_BYTES // 1024**2} MiB; give quantiles of it instead")
    return data


def _cells(text: str, path: Path, column: str | None) -> Iterable[tuple[int, str | None]]:
    """(line, cell) of every length; a missing cell is None."""
    if column is None:
        yield from ((number, line.strip() or None) for number, line in enumerate(text.splitlines(), start=1))
        return
    rows = csv.reader(io.StringIO(text))
    try:
        header = [name.strip() for name in next(rows, [])]
        if column not in header:
            hint = did_you_mean(close_to(column, header[:100]))
            raise InputError(f"{path}: no column is named {shown(column)}; there are {shown(', '.join(header))}{hint}")
        place = header.index(column)
        for row in rows:
            yield rows.line_num, row[place] if place < len(row) else None
    except csv.Error as error:
        raise InputError(f"{path}: line {rows.line_num}: not readable as CSV: {error}") from error


def _length(cell: str | None) -> int | None:
    """A cell as a length; None if it is not one."""
    text = (cell or "").strip()
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MAX_TOKENS))):
        return None
    length = int(text)
    return length if 1 <= length <= MAX_TOKENS else None
