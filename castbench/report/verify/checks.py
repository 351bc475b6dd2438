"""What verifying says: checks that hold or do not, with the numbers that differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from castbench.report.verify.numbers import Difference, Pair

SHOWN = 3
"""Differences that a sentence names; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was checked; `detail` says what was compared, or what is wrong.

    numbers       how many numbers were worked out anew, by kind; empty where the check is of something else
    differences   those that came out differently
    """

    what: str
    ok: bool
    detail: str = ""
    numbers: tuple[tuple[str, int], ...] = ()
    differences: tuple[Difference, ...] = ()


def listed(what: str, problems: Iterable[str], detail: str) -> Check:
    """A check that passes when nothing is listed."""
    found = list(problems)
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return Check(what, not found, "; ".join(found[:SHOWN]) + more if found else detail)


def compared(what: str, pairs: Iterable[Pair]) -> Check:
    """A check of numbers side by side."""
    every = [pair for pair in pairs if not (pair.reported is None and pair.recomputed is None)]
    counts = Counter(pair.kind for pair in every)
    differences = tuple(d for pair in every if (d := pair.difference()) is not None)
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))
    found = listed(what, map(str, differences), f"{len(every)} agree" + (f" ({kinds})" if kinds else ""))
    return Check(what, found.ok, found.detail, tuple(sorted(counts.items())), differences)
