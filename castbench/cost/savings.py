"""The money stage of one run: every arm in its best configuration against the cheapest exact one.

rounds ─▶ times (drawn) ─▶ surfaces ─▶ seconds per request ─▶ best configurations ─▶ servers ─▶ cost ─▶ saving
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from castbench.cost.assumptions import assumptions
from castbench.cost.capacity import Fleet, fleet_for, usd_per_million_tokens
from castbench.cost.demand import rest_of_request, seconds_per_request
from castbench.cost.draws import estimate, share, shifted
from castbench.cost.spec import ArmProjection, Configuration, Price, Projection, QualityStatus
from castbench.cost.surface import Surfaces, build_surfaces, data_dependence, drawn_times, interpolation_errors
from castbench.cost.verdicts import crossover, is_refuted, probability_faster, quality_of, recommend, verdicts
from castbench.findings import CaseFinding, Confirmation, case_findings, confirmations
from castbench.plan import Arm, Plan
from castbench.records import Caveat, RunRecord, Status
from castbench.stats import Estimate, Verdict, final_error
from castbench.workload.spec import Demand

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
    surfaces: Surfaces
    errors: Mapping[str, float]
    spread: Mapping[str, float]
    request_s: Mapping[Configuration, Drawn]
    best: Mapping[str, Configuration]
    verdicts: Mapping[str, Verdict]
    unproven: frozenset[str]
    today: Configuration | None
    baseline: Configuration | None
    in_part: str | None
    price: Price | None
    demand: Demand | None

    @property
    def plan(self) -> Plan:
        return self.record.header.plan

    def fleet(self, configuration: Configuration | None) -> Fleet | None:
        """The servers a configuration needs; None where it or the demand is not known."""
        if configuration is None or self.demand is None:
            return None
        return fleet_for(self.request_s[configuration], self.demand, self.price.devices if self.price else 1)


@dataclass(frozen=True, slots=True)
class _Bill:
    """What one arm's servers cost and save; None: not known."""

    cost: Estimate | None = None
    saving: Estimate | None = None
    saving_percent: float | None = None
    probability: float | None = None
    released: Estimate | None = None


def project(
    record: RunRecord,
    price: Price | None,
    demand: Demand | None,
    *,
    money_missing: str | None,
    seed: int,
    attention_share: float | None = None,
) -> Projection:
    """Cost every arm of a run at a price and a demand.

    `money_missing` says why `price` is None. A run of one attention module (scope attention) gives seconds of the
    module only, unless `attention_share` states the module's share of a request today. `seed` fixes the draws.
    """
    stage = _staged(record, price, demand, seed, attention_share)
    plan = stage.plan
    return Projection(
        tuple(_projected(stage, arm) for arm in _reported(plan)), stage.today, stage.baseline,
        _ceiling(stage, "ceiling:mixing"), _ceiling(stage, "ceiling:module"), price, demand, plan.mix,
        _missing(stage.in_part, price, demand, money_missing),
        assumptions(
            price=price, demand=demand, mix=plan.mix, today=stage.today, baseline=stage.baseline,
            environment=record.header.environment,
            attention_share=attention_share if plan.served.scope == "attention" else None,
        ),
    )  # fmt: skip


def _staged(
    record: RunRecord, price: Price | None, demand: Demand | None, seed: int, attention_share: float | None
) -> _Stage:
    """Everything that is computed once for all arms."""
    plan = record.header.plan
    findings = case_findings(record)
    times = drawn_times(record, findings, seed)
    surfaces = build_surfaces(plan, findings, times)
    errors = interpolation_errors(plan, surfaces, times)
    spread = data_dependence(findings)
    module_s = _module_seconds(plan, surfaces, errors, spread, seed)
    today = _cheapest(module_s, [plan.baseline])
    baseline = _cheapest(module_s, _replacing(plan))
    request_s = _request_seconds(plan, module_s, today, attention_share)
    in_part = _why_in_part(plan, today, attention_share)
    best = {c.label: c for arm in _reported(plan) if (c := _cheapest(request_s, [arm.label])) is not None}
    unproven = _unproven(plan, surfaces, best, baseline)
    found = verdicts(
        {label: request_s[c] for label, c in best.items()}, _label(baseline), unproven, plan, _error_left(record)
    )
    return _Stage(
        record, findings, confirmations(record), surfaces, errors, spread, request_s, best, found, unproven, today,
        baseline, in_part,
        price=None if in_part else price, demand=None if in_part else demand,
    )  # fmt: skip


def _doubt(errors: Mapping[str, float], spread: Mapping[str, float], label: str) -> float:
    """Relative size of what is not noise: the two added, since they may point the same way."""
    return abs(errors.get(label, 0.0)) + abs(spread.get(label, 0.0))


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


def _module_seconds(
    plan: Plan, surfaces: Surfaces, errors: Mapping[str, float], spread: Mapping[str, float], seed: int
) -> dict[Configuration, Drawn]:
    """Drawn seconds per request of what was measured; interpolation and dependence on the data widen the range."""
    return {
        c: shifted(seconds_per_request(s, plan.mix), _doubt(errors, spread, c.label), seed, c.label)
        for c, s in surfaces.complete.items()
    }


def _request_seconds(
    plan: Plan, module_s: Mapping[Configuration, Drawn], today: Configuration | None, attention_share: float | None
) -> dict[Configuration, Drawn]:
    """Drawn seconds of whole requests: as measured, or the attention module plus the rest of the model."""
    if plan.served.scope == "encoder" or attention_share is None or today is None:
        return dict(module_s)
    rest = rest_of_request(module_s[today], attention_share)
    return {configuration: rest + seconds for configuration, seconds in module_s.items()}


def _label(configuration: Configuration | None) -> str | None:
    """Its label, or None."""
    return configuration.label if configuration else None


def _cheapest(seconds: Mapping[Configuration, Drawn], labels: Iterable[str]) -> Configuration | None:
    """The configuration of these labels with the fewest seconds per request; None if none is complete."""
    wanted = set(labels)
    return min((c for c in seconds if c.label in wanted), key=lambda c: float(seconds[c][0]), default=None)


def _why_in_part(plan: Plan, today: Configuration | None, attention_share: float | None) -> str | None:
    """Why the seconds are not those of whole requests; None where they are, and servers and money follow."""
    if plan.served.scope == "encoder":
        return None
    if attention_share is None:
        return "only an attention module was timed (scope: attention); state attention_share in the profile"
    return None if today else f"{plan.baseline} has no complete measurement, so the rest of a request is not known"


def _missing(in_part: str | None, price: Price | None, demand: Demand | None, no_price: str | None) -> str | None:
    """Why there is no cost per hour; None where there is one."""
    reasons = [in_part] if in_part else []
    if price is None:
        reasons.append(no_price or "no price is known; give one with --price")
    if demand is None:
        reasons.append("no demand is stated; add demand to the profile or give --rate")
    return "; ".join(reasons) or None


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
    bill = _bill(stage, fleet)
    quality = quality_of(stage.plan, arm)
    verdict = stage.verdicts.get(arm.label, Verdict.UNCLEAR)
    word = recommend(
        quality, verdict, _saving_probability(stage, configuration, fleet), _beats_today(stage, configuration),
        refuted=is_refuted(stage.confirmations, arm.label),
    )  # fmt: skip
    return ArmProjection(
        arm=arm, configuration=configuration, reason=None if configuration else stage.surfaces.why_none(arm.label),
        seconds_per_request=None if seconds is None else estimate(seconds),
        usd_per_million_tokens=_token_cost(stage, seconds),
        replicas=fleet.replicas if fleet else None,
        replicas_fractional=estimate(fleet.fractional) if fleet else None,
        replicas_shares=fleet.replicas_shares if fleet else (),
        utilization=fleet.utilization if fleet else None,
        cost_usd_per_hour=bill.cost, saving_usd_per_hour=bill.saving, saving_percent=bill.saving_percent,
        probability_saving_positive=bill.probability, capacity_released_units_per_hour=bill.released,
        cash_saving_usd_per_hour=bill.saving, speedup=_speedup(stage, configuration), verdict=verdict,
        peak_memory_bytes=_peak_memory(stage, configuration),
        crossover=crossover(stage.record, stage.findings, arm.label, stage.baseline),
        interpolation_error=stage.errors.get(arm.label),
        recommendation=word, quality_status=quality, caveats=_caveats(stage, arm, configuration, quality),
    )  # fmt: skip


def _bill(stage: _Stage, fleet: Fleet | None) -> _Bill:
    """Cost and saving of a fleet against the baseline's, both in whole billing units."""
    base = stage.fleet(stage.baseline)
    if fleet is None:
        return _Bill()
    released = None if base is None else estimate(base.fractional - fleet.fractional)
    if stage.price is None:
        return _Bill(released=released)
    cost = fleet.whole * stage.price.usd_per_hour
    if base is None:
        return _Bill(estimate(cost))
    saving = (base.whole - fleet.whole) * stage.price.usd_per_hour
    percent = 100 * float(1 - fleet.whole[0] / base.whole[0])
    return _Bill(estimate(cost), estimate(saving), percent, share(saving > 0, saving), released)


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
    if configuration is None or today is None or {configuration.label, today.label} & stage.unproven:
        return None
    margin = stage.plan.sampling.same_within
    return probability_faster(stage.request_s[configuration], stage.request_s[today], margin)


def _token_cost(stage: _Stage, seconds: Drawn | None) -> Estimate | None:
    """Cost of a million real tokens at the demand's utilisation; at full load where no demand is stated."""
    if seconds is None or stage.price is None:
        return None
    utilization = stage.demand.max_utilization if stage.demand else 1.0
    return usd_per_million_tokens(seconds, stage.price, stage.plan.mix.mean_tokens, utilization)


def _speedup(stage: _Stage, configuration: Configuration | None) -> Estimate | None:
    """The baseline's seconds per request over this configuration's."""
    if configuration is None or stage.baseline is None:
        return None
    return estimate(stage.request_s[stage.baseline] / stage.request_s[configuration])


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
        found |= {Caveat.DATA_DEPENDENT} if arm.label in stage.spread else set()
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
