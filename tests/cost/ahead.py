"""A small contest with round numbers: sdpa takes 45 ms a request and 7 servers, cast-32 22 ms and 4, at 2 USD each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from castbench.cost.outlook_nouns import Outlook
from castbench.cost.spec import Price, Projection
from castbench.records import EnergyRecord, GroupRecord, RunRecord
from castbench.workload.spec import Demand, Economics
from tests.cost.builder import DEMAND, PRICE, projected, run_of, times

SECONDS = {"sdpa": 0.045, "cast-32": 0.022}


def stating(record: RunRecord, **economics: Any) -> RunRecord:
    """The run with this in its profile."""
    stated = replace(record.header.economics, **economics)
    return replace(record, header=replace(record.header, economics=stated))


def ahead(
    record: RunRecord | None = None, price: Price | None = PRICE, demand: Demand | None = DEMAND,
    economics: Economics | None = None, **kwargs: Any,
) -> Projection:  # fmt: skip
    """The projection of a run whose profile states this."""
    run = run_of(times(SECONDS)) if record is None else record
    if economics is not None:
        run = replace(run, header=replace(run.header, economics=economics))
    return projected(run, price, demand, **kwargs)


def outlook_of(projection: Projection) -> Outlook:
    """The outlook, which must be there."""
    assert projection.outlook is not None
    return projection.outlook


def with_energy(record: RunRecord, energy: dict[tuple[str, str], EnergyRecord]) -> RunRecord:
    """The run with the energy of some cases, by group and label."""

    def measured(group: GroupRecord) -> GroupRecord:
        outcomes = tuple(replace(o, energy=energy.get((group.group, o.label))) for o in group.outcomes)
        return replace(group, outcomes=outcomes)

    return replace(record, groups=tuple(map(measured, record.groups)))
