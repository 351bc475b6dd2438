"""The money stage of one run: every arm in its best configuration against the cheapest exact one.

rounds ─▶ times (drawn) ─▶ surfaces ─▶ seconds per request ─▶ best configurations ─▶ servers ─▶ cost ─▶ saving
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from castbench.cost.assumptions import assumptions
from castbench.cost.bills import Bills
from castbench.cost.capacity import Fleet, usd_per_million_tokens
from castbench.cost.draws import estimate, share
from castbench.cost.headroom import headroom
from castbench.cost.observed import median_seconds, reconciled
from castbench.cost.outlook import with_outlook
from castbench.cost.request_times import RequestTimes
from castbench.cost.selection import rival
from castbench.cost.spec import (
    ArmProjection,
    Configuration,
    Headroom,
    Price,
    Projection,
    QualityStatus,
    RangePart,
    RangeParts,
    Reconciled,
    Savings,
    Waterfall,
)
from castbench.cost.surface import Surfaces, build_surfaces, data_dependence, drawn_times, interpolation_errors
from castbench.cost.uncertainty import range_parts
from castbench.cost.verdicts import crossover, is_refuted, probability_faster, quality_of, recommend, verdicts
from castbench.cost.waterfall import unmeasured, waterfall
from castbench.findings import CaseFinding, Confirmation, case_findings, confirmations
from castbench.hardware.datasheet import all_gpus
from castbench.plan import Arm, Plan
from castbench.records import Caveat, RunRecord, Status
from castbench.said import Statement, statement, together
from castbench.stats import Estimate, Verdict, final_error
from castbench.workload.spec import Demand, Observed, RunningToday

if TYPE_CHECKING:
    from castbench.cost.draws import Drawn

_OF_BOTH = frozenset({Caveat.FEW_ROUNDS, Caveat.FEW_EPOCHS, Caveat.INCOMPLETE})
"""Doubts about the baseline's times that are doubts about every saving against it."""


@dataclass(frozen=True, slots=True, eq=False)
class _Stage:
    """What all arms are costed with; `in_part` says why demand and price cannot be used, and both are None then."""

    record: RunRecord
    findings: tuple[CaseFinding, ...]
    confirmations: tuple[Confirmation, ...]
    times: RequestTimes
    request_s: Mapping[Configuration, Drawn]
    best: Mapping[str, Configuration]
    verdicts: Mapping[str, Verdict]
    unproven: frozenset[str]
    today: Configuration | None
    baseline: Configuration | None
    in_part: Statement | None
    price: Price | None
    demand: Demand | None

    @property
    def plan(self) -> Plan:
        return self.record.header.plan

    @property
    def surfaces(self) -> Surfaces:
        return self.times.surfaces

    @property
    def bills(self) -> Bills:
        """Servers and money of every configuration."""
        return Bills(self.request_s, self.today, self.price, self.demand)

    def bills_without(self, part: RangePart | None) -> Bills:
        """The same from draws that lack one part of their uncertainty."""
        return Bills(self.times.of_requests(self.today, part), self.today, self.price, self.demand)

    def fleet(self, configuration: Configuration | None) -> Fleet | None:
        """The servers a configuration needs; None where it or the demand is not known."""
        return self.bills.fleet(configuration)


def project(
    record: RunRecord,
    price: Price | None,
    demand: Demand | None,
    *,
    money_missing: Statement | None,
    seed: int,
    attention_share: float | None = None,
    today: RunningToday | None = None,
    observed: Observed | None = None,
) -> Projection:
    """Cost every arm of a run at a price and a demand.

    `money_missing` says why `price` is None. A run of one attention module (scope attention) gives seconds of the
    module only, unless `attention_share` states the module's share of a request today. `seed` fixes the draws. `today`
    says how the baseline's label is served today, without it at its best; `observed` what the service takes today.
    """
    stage = _staged(record, price, demand, seed, attention_share, today)
    plan = stage.plan
    arms = tuple(_projected(stage, arm) for arm in _reported(plan))
    projection = Projection(
        arms, stage.today, stage.baseline,
        _ceiling(stage, "ceiling:mixing"), _ceiling(stage, "ceiling:module"), price, demand, plan.mix,
        _missing(stage.in_part, price, demand, money_missing),
        assumptions(
            price=price, demand=demand, mix=plan.mix, today=stage.today, baseline=stage.baseline,
            stated_today=_stated(plan, today), environment=record.header.environment,
            attention_share=attention_share if plan.served.scope == "attention" else None,
        ),
        _savings(stage, arms, is_stated=today is not None, observed=observed),
    )  # fmt: skip
    return with_outlook(projection, record, stage.bills, stage.surfaces, attention_share)


def _staged(
    record: RunRecord, price: Price | None, demand: Demand | None, seed: int, attention_share: float | None,
    stated: RunningToday | None,
) -> _Stage:  # fmt: skip
    """Everything that is computed once for all arms."""
    plan = record.header.plan
    findings = case_findings(record)
    steps = drawn_times(record, findings, seed)
    surfaces = build_surfaces(plan, findings, steps)
    errors = interpolation_errors(plan, surfaces, steps)
    times = RequestTimes(plan, surfaces, errors, data_dependence(findings), seed, attention_share)
    timed_s = times.of_timed()
    today = _today(plan, timed_s, stated)
    baseline = _cheapest(timed_s, _replacing(plan))
    request_s = times.of_requests(today)
    in_part = _why_in_part(plan, today, attention_share)
    best = {c.label: c for arm in _reported(plan) if (c := _cheapest(request_s, [arm.label])) is not None}
    unproven = _unproven(plan, surfaces, best, baseline)
    found = verdicts(
        {label: request_s[c] for label, c in best.items()}, _label(baseline), unproven, plan, _error_left(record)
    )
    return _Stage(
        record, findings, confirmations(record), times, request_s, best, found, unproven, today, baseline, in_part,
        price=None if in_part else price, demand=None if in_part else demand,
    )  # fmt: skip


def _error_left(record: RunRecord) -> float:
    """Error probability for statements over all groups: the least that any group's last look may spend."""
    rules = record.header.plan.analysis
    counts = {len(record.rounds_of(group.key)) for group in record.header.plan.groups}
    errors = (final_error(n, rules.looks, rules.look_errors) for n in counts)
    return min((error for error in errors if error is not None), default=rules.total_error)


def _reported(plan: Plan) -> tuple[Arm, ...]:
    """The arms that are mechanisms, not ceilings."""
    return tuple(arm for arm in plan.arms if arm.role != "ceiling")


def _replacing(plan: Plan) -> list[str]:
    """Labels that may be the headline baseline: exact mechanisms, and what the profile names."""
    return [arm.label for arm in _reported(plan) if arm.exact or arm.label == plan.baseline]


def _label(configuration: Configuration | None) -> str | None:
    """Its label, or None."""
    return configuration.label if configuration else None


def _today(
    plan: Plan, timed_s: Mapping[Configuration, Drawn], stated: RunningToday | None
) -> Configuration | None:  # fmt: skip
    """What runs today: as stated, or the baseline's label at its best; None where that has no complete measurement."""
    if stated is None:
        return _cheapest(timed_s, [plan.baseline])
    used = _stated(plan, stated)
    return used if used in timed_s else None


def _stated(plan: Plan, stated: RunningToday | None) -> Configuration | None:
    """The baseline's label as it is stated to be served today."""
    if stated is None:
        return None
    return Configuration(plan.baseline, stated.batch_size, stated.batching, stated.regime)


def _cheapest(seconds: Mapping[Configuration, Drawn], labels: Iterable[str]) -> Configuration | None:
    """The configuration of these labels with the fewest seconds per request; None if none is complete."""
    wanted = set(labels)
    return min((c for c in seconds if c.label in wanted), key=lambda c: float(seconds[c][0]), default=None)


def _why_in_part(plan: Plan, today: Configuration | None, attention_share: float | None) -> Statement | None:
    """Why the seconds are not those of whole requests; None where they are, and servers and money follow."""
    if plan.served.scope == "encoder":
        return None
    if attention_share is None:
        return statement("no_money.module_only")
    return None if today else statement("no_money.rest_unknown", baseline=plan.baseline)


def _missing(
    in_part: Statement | None, price: Price | None, demand: Demand | None, no_price: Statement | None
) -> Statement | None:  # fmt: skip
    """Why there is no cost per hour; None where there is one."""
    reasons = [in_part] if in_part else []
    if price is None:
        reasons.append(no_price or statement("no_money.price"))
    if demand is None:
        reasons.append(statement("no_money.demand"))
    return together(reasons)


def _has_few(stage: _Stage, configuration: Configuration) -> bool:
    """Whether a configuration rests on fewer rounds than the first look."""
    return min(c.rounds for c in stage.surfaces.complete[configuration].cases) < stage.plan.analysis.looks[0]


def _unproven(
    plan: Plan, surfaces: Surfaces, best: Mapping[str, Configuration], baseline: Configuration | None
) -> frozenset[str]:
    """Labels whose figures, or whose baseline's, rest on fewer rounds than the first look."""
    few = {
        label
        for label, configuration in best.items()
        if min(case.rounds for case in surfaces.complete[configuration].cases) < plan.analysis.looks[0]
    }
    return frozenset(best) if baseline is not None and baseline.label in few else frozenset(few)


def _projected(stage: _Stage, arm: Arm) -> ArmProjection:
    """One arm's row."""
    configuration = stage.best.get(arm.label)
    seconds = stage.request_s[configuration] if configuration else None
    fleet = stage.fleet(configuration)
    change = stage.bills.change(stage.baseline, configuration)
    quality = quality_of(stage.plan, arm)
    verdict = stage.verdicts.get(arm.label, Verdict.UNCLEAR)
    word = recommend(
        quality, verdict, _saving_probability(stage, configuration, fleet), _beats_today(stage, configuration),
        refuted=is_refuted(stage.confirmations, arm.label),
    )  # fmt: skip
    return ArmProjection(
        arm=arm, configuration=configuration, reason=None if configuration else stage.surfaces.why_none(arm.label),
        seconds_per_request=None if seconds is None else estimate(seconds),
        usd_per_million_tokens=_token_cost(
            stage, seconds, utilization=stage.demand.max_utilization if stage.demand else 1.0
        ),
        replicas=fleet.replicas if fleet else None,
        replicas_fractional=estimate(fleet.fractional) if fleet else None,
        replicas_shares=fleet.replicas_shares if fleet else (),
        utilization=fleet.utilization if fleet else None,
        cost_usd_per_hour=stage.bills.cost(fleet), saving_usd_per_hour=change.saving_usd_per_hour,
        saving_percent=change.saving_percent, probability_saving_positive=change.probability_saving_positive,
        capacity_released_units_per_hour=change.capacity_released_units_per_hour,
        cash_saving_usd_per_hour=change.cash_saving_usd_per_hour,
        speedup=_speedup(stage, configuration), verdict=verdict,
        peak_memory_bytes=_peak_memory(stage, configuration),
        crossover=crossover(stage.record, stage.findings, arm.label, stage.baseline),
        interpolation_error=stage.times.errors.get(arm.label),
        recommendation=word, quality_status=quality, caveats=_caveats(stage, arm, configuration, quality),
        usd_per_million_tokens_full_load=_token_cost(stage, seconds, utilization=1.0),
    )  # fmt: skip


def _saving_probability(stage: _Stage, configuration: Configuration | None, fleet: Fleet | None) -> float | None:
    """P(saving > 0): of whole billing units where a demand is stated, else of device seconds per request."""
    if configuration is None or stage.baseline is None:
        return None
    base = stage.fleet(stage.baseline)
    if fleet is not None and base is not None:
        saved = base.whole - fleet.whole
    else:
        saved = stage.request_s[stage.baseline] - stage.request_s[configuration]
    return share(saved > 0, saved)


def _beats_today(stage: _Stage, configuration: Configuration | None) -> float | None:
    """Probability that a configuration is faster than today's by more than the margin; None on too few rounds."""
    today = stage.today
    if configuration is None or today is None or configuration.label in stage.unproven or _has_few(stage, today):
        return None
    margin = stage.plan.sampling.same_within
    return probability_faster(stage.request_s[configuration], stage.request_s[today], margin)


def _token_cost(stage: _Stage, seconds: Drawn | None, *, utilization: float) -> Estimate | None:
    """Cost of a million real tokens on servers so busy."""
    if seconds is None or stage.price is None:
        return None
    return usd_per_million_tokens(seconds, stage.price, stage.plan.mix.mean_tokens, utilization)


def _speedup(stage: _Stage, configuration: Configuration | None) -> Estimate | None:
    """The baseline's seconds per request over this configuration's."""
    if configuration is None or stage.baseline is None:
        return None
    return estimate(stage.request_s[stage.baseline] / stage.request_s[configuration])


def _savings(
    stage: _Stage, arms: tuple[ArmProjection, ...], *, is_stated: bool, observed: Observed | None
) -> Savings:  # fmt: skip
    """What is saved step by step and in cash, against the bill, and what its range comes from."""
    environment = stage.record.header.environment
    return Savings(
        today_stated=is_stated,
        waterfall=_waterfall(stage, arms),
        unmeasured=tuple(unmeasured(stage.plan, environment.device)),
        observed=None if observed is None else _reconciled(stage, observed),
        range_parts=_range_parts(stage, rival(arms, stage.today, stage.baseline)),
        headroom=tuple(found for arm in arms if (found := _headroom(stage, arm)) is not None),
    )


def _waterfall(stage: _Stage, arms: tuple[ArmProjection, ...]) -> Waterfall | None:
    """The steps from today to the best mechanism that needs a new model; None where today is not measured."""
    if stage.today is None or stage.baseline is None:
        return None
    new = rival([a for a in arms if a.quality_status is not QualityStatus.EQUAL], stage.today, stage.baseline)
    return waterfall(
        stage.bills, stage.today, stage.baseline, _replacing(stage.plan), new.configuration if new else None
    )


def _reconciled(stage: _Stage, observed: Observed) -> Reconciled:
    """The model of today held against what is observed."""
    is_timed = stage.plan.served.scope == "encoder" and stage.today is not None
    median = median_seconds(stage.surfaces.complete[stage.today], stage.plan.mix) if is_timed and stage.today else None
    return reconciled(observed, stage.fleet(stage.today), median, stage.demand, stage.price)


def _range_parts(stage: _Stage, subject: ArmProjection | None) -> RangeParts | None:
    """Where the range of the headline's saving comes from."""
    if subject is None or subject.configuration is None or stage.baseline is None:
        return None
    return range_parts(stage.bills_without, stage.baseline, subject.configuration)


def _headroom(stage: _Stage, arm: ArmProjection) -> Headroom | None:
    """Memory of an arm in its best configuration."""
    if arm.configuration is None:
        return None
    cases = stage.surfaces.complete[arm.configuration].cases
    return headroom(arm.arm.label, cases, stage.record.header.environment, all_gpus())


def _ceiling(stage: _Stage, label: str) -> Estimate | None:
    """Speed-up over the baseline, in the baseline's own configuration, if what the ceiling leaves out cost nothing."""
    if stage.baseline is None:
        return None
    bare = Configuration(label, stage.baseline.batch_size, stage.baseline.batching, stage.baseline.regime)
    return _speedup(stage, bare if bare in stage.request_s else None)


def _peak_memory(stage: _Stage, configuration: Configuration | None) -> int | None:
    """The largest peak over the configuration's cases, of those measured."""
    if configuration is None:
        return None
    outcomes = [case.outcome for case in stage.surfaces.complete[configuration].cases]
    return max((o.peak_bytes for o in outcomes if o is not None and o.peak_bytes is not None), default=None)


def _caveats(
    stage: _Stage, arm: Arm, configuration: Configuration | None, quality: QualityStatus
) -> tuple[Caveat, ...]:
    """Doubts about an arm's row: of its own cases, of the baseline's times, and of how they were made into money."""
    found: set[Caveat] = set()
    if configuration is not None:
        found |= {caveat for case in stage.surfaces.complete[configuration].cases for caveat in case.caveats}
        if stage.baseline is not None:
            cases = stage.surfaces.complete[stage.baseline].cases
            found |= _OF_BOTH & {caveat for case in cases for caveat in case.caveats}
        found |= set() if stage.plan.mix.exact else {Caveat.INTERPOLATED}
        found |= {Caveat.DATA_DEPENDENT} if arm.label in stage.times.spread else set()
        found |= {Caveat.OBJECTIVE_NOT_TESTED} if stage.demand else set()
        found |= set(stage.price.caveats) if stage.price else set()
        found |= {Caveat.PRICED_SIZE} if is_priced_for_another_size(stage.price, stage.record) else set()
    if quality is QualityStatus.NOT_MEASURED:
        found.add(Caveat.QUALITY_NOT_MEASURED)
    if any(_cut_short(finding) for finding in stage.findings if finding.arm.label == arm.label):
        found.add(Caveat.INCOMPLETE)
    return tuple(caveat for caveat in Caveat if caveat in found)


def is_priced_for_another_size(price: Price | None, record: RunRecord) -> bool:
    """Whether a CPU run used another number of threads than the priced server has vCPUs."""
    environment = record.header.environment
    if price is None or price.vcpus is None or environment.device != "cpu":
        return False
    return environment.threads is not None and environment.threads != price.vcpus


def _cut_short(finding: CaseFinding) -> bool:
    """Whether the run ended before this case was finished, or begun."""
    never_begun = finding.status is Status.SKIPPED and finding.outcome is None
    return never_begun or finding.status is Status.INTERRUPTED
