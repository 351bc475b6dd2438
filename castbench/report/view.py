"""From a run and its projection to a Report: what is said and in which order; pure, unrounded."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence

from castbench.cost.observed import is_contradicted
from castbench.cost.spec import ArmProjection, Configuration, Projection, Savings
from castbench.cost.surface import configuration_of
from castbench.findings import paired_log_ratio
from castbench.records import Caveat, RunRecord
from castbench.report import headline
from castbench.report.claims_view import claims_check
from castbench.report.method_view import how_measured
from castbench.report.nouns import AtObjective, CaseRow, CaveatNote, GroupTable, Money, Report, RunFacts
from castbench.report.rows import confirmed_rows, group_tables
from castbench.said import Quantity, Statement, Unit, Words, statement
from castbench.stats import Estimate, Verdict, judge
from castbench.units import ms
from castbench.workload.spec import Currency

_NO_ENDS: tuple[int | None, int | None] = (None, None)


def build(record: RunRecord, projection: Projection, at_objective: AtObjective | None = None) -> Report:
    """The report of a run: pure, every number unrounded. `at_objective`: what a replay says, where one was made."""
    run, fresh = run_facts(record), confirmed_rows(record)
    money = _money(projection, record.header.economics.currency)
    mechanisms = tuple(arm for arm in projection.arms if arm.arm.role != "ceiling")
    groups = group_tables(record)
    return Report(
        run=run,
        warnings=(
            *warnings(run, is_wrong_device=any(Caveat.WRONG_DEVICE in arm.caveats for arm in mechanisms)),
            *_contradictions(money.savings),
        ),
        headline=headline.sentences(mechanisms, money, groups, run, fresh, at_objective),
        mechanisms=mechanisms,
        money=money,
        ceilings=tuple(_ceilings(record, mechanisms, money, groups)),
        groups=groups,
        confirmations=fresh,
        assumptions=tuple(_assumptions(record, run, projection, groups)),
        caveats=caveat_notes(mechanisms, groups),
        reproduce=commands(run),
        at_objective=at_objective,
        outlook=projection.outlook,
        electricity=projection.electricity,
        rented=projection.rented,
        how=how_measured(record, mechanisms),
        claims=claims_check(record),
    )


def replicas_estimate(arm: ArmProjection) -> Estimate | None:
    """Whole servers with the 95 % interval of their distribution over the draws."""
    if arm.replicas is None:
        return None
    if not arm.replicas_shares:
        return Estimate(arm.replicas)
    low, high = (_quantile(arm.replicas_shares, share) for share in (0.025, 0.975))
    return Estimate(arm.replicas, min(low, arm.replicas), max(high, arm.replicas))


def _quantile(shares: tuple[tuple[int, float], ...], share: float) -> int:
    """The smallest value that at least `share` of the distribution does not exceed."""
    reached = 0.0
    for count, weight in shares:
        reached += weight
        if reached >= share:
            return count
    return shares[-1][0]


def run_facts(record: RunRecord) -> RunFacts:
    """Which run this is."""
    header, plan = record.header, record.header.plan
    return RunFacts(
        run_id=header.run_id, created_at=header.created_at, profile_name=header.profile_name,
        profile_source=header.profile_source, path=record.path, profile_sha256=header.profile_sha256,
        comparable_sha256=header.comparable_sha256, plan_sha256=header.plan_sha256, environment=header.environment,
        phase=plan.served.phase, scope=plan.served.scope, dtype=plan.served.dtype, baseline_label=plan.baseline,
        same_within=plan.sampling.same_within, damage=record.damage, resumed=len(record.resumed_at),
        seed=plan.served.seed, regimes=tuple(dict.fromkeys(group.regime for group in plan.groups)),
        mode=plan.sampling.mode, ended=record.ended, energy_asked=plan.sampling.energy,
        unconfirmed=_why_unconfirmed(record),
    )  # fmt: skip


def _why_unconfirmed(record: RunRecord) -> str | None:
    """Why no winner was selected for fresh rounds; None where one was."""
    if record.selection is not None:
        return None
    if not record.header.plan.sampling.confirm:
        return "not-asked"
    if record.ended is None:
        return "interrupted"
    return "nothing-to-choose" if record.ended.complete else "budget"


def _money(projection: Projection, currency: Currency | None) -> Money:
    """What the projection stands on."""
    return Money(
        projection.today, projection.baseline, projection.price, projection.demand, projection.mix,
        projection.money_missing, projection.ceiling, projection.module_ceiling, currency,
        projection.savings,
    )  # fmt: skip


def warnings(run: RunFacts, *, is_wrong_device: bool) -> Iterator[Statement]:
    """What must be read before any number."""
    if run.environment.device == "fake":
        yield statement("warning.fake")
    if run.environment.device == "cpu":
        yield statement("warning.cpu")
    if is_wrong_device:
        yield statement("warning.device", device=run.environment.device_name)
    if run.ended is None:
        yield statement("warning.unfinished")
    elif not run.ended.complete:
        yield statement("warning.budget")
    for what in run.damage:
        yield statement("warning.damage", what=what)


def _contradictions(savings: Savings | None) -> Iterator[Statement]:
    """What cannot be: a model of today that needs more than is observed."""
    found = savings.observed if savings else None
    if found is None:
        return
    if is_contradicted(found.bill_explained):
        yield statement("warning.bill", explained=Quantity.of(found.bill_explained, Unit.PERCENT, 100.0))
    if is_contradicted(found.latency_explained) and found.stated.p50_ms is not None:
        yield statement(
            "warning.latency", model=Quantity.of(found.p50_s, Unit.MS, ms(1.0)),
            observed=Quantity(found.stated.p50_ms, Unit.MS),
        )  # fmt: skip


def _ceilings(
    record: RunRecord, mechanisms: Sequence[ArmProjection], money: Money, groups: Sequence[GroupTable]
) -> Iterator[Statement]:
    """What no mechanism can pass, and from which length each one wins."""
    if money.baseline is None:
        return
    yield from _limits(mechanisms, money, money.baseline, _fewest_rounds(groups, money.baseline), record)
    for arm in mechanisms:
        if arm.crossover != _NO_ENDS and arm.arm.label != money.baseline.label:
            yield _crossover(record, arm, money.baseline)


def _limits(
    mechanisms: Sequence[ArmProjection], money: Money, baseline: Configuration, rounds: int | None, record: RunRecord
) -> Iterator[Statement]:
    """Both ceilings, or why they cannot be stated: too few rounds, or slower than what they bound.

    A ceiling bounds what runs as the baseline does: other batches and regimes can pass it.
    """
    limits = [("ceiling.mixing", money.ceiling), ("ceiling.module", money.module_ceiling)]
    known = [(key, limit) for key, limit in limits if limit is not None]
    few = rounds is not None and rounds < record.header.plan.analysis.looks[0]
    few |= any(arm.configuration == baseline and Caveat.FEW_ROUNDS in arm.caveats for arm in mechanisms)
    alike = (arm for arm in mechanisms if arm.configuration is not None and arm.configuration.how == baseline.how)
    fastest = max([1.0, *(arm.speedup.value for arm in alike if arm.speedup is not None)])
    if known and few:
        yield statement("ceiling.too_few")
    elif any(limit.value < fastest for _, limit in known):
        yield statement("ceiling.noisy")
    else:
        for key, limit in known:
            yield statement(key, speedup=Quantity.of(limit, Unit.TIMES), baseline=baseline.said)


def _fewest_rounds(groups: Iterable[GroupTable], used: Configuration) -> int | None:
    """Fewest rounds of the ceilings and of the baseline in the shapes that a ceiling over it rests on."""
    return min(
        (
            row.rounds
            for table in groups
            if configuration_of(table.group, used.label) == used
            for row in table.rows
            if not table.group.held_out and row.rounds and (row.arm.role == "ceiling" or row.arm.label == used.label)
        ),
        default=None,
    )


def _crossover(record: RunRecord, arm: ArmProjection, baseline: Configuration) -> Statement:
    """The bracket [last length not FASTER, first from which all are], and where it is only not shown."""
    last, first = arm.crossover
    said = {"label": arm.arm.label, "baseline": baseline.label, "regime": baseline.regime}
    tokens = {
        name: None if length is None else Quantity(length, Unit.TOKENS)
        for name, length in (("last", last), ("first", first))
    }
    for why, lengths in _undetermined(record, arm.arm.label, baseline):
        if last in lengths:
            listed = tuple(Quantity(length, Unit.TOKENS) for length in lengths)
            key = "crossover.open" if first is None else "crossover.bracket_open"
            return statement(key, why=why, lengths=listed, **said, **tokens)
    key = "crossover.none" if first is None else "crossover.all" if last is None else "crossover.bracket"
    return statement(key, **said, **tokens)


def _undetermined(record: RunRecord, label: str, baseline: Configuration) -> Iterator[tuple[Words, tuple[int, ...]]]:
    """Lengths at batch 1, in the baseline's regime, at which nothing is shown, by what stands there instead of a
    verdict, ascending.
    """
    plan = record.header.plan
    found: dict[str | None, list[int]] = {}
    for group in sorted(plan.groups, key=lambda group: group.shape.seq_len):
        if (group.shape.batch_size, group.regime) == (1, baseline.regime) and not group.held_out:
            ratio = paired_log_ratio(record.rounds_of(group.key), label, baseline.label, plan)
            verdict = None if ratio is None else judge(ratio, plan.sampling.same_within)
            if verdict in (None, Verdict.UNCLEAR):
                found.setdefault(verdict and verdict.value, []).append(group.shape.seq_len)
    return ((why or statement("no_measurement"), tuple(lengths)) for why, lengths in found.items())


def _assumptions(
    record: RunRecord, run: RunFacts, projection: Projection, groups: Iterable[GroupTable]
) -> Iterator[Statement]:
    """What the money stands on, in the words of the money stage, and what the verdicts mean."""
    yield from projection.assumptions
    margin = Quantity(run.same_within * 100, Unit.PERCENT)
    yield statement("assumption.margin", baseline=run.baseline_label, margin=margin)
    rules = record.header.plan.analysis
    judged = sum(_is_judged(row, rules.looks[0]) for table in groups for row in table.rows)
    if judged:
        yield statement(
            "assumption.verdicts",
            count=Quantity(judged, Unit.COUNT),
            error=Quantity(rules.total_error * 100, Unit.PERCENT),
            false=Quantity(judged * rules.total_error, Unit.EXPECTED),
        )  # fmt: skip


def _is_judged(row: CaseRow, fewest_rounds: int) -> bool:
    """Whether a case was compared with the baseline on enough rounds for a verdict."""
    return row.speedup is not None and row.rounds >= fewest_rounds


def caveat_notes(mechanisms: Iterable[ArmProjection], groups: Iterable[GroupTable]) -> tuple[CaveatNote, ...]:
    """Every doubt once, with the labels it touches in the order of the plan."""
    touched: dict[Caveat, dict[str, None]] = {}
    for arm in mechanisms:
        for caveat in arm.caveats:
            touched.setdefault(caveat, {})[arm.arm.label] = None
    for row in (row for table in groups for row in table.rows if row.arm.role != "ceiling"):
        for caveat in row.caveats:
            touched.setdefault(caveat, {})[row.arm.label] = None
    return tuple(CaveatNote(caveat, tuple(touched[caveat])) for caveat in Caveat if caveat in touched)


def commands(run: RunFacts) -> tuple[str, ...]:
    """Commands that measure the same again, and that read this very run again."""
    read_again = () if run.path is None else (f"castbench report {shlex.quote(run.path)}",)
    here = run.environment
    again = f"castbench profile {shlex.quote(run.profile_source)} --device {here.device} --seed {run.seed}"
    threads = f" --threads {here.threads}" if here.device == "cpu" and here.threads is not None else ""
    return (again + threads, *read_again)
