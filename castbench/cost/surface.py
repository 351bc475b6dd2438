"""The measured surface: seconds per step of every configuration over length, log-log between measured lengths.

log time            o               o  measured
   |             ./                 .  interpolated
   |         o../                   x  held out: measured, and used only to state the interpolation's error
   |    ====o   x                   =  shorter than the first measured length: costs what that length costs
   +------------------- log length     beyond the last: refused
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from castbench.cost.draws import DRAWS, drawn_means
from castbench.cost.spec import Configuration
from castbench.findings import CaseFinding, sample_of
from castbench.plan import Group, Plan
from castbench.records import CLUSTERED_TIME_RATIO, RunRecord
from castbench.said import Quantity, Statement, Unit, statement, together
from castbench.workload.spec import Regime

if TYPE_CHECKING:
    from castbench.cost.draws import Drawn

DATA_DEPENDENCE_MARGIN = 0.03
"""Two kinds of input that differ by less in time are taken as the same."""

Times = Mapping[tuple[str, str], "Drawn"]
"""Drawn seconds per step by (group key, label)."""


@dataclass(frozen=True, slots=True, eq=False)
class LatencySurface:
    """Drawn seconds per step of one configuration at its measured lengths (ascending), with the cases behind them."""

    configuration: Configuration
    lengths: tuple[int, ...]
    step_s: tuple[Drawn, ...]
    cases: tuple[CaseFinding, ...]

    def seconds_at(self, tokens: int) -> Drawn:
        """Drawn seconds of a step at this length; ValueError beyond the last measured length."""
        import numpy as np

        if tokens > self.lengths[-1]:
            raise ValueError(f"{tokens} tokens lie beyond the longest measured length, {self.lengths[-1]}")
        above = bisect_left(self.lengths, tokens)
        if above == 0 or self.lengths[above] == tokens:
            return self.step_s[above]
        low, high = self.lengths[above - 1], self.lengths[above]
        weight = math.log(tokens / low) / math.log(high / low)
        below = self.step_s[above - 1]
        between: Drawn = np.exp((1 - weight) * np.log(below) + weight * np.log(self.step_s[above]))
        return between


@dataclass(frozen=True, slots=True, eq=False)
class Surfaces:
    """The surfaces of a run: complete ones by configuration, and why each other configuration has none."""

    complete: Mapping[Configuration, LatencySurface]
    incomplete: Mapping[Configuration, Statement]

    def of(self, label: str) -> tuple[LatencySurface, ...]:
        """The complete surfaces of one arm."""
        return tuple(s for c, s in self.complete.items() if c.label == label)

    def why_none(self, label: str) -> Statement | None:
        """Why configurations of this arm are missing; None if none is."""
        return together(reason for c, reason in self.incomplete.items() if c.label == label)


def drawn_times(record: RunRecord, findings: Iterable[CaseFinding], seed: int) -> Times:
    """Mean wall seconds per step of every usable case: the mean over valid rounds of the window means, drawn jointly
    per group, so that arms measured in the same rounds stay paired.
    """
    import numpy as np

    labels: dict[str, list[str]] = {}
    for finding in findings:
        if finding.mean_step_s is not None:
            labels.setdefault(finding.group.key, []).append(finding.arm.label)
    times: dict[tuple[str, str], Drawn] = {}
    # One block for all cases: the system gets it back, as it does not get back thousands of small ones.
    block = np.empty((sum(map(len, labels.values())), 1 + DRAWS))
    for key, usable in labels.items():
        rounds = record.rounds_of(key)
        samples = {label: [sample_of(r, label) for r in rounds] for label in usable}
        windows = {label: [s.mean_step_s if s else None for s in row] for label, row in samples.items()}
        into, block = block[: len(usable)], block[len(usable) :]
        times.update({(key, label): drawn for label, drawn in drawn_means(windows, seed, key, into).items()})
    return times


def mean_times(findings: Iterable[CaseFinding]) -> Times:
    """The same numbers without draws of them: for what asks for no range, and has none of their memory to spare."""
    import numpy as np

    return {
        (finding.group.key, finding.arm.label): np.array([finding.mean_step_s])
        for finding in findings
        if finding.mean_step_s is not None
    }


def build_surfaces(plan: Plan, findings: Sequence[CaseFinding], times: Times) -> Surfaces:
    """A surface for every configuration whose cases are all measured and reach the longest request."""
    cases: dict[Configuration, list[CaseFinding]] = {}
    for finding in findings:
        if not finding.group.held_out:
            cases.setdefault(configuration_of(finding.group, finding.arm.label), []).append(finding)
    complete: dict[Configuration, LatencySurface] = {}
    incomplete: dict[Configuration, Statement] = {}
    for configuration, found in cases.items():
        found.sort(key=lambda case: case.group.shape.seq_len)
        reason = _why_incomplete(found, plan.mix.tokens[-1])
        if reason is not None:
            incomplete[configuration] = reason
            continue
        steps = tuple(times[case.group.key, case.arm.label] for case in found)
        lengths = tuple(case.group.shape.seq_len for case in found)
        complete[configuration] = LatencySurface(configuration, lengths, steps, tuple(found))
    return Surfaces(complete, incomplete)


def interpolation_errors(plan: Plan, surfaces: Surfaces, times: Times) -> dict[str, float]:
    """By label: interpolated over measured seconds at the held-out point, minus 1; the largest one."""
    errors: dict[str, float] = {}
    for group in plan.groups:
        for arm in plan.arms if group.held_out else ():
            surface = surfaces.complete.get(configuration_of(group, arm.label))
            measured = times.get((group.key, arm.label))
            if surface is None or measured is None:
                continue
            error = float(surface.seconds_at(group.shape.seq_len)[0] / measured[0]) - 1
            errors[arm.label] = max(errors.get(arm.label, 0.0), error, key=abs)
    return errors


def data_dependence(findings: Iterable[CaseFinding]) -> dict[str, float]:
    """By label: how much longer a step takes on inputs clustered by construction, as a share of all measured time of
    one regime; the largest over the regimes.

    Negative where it is shorter; only labels beyond DATA_DEPENDENCE_MARGIN.

    Mechanisms that choose by content are timed on both kinds of input; see docs/method.md. Weighted by time, since the
    ratio of a short step is mostly noise.
    """
    spent: dict[tuple[str, Regime], list[tuple[float, float]]] = {}
    for finding in findings:
        facts = dict(finding.outcome.facts) if finding.outcome else {}
        if finding.mean_step_s is not None and CLUSTERED_TIME_RATIO in facts:
            key = (finding.arm.label, finding.group.regime)
            spent.setdefault(key, []).append((finding.mean_step_s, facts[CLUSTERED_TIME_RATIO]))
    apart: dict[str, float] = {}
    for (label, _), pairs in spent.items():
        longer = math.fsum(t * ratio for t, ratio in pairs) / math.fsum(t for t, _ in pairs) - 1
        apart[label] = max(apart.get(label, 0.0), longer, key=abs)
    return {label: share for label, share in apart.items() if abs(share) > DATA_DEPENDENCE_MARGIN}


def configuration_of(group: Group, label: str) -> Configuration:
    """The configuration that a case of this group measures."""
    return Configuration(label, group.shape.batch_size, group.batching, group.regime)


def _why_incomplete(cases: Sequence[CaseFinding], longest: int) -> Statement | None:
    """Why these cases make no surface; None if they do."""
    how = configuration_of(cases[-1].group, cases[-1].arm.label).manner
    for case in cases:
        if case.mean_step_s is None:
            length = Quantity(case.group.shape.seq_len, Unit.TOKENS)
            key = "surface.failed_because" if case.reason else "surface.failed"
            return statement(key, how=how, status=case.status.value, length=length, reason=case.reason)
    measured = cases[-1].group.shape.seq_len
    if longest > measured:
        lengths = {"longest": Quantity(longest, Unit.TOKENS), "measured": Quantity(measured, Unit.COUNT)}
        return statement("surface.too_short", how=how, **lengths)
    return None
