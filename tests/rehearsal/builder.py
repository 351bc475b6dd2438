"""Rehearsals and what they are made of, for tests: nothing is served."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from castbench.cost.rehearsed import Percentile, Rehearsal, Session
from castbench.cost.replay import BatchingPolicy

SESSION = Session("2026-06-02T00:00:00+00:00", "0.1.0", "cpu", "a CPU", 2, (), 0.0004, 0.001)


def rehearsal(**changes: Any) -> Rehearsal:
    """A rehearsal of sdpa that bears the replay out: its p99 was 20 ms where 19 were said."""
    made = Rehearsal(
        run_id="0", label="sdpa", regime="eager", policy=BatchingPolicy(8), source=None, requests=1200, cut=0,
        span_s=60.0, rate_per_s=20.0, load=0.7, overhead_s=0.0003, is_overhead_measured=True,
        percentiles=(
            Percentile(0.5, 0.010, 0.0101, 0.0095, 0.0108),
            Percentile(0.95, 0.016, 0.0155, 0.0149, 0.0166),
            Percentile(0.99, 0.020, 0.019, 0.0175, 0.0221),
        ),
        level=0.95, replays=200, observed_batch=1.4, predicted_batch=1.35, observed_busy=0.61, predicted_busy=0.6,
        service_ratio=1.01, predicted_at_speed_s=(0.0102, 0.0157, 0.0193), seed=0, session=SESSION,
    )  # fmt: skip
    return replace(made, **changes)
