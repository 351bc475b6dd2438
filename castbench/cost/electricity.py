"""Energy and CO2 of serving: from joules measured at the device to kilowatt-hours of the fleet, per mechanism; pure.

joules per step ─▶ over length, as times are ─▶ joules per request ─▶ · PUE ─▶ kWh per million tokens, per month
"""

from __future__ import annotations

from collections.abc import Iterable

from castbench.cost.demand import seconds_per_request
from castbench.cost.outlook_nouns import ArmEnergy, Electricity
from castbench.cost.spec import ArmProjection, Price, Projection
from castbench.cost.surface import LatencySurface, Surfaces
from castbench.energy import EnergyFinding
from castbench.said import Statement, statement, together
from castbench.stats import Estimate
from castbench.units import HOURS_PER_MONTH, SECONDS_PER_HOUR
from castbench.workload.spec import ElectricityTerms, LengthDistribution

J_PER_KWH = 3.6e6


def electricity(
    projection: Projection, surfaces: Surfaces, terms: ElectricityTerms | None, *, whole_requests: bool
) -> Electricity | None:
    """Energy of every mechanism; None where nothing is stated of electricity.

    `whole_requests`: whether whole requests were measured, and not attention modules alone.
    """
    if terms is None:
        return None
    return Electricity(
        terms, tuple(_arm(arm, projection, surfaces, terms, whole_requests=whole_requests) for arm in projection.arms)
    )


def _arm(
    arm: ArmProjection, projection: Projection, surfaces: Surfaces, terms: ElectricityTerms, *, whole_requests: bool
) -> ArmEnergy:
    """One mechanism's energy, or why there is none."""
    label = arm.arm.label
    if arm.configuration is None:
        return ArmEnergy(label, statement("electricity.no_times"))
    if not whole_requests:
        return ArmEnergy(label, statement("electricity.module_only"))
    surface = surfaces.complete[arm.configuration]
    measured = [case.energy for case in surface.cases if case.energy is not None]
    if len(measured) < len(surface.cases):
        return ArmEnergy(label, _why_unmeasured(surface))
    joules = joules_per_request(surface, measured, projection.mix)
    factor = (terms.pue or 1.0) / J_PER_KWH
    per_request = _scaled(joules, factor)
    per_million = _scaled(per_request, 1e6 / projection.mix.mean_tokens)
    per_month, idle = None, None
    if projection.demand is not None and whole_requests:
        month_s = HOURS_PER_MONTH * SECONDS_PER_HOUR
        per_month = _scaled(per_request, projection.demand.requests_per_second * month_s)
        idle = _idle_kwh(arm, projection.price, measured, factor * month_s)
    total = None if per_month is None else _raised(per_month, idle or 0.0)
    return ArmEnergy(
        label, None, per_million, _times(per_million, terms.kg_co2_per_kwh), per_month, idle,
        _times(total, terms.usd_per_kwh), _times(total, terms.kg_co2_per_kwh), measured[0].source, measured[0].scope,
    )  # fmt: skip


def joules_per_request(surface: LatencySurface, measured: Iterable[EnergyFinding], mix: LengthDistribution) -> Estimate:
    """Gross joules of one request, averaged over the mix, interpolated over length and batched as times are.

    The range takes the lower ends of all lengths together, and the upper ends together: at least as wide as 95 %.
    """
    import numpy as np

    gross = [found.gross_j_per_step for found in measured]
    ends = [(_positive(j.low, j.value), _positive(j.high, j.value)) for j in gross]
    steps = tuple(np.array([j.value, low, high]) for j, (low, high) in zip(gross, ends, strict=True))
    of_energy = LatencySurface(surface.configuration, surface.lengths, steps, surface.cases)
    value, low, high = (float(joules) for joules in seconds_per_request(of_energy, mix))
    return Estimate(value, low, high)


def _idle_kwh(
    arm: ArmProjection, price: Price | None, measured: Iterable[EnergyFinding], factor: float
) -> float | None:
    """Energy in kWh of a month that the fleet's devices wait: servers · devices · share of time idle · watts idle."""
    watts = [found.idle_w for found in measured if found.idle_w is not None]
    if arm.replicas is None or arm.utilization is None or not watts:
        return None
    devices = arm.replicas * (price.devices if price else 1)
    return devices * max(0.0, 1 - arm.utilization) * sum(watts) / len(watts) * factor


def _why_unmeasured(surface: LatencySurface) -> Statement:
    """Why a configuration has no energy: the reasons of its cases, each once."""
    reasons = dict.fromkeys(
        case.outcome.energy_reason.rstrip(". ")
        for case in surface.cases
        if case.energy is None and case.outcome is not None and case.outcome.energy_reason
    )
    if not reasons:
        return statement("electricity.unmeasured")
    return statement(
        "electricity.unmeasured_because",
        why=together(statement("electricity.reason", reason=reason) for reason in reasons),
    )


def _positive(end: float | None, value: float) -> float:
    """An end of an interval that a logarithm can be taken of: with few blocks a lower end may lie below zero."""
    return value if end is None else max(end, value * 1e-6)


def _scaled(estimate: Estimate, factor: float) -> Estimate:
    """An estimate in another unit."""
    low, high = (None if end is None else end * factor for end in (estimate.low, estimate.high))
    return Estimate(estimate.value * factor, low, high)


def _times(estimate: Estimate | None, factor: float | None) -> Estimate | None:
    """An estimate times something that may not be stated."""
    return None if estimate is None or factor is None else _scaled(estimate, factor)


def _raised(estimate: Estimate, by: float) -> Estimate:
    """An estimate and its interval, moved up."""
    low, high = (None if end is None else end + by for end in (estimate.low, estimate.high))
    return Estimate(estimate.value + by, low, high)
