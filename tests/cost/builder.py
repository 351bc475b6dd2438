"""Small synthetic runs: a time for every case, repeated over rounds with noise if asked for; nothing is measured."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from castbench.cost.savings import project
from castbench.cost.spec import Price, Projection
from castbench.plan import AnalysisPlan, Arm, Group, Plan, ServedModel
from castbench.records import (
    Environment,
    GroupRecord,
    Outcome,
    RoundRecord,
    RunHeader,
    RunRecord,
    Sample,
    Selected,
    Selection,
    Status,
)
from castbench.workload.spec import (
    Batching,
    Demand,
    LengthDistribution,
    ModelSpec,
    Regime,
    SamplingPolicy,
    Scope,
    Shape,
)

SDPA = Arm("sdpa", "sdpa", (), "baseline", True)
NAIVE = Arm("naive", "naive", (), "candidate", True)
CAST = Arm("cast-32", "cast", (), "candidate", False)
MIXING = Arm("ceiling:mixing", "mixing_ceiling", (), "ceiling", False)
MIX = LengthDistribution((512, 2048), (0.5, 0.5), True, "shares")
DEMAND = Demand(100.0)
PRICE = Price(2.0, "a server", "on_demand", 1, None, "stated by you", contract=True)

Seconds = Callable[[str, int, int, Batching], float]
"""Seconds per step by label, batch size, length and batching."""


def run_of(
    seconds: Seconds, *, arms: Sequence[Arm] = (SDPA, CAST), mix: LengthDistribution = MIX,
    batch_sizes: Sequence[int] = (1,), batching: Sequence[Batching] = ("bucketed",), lengths: Sequence[int] = (),
    held_out: int | None = None, rounds: int = 8, noise: float = 0.0, seed: int = 0, scope: Scope = "encoder",
    failed: Mapping[tuple[str, str], Status] | None = None, baseline: str = "sdpa",
    regimes: Sequence[Regime] = ("eager",), speedup_in: Callable[[str, Regime], float] = lambda label, regime: 1.0,
) -> RunRecord:  # fmt: skip
    """A finished run in which every step of a case took `seconds`, times a log-normal noise with that deviation, and
    in each regime that many times less.
    """
    groups = [
        Group(Shape(batch, length), how)
        for batch in batch_sizes
        for how in (("bucketed",) if batch == 1 else batching)
        for length in lengths or mix.tokens
    ]  # fmt: skip
    groups += [Group(Shape(batch_sizes[0], held_out), batching[0], held_out=True)] if held_out else []
    groups = [replace(group, regime=regime) for regime in regimes for group in groups]
    plan = _plan(arms, groups, mix, scope, baseline)
    rng = random.Random(seed)
    statuses = failed or {}
    records = [
        RoundRecord(
            group.key, number, number // 3,
            _samples(
                lambda label, *at, regime=group.regime: seconds(label, *at) / speedup_in(label, regime),  # type: ignore[misc]
                arms, group, statuses, rng, noise,
            ),
        )
        for group in groups for number in range(rounds)
    ]  # fmt: skip
    finished = [
        GroupRecord(group.key, rounds, "precision", _outcomes(arms, group, statuses), 1.0, "00") for group in groups
    ]
    return RunRecord(_header(plan), tuple(records), tuple(finished))


def confirming(
    record: RunRecord, *chosen: Selected, rounds: int = 8, slower: float = 1.0, noise: float = 0.0
) -> RunRecord:
    """The run with that many fresh rounds of what was selected, the selected arm `slower` times as slow as before."""
    rng = random.Random(1)
    fresh = []
    for one in chosen:
        first = record.rounds_of(one.group)[0]
        for number in range(rounds):
            samples = tuple(
                replace(
                    s, elapsed_s=s.elapsed_s * (slower if s.label == one.label else 1.0) * rng.lognormvariate(0, noise)
                )
                for s in first.samples if s.label in (one.label, one.against)
            )  # fmt: skip
            fresh.append(RoundRecord(one.group, number, number // 3, samples, "confirm"))
    return replace(record, rounds=(*record.rounds, *fresh), selection=Selection(chosen, "a rule"))


def projected(
    record: RunRecord, price: Price | None = PRICE, demand: Demand | None = DEMAND, **kwargs: Any
) -> Projection:
    """The money stage of a run at the usual price and demand."""
    return project(record, price, demand, money_missing=None, seed=7, **kwargs)


def times(table: Mapping[str, float]) -> Seconds:
    """Every case of a label takes the same seconds per row: a step takes that times the batch size."""
    return lambda label, batch, length, how: table[label] * batch


def _samples(
    seconds: Seconds, arms: Sequence[Arm], group: Group, statuses: Mapping[tuple[str, str], Status],
    rng: random.Random, noise: float,
) -> tuple[Sample, ...]:  # fmt: skip
    """One round of a group: the arms that run, each with its own noise."""
    shape = group.shape
    return tuple(
        Sample(arm.label, order, 1, seconds(arm.label, shape.batch_size, shape.seq_len, group.batching)
               * (rng.lognormvariate(-noise**2 / 2, noise) if noise else 1.0))
        for order, arm in enumerate(arms) if (group.key, arm.label) not in statuses
    )  # fmt: skip


def _outcomes(arms: Sequence[Arm], group: Group, statuses: Mapping[tuple[str, str], Status]) -> tuple[Outcome, ...]:
    """What became of every arm in a group; peak memory grows with the length."""
    peak = group.shape.batch_size * group.shape.seq_len * 1024
    return tuple(
        Outcome(arm.label, statuses.get((group.key, arm.label), Status.OK), peak_bytes=peak, weights_bytes=1)
        for arm in arms
    )


def _plan(arms: Sequence[Arm], groups: Sequence[Group], mix: LengthDistribution, scope: Scope, baseline: str) -> Plan:
    """A plan of these arms and groups."""
    model = ModelSpec(layers=1, embed_dim=64, num_heads=4, ffn_dim=128, vocab_size=100)
    served = ServedModel(model, scope, "inference", "fp32", 0, max(group.shape.seq_len for group in groups))
    return Plan(served, mix, tuple(arms), tuple(groups), (), baseline, SamplingPolicy(), AnalysisPlan())


def _header(plan: Plan) -> RunHeader:
    """A header of a machine that does not exist."""
    environment = Environment("fake", "no device", "host", "os", "3.11", "0.0.0")
    return RunHeader(1, "0", "2026-06-01T00:00:00+00:00", "x.yaml", "", "0", "0", plan, "0", "0", environment)
