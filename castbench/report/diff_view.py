"""Two runs of the same work, before and after: what changed in each ratio to the baseline, and what gates say of it.

two records, two projections ─▶ rows over the traffic and by case ─▶ verdicts (Holm by table) ─▶ gates ─▶ Diff
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from castbench.cost import change
from castbench.cost.change import Known, RatioChange
from castbench.cost.gates import JudgedGate
from castbench.cost.spec import Projection
from castbench.errors import InputError
from castbench.findings import CaseFinding, case_findings
from castbench.plan import Group
from castbench.records import Caveat, RunRecord, Status
from castbench.report import view
from castbench.report.comparison import check_comparable
from castbench.report.nouns import RunFacts
from castbench.said import Quantity, Statement, Unit, statement
from castbench.stats import Estimate, Verdict
from castbench.units import mib

NAMES = ("BASE", "NEW")
_SAME_MACHINE = ("device", "device_name", "host", "torch", "cuda", "driver", "threads")
"""What an A/A run shares with BASE; otherwise it is no A/A run."""


@dataclass(frozen=True, slots=True)
class Side:
    """What one of the runs has for a row; None: not known.

    figure      speed-up over the baseline, or milliseconds in a row of absolute times
    known       the log that the change is made of
    """

    figure: Quantity | None
    known: Known | None
    peak_mib: float | None = None
    status: Status | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class DiffRow:
    """One mechanism at one shape, or over the whole traffic (`group` is None); the baseline has its memory only.

    change    time in NEW over time in BASE, less 1, in percent; of the ratio to the baseline, or absolute
    why       why there is no verdict; None where there is one
    """

    label: str
    group: Group | None
    base: Side
    new: Side
    change: Quantity | None
    verdict: Verdict | None
    why: Statement | None


@dataclass(frozen=True, slots=True)
class Diff:
    """BASE and NEW; `absolute` is empty unless it was asked for. `floor_percent`: what of an absolute change is noise.

    new_money   the projection that cost gates are of
    """

    base: RunFacts
    new: RunFacts
    unlike: bool
    notes: tuple[Statement, ...]
    margin: float
    traffic: tuple[DiffRow, ...]
    cases: tuple[DiffRow, ...]
    absolute: tuple[DiffRow, ...]
    floor_percent: float | None
    new_money: Projection
    gates: tuple[JudgedGate, ...] = ()


@dataclass(frozen=True, slots=True)
class Pair:
    """Both runs with what is worked out of each once."""

    records: tuple[RunRecord, RunRecord]
    projections: tuple[Projection, Projection]
    findings: tuple[Mapping[tuple[str, str], CaseFinding], Mapping[tuple[str, str], CaseFinding]]

    @property
    def margin(self) -> float:
        """Differences up to this count as none: the wider of the two runs' margins."""
        return max(record.header.plan.sampling.same_within for record in self.records)

    @property
    def labels(self) -> tuple[str, ...]:
        """Every mechanism of either run, in the order of BASE."""
        arms = [arm for p in self.projections for arm in p.arms]
        return tuple(dict.fromkeys(arm.arm.label for arm in arms))


def build(
    records: tuple[RunRecord, RunRecord], projections: tuple[Projection, Projection], *, forced: bool = False,
    floor: float | None = None,
) -> Diff:  # fmt: skip
    """The difference of two runs, gates left out.

    `floor`, the log of a time ratio that means nothing, asks for absolute times too. Raises InputError for runs that
    did unlike work, unless `forced`.
    """
    unlike = check_comparable(records, NAMES, forced=forced)
    pair = Pair(records, projections, (_by_case(records[0]), _by_case(records[1])))
    base, new = (view.run_facts(record) for record in records)
    return Diff(
        base, new, bool(unlike), tuple(_notes(pair, unlike, floor)), pair.margin,
        _judged(_traffic_rows(pair), pair.margin), _judged(_case_rows(pair), pair.margin),
        () if floor is None else _judged(_absolute_rows(pair), pair.margin, floor),
        None if floor is None else 100 * math.expm1(floor), projections[1],
    )  # fmt: skip


def noise_floor(base: RunRecord, others: Sequence[tuple[str, RunRecord]]) -> float:
    """The largest log ratio of any case's time between BASE and an A/A run: the same work on the same machine again.

    InputError for a run of other work, of another machine, or BASE itself.
    """
    mine, found = _by_case(base), []
    for name, other in others:
        _require_repeat(base, name, other)
        theirs = _by_case(other)
        pairs = [(f.latency_s, theirs[key].latency_s) for key, f in mine.items() if key in theirs]
        found += [abs(math.log(b.value / a.value)) for a, b in pairs if a is not None and b is not None]
    if not found:
        raise InputError("--noise: no case was measured both in BASE and in the A/A run; measure one again")
    return max(found)


def _require_repeat(base: RunRecord, name: str, other: RunRecord) -> None:
    """InputError unless `other` repeats BASE."""
    if (other.header.run_id, len(other.rounds)) == (base.header.run_id, len(base.rounds)):
        raise InputError(f"--noise {name}: this is BASE itself; measure the same work once more for an A/A run")
    try:
        check_comparable((base, other), ("BASE", name), forced=False)
    except InputError as error:
        raise InputError(f"--noise {name}: no A/A run of BASE: {str(error).partition('. Compare')[0]}") from None
    here, there = base.header.environment, other.header.environment
    for what in _SAME_MACHINE:
        if getattr(here, what) != getattr(there, what):
            was, now = getattr(here, what), getattr(there, what)
            raise InputError(f"--noise {name}: no A/A run of BASE: {what} is {now}, in BASE it is {was}")


def _by_case(record: RunRecord) -> dict[tuple[str, str], CaseFinding]:
    """Findings of the cases that are compared; ceilings and lengths measured as a check only are left out."""
    return {
        (found.group.key, found.arm.label): found
        for found in case_findings(record)
        if not found.group.held_out and found.arm.role != "ceiling"
    }


def _case_rows(pair: Pair) -> Iterator[DiffRow]:
    """The ratio to the profile's baseline, case by case."""
    baselines = {record.header.plan.baseline for record in pair.records}
    for key, label, group in _cases(pair):
        base, new = (
            _case_side(record, found.get((key, label)))
            for record, found in zip(pair.records, pair.findings, strict=True)
        )
        is_baseline, other = label in baselines, _other_baseline(baselines)
        yield _baseline(label, group, base, new) if is_baseline else _row(label, group, base, new, other)


def _cases(pair: Pair) -> Iterator[tuple[str, str, Group]]:
    """Every case of either run, in the order of BASE."""
    for key in dict.fromkeys((*pair.findings[0], *pair.findings[1])):
        yield (*key, (pair.findings[0].get(key) or pair.findings[1][key]).group)


def _case_side(record: RunRecord, found: CaseFinding | None) -> Side:
    """The speed-up of a case in one run."""
    if found is None:
        return Side(None, None)
    known = None if found.mean_step_s is None else change.ratio_in(record, found.group.key, found.arm.label)
    return Side(Quantity.of(found.speedup, Unit.TIMES), known, _peak_mib(found), found.status, found.reason)


def _absolute_rows(pair: Pair) -> Iterator[DiffRow]:
    """Median times of steps, case by case, the baseline's too."""
    for key, label, group in _cases(pair):
        sides = []
        for record, by_case in zip(pair.records, pair.findings, strict=True):
            found = by_case.get((key, label))
            known = None if found is None else change.latency_in(record, found)
            figure = None if found is None else Quantity.of(found.latency_s, Unit.MS, 1e3)
            sides.append(Side(figure, known, None, found.status if found else None, found.reason if found else None))
        yield _row(label, group, sides[0], sides[1], None)


def _traffic_rows(pair: Pair) -> Iterator[DiffRow]:
    """The ratio to the headline's baseline over the traffic, each at its best."""
    baselines = {p.baseline.label for p in pair.projections if p.baseline is not None}
    other = _other_baseline(baselines)
    for label in pair.labels:
        base, new = (_traffic_side(r, p, label) for r, p in zip(pair.records, pair.projections, strict=True))
        yield _baseline(label, None, base, new) if label in baselines else _row(label, None, base, new, other)


def _other_baseline(baselines: set[str]) -> Statement | None:
    """That the two ratios are to different baselines, where they are."""
    return statement("diff.other_baseline", baselines=tuple(sorted(baselines))) if len(baselines) > 1 else None


def _traffic_side(record: RunRecord, projection: Projection, label: str) -> Side:
    """The speed-up over the traffic in one run."""
    arm = next((arm for arm in projection.arms if arm.arm.label == label), None)
    if arm is None or arm.speedup is None:
        return Side(None, None)
    speedup = Estimate(arm.speedup.value) if Caveat.FEW_ROUNDS in arm.caveats else arm.speedup
    peak = None if arm.peak_memory_bytes is None else mib(arm.peak_memory_bytes)
    return Side(Quantity.of(speedup, Unit.TIMES), change.over_traffic(record, arm), peak, Status.OK)


def _baseline(label: str, group: Group | None, base: Side, new: Side) -> DiffRow:
    """The row of a baseline, whose ratio to itself says nothing."""
    mine, theirs = (replace(side, figure=None, known=None) for side in (base, new))
    return DiffRow(label, group, mine, theirs, None, Verdict.BASELINE, None)


def _row(label: str, group: Group | None, base: Side, new: Side, other: Statement | None) -> DiffRow:
    """A row before it is judged."""
    return DiffRow(label, group, base, new, None, None, other or _why_none(base, new))


def _why_none(base: Side, new: Side) -> Statement | None:
    """Why a row can have no verdict: not measured in one of the runs, or on too few rounds."""
    for name, side in zip(NAMES, (base, new), strict=True):
        if side.known is None:
            if side.status is None:
                return statement("diff.unmeasured_plainly", run=name)
            why = (side.reason or "").rstrip(". ")
            return statement("diff.unmeasured", run=name, status=side.status.value, reason=why or None)
    for name, side in zip(NAMES, (base, new), strict=True):
        if side.known is not None and side.known.log.low is None:
            return statement("diff.no_range", run=name)
    return None


def _judged(rows: Iterator[DiffRow], margin: float, floor: float = 0.0) -> tuple[DiffRow, ...]:
    """The rows of one table with changes and verdicts, Holm over those that can be judged."""
    listed = tuple(rows)
    made: dict[int, RatioChange] = {}
    for i, row in enumerate(listed):
        if row.base.known is not None and row.new.known is not None and not _is_other(row.why):
            made[i] = change.change_of(row.base.known, row.new.known, floor)
    found = dict(zip(made, change.verdicts(list(made.values()), margin), strict=True))
    return tuple(
        replace(row, change=_percent(made[i]), verdict=found[i]) if i in made else row for i, row in enumerate(listed)
    )


def _is_other(why: Statement | None) -> bool:
    """Whether the two ratios are to different baselines."""
    return why is not None and why.key == "diff.other_baseline"


def _percent(made: RatioChange) -> Quantity:
    """A change as percent of the time in BASE."""
    log = made.estimate
    low, high = (None if end is None else 100 * math.expm1(end) for end in (log.low, log.high))
    return Quantity(100 * math.expm1(log.value), Unit.PERCENT, low, high)


def _peak_mib(found: CaseFinding) -> float | None:
    """Peak memory of a case."""
    peak = found.outcome.peak_bytes if found.outcome else None
    return None if peak is None else mib(peak)


def _notes(pair: Pair, unlike: Sequence[Statement], floor: float | None) -> Iterator[Statement]:
    """What must be known before any number."""
    if unlike:
        yield statement("compare.unlike")
        yield from unlike
    base, new = (record.header for record in pair.records)
    if (base.run_id, len(pair.records[0].rounds)) == (new.run_id, len(pair.records[1].rounds)):
        yield statement("diff.same_run")
    machines = [(h.environment.device_name, h.environment.host, h.environment.device_uuid) for h in (base, new)]
    yield statement("diff.one_machine" if machines[0] == machines[1] else "diff.two_machines")
    yield statement("diff.ratio", margin=Quantity(pair.margin * 100, Unit.PERCENT))
    for name in dict.fromkeys(p.baseline.label for p in pair.projections if p.baseline):
        yield from _moved(pair, name)
    if floor is not None:
        yield statement("diff.floor", floor=Quantity(100 * math.expm1(floor), Unit.PERCENT))


def _moved(pair: Pair, label: str) -> Iterator[Statement]:
    """That the headline's baseline is at its best in another configuration than before."""
    used = [p.baseline for p in pair.projections]
    if used[0] is not None and used[1] is not None and used[0].label == used[1].label == label and used[0] != used[1]:
        yield statement("diff.moved", label=label, base=used[0].manner, new=used[1].manner)
