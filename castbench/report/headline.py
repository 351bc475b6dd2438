"""The three or four sentences a reader takes away: what to run, what it saves or costs, how sure, what is unknown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from castbench.cost.cash import RESERVED, is_committed
from castbench.cost.selection import ADOPTED, rival
from castbench.cost.spec import ArmProjection, Configuration, QualityStatus, Recommendation
from castbench.cost.surface import configuration_of
from castbench.records import Caveat
from castbench.report import objective_view, text
from castbench.report.nouns import AtObjective, Confirmed, GroupTable, Money, RunFacts
from castbench.said import Quantity, Statement, Unit, Value, statement
from castbench.stats import Estimate
from castbench.units import HOURS_PER_MONTH, HOURS_PER_YEAR

_OUTCOMES = {
    "confirmed": "headline.confirmed",
    "refuted": "headline.refuted",
    "incomplete": "headline.confirmed_in_part",
    "nothing-claimed": "headline.nothing_claimed",
}
"""The sentence for what became of a claim."""


def sentences(
    mechanisms: Sequence[ArmProjection], money: Money, groups: Sequence[GroupTable], run: RunFacts,
    confirmations: Sequence[Confirmed], at_objective: AtObjective | None = None,
) -> tuple[Statement, ...]:  # fmt: skip
    """The headline of a run whose ceilings are left out of `mechanisms`."""
    if money.baseline is None:
        return (statement("headline.nothing", baseline=run.baseline_label), *_no_money(money))
    subject = rival(mechanisms, money.today, money.baseline)
    rounds = rounds_per_shape(groups)
    doubts = tuple(_price_doubts(mechanisms, money))
    missing = tuple(_unmeasured(money, subject, at_objective))
    if _rests_on_few_rounds(mechanisms, money, subject):
        too_few = (statement("headline.too_few", rounds=rounds), *_no_money(money), statement("headline.unsure"))
        return (*too_few, *doubts, *missing)
    say = _money_sentences if money.missing is None else _speed
    fresh = _fresh(confirmations, run.unconfirmed, money, subject)
    return (*say(mechanisms, money, subject), _sureness(rounds, money, subject), *doubts, *fresh, *missing)


def rounds_per_shape(groups: Sequence[GroupTable]) -> Quantity:
    """Fewest to most rounds of any measured case; 0 where nothing was measured."""
    counts = [row.rounds for table in groups for row in table.rows if row.rounds]
    fewest, most = (min(counts), max(counts)) if counts else (0, 0)
    return Quantity(fewest, Unit.COUNT, fewest, most)


def _rests_on_few_rounds(mechanisms: Sequence[ArmProjection], money: Money, subject: ArmProjection | None) -> bool:
    """Whether any configuration that the headline would speak of has fewer rounds than a verdict needs.

    An advice to tune first needs no more than today's configuration and the better one.
    """
    compared = {used.label for used in (money.today, money.baseline) if used is not None}
    spoken_of = [arm for arm in mechanisms if arm.arm.label in compared]
    advised = any(arm.recommendation is Recommendation.TUNE_FIRST for arm in spoken_of)
    if subject is not None and not advised:
        spoken_of.append(subject)
    return any(Caveat.FEW_ROUNDS in arm.caveats for arm in spoken_of)


def _money_sentences(
    mechanisms: Sequence[ArmProjection], money: Money, subject: ArmProjection | None
) -> Iterator[Statement]:
    """What to run and what it saves or costs."""
    by_label = {arm.arm.label: arm for arm in mechanisms}
    tune = _tune(by_label, money)
    if tune:
        yield tune
    if subject is not None and subject.recommendation in ADOPTED and subject.saving_usd_per_hour is not None:
        yield _adopt(subject)
        yield _saving(subject, by_label, money)
        yield from _cash(money, subject.saving_usd_per_hour, subject.cash_saving_usd_per_hour)
        return
    if tune and money.waterfall:
        yield from _cash(
            money, money.waterfall.tuned.saving_usd_per_hour, money.waterfall.tuned.cash_saving_usd_per_hour
        )
    if tune is None or tune.key == "headline.tune_unsure":
        yield _keep(by_label, money)
    yield statement("headline.alone") if subject is None else _alternative(subject)


def _tune(by_label: dict[str, ArmProjection], money: Money) -> Statement | None:
    """What the cheapest exact configuration alone gains over today's; None where it gains nothing."""
    if money.today is None or money.baseline is None or money.today == money.baseline:
        return None
    base = by_label.get(money.baseline.label)
    advised = base is not None and base.recommendation is Recommendation.TUNE_FIRST
    said: dict[str, Value] = {"baseline": money.baseline.said, "today": money.today.said}
    saving = money.waterfall.tuned.saving_usd_per_hour if money.waterfall else None
    if saving is not None and saving.value > 0:
        key = "headline.tune" if advised else "headline.tune_unsure"
        return statement(key, **said, **_per_period("saving", saving))
    if not advised:
        return None
    return statement("headline.tune_faster" if saving is None else "headline.tune_same", **said)


def _adopt(subject: ArmProjection) -> Statement:
    """The recommendation with its cost, and the condition it stands under."""
    said: dict[str, Value] = {
        "word": subject.recommendation.value,
        "configuration": _said(subject.configuration),
        **_cost_of(subject.cost_usd_per_hour),
    }
    if subject.quality_status is QualityStatus.NOT_MEASURED:
        return statement("headline.adopt", model=text.model_name(subject.arm.mechanism, subject.arm.label), **said)
    return statement("headline.adopt_scored", quality=subject.quality_status.value, **said)


def _saving(subject: ArmProjection, by_label: dict[str, ArmProjection], money: Money) -> Statement:
    """What the recommendation saves against the headline baseline, per hour, month and year."""
    assert subject.saving_usd_per_hour is not None
    assert money.baseline is not None
    base = by_label.get(money.baseline.label)
    either = _spans_zero(subject.saving_usd_per_hour)
    return statement(
        "headline.saves_or_costs" if either else "headline.saves", baseline=money.baseline.said,
        base_cost=_quantity_of_cost(base), **_per_period("saving", subject.saving_usd_per_hour),
    )  # fmt: skip


def _cash(money: Money, saving: Estimate | None, cash: Estimate | None) -> Iterator[Statement]:
    """That what is saved is capacity and no cash, where the price commits to servers whether they are used or not."""
    if money.price is None or saving is None or cash is None or saving.value <= 0 or not is_committed(money.price):
        return
    owned = "headline.cash_bought" if money.price.electricity_usd_per_hour is None else "headline.cash_owned"
    key = "headline.cash_reserved" if money.price.plan == RESERVED else owned
    yield statement(key, cash=Quantity.of(cash, Unit.USD_PER_HOUR))


def _spans_zero(saving: Estimate) -> bool:
    """Whether a range holds both a saving and a loss."""
    return saving.low is not None and saving.high is not None and saving.low < 0 < saving.high


def _keep(by_label: dict[str, ArmProjection], money: Money) -> Statement:
    """Today's configuration stays."""
    if money.waterfall:
        kept, cost = money.waterfall.today.configuration, money.waterfall.today.cost_usd_per_hour
        return statement("headline.keep", today=kept.said, **_cost_of(cost))
    assert money.baseline is not None
    base = by_label.get(money.baseline.label)
    cost_of_base = base.cost_usd_per_hour if base else None
    return statement("headline.keep", today=money.baseline.said, **_cost_of(cost_of_base))


def _alternative(subject: ArmProjection) -> Statement:
    """What the best alternative that is not recommended would cost or save."""
    saving, said = subject.saving_usd_per_hour, {"configuration": _said(subject.configuration)}
    if Caveat.FEW_ROUNDS in subject.caveats:
        return statement("headline.alternative_too_few", **said)
    if saving is None:
        return statement("use.none", label=subject.arm.label, reason=subject.reason)
    if (saving.value, saving.low or 0.0, saving.high or 0.0) == (0.0, 0.0, 0.0):
        return statement(
            "headline.alternative_same", cost=_quantity_of_cost(subject), verdict=subject.verdict.value,
            speedup=Quantity.of(subject.speedup, Unit.TIMES), **said,
        )  # fmt: skip
    if (saving.value if saving.high is None else saving.high) <= 0:
        return statement("headline.alternative_costs", **said, **_per_period("loss", saving, sign=-1))
    key = "headline.alternative_unclear" if _spans_zero(saving) else "headline.alternative_may_save"
    return statement(key, **said, **_per_period("saving", saving))


def _per_period(name: str, per_hour: Estimate, sign: int = 1) -> dict[str, Quantity | None]:
    """An amount per hour, under `name`, with the same per month and per year."""
    return {
        name: Quantity.of(per_hour, Unit.USD_PER_HOUR, sign),
        "month": Quantity.of(per_hour, Unit.USD, sign * HOURS_PER_MONTH),
        "year": Quantity.of(per_hour, Unit.USD, sign * HOURS_PER_YEAR),
    }


def _cost_of(per_hour: Estimate | None) -> dict[str, Quantity | None]:
    """What something costs per hour and per month."""
    month = Quantity.of(per_hour, Unit.USD, HOURS_PER_MONTH)
    return {"cost": Quantity.of(per_hour, Unit.USD_PER_HOUR), "month": month}


def _said(used: Configuration | None) -> Statement | None:
    """A configuration in words; None stays None."""
    return None if used is None else used.said


def _quantity_of_cost(arm: ArmProjection | None) -> Quantity | None:
    """An arm's cost per hour."""
    return Quantity.of(arm.cost_usd_per_hour, Unit.USD_PER_HOUR) if arm else None


def _no_money(money: Money) -> Iterator[Statement]:
    """Why there is no cost, where there is none."""
    if money.missing is not None:
        yield statement("headline.no_money", why=money.missing)


def _speed(mechanisms: Sequence[ArmProjection], money: Money, subject: ArmProjection | None) -> Iterator[Statement]:
    """What can be said without money: why there is none, and how fast the best alternative is."""
    yield from _no_money(money)
    tune = _tune({arm.arm.label: arm for arm in mechanisms}, money)
    if tune:
        yield tune
    if subject is None:
        yield statement("headline.alone")
    elif Caveat.FEW_ROUNDS in subject.caveats:
        yield statement("headline.alternative_too_few", configuration=_said(subject.configuration))
    elif subject.speedup is not None:
        adopted = subject.recommendation in ADOPTED and subject.quality_status is QualityStatus.NOT_MEASURED
        yield statement(
            "headline.speed_adopt" if adopted else "headline.speed", word=subject.recommendation.value,
            configuration=_said(subject.configuration), baseline=_said(money.baseline),
            model=text.model_name(subject.arm.mechanism, subject.arm.label),
            speedup=Quantity.of(subject.speedup, Unit.TIMES), verdict=subject.verdict.value,
        )  # fmt: skip


def _sureness(rounds: Quantity, money: Money, subject: ArmProjection | None) -> Statement:
    """How much was measured, and how probable the saving is."""
    if money.missing is not None or subject is None or subject.probability_saving_positive is None:
        return statement("headline.sure_of_speed", rounds=rounds)
    if Caveat.FEW_ROUNDS in subject.caveats:
        return statement("headline.sure_of_speed", rounds=rounds)
    probability = Quantity(subject.probability_saving_positive, Unit.PROBABILITY)
    return statement("headline.sure", probability=probability, rounds=rounds)


def _fresh(
    confirmations: Sequence[Confirmed], unconfirmed: str | None, money: Money, subject: ArmProjection | None
) -> Iterator[Statement]:
    """What fresh rounds say of what was picked, or why there are none."""
    if unconfirmed is not None and (subject is not None or money.today != money.baseline):
        yield statement("headline.unconfirmed", why=unconfirmed)
    for found in confirmations:
        yield _confirmation(found)
    if subject is not None and confirmations and subject.arm.label not in {c.label for c in confirmations}:
        yield statement("headline.confirmed_other", label=subject.arm.label, other=confirmations[0].label)


def _confirmation(found: Confirmed) -> Statement:
    """What the fresh rounds of one selected winner say; below the planned number of them only how many there are."""
    used = configuration_of(found.group, found.label)
    said: dict[str, Value] = {
        "label": found.label, "against": found.against, "how": used.manner, "claim": found.claim.value,
        "length": Quantity(found.group.shape.seq_len, Unit.TOKENS), "wanted": Quantity(found.wanted, Unit.COUNT),
        "rounds": Quantity(found.rounds, Unit.COUNT),
        "first": Quantity.of(found.speedup_first, Unit.TIMES), "speedup": Quantity.of(found.speedup_fresh, Unit.TIMES),
    }  # fmt: skip
    return statement(_OUTCOMES[found.outcome], **said)


def _price_doubts(mechanisms: Sequence[ArmProjection], money: Money) -> Iterator[Statement]:
    """That the price is for a server of another size, where there is money and it is."""
    if money.missing is None and any(Caveat.PRICED_SIZE in arm.caveats for arm in mechanisms):
        yield statement("headline.priced_size")


def _unmeasured(
    money: Money, subject: ArmProjection | None, at_objective: AtObjective | None
) -> Iterator[Statement]:  # fmt: skip
    """Servers at the objective, and what the decision would need and nobody measured."""
    if at_objective is not None:
        kept = None if money.baseline is None else money.baseline.label
        yield from objective_view.sentences(at_objective, kept, None if subject is None else subject.arm.label)
    needs_quality = subject is not None and not subject.arm.exact
    quality = needs_quality and subject is not None and subject.quality_status is QualityStatus.NOT_MEASURED
    objective = str(money.demand.objective) if money.demand and money.demand.objective else None
    if objective and at_objective is None:
        key = "headline.unmeasured_both" if quality else "headline.unmeasured_objective"
        yield statement(key, objective=objective)
    elif quality:
        yield statement("headline.unmeasured_quality")
