"""Gates as a YAML file that `castbench diff --gates` reads, with numbers from a run that a repeat of it would keep."""

from __future__ import annotations

import math
from collections.abc import Iterator

from castbench.cost.change import REPEATED
from castbench.cost.gates import Metric
from castbench.cost.selection import rival
from castbench.cost.spec import ArmProjection
from castbench.records import Caveat
from castbench.report import format as fmt
from castbench.report import text
from castbench.report.nouns import Report
from castbench.report.plan_limits import MEMORY_MARGIN
from castbench.said import Quantity, Statement, Unit, statement
from castbench.stats import Estimate
from castbench.units import mib


def gates_file(report: Report) -> bytes:
    """The file: a gate per figure of what runs today, of the baseline, and of the mechanism that the headline is of."""
    margin = Quantity(100 * (MEMORY_MARGIN - 1), Unit.PERCENT)
    listed = [f"  - {yaml_string(gate)}" for arm in _subjects(report) for gate in _gates_of(report, arm)]
    said = (statement("gates.numbers", margin=margin), statement("gates.use")) if listed else (statement("gates.none"),)
    comment = comments(origin(report), *said)
    return "\n".join([*comment, "gates:" if listed else "gates: []", *listed, ""]).encode("utf-8", "replace")


def origin(report: Report) -> Statement:
    """Which run the numbers of a file are from."""
    run = report.run
    said = {"run_id": run.run_id, "created_at": run.created_at, "device_name": run.environment.device_name}
    return statement("gates.origin", **said)


def comments(*said: Statement) -> list[str]:
    """A line of comment for each statement."""
    return [f"# {text.legible(text.say(one))}" for one in said]


def yaml_string(words: str) -> str:
    """A text as a double-quoted scalar that any YAML reader turns back into the very same text."""
    return '"' + "".join(_yaml_character(character) for character in words) + '"'


def _yaml_character(character: str) -> str:
    """Printable characters as they are, others by their number."""
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _subjects(report: Report) -> Iterator[ArmProjection]:
    """The mechanisms that gates are about, each once; none on too few rounds for a range."""
    money = report.money
    subject = rival(report.mechanisms, money.today, money.baseline)
    labels = {used.label for used in (money.today, money.baseline) if used is not None}
    labels |= set() if subject is None else {subject.arm.label}
    for arm in report.mechanisms:
        if arm.arm.label in labels and arm.configuration is not None and Caveat.FEW_ROUNDS not in arm.caveats:
            yield arm


def _gates_of(report: Report, arm: ArmProjection) -> Iterator[str]:
    """A line per figure that is known; a limit that could not be missed is no gate."""
    label = arm.arm.label
    if arm.configuration != report.money.baseline:
        least = None if arm.speedup is None else _least_ratio(arm.speedup)
        if least is not None:
            yield f"{label}: {Metric.SPEEDUP} >= {fmt.bound(least, upward=False)}"
        slowdown = None if report.how is None else dict(report.how.repeat_percent).get(label)
        if slowdown is not None:
            most = max(slowdown, 100 * report.run.same_within)
            yield f"{label}: {Metric.SLOWDOWN} <= {fmt.bound(most, upward=True)}"
    if arm.peak_memory_bytes is not None:
        yield f"{label}: {Metric.MEMORY} <= {fmt.bound(mib(arm.peak_memory_bytes) * MEMORY_MARGIN, upward=True)}"
    cost = arm.cost_usd_per_hour
    if cost is not None and cost.high is not None:
        most = cost.value + REPEATED * (cost.high - cost.value)
        yield f"{label}: {Metric.COST} <= {fmt.bound(most, upward=True)}"


def _least_ratio(ratio: Estimate) -> float | None:
    """The lower limit of a ratio that a repeat keeps in all but 2.5 % of cases; None without an interval."""
    if ratio.low is None or ratio.low <= 0:
        return None
    return ratio.value * math.exp(-REPEATED * math.log(ratio.value / ratio.low))
