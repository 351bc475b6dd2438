from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.cost.demand import seconds_per_request
from castbench.cost.spec import Configuration
from castbench.cost.surface import LatencySurface, drawn_times, mean_times
from castbench.findings import case_findings
from castbench.records import Caveat, Status
from castbench.report import text
from castbench.workload.spec import Batching, LengthDistribution
from tests.cost.builder import CAST, MIX, NAIVE, SDPA, projected, run_of

CONTINUOUS = LengthDistribution((100, 256, 600, 1024), (0.1, 0.3, 0.4, 0.2), False, "quantiles")


def _surface(times: dict[int, float], batch: int = 1, how: Batching = "bucketed") -> LatencySurface:
    """A surface of these seconds per step by length, without spread."""
    steps = tuple(np.full(3, seconds) for seconds in times.values())
    return LatencySurface(Configuration("a", batch, how), tuple(times), steps, ())


@given(exponent=st.floats(0.2, 2.5), tokens=st.integers(256, 4096))
def test_interpolation_is_exact_for_power_laws(exponent: float, tokens: int) -> None:
    """Between measured lengths a time that goes with a power of the length is met exactly."""
    surface = _surface({n: 1e-6 * n**exponent for n in (256, 1024, 4096)})
    assert surface.seconds_at(tokens)[0] == pytest.approx(1e-6 * tokens**exponent)


def test_times_without_draws_are_the_first_of_those_with_them() -> None:
    """Whoever needs no range gets the very numbers that stand beside a range, to the last digit."""
    record = run_of(lambda label, batch, length, how: batch * length * 1e-5 / 3, noise=0.3, rounds=7)
    findings = case_findings(record)
    drawn, plain = drawn_times(record, findings, 5), mean_times(findings)
    assert plain.keys() == drawn.keys()
    assert all(plain[key].tolist() == drawn[key][:1].tolist() for key in drawn)


def test_short_requests_cost_what_the_shortest_measured_length_costs() -> None:
    """Below the first measured length the time does not fall any further."""
    assert _surface({256: 0.5, 512: 1.0}).seconds_at(3)[0] == 0.5


def test_nothing_is_extrapolated_beyond_the_longest_measured_length() -> None:
    """A longer request is refused; the longest itself is not."""
    surface = _surface({256: 0.5, 512: 1.0})
    assert surface.seconds_at(512)[0] == 1.0
    with pytest.raises(ValueError, match="513 tokens lie beyond"):
        surface.seconds_at(513)


def test_an_arm_whose_lengths_do_not_reach_the_longest_request_is_not_costed() -> None:
    """A profile that measures less than its longest request gets no number, and is told which length is missing."""
    record = run_of(lambda *_: 1.0, mix=CONTINUOUS, lengths=(256, 512))
    arm = projected(record).arm("sdpa")
    assert arm.configuration is None
    assert text.in_english(arm.reason) == "batch 1, eager: requests reach 1,024 tokens, measured only up to 512"


@given(
    short=st.floats(0.001, 1.0), growth=st.floats(1.0, 50.0),
    batch=st.integers(2, 64), share=st.floats(0.01, 0.99),
)  # fmt: skip
def test_padding_never_costs_less_than_bucketing(short: float, growth: float, batch: int, share: float) -> None:
    """With equal times per shape that grow with length, a padded batch costs at least what buckets cost."""
    times = {512: short, 2048: short * growth}
    mix = LengthDistribution((512, 2048), (share, 1 - share), True, "shares")
    bucketed, padded = (seconds_per_request(_surface(times, batch, how), mix)[0] for how in ("bucketed", "padded"))
    assert padded >= bucketed * (1 - 1e-12)


@given(batch=st.integers(1, 40), weights=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=6))
def test_the_longest_of_a_batch_is_a_distribution_that_leans_to_long_requests(batch: int, weights: list[float]) -> None:
    """Its shares add up to 1, and its mean is at least that of one request, more with every request."""
    total = math.fsum(weights)
    tokens = tuple(100 * (i + 1) for i in range(len(weights)))
    mix = LengthDistribution(tokens, tuple(w / total for w in weights), True, "shares")
    longest = mix.longest_of(batch)
    assert math.fsum(longest.shares) == pytest.approx(1.0)
    assert longest.mean_tokens >= mix.mean_tokens * (1 - 1e-12)
    assert mix.longest_of(batch + 1).mean_tokens >= longest.mean_tokens * (1 - 1e-12)


def test_a_batch_of_one_is_as_long_as_its_request() -> None:
    """The longest of one request is that request."""
    assert MIX.longest_of(1).shares == pytest.approx(MIX.shares)


def test_a_failed_length_rules_out_its_configuration_only() -> None:
    """An arm that ran out of memory in long padded batches is costed in another configuration."""
    record = run_of(
        lambda label, batch, length, how: 1.0, batch_sizes=(1, 8),
        failed={("b8-n2048-bucketed", "cast-32"): Status.OOM},
    )  # fmt: skip
    assert projected(record).arm("cast-32").configuration == Configuration("cast-32", 1, "bucketed")
    assert projected(record).arm("sdpa").configuration == Configuration("sdpa", 8, "bucketed")


def test_an_arm_without_any_complete_configuration_says_why() -> None:
    """No number is made up for it; the reason names shape and status, and nothing is recommended."""
    record = run_of(lambda *_: 1.0, failed={("b1-n2048-bucketed", "cast-32"): Status.OOM})
    arm = projected(record).arm("cast-32")
    assert (arm.configuration, arm.seconds_per_request, arm.cost_usd_per_hour, arm.speedup) == (None,) * 4
    assert text.in_english(arm.reason) == "batch 1, eager: oom at 2,048 tokens"
    assert arm.recommendation == "KEEP"


def test_the_held_out_point_states_the_error_and_widens_the_range() -> None:
    """A kink that interpolation misses shows as error, and the range grows by its size on both sides."""

    def seconds(label: str, batch: int, length: int, how: Batching) -> float:
        return length * 1e-4 * (1.1 if length == 512 else 1.0)

    record = run_of(seconds, arms=(SDPA, NAIVE, CAST), mix=CONTINUOUS, lengths=(256, 1024), held_out=512)
    arm = projected(record).arm("cast-32")
    assert arm.interpolation_error == pytest.approx(1 / 1.1 - 1)
    s = arm.seconds_per_request
    assert s is not None
    assert s.low == pytest.approx(s.value * 11 / 12)
    assert s.high == pytest.approx(s.value * 12 / 11)
    assert Caveat.INTERPOLATED in arm.caveats


def test_an_exact_mix_is_not_interpolated() -> None:
    """Where every length was measured there is neither an error nor its caveat."""
    arm = projected(run_of(lambda *_: 1.0)).arm("cast-32")
    assert arm.interpolation_error is None
    assert Caveat.INTERPOLATED not in arm.caveats
