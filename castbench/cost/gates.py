"""Gates: conditions with a number that a run must be shown to meet, as a line of text and as a judgement.

LABEL: METRIC >= NUMBER [@ TOKENS]      cast-32: speedup_vs_baseline >= 1.3 @ 4096
*: METRIC <= NUMBER                     *: slowdown_percent <= 3
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from castbench.errors import InputError
from castbench.plan import Group
from castbench.said import Quantity, Statement, Unit
from castbench.workload.spelling import close_to, did_you_mean

EVERY = "*"
"""Stands for every mechanism of the run."""


class Metric(StrEnum):
    """What a gate can be about; all but changes are of NEW."""

    SPEEDUP = "speedup_vs_baseline"
    SLOWDOWN = "slowdown_percent"
    TIME_CHANGE = "time_change_percent"
    MEMORY = "peak_memory_mib"
    MEMORY_CHANGE = "peak_memory_change_percent"
    COST = "cost_usd_per_hour"
    SAVING = "saving_usd_per_hour"


UNITS = {
    Metric.SPEEDUP: Unit.TIMES, Metric.SLOWDOWN: Unit.PERCENT, Metric.TIME_CHANGE: Unit.PERCENT,
    Metric.MEMORY: Unit.MIB, Metric.MEMORY_CHANGE: Unit.PERCENT, Metric.COST: Unit.USD_PER_HOUR,
    Metric.SAVING: Unit.USD_PER_HOUR,
}  # fmt: skip
MONEY = frozenset({Metric.COST, Metric.SAVING})
"""Of the whole traffic only: a length has none."""


MEMORY = frozenset({Metric.MEMORY, Metric.MEMORY_CHANGE})
"""Counted, and known of the baseline too, which has no ratio to itself."""


class Outcome(StrEnum):
    """What is shown of a gate: that it is met, that it is not, or neither."""

    PASSED = "passed"
    UNDECIDED = "undecided"
    MISSED = "missed"


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition; `text` is what was written. tokens: only at this length; None: over the whole traffic."""

    label: str
    metric: Metric
    at_least: bool
    number: float
    tokens: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Figure:
    """What a gate is held against: a figure of a mechanism, with the case it is of; `why`: why it is not known, or has
    no valid range.
    """

    label: str
    case: Group | None
    quantity: Quantity | None
    why: Statement | None


@dataclass(frozen=True, slots=True)
class JudgedFigure:
    """A figure with what it says of the gate."""

    figure: Figure
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class JudgedGate:
    """A gate with all that it was held against; its outcome is the worst of them."""

    gate: Gate
    judged: tuple[JudgedFigure, ...]

    @property
    def outcome(self) -> Outcome:
        """MISSED if anything misses, PASSED if everything passes."""
        found = {one.outcome for one in self.judged}
        if Outcome.MISSED in found:
            return Outcome.MISSED
        return Outcome.PASSED if found == {Outcome.PASSED} else Outcome.UNDECIDED


_GATE = re.compile(
    r"(?P<label>.+):\s*(?P<metric>[^\s:<>=@]+)\s*(?P<sign>[<>]=)\s*(?P<number>[^\s@]+)\s*(?:@\s*(?P<tokens>\S+)\s*)?",
    re.DOTALL,
)
_DECIMAL = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?")
_LENGTH = re.compile(r"[1-9][0-9]{0,8}")
_FORM = "expected LABEL: METRIC >= NUMBER or <= NUMBER, optionally with @ TOKENS"


def parse_gate(text: str, labels: Collection[str], where: str = "--gate") -> Gate:
    """The gate that a text states; InputError, naming `where` it stands, for what is no gate of these labels."""
    match = _GATE.fullmatch(text.strip())
    if match is None:
        raise InputError(f"{where}: {_FORM}, got {text!r}")
    return Gate(
        _label(match["label"], labels, where), _metric(match["metric"], where), match["sign"] == ">=",
        _number(match["number"], where), _tokens(match["tokens"], match["metric"], where), text.strip(),
    )  # fmt: skip


def judge(gate: Gate, figures: Sequence[Figure]) -> JudgedGate:
    """The gate held against figures: passed only where the unfavourable end of the interval passes."""
    return JudgedGate(gate, tuple(JudgedFigure(figure, _outcome(gate, figure)) for figure in figures))


def _outcome(gate: Gate, figure: Figure) -> Outcome:
    """What one figure shows; without a valid interval nothing is shown."""
    known = figure.quantity
    if known is None or known.low is None or known.high is None or figure.why is not None:
        return Outcome.UNDECIDED
    worst, best = (known.low, known.high) if gate.at_least else (-known.high, -known.low)
    limit = gate.number if gate.at_least else -gate.number
    if worst >= limit:
        return Outcome.PASSED
    return Outcome.MISSED if best < limit else Outcome.UNDECIDED


def _label(text: str, labels: Collection[str], where: str) -> str:
    """The label that is meant; spaces around it do not count."""
    meant = text.strip()
    if meant == EVERY:
        return EVERY
    for label in labels:
        if meant == label.strip():
            return label
    known = did_you_mean(close_to(meant, labels)) or f"; labels are {', '.join(labels)}"
    raise InputError(f"{where}: no mechanism is labelled {meant!r}{known}")


def _metric(text: str, where: str) -> Metric:
    """The metric of that name."""
    try:
        return Metric(text)
    except ValueError:
        begun = [repr(metric.value) for metric in Metric if metric.startswith(text)]
        near = begun[0] if len(begun) == 1 else close_to(text, [metric.value for metric in Metric])
        known = did_you_mean(near) or f"; metrics are {', '.join(Metric)}"
        raise InputError(f"{where}: there is no metric {text!r}{known}") from None


def _number(text: str, where: str) -> float:
    """A finite decimal number."""
    number = float(text) if _DECIMAL.fullmatch(text) else math.nan
    if not math.isfinite(number):
        raise InputError(f"{where}: expected a plain number such as 1.3, got {text!r}")
    return number


def _tokens(text: str | None, metric: str, where: str) -> int | None:
    """A length in tokens, for metrics that a length has."""
    if text is None:
        return None
    if metric in MONEY:
        raise InputError(f"{where}: {metric} is of the whole traffic; leave out @ {text}")
    if not _LENGTH.fullmatch(text):
        raise InputError(f"{where}: expected a length in tokens behind @, such as 4096, got {text!r}")
    return int(text)
