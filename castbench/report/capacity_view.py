"""What `castbench capacity` says, from a run and its traffic: sized mechanisms, notes and doubts; no sentence yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from castbench.cost.assumptions import price_said
from castbench.cost.capacity_stage import ArmCapacity, Asked, arm_capacities, fitted, longest_measured, require_served
from castbench.cost.day_lines import Autoscaler, DayLines, day_lines
from castbench.cost.rehearsed import Rehearsal
from castbench.cost.savings import is_priced_for_another_size
from castbench.cost.spec import Price, QualityStatus
from castbench.cost.traffic import Traffic
from castbench.cost.verdicts import quality_of
from castbench.errors import InputError
from castbench.findings import run_caveats
from castbench.records import Caveat, RunRecord
from castbench.report import view
from castbench.report.capacity_page import CapacityReport
from castbench.report.nouns import CaveatNote
from castbench.report.rehearsal_page import signature
from castbench.said import Quantity, Statement, Unit, statement
from castbench.units import SECONDS_PER_HOUR


@dataclass(frozen=True, slots=True)
class Extras:
    """What is asked beside the fewest servers; see `pipeline.CapacityQuestion`."""

    labels: tuple[str, ...] = ()
    replicas: int | None = None
    day: bool = False
    truncate: bool = False


@dataclass(frozen=True, slots=True)
class Money:
    """The price of a server and, where there is none, why."""

    price: Price | None
    missing: Statement | None

    @property
    def devices(self) -> int:
        """Replicas that run in one server."""
        return self.price.devices if self.price else 1


def require_known(record: RunRecord, extras: Extras) -> None:
    """InputError for a run or a question that nothing can be said of: found before a long trace is read."""
    require_served(record.header.plan)
    known = [arm.label for arm in record.header.plan.arms if arm.role != "ceiling"]
    strangers = [label for label in extras.labels if label not in known]
    if strangers:
        raise InputError(f"--only: no mechanism is labelled {', '.join(strangers)}; labels are {', '.join(known)}")
    if extras.replicas is not None and extras.replicas < 1:
        raise InputError(f"--replicas: expected 1 or more, got {extras.replicas}")


def build(
    record: RunRecord, asked: Asked, source: str | None, money: Money, extras: Extras,
    on_progress: Callable[[str, float], None] | None = None, rehearsals: Sequence[Rehearsal] = (),
) -> CapacityReport:  # fmt: skip
    """Size every mechanism asked for.

    source      where the traffic came from; None: it was made up from a rate
    rehearsals  those of this run, whose errors are said beside the figures
    """
    require_known(record, extras)
    longest = longest_measured(record)
    traffic, cut = fitted(asked.traffic, longest, truncate=extras.truncate)
    asked = replace(asked, traffic=traffic, replicas_per_unit=money.devices, replicas=extras.replicas)
    arms = arm_capacities(record, asked, extras.labels, on_progress)
    sized = [arm for arm in arms if arm.needed is not None]
    return CapacityReport(
        run=record.header.run_id, objective=asked.objective, traffic=traffic, source=source, cut=cut,
        warnings=tuple(_warnings(record)),
        notes=(*_notes(asked, source, cut, longest), *_of_money(money), *_of_rehearsals(rehearsals, arms)),
        arms=arms, price=money.price, money_missing=money.missing,
        lines=_day(sized, asked) if extras.day else {}, asked_replicas=extras.replicas,
        caveats=tuple(_caveats(record, sized, traffic, money.price)),
    )  # fmt: skip


def _warnings(record: RunRecord) -> Iterator[Statement]:
    """What must be read before any number, as in a report."""
    run = view.run_facts(record)
    return view.warnings(run, is_wrong_device=Caveat.WRONG_DEVICE in run_caveats(record))


def _notes(asked: Asked, source: str | None, cut: int, longest: int) -> Iterator[Statement]:
    """What the figures rest on."""
    yield of_traffic(asked.traffic, source)
    yield statement("capacity.objective", objective=asked.objective.said)
    if asked.objective.floor > 1 or asked.objective.spare:
        counts = (asked.objective.floor, asked.objective.zones, asked.objective.spare)
        floor, zones, spare = (Quantity(count, Unit.COUNT) for count in counts)
        yield statement("capacity.floor", floor=floor, zones=zones, spare=spare)
    if cut:
        yield of_cut(cut, longest)
    if asked.overhead_s:
        yield statement("capacity.overhead", overhead=Quantity(asked.overhead_s * 1e3, Unit.MS))


def of_traffic(traffic: Traffic, source: str | None) -> Statement:
    """Where the requests come from, how many they are, and how fast."""
    rate = None if traffic.rate_per_s is None else Quantity(traffic.rate_per_s, Unit.RATE)
    hours = Quantity(traffic.span_s / SECONDS_PER_HOUR, Unit.HOURS)
    requests = Quantity(traffic.requests, Unit.COUNT)
    if source is None:
        return statement("capacity.poisson", requests=requests, rate=rate, hours=hours)
    return statement("capacity.trace", source=source, requests=requests, hours=hours, rate=rate)


def of_cut(cut: int, longest: int) -> Statement:
    """How many requests were cut to what was measured."""
    return statement("capacity.cut", count=Quantity(cut, Unit.COUNT), longest=Quantity(longest, Unit.TOKENS))


def _of_money(money: Money) -> Iterator[Statement]:
    """The price with its source and its doubts, and what a server is; or why there is no cost."""
    price = money.price
    if price is None:
        yield statement("capacity.no_cost", why=money.missing or statement("no_money.price"))
        return
    yield from price_said(price)
    if money.devices > 1:
        yield statement("capacity.units", devices=Quantity(money.devices, Unit.COUNT))


def _of_rehearsals(rehearsals: Sequence[Rehearsal], arms: Sequence[ArmCapacity]) -> Iterator[Statement]:
    """What rehearsals of these mechanisms found; where there is none, that nobody looked."""
    labels = {arm.arm.label for arm in arms}
    said = [signature(rehearsal) for rehearsal in rehearsals if rehearsal.label in labels]
    yield from said or [statement("capacity.replayed")]


def _caveats(
    record: RunRecord, sized: Iterable[ArmCapacity], traffic: Traffic, price: Price | None
) -> Iterator[CaveatNote]:
    """Every doubt once, with the labels it touches in the order of the plan."""
    touched: dict[Caveat, dict[str, None]] = {}
    for arm in sized:
        for caveat in _doubts(record, arm, traffic, price):
            touched.setdefault(caveat, {})[arm.arm.label] = None
    return (CaveatNote(caveat, tuple(touched[caveat])) for caveat in Caveat if caveat in touched)


def _doubts(record: RunRecord, arm: ArmCapacity, traffic: Traffic, price: Price | None) -> set[Caveat]:
    """Doubts about one mechanism's figures."""
    assert arm.way is not None  # it was sized
    found = {caveat for surface in arm.way.surfaces for case in surface.cases for caveat in case.caveats}
    if not set(traffic.tokens.tolist()) <= set(arm.way.surfaces[0].lengths):
        found.add(Caveat.INTERPOLATED)
    if quality_of(record.header.plan, arm.arm) is QualityStatus.NOT_MEASURED:
        found.add(Caveat.QUALITY_NOT_MEASURED)
    if is_priced_for_another_size(price, record):
        found.add(Caveat.PRICED_SIZE)
    return found | set(price.caveats if price else ())


def _day(sized: Sequence[ArmCapacity], asked: Asked) -> dict[str, DayLines]:
    """Fixed, autoscaled and ideal fleets of every mechanism that was sized."""
    found = {}
    for arm in sized:
        assert arm.plan is not None and arm.plan.units is not None  # noqa: PT018 - it was sized
        scaler = Autoscaler(floor=asked.objective.floor, step=asked.replicas_per_unit)
        found[arm.arm.label] = day_lines(arm.plan.setting, arm.plan.units.replicas, scaler)
    return found
