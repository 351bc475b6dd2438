"""The few errors castbench raises, each with the exit code it ends the program with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with an input: where it stands, and what was expected there."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


class CastbenchError(Exception):
    """Base of every error a user is told in one sentence; `exit_code` is what the program ends with."""

    exit_code = 1


class InputError(CastbenchError):
    """What the user gave cannot be used: a profile, an option, a file name."""

    exit_code = 2

    def __init__(self, message: str, problems: Iterable[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)

    @classmethod
    def of(cls, source: str, problems: Iterable[Problem]) -> InputError:
        """Every problem of one source in one error, a line each."""
        found = tuple(problems)
        return cls("\n".join(f"{source}: {problem}" for problem in found), found)


class HardwareError(CastbenchError):
    """The device asked for is not there or cannot be used."""

    exit_code = 3


class RunFileError(CastbenchError):
    """A run file is missing, damaged, of another schema, or would be overwritten."""

    exit_code = 4


class GateMissed(CastbenchError):  # noqa: N818 - a word that users know
    """A stated gate is not met, or not shown to be."""

    exit_code = 5


class Interrupted(CastbenchError):  # noqa: N818 - it is no error
    """The user pressed Ctrl-C; what was measured is kept."""

    exit_code = 130
