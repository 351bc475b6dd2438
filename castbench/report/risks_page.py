"""What could go wrong: the risks that apply to the mechanisms of a run, in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from castbench.cost.spec import ArmProjection, QualityStatus
from castbench.report import text
from castbench.report.blocks import Block, Bullets, Heading
from castbench.report.claims_view import CAST
from castbench.report.nouns import Report
from castbench.said import Quantity, Statement, Unit, statement


def risks(report: Report) -> Iterator[Block]:
    """The section."""
    said = tuple(map(text.say, risk_statements(report)))
    if said:
        yield Heading(text.HEADINGS["risks"])
        yield Bullets(said)


def risk_statements(report: Report) -> tuple[Statement, ...]:
    """Every risk that applies; none where nothing was measured."""
    if not any(table.is_measured for table in report.groups):
        return ()
    return (*_of_function(report), *_of_clusters(report), *_of_measuring(report))


def _of_function(report: Report) -> Iterator[Statement]:
    """What an approximation is, and what is not known of it."""
    others = [arm for arm in report.mechanisms if not arm.arm.exact and arm.arm.label != report.run.baseline_label]
    if others:
        yield statement("risk.other_function", labels=_labels(others))
    unscored = [arm for arm in others if arm.quality_status is QualityStatus.NOT_MEASURED]
    if unscored:
        yield statement("risk.quality", labels=_labels(unscored))
    lower = [arm for arm in others if arm.quality_status is QualityStatus.LOWER]
    if lower:
        yield statement("risk.quality_lower", labels=_labels(lower))


def _of_clusters(report: Report) -> Iterator[Statement]:
    """What clusters of tokens leave out, by how they are chosen."""
    clustered = [arm for arm in report.mechanisms if arm.arm.mechanism == CAST]
    if not clustered:
        return
    loose = [arm for arm in clustered if dict(arm.arm.params).get("clustering") == "top_k"]
    if loose:
        yield statement("risk.top_k", labels=_labels(loose))
    covered = dict(report.how.coverage) if report.how is not None else {}
    for arm in loose:
        if arm.arm.label in covered:
            share = Quantity(100 * covered[arm.arm.label], Unit.PERCENT)
            yield statement("risk.coverage", label=arm.arm.label, share=share)
    tight = [arm for arm in clustered if arm not in loose]
    if tight:
        yield statement("risk.one_cluster", labels=_labels(tight))
    yield statement("risk.fixed_clusters", labels=_labels(clustered))
    yield statement("risk.maturity", labels=_labels(clustered))


def _of_measuring(report: Report) -> Iterator[Statement]:
    """What this run does not cover."""
    run, money = report.run, report.money
    yield statement("risk.training_only" if run.phase == "training" else "risk.decoder")
    here, regimes = run.environment, tuple(statement("regime", regime=regime) for regime in run.regimes)
    yield statement("risk.kernels", regimes=regimes, torch=here.torch, device_name=here.device_name)
    if money.price is not None and money.demand is not None:
        yield statement("risk.price_and_demand")
    elif money.demand is not None:
        yield statement("risk.demand")
    yield statement("risk.one_day")


def _labels(arms: Sequence[ArmProjection]) -> tuple[str, ...]:
    """Labels in a row."""
    return tuple(arm.arm.label for arm in arms)
