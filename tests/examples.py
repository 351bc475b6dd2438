"""Small profiles, plans and headers that tests start from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from castbench.pipeline import comparable_sha256, text_sha256
from castbench.plain import sha256_of
from castbench.plan import Plan, make_plan
from castbench.records import Environment, RunHeader
from castbench.store import SCHEMA
from castbench.workload.lengths import from_shares
from castbench.workload.spec import Demand, MechanismChoice, ModelSpec, PriceChoice, SamplingPolicy, WorkloadProfile

TEXT = "name: example\n"


def example_profile(**changes: Any) -> WorkloadProfile:
    """Three mechanisms on two lengths, with demand and a price."""
    made = WorkloadProfile(
        name="example",
        model=ModelSpec(layers=2, embed_dim=64, num_heads=4, ffn_dim=128, vocab_size=1000),
        lengths=from_shares([(256, 0.5), (1024, 0.5)]),
        measure_lengths=(), batch_sizes=(1,), batching=("bucketed", "padded"), regimes=("eager",),
        phase="inference", scope="encoder", attention_share=None, dtype="fp32", seed=3, gpu=None, baseline="sdpa",
        mechanisms=(
            MechanismChoice("sdpa"), MechanismChoice("naive"),
            MechanismChoice("cast", (("num_clusters", 8),), "cast-8"),
        ),
        demand=Demand(20000.0), price=PriceChoice(2.0), price_cpu=PriceChoice(0.1),
        sampling=SamplingPolicy(min_window_ms=5.0), text=TEXT, source="example.yaml",
    )  # fmt: skip
    return replace(made, **changes)


def example_plan(**changes: Any) -> Plan:
    """The plan of `example_profile`."""
    return make_plan(example_profile(**changes))


def example_header(plan: Plan) -> RunHeader:
    """A header for `plan` from a machine that does not exist."""
    environment = Environment("fake", "no device", "host", "os", "3.11", "0.0.0")
    return RunHeader(
        SCHEMA, "0123456789ab", "2026-01-02T03:04:05+00:00", "example.yaml", TEXT, text_sha256(TEXT),
        comparable_sha256(plan), plan, sha256_of(plan), "00", environment, "example", example_profile().economics,
    )  # fmt: skip
