"""Reads a text that the user names, a file or an https address, no larger than it may be."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from castbench.errors import InputError

if TYPE_CHECKING:
    from castbench.workload.address import Reach

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_LONGEST_NAME = 200


def is_address(source: str) -> bool:
    """Whether it is an address and no file's path."""
    return _SCHEME.match(source) is not None


def name_of(source: str) -> str:
    """What errors and reports call a source: a path as it is, an address without its query, which may hold a key."""
    name = re.split("[?#]", source, maxsplit=1)[0] if is_address(source) else source
    return "".join(letter if letter.isprintable() else "?" for letter in name[:_LONGEST_NAME])


def read_source(source: str, *, most_bytes: int, reach: Reach | None = None) -> str:
    """The text in UTF-8; InputError, in a sentence, for whatever keeps it from being read.

    `reach` says which addresses may be opened and how long is waited; without it only https, see address.py.
    """
    if is_address(source):
        from castbench.workload.address import Reach, read_address

        data = read_address(source, name_of(source), most_bytes=most_bytes, reach=reach or Reach())
    else:
        data = _file_bytes(source, most_bytes)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{name_of(source)}: line {line}: not text in UTF-8; is it a binary file?") from None


def _file_bytes(source: str, most_bytes: int) -> bytes:
    """What is in a file, which must be a plain one: a pipe could keep the program waiting for ever."""
    path, name = Path(source), name_of(source)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{name}: expected a file, but this is a folder, a pipe or a device")
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
    except FileNotFoundError:
        raise InputError(f"{name or 'the empty name'}: there is no such file") from None
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror or error}") from None
    except ValueError:
        raise InputError(f"{name}: not a usable file name") from None
    if len(data) > most_bytes:
        raise InputError(f"{name}: larger than {most_bytes // 1024**2} MiB")
    return data
