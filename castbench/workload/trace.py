"""Replays what a profile refers to: the requests of a trace, read again from the very file the profile came from.

trace.csv ─read_trace─▶ ReadTrace ─▶ report and profile (workload from-trace)
profile ─▶ TraceReference ─load_trace─▶ Trace ─▶ capacity, rehearse
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from castbench.errors import InputError
from castbench.workload.spec import Trace, TraceReference
from castbench.workload.trace_layouts import AskedColumns
from castbench.workload.trace_reader import Reading, read_trace

__all__ = ["Trace", "load_trace"]


def load_trace(
    reference: TraceReference, folder: Path, on_progress: Callable[[float], None] | None = None
) -> Trace:  # fmt: skip
    """The requests a profile's demand refers to, times multiplied by its time_scale; `folder` is the profile's.

    About 12 bytes a request are held, 40 for a moment. Raises InputError where the file is not there, is another one
    (by its sha256), or is read into another number of requests than the profile says.
    """
    path = folder / reference.path
    if not _is_there(path):
        raise InputError(
            f"{path}: the trace that demand.trace names is not there (its path is relative to the profile); without it "
            "the rate and the lengths of the profile still hold, but nothing can be replayed"
        )
    asked = AskedColumns(reference.time_column, reference.time_unit, reference.tokens_column)
    reading = Reading(asked, reference.sort_within_s, reference.skip_unusable, reference.sha256)
    read = read_trace(path, reading, on_progress)
    if read.arrival_s is None:
        raise InputError(f"{path}: the trace has no times, so it cannot be replayed; take demand.trace out")
    if len(read.tokens) != reference.rows:
        raise InputError(
            f"{path}: {len(read.tokens):,} requests were read where demand.trace.rows says {reference.rows:,}; write "
            "the profile anew with castbench workload from-trace"
        )
    scale = f", times × {reference.time_scale:g}" if reference.time_scale != 1 else ""
    source = f"trace {path.name} ({len(read.tokens):,} requests, sha256 {read.sha256[:16]}{scale})"
    return Trace(read.arrival_s * reference.time_scale, read.tokens, source)


def _is_there(path: Path) -> bool:
    """Whether there is such a file; a name that no file can have is no file."""
    try:
        return path.exists()
    except OSError:
        return False
