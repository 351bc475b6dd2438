"""What a rehearsal may be asked for, apart, so that naming it imports nothing."""

from __future__ import annotations

from dataclasses import dataclass

SECONDS = 60.0
LOAD = 0.7
"""Where neither a load, a rate nor a profile says how busy the replica is to be."""


@dataclass(frozen=True, slots=True)
class RehearsalChoice:
    """What is rehearsed; None: as said.

    label       by default the baseline
    rate        requests per second; `load` instead of it: work per second with full batches; by default as full as the
                profile lets a server be
    max_batch   by default the largest measured
    by_length   batches within length buckets, as measured ones of equal lengths; by default only where no padded ones
                were measured
    overhead_s  what a batch spends outside the model; by default measured on the server before the first request
    truncate    cut requests longer than measured, rather than refuse them
    """

    label: str | None = None
    rate: float | None = None
    load: float | None = None
    seconds: float = SECONDS
    max_batch: int | None = None
    window_s: float = 0.0
    by_length: bool = False
    overhead_s: float | None = None
    truncate: bool = False
    seed: int = 0
