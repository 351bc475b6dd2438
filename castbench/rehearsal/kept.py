"""The file beside a run that keeps its rehearsals: RUN.rehearsal.json, newest last."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from castbench.cost.rehearsed import Rehearsal
from castbench.errors import RunFileError
from castbench.plain import from_plain, to_plain
from castbench.records import RunRecord

SCHEMA = 1
"""Rises whenever a key is renamed, removed or changes its meaning."""
MOST_KEPT = 100
_MOST_BYTES = 16 * 1024 * 1024


def path_beside(run: str) -> Path:
    """The file beside a run file."""
    path = Path(run)
    return path.with_name(f"{path.name.removesuffix('.jsonl')}.rehearsal.json")


def kept_rehearsals(record: RunRecord) -> tuple[Rehearsal, ...]:
    """The newest rehearsal of every mechanism and way of batching, oldest first; RunFileError for a damaged file.

    Those of another run, whose file lay under this name, are left out.
    """
    newest: dict[Any, Rehearsal] = {}
    for rehearsal in _all(record):
        key = (rehearsal.label, rehearsal.policy)
        newest.pop(key, None)
        newest[key] = rehearsal
    return tuple(newest.values())


def keep(record: RunRecord, rehearsal: Rehearsal) -> Path | None:
    """Add a rehearsal, in one step, so that a kill leaves the file as it was; None where the run lies in no file."""
    if record.path is None:
        return None
    path = path_beside(record.path)
    every = (*_all(record), rehearsal)[-MOST_KEPT:]
    text = json.dumps(
        {"schema": SCHEMA, "kind": "rehearsals", "run_id": record.header.run_id, "rehearsals": to_plain(every)},
        indent=1, ensure_ascii=False, allow_nan=False,
    )  # fmt: skip
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        fresh.write_text(text + "\n", encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink()
        raise RunFileError(f"cannot write {path}: {error.strerror}") from None
    return path


def _all(record: RunRecord) -> tuple[Rehearsal, ...]:
    """Every rehearsal of this run that its file holds."""
    path = None if record.path is None else path_beside(record.path)
    if path is None or not path.is_file():
        return ()
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError("it is too large")
        held = json.loads(path.read_text(encoding="utf-8"))
        if held["schema"] != SCHEMA:
            raise ValueError(f"its schema is {held['schema']}, expected {SCHEMA}")
        if held["run_id"] != record.header.run_id:
            return ()
        every = tuple(from_plain(Rehearsal, one) for one in held["rehearsals"])
        if any({0.5, 0.99} - {line.share for line in one.percentiles} for one in every):
            raise ValueError("a percentile is missing")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunFileError(f"{path}: no rehearsals can be read from it ({error}); remove it or mend it") from None
    return every
