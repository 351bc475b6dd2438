"""The run file: one JSON object per line, appended as it is measured, read back whole; see docs/run-format.md.

{"kind": "header", …}      first, once
{"kind": "round", …}       as each round finishes
{"kind": "group", …}       as each group finishes
{"kind": "selection", …}   when it is known what fresh rounds shall confirm
{"kind": "end", …}         when the run ends by itself
{"kind": "resumed", …}     when a later session goes on

Every line but the first carries `prev`, the hash of the line before it, so that a change inside the file shows.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import re
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from castbench.errors import RunFileError
from castbench.plain import canonical_json, from_plain, sha256_of, to_plain
from castbench.plan import Plan
from castbench.records import GroupRecord, RoundRecord, RunEnd, RunHeader, RunRecord, Selection

SCHEMA = 4
"""Schema number of run files; docs/run-format.md keeps the history."""

RUNS_DIR = Path("castbench-runs")
SUFFIX = ".jsonl"
_MAX_LINE_BYTES = 64 * 1024 * 1024


class RunWriter:
    """Appends to one run file; every line reaches the operating system before the call returns.

    A file has one writer at a time (an advisory lock); a second one is a RunFileError.
    """

    def __init__(self, path: Path, descriptor: int, last_line: bytes | None = None) -> None:
        self.path = path
        self._descriptor = descriptor
        self._last_line = last_line

    @classmethod
    def create(cls, path: Path, header: RunHeader) -> RunWriter:
        """A new file with its header; a file that holds anything is never overwritten, an empty one is taken.

        Whoever has the lock and finds the file empty owns it, so two runs cannot both begin the same file.
        """
        descriptor = _opened(path, os.O_RDWR | os.O_APPEND)
        _lock(path, descriptor)
        found = os.fstat(descriptor)
        if found.st_size or not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            raise RunFileError(f"{path} exists already and is never overwritten; name another file with --out")
        writer = cls(path, descriptor)
        try:
            writer._append("header", header)
        except BaseException:
            path.unlink(missing_ok=True)  # nothing is in it yet
            writer.close()
            raise
        return writer

    @classmethod
    def resume(cls, path: Path) -> tuple[RunWriter, RunRecord]:
        """Go on with a file, read under its lock; a torn last line is cut off."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
        except OSError as error:
            raise RunFileError(f"cannot go on writing {path}: {error.strerror}") from None
        _lock(path, descriptor)
        try:
            record = read_run(path)
            whole = [line for line in _lines(path) if _is_whole(line)]
            if record.damage:
                os.ftruncate(descriptor, sum(map(len, whole)))
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, descriptor, whole[-1]), record

    def append_resumed(self, at: str) -> None:
        """Note that a later session goes on from here."""
        self._append("resumed", {"at": at})

    def append_round(self, record: RoundRecord) -> None:
        """Add a finished round."""
        self._append("round", record)

    def append_group(self, record: GroupRecord) -> None:
        """Add a finished group."""
        self._append("group", record)

    def append_selection(self, selection: Selection) -> None:
        """Note what is confirmed on fresh rounds."""
        self._append("selection", selection)

    def append_end(self, end: RunEnd) -> None:
        """Close a run that ended by itself; a resumed one goes on after it and ends again."""
        self._append("end", end)

    def close(self) -> None:
        """Release the file."""
        os.close(self._descriptor)

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, kind: str, value: Any) -> None:
        """One line in one write, so that a kill leaves whole lines and at most one torn one.

        Where the disk takes only part of a line (it is full), the part is cut off again.
        """
        chained = {} if self._last_line is None else {"prev": _line_sha256(self._last_line)}
        line = (canonical_json({"kind": kind, **to_plain(value), **chained}) + "\n").encode()
        whole, left = os.fstat(self._descriptor).st_size, line
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._descriptor, whole)
            what = f"cannot write {self.path}: {error.strerror}"
            if self._last_line is None:
                raise RunFileError(f"{what}; nothing was measured; name another place with --out") from None
            go_on = f"castbench profile --resume {self.path}"
            raise RunFileError(f"{what}; every finished round is kept; make room and go on with: {go_on}") from None
        self._last_line = line


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
        found.take(number, line, lines[number - 2] if number > 1 else None)
    if found.header is None:
        raise RunFileError(f"{path} has no header; it is no castbench run file")
    return RunRecord(
        found.header, tuple(found.rounds), tuple(found.groups), tuple(found.resumed), tuple(damage), str(path),
        tuple(found.unchained), found.selection, found.ended,
    )  # fmt: skip


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
        if _is_file(candidate):
            return candidate
    raise RunFileError(f"no run file {ref!r} here or in {directory}/; `castbench runs` lists what there is")


def run_files(directory: Path = RUNS_DIR) -> list[Path]:
    """Run files of a directory, oldest first by the time they were started, then by the time of the last line."""
    if not directory.is_dir():
        return []
    return sorted(
        directory.glob(f"*{SUFFIX}"), key=lambda path: (_created_at(path), path.stat().st_mtime_ns, path.name)
    )


def _is_file(path: Path) -> bool:
    """Whether a file of that name is there; no for names that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def new_run_path(name: str, device: str, created_at: str, directory: Path = RUNS_DIR) -> Path:
    """A file name of one's own: profile, device, time of start. An empty file of that name is there from now on, so
    that a run started within the same second gets another.
    """
    stamp = re.sub(r"[^0-9T]", "", created_at)[:15].replace("T", "-")
    stem = f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name)[:80]}-{device.replace(':', '')}-{stamp}"
    for number in itertools.count(1):
        path = directory / f"{stem}{f'-{number}' if number > 1 else ''}{SUFFIX}"
        with suppress(FileExistsError):
            os.close(_opened(path, os.O_WRONLY | os.O_EXCL))
            return path
    raise AssertionError("unreachable: there are more numbers than files")


@dataclass
class _Reading:
    """Lines of a run file as they are taken in."""

    path: Path
    header: RunHeader | None = None
    rounds: list[RoundRecord] = field(default_factory=list)
    groups: list[GroupRecord] = field(default_factory=list)
    resumed: list[str] = field(default_factory=list)
    unchained: list[int] = field(default_factory=list)
    selection: Selection | None = None
    ended: RunEnd | None = None

    def take(self, number: int, line: bytes, before: bytes | None) -> None:
        """Add one line; RunFileError names it where it cannot be read."""
        try:
            data = json.loads(line, parse_constant=_refuse_constant)
            kind = data.pop("kind")
            prev = data.pop("prev", None)
            self.ended = None  # whatever follows an end goes on after it
            if before is not None and prev != _line_sha256(before):
                self.unchained.append(number)
            if number == 1:
                self._take_header(kind, data)
            elif kind == "round":
                self.rounds.append(_sane_round(from_plain(RoundRecord, data)))
            elif kind == "group":
                self.groups.append(from_plain(GroupRecord, data))
            elif kind == "selection":
                self.selection = self._planned(from_plain(Selection, data))
            elif kind == "end":
                self.ended = from_plain(RunEnd, data)
            elif kind == "resumed":
                self.resumed.append(str(data["at"]))
            else:
                raise ValueError(f"unknown kind {kind!r}")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise RunFileError(f"{self.path}: line {number} is not what a run file holds ({error})") from None

    def _planned(self, selection: Selection) -> Selection:
        """A selection of arms and groups that the plan has."""
        if self.header is not None:
            keys = {group.key for group in self.header.plan.groups}
            labels = {arm.label for arm in self.header.plan.arms}
            for chosen in selection.selected:
                if chosen.group not in keys or not {chosen.label, chosen.against} <= labels:
                    raise ValueError(f"{chosen.label!r} at {chosen.group!r} was selected and never planned")
        return selection

    def _take_header(self, kind: Any, data: dict[str, Any]) -> None:
        """The first line."""
        if kind != "header":
            raise ValueError("the first line must be the header")
        schema = data.get("schema")
        if isinstance(schema, int) and schema > SCHEMA:
            raise RunFileError(
                f"{self.path} has schema {schema}, and this castbench reads up to {SCHEMA}; update castbench"
            )
        if schema == 1:
            raise RunFileError(
                f"{self.path} has schema 1: it was written by a version of castbench from before its first release; "
                "measure anew"
            )
        self.header = from_plain(RunHeader, data)
        datetime.fromisoformat(self.header.created_at)
        _require_sound(self.header.plan)


def _opened(path: Path, flags: int) -> int:
    """A file that is made where it is not there, folders included; with O_EXCL, FileExistsError where it is."""
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True)
        return os.open(path, flags | os.O_CREAT, 0o644)
    except OSError as error:
        if isinstance(error, FileExistsError) and path.parent.is_dir():
            raise
        why = "what should be its folder is a file" if isinstance(error, FileExistsError) else error.strerror
        raise RunFileError(f"cannot write {path}: {why}; name another place with --out") from None


def _lock(path: Path, descriptor: int) -> None:
    """Take the file's lock, or close it and say who has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise RunFileError(f"{path} is being written by another castbench; wait for it, or use --out") from None


def _line_sha256(line: bytes) -> str:
    """Hash of a line as it stands in the file."""
    return hashlib.sha256(line).hexdigest()


def _require_sound(plan: Plan) -> None:
    """ValueError where a plan cannot be judged by: names twice, no baseline, looks without their errors."""
    rules, labels = plan.analysis, [arm.label for arm in plan.arms]
    keys = [group.key for group in plan.groups]
    if len(rules.looks) != len(rules.look_errors) or not rules.looks:
        raise ValueError("looks and look_errors differ in length")
    if plan.baseline not in labels or len(set(labels)) != len(labels) or len(set(keys)) != len(keys):
        raise ValueError("arms or groups of one name, or no baseline among the arms")


def _refuse_constant(name: str) -> float:
    """NaN and infinities are no JSON and no measurement."""
    raise ValueError(f"{name} is no number")


def _sane_round(record: RoundRecord) -> RoundRecord:
    """A round whose windows can have happened."""
    for sample in record.samples:
        if sample.steps < 1 or sample.elapsed_s <= 0 or any(t < 0 for t in sample.step_times_s):
            raise ValueError(f"the window of {sample.label!r} has no time or no steps")
    return record


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


def _created_at(path: Path) -> str:
    """Time of start from the header line, or nothing where there is no readable one."""
    try:
        with path.open("rb") as file:
            return str(json.loads(file.readline(_MAX_LINE_BYTES)).get("created_at", ""))
    except (OSError, ValueError, AttributeError):
        return ""
