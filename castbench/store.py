"""The run file: one JSON object per line, appended as it is measured, read back whole; see docs/run-format.md.

{"kind": "header", …}    first, once
{"kind": "round", …}     as each round finishes
{"kind": "group", …}     as each group finishes
{"kind": "resumed", …}   when a later session goes on
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from castbench.errors import RunFileError
from castbench.plain import canonical_json, from_plain, sha256_of, to_plain
from castbench.records import GroupRecord, RoundRecord, RunHeader, RunRecord

SCHEMA = 1
"""Schema number of run files; docs/run-format.md keeps the history."""

RUNS_DIR = Path("castbench-runs")
SUFFIX = ".jsonl"
_MAX_LINE_BYTES = 64 * 1024 * 1024


class RunWriter:
    """Appends to one run file; every line reaches the operating system before the call returns.

    A file has one writer at a time (an advisory lock); a second one is a RunFileError.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def create(cls, path: Path, header: RunHeader) -> RunWriter:
        """A new file with its header; an existing file is never overwritten."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o644)
        except FileExistsError:
            raise RunFileError(
                f"{path} exists already and is never overwritten; name another file with --out"
            ) from None
        except OSError as error:
            raise RunFileError(f"cannot write {path}: {error.strerror}; name another place with --out") from None
        writer = cls._locked(path, descriptor)
        writer._append("header", header)
        return writer

    @classmethod
    def resume(cls, path: Path, record: RunRecord, at: str) -> RunWriter:
        """Go on with a file that was read before: a torn last line is cut off, and the resumption noted."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
        except OSError as error:
            raise RunFileError(f"cannot go on writing {path}: {error.strerror}") from None
        writer = cls._locked(path, descriptor)
        if record.damage:
            os.ftruncate(descriptor, _intact_bytes(path))
        writer._append("resumed", {"at": at})
        return writer

    def append_round(self, record: RoundRecord) -> None:
        """Add a finished round."""
        self._append("round", record)

    def append_group(self, record: GroupRecord) -> None:
        """Add a finished group."""
        self._append("group", record)

    def close(self) -> None:
        """Release the file."""
        os.close(self._descriptor)

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @classmethod
    def _locked(cls, path: Path, descriptor: int) -> RunWriter:
        """A writer that holds the file's lock."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise RunFileError(f"{path} is being written by another castbench; wait for it, or use --out") from None
        return cls(path, descriptor)

    def _append(self, kind: str, value: Any) -> None:
        """One line in one write, so that a kill leaves whole lines and at most one torn one."""
        line = (canonical_json({"kind": kind, **to_plain(value)}) + "\n").encode()
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
        except OSError as error:
            raise RunFileError(f"cannot write {self.path}: {error.strerror}; what is in it is kept") from None


def read_run(path: Path) -> RunRecord:
    """A run file as a record; RunFileError where it is no run file, of a newer schema, or damaged inside.

    A torn last line (the writer was killed) is left out and said in `damage`.
    """
    lines = _lines(path)
    damage = []
    if lines and not _is_whole(lines[-1]):
        torn = lines.pop()
        damage.append(f"line {len(lines) + 1} is torn ({len(torn)} bytes were cut off in writing); it was left out")
    if not lines:
        raise RunFileError(f"{path} holds no complete line; it is no run file, or its run was killed at once")
    found = _Reading(path)
    for number, line in enumerate(lines, 1):
        found.take(number, line)
    if found.header is None:
        raise RunFileError(f"{path} has no header; it is no castbench run file")
    return RunRecord(
        found.header, tuple(found.rounds), tuple(found.groups), tuple(found.resumed), tuple(damage), str(path)
    )


def rounds_sha256(rounds: Iterable[RoundRecord]) -> str:
    """Hash of a group's rounds in order, kept in its group line so that a changed round is noticed."""
    return sha256_of(list(rounds))


def find_run(ref: str, directory: Path = RUNS_DIR) -> Path:
    """The file a user means: a path, a name in ./castbench-runs, or `latest`."""
    if ref == "latest":
        found = run_files(directory)
        if not found:
            raise RunFileError(f"there are no runs in {directory}/ yet; measure one with: castbench profile quickstart")
        return found[-1]
    for candidate in (Path(ref), directory / ref, directory / f"{ref}{SUFFIX}"):
        if candidate.is_file():
            return candidate
    raise RunFileError(f"no run file {ref!r} here or in {directory}/; `castbench runs` lists what there is")


def run_files(directory: Path = RUNS_DIR) -> list[Path]:
    """Run files of a directory, oldest first by the time they were started (then by name)."""
    if not directory.is_dir():
        return []
    return sorted(directory.glob(f"*{SUFFIX}"), key=lambda path: (_created_at(path), path.name))


def new_run_path(name: str, device: str, created_at: str, directory: Path = RUNS_DIR) -> Path:
    """A file name that is not taken: profile, device, time of start."""
    stamp = re.sub(r"[^0-9T]", "", created_at)[:15].replace("T", "-")
    stem = f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name)[:80]}-{device.replace(':', '')}-{stamp}"
    path = directory / f"{stem}{SUFFIX}"
    number = 2
    while path.exists():
        path = directory / f"{stem}-{number}{SUFFIX}"
        number += 1
    return path


@dataclass
class _Reading:
    """Lines of a run file as they are taken in."""

    path: Path
    header: RunHeader | None = None
    rounds: list[RoundRecord] = field(default_factory=list)
    groups: list[GroupRecord] = field(default_factory=list)
    resumed: list[str] = field(default_factory=list)

    def take(self, number: int, line: bytes) -> None:
        """Add one line; RunFileError names it where it cannot be read."""
        try:
            data = json.loads(line)
            kind = data.pop("kind")
            if number == 1:
                self._take_header(kind, data)
            elif kind == "round":
                self.rounds.append(from_plain(RoundRecord, data))
            elif kind == "group":
                self.groups.append(from_plain(GroupRecord, data))
            elif kind == "resumed":
                self.resumed.append(str(data["at"]))
            else:
                raise ValueError(f"unknown kind {kind!r}")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise RunFileError(f"{self.path}: line {number} is not what a run file holds ({error})") from None

    def _take_header(self, kind: Any, data: dict[str, Any]) -> None:
        """The first line."""
        if kind != "header":
            raise ValueError("the first line must be the header")
        if isinstance(data.get("schema"), int) and data["schema"] > SCHEMA:
            raise RunFileError(
                f"{self.path} has schema {data['schema']}, and this castbench reads up to {SCHEMA}; update castbench"
            )
        self.header = from_plain(RunHeader, data)


def _lines(path: Path) -> list[bytes]:
    """The file's lines without their ends; the last one keeps its end, if it has one, so that a torn one shows."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunFileError(f"cannot read {path}: {error.strerror}") from None
    lines = content.splitlines(keepends=True)
    if any(len(line) > _MAX_LINE_BYTES for line in lines):
        raise RunFileError(f"{path} has a line above 64 MiB; it is no run file")
    return lines


def _is_whole(line: bytes) -> bool:
    """Whether a line was written to its end."""
    return line.endswith(b"\n")


def _intact_bytes(path: Path) -> int:
    """Bytes up to the end of the last whole line."""
    return sum(len(line) for line in _lines(path) if _is_whole(line))


def _created_at(path: Path) -> str:
    """Time of start from the header line, or nothing where there is no readable one."""
    try:
        with path.open("rb") as file:
            return str(json.loads(file.readline(_MAX_LINE_BYTES)).get("created_at", ""))
    except (OSError, ValueError, AttributeError):
        return ""
