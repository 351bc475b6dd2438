from __future__ import annotations

from dataclasses import replace

import pytest

from castbench.cost.spec import ArmProjection
from castbench.cost.surface import data_dependence
from castbench.findings import case_findings
from castbench.records import CLUSTERED_TIME_RATIO, Caveat, RunRecord
from tests.cost.builder import projected, run_of, times


def with_ratio(record: RunRecord, ratio: float) -> RunRecord:
    """The run with that ratio of times on clustered inputs in every outcome of CAST."""
    fact = ((CLUSTERED_TIME_RATIO, ratio),)
    groups = tuple(
        replace(g, outcomes=tuple(replace(o, facts=fact) if o.label == "cast-32" else o for o in g.outcomes))
        for g in record.groups
    )
    return replace(record, groups=groups)


def cast_of(ratio: float) -> ArmProjection:
    """CAST's projection where its time on clustered inputs is that much of its time on others."""
    record = run_of(times({"sdpa": 0.1, "cast-32": 0.05}), noise=0.001)
    return projected(with_ratio(record, ratio)).arm("cast-32")


@pytest.mark.parametrize("ratio", [0.8, 1.2])
def test_time_that_depends_on_the_data_widens_the_range(ratio: float) -> None:
    """A fifth more or less on clustered inputs widens the interval of the time per request by about a fifth."""
    found = cast_of(ratio).seconds_per_request
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low == pytest.approx(found.value / 1.2, rel=0.02)
    assert found.high == pytest.approx(1.2 * found.value, rel=0.02)
    assert Caveat.DATA_DEPENDENT in cast_of(ratio).caveats


@pytest.mark.parametrize("ratio", [0.98, 1.0, 1.02])
def test_less_than_three_percent_counts_as_no_dependence(ratio: float) -> None:
    """Within the margin nothing is widened and no caveat is given."""
    found = cast_of(ratio)
    assert found.seconds_per_request == cast_of(1.0).seconds_per_request
    assert Caveat.DATA_DEPENDENT not in found.caveats


def test_regimes_do_not_dilute_each_others_dependence() -> None:
    """A dependence of a fifth in one regime counts in full, though as much time was spent in another without any."""
    record = run_of(times({"sdpa": 0.1, "cast-32": 0.05}), noise=0.001, regimes=("eager", "compiled"))
    eager = (g for g in with_ratio(record, 1.2).groups if not g.group.endswith("compiled"))
    compiled = (g for g in with_ratio(record, 1.0).groups if g.group.endswith("compiled"))
    mixed = replace(record, groups=(*eager, *compiled))
    assert data_dependence(case_findings(mixed)) == {"cast-32": pytest.approx(0.2)}
