"""The noun of a diagnosis: one thing about a machine, how bad it is, what follows and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding matters, worst first."""

    PROBLEM = "problem"
    WARNING = "warning"
    NOTE = "note"
    OK = "ok"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about the machine: what is so, what that means for the numbers, what to do (None: nothing)."""

    severity: Severity
    what: str
    so_what: str
    do: str | None = None
