"""Which further measurement could change the decision, and what it costs in time and money; pure.

spread of the log time ratio = rounds of each shape ⊕ interpolation        (variances; a round's part falls as 1/n)
distance = how far the ratio lies from where the decision flips
more rounds are wanted until 1.96 · spread <= distance
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from castbench.cost.contest import Contest
from castbench.cost.demand import seconds_per_request
from castbench.cost.outlook_nouns import Factor, Moved, NextMeasurement, Wanted
from castbench.cost.spec import QualityStatus, Recommendation
from castbench.cost.surface import LatencySurface
from castbench.cost.verdicts import CREDIBLE
from castbench.plan import Group
from castbench.records import Caveat, RunRecord
from castbench.stats import Verdict
from castbench.units import SECONDS_PER_HOUR

if TYPE_CHECKING:
    from castbench.cost.draws import Drawn

TWO_SIDED_95 = 1.959964
MOST_ROUNDS = 10_000
"""What would need more rounds than this is not settled by rounds."""


@dataclass(frozen=True, slots=True)
class _Spread:
    """Variances of the log time ratio by what they come from; what inputs bring in counts as interpolation."""

    by_group: dict[str, float]
    interpolation: float

    @property
    def rounds(self) -> float:
        """All that rounds bring in."""
        return math.fsum(self.by_group.values())


def next_measurement(contest: Contest, factors: tuple[Factor, ...]) -> NextMeasurement:
    """The next measurement of a contest; `factors` tell where the saving turns into none."""
    subject = contest.subject
    if Caveat.FEW_ROUNDS in subject.caveats:
        return _first_rounds(contest)
    if _is_open(contest):
        return _settling(contest, factors)
    wins = subject.verdict is Verdict.FASTER and (subject.probability_saving_positive or 0.0) >= CREDIBLE
    if not wins or subject.recommendation is Recommendation.ROLL_OUT:
        return NextMeasurement(Wanted.NOTHING)
    if subject.recommendation is Recommendation.KEEP and subject.quality_status is QualityStatus.NOT_MEASURED:
        return NextMeasurement(Wanted.FRESH)
    is_unknown = subject.quality_status is QualityStatus.NOT_MEASURED
    return NextMeasurement(Wanted.QUALITY if is_unknown else Wanted.NOTHING)


def _is_open(contest: Contest) -> bool:
    """Whether noise leaves it open what to do: an UNCLEAR verdict, or a saving that is neither sure nor ruled out."""
    subject = contest.subject
    sure = subject.probability_saving_positive
    unsure = sure is not None and 1 - CREDIBLE < sure < CREDIBLE and subject.verdict is not Verdict.SLOWER
    return subject.verdict is Verdict.UNCLEAR or unsure


def _settling(contest: Contest, factors: tuple[Factor, ...]) -> NextMeasurement:
    """The rounds that would settle an open decision: at one shape, else at all, else more lengths."""
    spread = _spread(contest)
    allowed = (_distance(contest, factors) / TWO_SIDED_95) ** 2
    if not spread.by_group or spread.interpolation >= allowed or spread.rounds <= 0:
        return _lengths(contest, spread)
    worst = max(spread.by_group, key=spread.by_group.__getitem__)
    left = allowed - spread.interpolation - (spread.rounds - spread.by_group[worst])
    if left > 0 and (rounds := _further(contest.record, worst, spread.by_group[worst] / left)) <= MOST_ROUNDS:
        return _priced(contest, Wanted.ROUNDS, {worst: rounds}, contest.record.header.plan.group(worst))
    factor = spread.rounds / (allowed - spread.interpolation)
    everywhere = {key: _further(contest.record, key, factor) for key in spread.by_group}
    if max(everywhere.values()) > MOST_ROUNDS:
        return NextMeasurement(Wanted.ENDLESS)
    return _priced(contest, Wanted.ALL_ROUNDS, everywhere)


def _lengths(contest: Contest, spread: _Spread) -> NextMeasurement:
    """More lengths, where interpolation is what leaves it open; else nothing of this kind settles it."""
    if contest.record.header.plan.mix.exact or spread.interpolation <= spread.rounds:
        return NextMeasurement(Wanted.ENDLESS)
    costliest = max((case.group for case in contest.surface.cases), key=lambda group: group.shape.seq_len)
    rounds = len(contest.record.rounds_of(costliest.key))
    return replace(_priced(contest, Wanted.LENGTHS, {costliest.key: rounds}), rounds=None)


def _first_rounds(contest: Contest) -> NextMeasurement:
    """The rounds that are missing to the first look, wherever they are."""
    record = contest.record
    first = record.header.plan.analysis.looks[0]
    missing = {key: first - n for key in _keys(contest) if (n := len(record.rounds_of(key))) < first}
    return _priced(contest, Wanted.FIRST_ROUNDS, missing)


def _priced(contest: Contest, wanted: Wanted, rounds: dict[str, int], group: Group | None = None) -> NextMeasurement:
    """A measurement with the time that so many rounds take by group, and what a server costs meanwhile."""
    record = contest.record
    seconds = math.fsum(n * seconds_per_round(record, key) for key, n in rounds.items())
    usd = None if contest.price is None else contest.price.usd_per_hour * seconds / SECONDS_PER_HOUR
    return NextMeasurement(wanted, group, max(rounds.values(), default=None), seconds, usd)


def seconds_per_round(record: RunRecord, key: str) -> float:
    """Mean seconds that the mechanisms' windows of one round of a group took."""
    held = record.rounds_of(key)
    return math.fsum(sample.elapsed_s for one in held for sample in one.samples) / max(1, len(held))


def _further(record: RunRecord, key: str, times: float) -> int:
    """Rounds to add so that there are that many times as many; at least one."""
    return max(1, math.ceil(len(record.rounds_of(key)) * (times - 1)))


def _keys(contest: Contest) -> tuple[str, ...]:
    """Groups that the two configurations rest on, each once."""
    cases = (*contest.surface.cases, *contest.baseline_surface.cases)
    return tuple(dict.fromkeys(case.group.key for case in cases))


def _distance(contest: Contest, factors: tuple[Factor, ...]) -> float:
    """How far the log time ratio lies from the nearest place where the decision flips: the margin of FASTER or, where
    money is known, the ratio at which nothing is saved.
    """
    ratio = float(contest.subject_s[0] / contest.baseline_s[0])
    margin = contest.record.header.plan.sampling.same_within
    flips = [factor.flips_at for factor in factors if factor.moved is Moved.TIMES and factor.flips_at is not None]
    edges = [-margin, *(math.log(at) for at in flips)]
    if contest.subject.verdict is Verdict.FASTER:
        edges = edges[1:] or edges
    return min(abs(math.log(ratio) - edge) for edge in edges)


def _spread(contest: Contest) -> _Spread:
    """Where the spread of the log time ratio comes from: each group's rounds alone, and what is left over."""
    by_group = {key: _variance(_ratio_of(contest, key)) for key in _keys(contest)}
    total = _variance(contest.subject_s / contest.baseline_s)
    return _Spread(by_group, max(0.0, total - math.fsum(by_group.values())))


def _ratio_of(contest: Contest, key: str) -> Drawn:
    """The time ratio when only the rounds of this group are uncertain; the rest of a request is kept."""
    mix = contest.record.header.plan.mix
    parts = []
    for surface, whole in ((contest.surface, contest.subject_s), (contest.baseline_surface, contest.baseline_s)):
        drawn = seconds_per_request(_only(surface, key), mix)
        parts.append(drawn - drawn[0] + whole[0])
    ratio: Drawn = parts[0] / parts[1]
    return ratio


def _only(surface: LatencySurface, key: str) -> LatencySurface:
    """The surface with the draws of one group, everything else at its value."""
    steps = (
        drawn if case.group.key == key else 0 * drawn + drawn[0]
        for drawn, case in zip(surface.step_s, surface.cases, strict=True)
    )
    return replace(surface, step_s=tuple(steps))


def _variance(ratio: Drawn) -> float:
    """Variance of the logarithm of drawn ratios, by the width of their middle 95 %."""
    import numpy as np

    low, high = np.quantile(np.log(ratio[1:]), (0.025, 0.975))
    return float((high - low) / (2 * TWO_SIDED_95)) ** 2
