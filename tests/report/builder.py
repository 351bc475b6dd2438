"""Synthetic runs and projections: a case per situation a report must cope with, no measuring and no pricing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from castbench.cost.spec import (
    ArmProjection,
    Change,
    Configuration,
    Price,
    Projection,
    QualityStatus,
    Recommendation,
    Running,
    Savings,
    Step,
    Waterfall,
)
from castbench.plan import AnalysisPlan, Arm, Group, Plan, ServedModel, Unsupported
from castbench.records import (
    BatchSearch,
    Caveat,
    EnergyBlock,
    EnergyRecord,
    Environment,
    GpuFacts,
    GroupRecord,
    Outcome,
    Purpose,
    RoundRecord,
    RunEnd,
    RunHeader,
    RunRecord,
    Sample,
    Selected,
    Selection,
    Status,
)
from castbench.report import view
from castbench.report.nouns import Report
from castbench.said import Quantity, Unit, statement
from castbench.stats import Estimate, Verdict
from castbench.workload.spec import Demand, LengthDistribution, ModelSpec, SamplingPolicy, ServiceObjective, Shape

SDPA = Arm("sdpa", "sdpa", (), "baseline", True)
NAIVE = Arm("naive", "naive", (), "candidate", True)
CAST = Arm(
    "cast-32", "cast", (("num_clusters", 32), ("cluster_size", None), ("clustering", "top_k")), "candidate", False
)
MIXING = Arm("ceiling:mixing", "mixing_ceiling", (), "ceiling", False)
MODULE = Arm("ceiling:module", "module_ceiling", (), "ceiling", False)
ARMS = (SDPA, NAIVE, CAST, MIXING, MODULE)

GROUPS = (
    Group(Shape(1, 512), "bucketed"),
    Group(Shape(1, 4096), "bucketed"),
    Group(Shape(8, 4096), "padded"),
)
MIX = LengthDistribution((512, 2048, 4096), (0.5, 0.3, 0.2), True, "shares in the profile")
DEMAND = Demand(40.0, ServiceObjective(p99_ms=250), 0.7)
PRICE = Price(3.673, "NC24ads A100 v4", "on_demand", 1, "2026-11-01", "azure.example/prices", cloud="azure")

ASSUMPTIONS = (
    statement(
        "assumption.lengths", mean=Quantity(1690, Unit.TOKENS), longest=Quantity(4096, Unit.COUNT), source=MIX.source
    ),
    statement("assumption.demand", rate=Quantity(40, Unit.GIVEN), utilization=Quantity(70, Unit.PERCENT)),
    statement(
        "price.dated", price=Quantity(3.673, Unit.GIVEN), name=PRICE.name, plan=PRICE.plan, source=PRICE.source,
        date=PRICE.as_of,
    ),
)  # fmt: skip

SPEED = {"sdpa": 1.0, "naive": 1.8, "cast-32": 0.55, "ceiling:mixing": 0.5, "ceiling:module": 0.4}
"""Time per step relative to sdpa."""


def plan(
    arms: tuple[Arm, ...] = ARMS, groups: tuple[Group, ...] = GROUPS, unsupported: tuple[Unsupported, ...] = ()
) -> Plan:
    """A plan over the given arms and groups; its baseline is the first arm."""
    served = ServedModel(ModelSpec(6, 512, 8, 2048, 30522), "encoder", "inference", "bf16", 0, 4096)
    return Plan(served, MIX, arms, groups, unsupported, arms[0].label, SamplingPolicy(), AnalysisPlan())


def unasked() -> Plan:
    """A plan without energy and without confirmation."""
    return replace(plan(), sampling=SamplingPolicy(energy=False, confirm=False))


def environment(
    device: str = "cuda:0", device_name: str = "NVIDIA A100-PCIE-80GB", host: str = "gpu-host-7", threads: int = 2
) -> Environment:
    """A machine."""
    return Environment(
        device, device_name, host, "Linux 6.8", "3.11.9", "0.1.0", torch="2.13.0", cuda="12.8", driver="570.1",
        device_uuid="GPU-1234", threads=threads, cpu_cores=8,
    )  # fmt: skip


def record(
    of: Plan | None = None, *, rounds: int = 16, device: str = "cuda:0", device_name: str = "NVIDIA A100-PCIE-80GB",
    outcomes: dict[tuple[str, str], Outcome] | None = None, comparable: str = "c0ffee", scale: float = 1.0,
    path: str | None = "castbench-runs/contracts.jsonl", run_id: str = "contracts-20261123-1",
    machine: Environment | None = None, stopped_by: str = "precision", noise: float = 1.0,
) -> RunRecord:  # fmt: skip
    """A run of `rounds` rounds per group, its times following SPEED with a little deterministic jitter.

    `noise` times that jitter makes verdicts UNCLEAR.
    """
    of = of or plan()
    header = RunHeader(
        1, run_id, "2026-11-23T09:00:00+00:00", "/home/mai/secret/contracts.yaml", "name: contracts\n",
        "a" * 64, comparable, of, "b" * 64, "d" * 64, machine or environment(device, device_name),
        "contracts",
    )  # fmt: skip
    special = outcomes or {}
    made = tuple(_round(of, group, number, special, scale, noise) for group in of.groups for number in range(rounds))
    finished = tuple(_group_record(of, group, rounds, special, stopped_by) for group in of.groups)
    return RunRecord(header, made, finished, path=path, ended=RunEnd(len(made), len(finished), True))


def _round(
    of: Plan, group: Group, number: int, special: dict[tuple[str, str], Outcome], scale: float, noise: float
) -> RoundRecord:
    gone = {key for key, outcome in special.items() if outcome.status is not Status.OK}
    arms = [arm for arm in of.arms_of(group) if (group.key, arm.label) not in gone]
    samples = tuple(_sample(arm, group, order, number, scale, noise) for order, arm in enumerate(arms))
    return RoundRecord(group.key, number, min(number // 3, 4), samples)


def confirmed(
    run: RunRecord, group: Group = GROUPS[2], label: str = "cast-32", against: str = "sdpa", *, rounds: int = 8,
    slower: float = 1.0, discarded: str | None = None,
) -> RunRecord:  # fmt: skip
    """The run with so many fresh rounds of a selected arm, in which its times are `slower` times what SPEED says; the
    first one is discarded for the reason given.
    """
    arms = [run.header.plan.arm(name) for name in (label, against)]
    fresh = []
    for number in range(rounds + (discarded is not None)):
        samples = [_sample(arm, group, order, number, 1.0, 1.0) for order, arm in enumerate(arms)]
        samples[0] = replace(samples[0], elapsed_s=samples[0].elapsed_s * slower)
        reason = discarded if number == 0 else None
        fresh.append(RoundRecord(group.key, number, number // 3, tuple(samples), "confirm", reason))
    chosen = Selection((Selected(group.key, label, against),), "the cheapest")
    return replace(run, rounds=(*run.rounds, *fresh), selection=chosen)


def discarding(run: RunRecord, group: Group, *reasons: str, purpose: Purpose = "compare") -> RunRecord:
    """The run with a discarded round of a group for each of the reasons."""
    taken = sum(r.group == group.key and r.purpose == purpose for r in run.rounds)
    lost = tuple(RoundRecord(group.key, taken + i, 0, (), purpose, reason) for i, reason in enumerate(reasons))
    return replace(run, rounds=(*run.rounds, *lost))


def _sample(arm: Arm, group: Group, order: int, number: int, scale: float, noise: float) -> Sample:
    base_s = 2e-6 * group.shape.batch_size * group.shape.seq_len * scale
    drift = 1 + noise * 0.01 * ((number * 7 + order * 3) % 5 - 2) / 2 + 0.004 * (number // 3 % 3)
    step_s = base_s * SPEED.get(arm.label, 1.2) * drift
    return Sample(arm.label, order, 10, step_s * 10, (step_s,) * 5)


def _group_record(
    of: Plan, group: Group, rounds: int, special: dict[tuple[str, str], Outcome], stopped_by: str
) -> GroupRecord:
    outcomes = tuple(
        special.get((group.key, arm.label))
        or Outcome(
            arm.label,
            Status.OK,
            ran_as="flash",
            parity_error=1e-6,
            peak_bytes=_peak(arm, group),
            weights_bytes=64 << 20,
        )
        for arm in of.arms_of(group)
    )
    return GroupRecord(group.key, rounds, stopped_by, outcomes, 12.5, "e" * 64)


def _peak(arm: Arm, group: Group) -> int:
    return int(group.shape.batch_size * group.shape.seq_len * 40960 * SPEED.get(arm.label, 1.0))


NOT_FASTER = Estimate(1.0)


def projected(
    arm: Arm, replicas: int | None = 4, *, saving: tuple[float, float, float] | None = None, word: str = "KEEP",
    probability: float | None = None, batch_size: int = 8, price: Price | None = PRICE,
    caveats: tuple[Caveat, ...] = (), verdict: Verdict = Verdict.FASTER, speedup: Estimate | None = NOT_FASTER,
    crossover: tuple[int | None, int | None] = (None, None),
) -> ArmProjection:  # fmt: skip
    """One arm's projection; costs follow from servers and price."""
    unit = price.usd_per_hour if price else None
    cost = Estimate(replicas * unit, replicas * unit, replicas * unit) if replicas and unit else None
    saved = Estimate(*saving) if saving and unit else None
    return ArmProjection(
        arm=arm, configuration=Configuration(arm.label, batch_size, "bucketed"), reason=None,
        seconds_per_request=Estimate(0.0123, 0.0121, 0.0126),
        usd_per_million_tokens=Estimate(0.0211, 0.0207, 0.0214) if unit else None, replicas=replicas,
        replicas_fractional=Estimate(replicas - 0.4, replicas - 0.5, replicas - 0.3) if replicas else None,
        replicas_shares=((replicas, 1.0),) if replicas else (), utilization=0.61 if replicas else None,
        cost_usd_per_hour=cost, saving_usd_per_hour=saved, saving_percent=saving[0] / 14.692 * 100 if saved else None,
        probability_saving_positive=probability, capacity_released_units_per_hour=None, cash_saving_usd_per_hour=saved,
        speedup=speedup, verdict=verdict, peak_memory_bytes=512 << 20, crossover=crossover, interpolation_error=None,
        recommendation=Recommendation(word),
        quality_status=QualityStatus.EQUAL if arm.exact else QualityStatus.NOT_MEASURED, caveats=caveats,
    )  # fmt: skip


NO_SAVING = (0.0, 0.0, 0.0)


def projection(*arms: ArmProjection, today: str = "sdpa", **changes: Any) -> Projection:
    """A projection of these arms; sdpa is the cheapest exact one."""
    by_label = {arm.arm.label: arm.configuration for arm in arms}
    made = Projection(
        arms, by_label.get(today), by_label.get("sdpa"), Estimate(1.94, 1.9, 1.98), Estimate(2.4, 2.3, 2.5), PRICE,
        DEMAND, MIX, None, ASSUMPTIONS, savings(arms, today),
    )  # fmt: skip
    return replace(made, **changes)


def savings(arms: Sequence[ArmProjection], today: str) -> Savings:
    """Steps from today's label to sdpa, and on to the first mechanism that needs a new model."""
    by_label = {arm.arm.label: arm for arm in arms if arm.configuration is not None}
    start, base = by_label.get(today), by_label.get("sdpa")
    new = next((arm for arm in by_label.values() if not arm.arm.exact), None)
    unmeasured = (statement("unmeasured.compiled"), statement("unmeasured.gpu"))
    if start is None or base is None:
        return Savings(False, None, unmeasured, None, None, ())
    tuned = _change(start.saving_usd_per_hour, -1.0)
    last = _change(new.saving_usd_per_hour) if new else Change()
    steps = [*([Step("mechanism", _running(base), tuned, 2)] if start is not base else [])]
    steps += [Step("new_model", _running(new), last, 1)] if new else []
    found = Waterfall(_running(start), tuple(steps), tuned, _sum(tuned, last))
    return Savings(False, found, unmeasured, None, None, ())


def _running(arm: ArmProjection) -> Running:
    """An arm at its best, as it would run."""
    assert arm.configuration is not None
    assert arm.seconds_per_request is not None
    return Running(
        arm.configuration, arm.seconds_per_request, arm.replicas, arm.replicas_shares, arm.utilization,
        arm.cost_usd_per_hour,
    )  # fmt: skip


def _change(saving: Estimate | None, sign: float = 1.0) -> Change:
    """A change that saves so much, all of it cash."""
    if saving is None:
        return Change()
    low, high = sorted(sign * (saving.value if end is None else end) for end in (saving.low, saving.high))
    made = Estimate(sign * saving.value + 0.0, low + 0.0, high + 0.0)
    return Change(None, made, made)


def _sum(first: Change, second: Change) -> Change:
    """Both changes together, ranges simply added."""
    one, other = first.saving_usd_per_hour, second.saving_usd_per_hour
    if one is None or other is None:
        return second if one is None else first
    low, high = ((getattr(one, end) or 0.0) + (getattr(other, end) or 0.0) for end in ("low", "high"))
    return _change(Estimate(one.value + other.value, low, high))


def sdpa(**changes: Any) -> ArmProjection:
    """The cheapest exact arm."""
    return replace(projected(SDPA, saving=NO_SAVING, verdict=Verdict.BASELINE, probability=0.0), **changes)


def naive() -> ArmProjection:
    """The original Transformer: dearer."""
    return projected(
        NAIVE, 7, saving=(-11.019, -14.692, -11.019), probability=0.0, verdict=Verdict.SLOWER,
        speedup=Estimate(0.556, 0.551, 0.561), crossover=(4096, None),
    )  # fmt: skip


def winning_cast() -> ArmProjection:
    """CAST that saves half."""
    return projected(
        CAST, 2, saving=(7.346, 3.673, 7.346), word="PILOT", probability=0.996, speedup=Estimate(1.82, 1.79, 1.84),
        crossover=(512, 4096), caveats=(Caveat.QUALITY_NOT_MEASURED, Caveat.OBJECTIVE_NOT_TESTED),
    )  # fmt: skip


def losing_cast() -> ArmProjection:
    """CAST that costs more."""
    return projected(
        CAST, 6, saving=(-7.346, -11.019, -3.673), probability=0.0, verdict=Verdict.SLOWER,
        speedup=Estimate(0.71, 0.69, 0.73), crossover=(4096, None), caveats=(Caveat.QUALITY_NOT_MEASURED,),
    )  # fmt: skip


def win() -> Report:
    """CAST saves half, and fresh rounds bear it out."""
    return view.build(confirmed(record()), projection(sdpa(), naive(), winning_cast()))


def loss() -> Report:
    """CAST costs more: keep what there is. The profile asks for no confirmation and no energy."""
    return view.build(record(unasked()), projection(sdpa(), naive(), losing_cast()))


def tune_first() -> Report:
    """Today's naive attention costs more than sdpa, and CAST would save on top."""
    return view.build(
        confirmed(record()),
        projection(sdpa(recommendation=Recommendation.TUNE_FIRST), naive(), winning_cast(), today="naive"),
    )


def no_price(device: str = "cpu") -> Report:
    """No price, so no money."""
    arms = (
        projected(SDPA, 4, price=None, verdict=Verdict.BASELINE),
        projected(CAST, 2, price=None, speedup=Estimate(1.82, 1.79, 1.84), word="PILOT", caveats=(Caveat.CPU_RUN,)),
    )
    return view.build(
        record(device=device, device_name="8-core CPU"),
        projection(*arms, price=None, money_missing=statement("no_money.price")),
    )


def no_demand() -> Report:
    """No rate, so no servers."""
    arms = (
        projected(SDPA, None, verdict=Verdict.BASELINE),
        projected(CAST, None, speedup=Estimate(0.91, 0.88, 0.94), verdict=Verdict.SLOWER),
    )
    return view.build(record(), projection(*arms, demand=None, money_missing=statement("no_money.demand")))


def failures() -> Report:
    """Rows that ran out of memory, crashed, or are not supported, in a run that was interrupted while confirming."""
    shape = GROUPS[2].key
    special = {
        (shape, "naive"): Outcome("naive", Status.OOM, "tried to allocate 12.0 GiB of 80 GiB, twice"),
        (shape, "cast-32"): Outcome("cast-32", Status.CRASH, "the worker died with signal 11 in /home/mai/lib/x.so"),
    }
    limited = Unsupported(GROUPS[0].key, "cast-32", "512 tokens are fewer than 32 clusters of 32")
    cut = confirmed(record(plan(unsupported=(limited,)), outcomes=special), GROUPS[1], rounds=3)
    cut = replace(cut, ended=None)
    return view.build(cut, projection(sdpa(), naive(), winning_cast()))


def few_rounds() -> Report:
    """Three rounds: no verdict, and ranges that are rough."""
    return view.build(
        record(rounds=3, stopped_by="budget"), projection(*(unproven(arm) for arm in (sdpa(), naive(), winning_cast())))
    )


def unproven(arm: ArmProjection) -> ArmProjection:
    """An arm on fewer than 8 rounds: ranges are there, a verdict is not."""
    return replace(
        arm, recommendation=Recommendation.KEEP, caveats=(Caveat.FEW_ROUNDS, *arm.caveats), crossover=(4096, None),
        verdict=Verdict.BASELINE if arm.arm is SDPA else Verdict.UNCLEAR,
    )  # fmt: skip


def single_round() -> Report:
    """One round, ended by the time limit, of a run without money."""
    arms = (unproven(projected(SDPA, None, price=None)), unproven(projected(CAST, None, price=None)))
    return view.build(
        record(rounds=1, stopped_by="case-limit"),
        projection(*arms, price=None, demand=None, money_missing=statement("no_money.price")),
    )


UUID = "GPU-8f1c2d3e-0a1b-4c2d-9e3f-001122334455"
GPU = GpuFacts(
    0, UUID, "NVIDIA A100-PCIE-80GB", ecc=True, mig=False, compute_mode="default", persistence=True,
    power_limit_w=250.0, power_default_w=300.0, clocks_locked=False, energy_scope="gpu",
)  # fmt: skip
APPEARED = "cast-32: another process (pid 4242) appeared on the GPU"


def joules(
    step_j: float, *, source: str = "nvml-counter", idle_w: float = 60.0, integrated: float = 0.9
) -> EnergyRecord:
    """An energy pass of five blocks of 100 steps over 2 s; integrated power gives that share of the counter."""

    def block(steps: int, total_j: float) -> EnergyBlock:
        counted = None if source == "nvml-power" else total_j
        return EnergyBlock(steps, 2.0, counted, None if source == "rapl" else total_j * integrated)

    blocks = tuple(block(100, 100 * step_j * (1 + 0.002 * i)) for i in range(-2, 3))
    return EnergyRecord(source, "cpu-package" if source == "rapl" else "gpu", 0.02, (block(0, 2 * idle_w),) * 2, blocks)


def on_a_gpu() -> Report:
    """Everything that a GPU can be asked for: regimes, energy, memory, the largest batch, rounds lost to others."""
    shape = Shape(1, 4096)
    groups = tuple(Group(shape, "bucketed", regime=regime) for regime in ("eager", "compiled", "graph"))
    eager, compiled, graph = groups
    outcomes = {
        (eager.key, label): Outcome(
            label, Status.OK, peak_bytes=peak << 20, weights_bytes=64 << 20, reserved_bytes=2 * peak << 20,
            energy=joules(step_j), largest_batch=BatchSearch(*batch),
        )
        for label, peak, step_j, batch in (("sdpa", 160, 6.0, (96, 97)), ("cast-32", 88, 3.5, (65536, None)))
    }  # fmt: skip
    outcomes[compiled.key, "naive"] = Outcome("naive", Status.OK, energy_reason="the counter stood still for 2 s")
    reason = "cannot be captured as a CUDA graph: it waits for the device"
    outcomes |= {(graph.key, arm.label): Outcome(arm.label, Status.UNSUPPORTED, reason) for arm in ARMS}
    run = record(plan(groups=groups), outcomes=outcomes, machine=replace(environment(), device_uuid=UUID, gpu=GPU))
    return view.build(
        confirmed(discarding(run, eager, APPEARED, APPEARED), eager, discarded=APPEARED),
        projection(sdpa(), naive(), winning_cast()),
    )


def ceilings_only() -> Report:
    """The baseline and the ceilings, nothing to choose from."""
    return view.build(record(plan((SDPA, MIXING, MODULE))), projection(sdpa()))


def nothing_measured() -> Report:
    """A run that ended before its first round."""
    of = plan((SDPA, CAST))
    empty = RunRecord(record(of).header, (), ())
    arms = tuple(
        replace(projected(arm, None, price=None, speedup=None, verdict=Verdict.UNCLEAR), configuration=None,
                reason=statement("surface.none"))
        for arm in (SDPA, CAST)
    )  # fmt: skip
    return view.build(empty, projection(*arms, baseline=None, money_missing=statement("surface.none")))


def labelled(*labels: str) -> Report:
    """A baseline and a CAST under each of these labels."""
    arms = tuple(replace(CAST, label=label) for label in labels)
    winners = tuple(
        replace(winning_cast(), arm=arm, configuration=Configuration(arm.label, 8, "bucketed")) for arm in arms
    )
    return view.build(record(plan((SDPA, *arms))), projection(sdpa(), *winners))


def many_groups(count: int = 60) -> Report:
    """A run of many shapes."""
    groups = tuple(Group(Shape(1, 64 * (i + 1)), "bucketed") for i in range(count))
    return view.build(record(plan(groups=groups), rounds=8), projection(sdpa(), naive(), winning_cast()))


def many_cases(labels: int = 50, lengths: int = 25, batch_sizes: int = 8) -> RunRecord:
    """A run of labels × lengths × batch sizes cases, ceilings included; 10,000 unless said otherwise."""
    candidates = tuple(
        Arm(f"cast-{i}", "cast", (("num_clusters", i), ("clustering", "top_k")), "candidate", False)
        for i in range(labels - 4)
    )
    shapes = (Shape(2**batch, 128 * (i + 1)) for batch in range(batch_sizes) for i in range(lengths))
    groups = tuple(Group(shape, "bucketed") for shape in shapes)
    mix = LengthDistribution((128, 64 * lengths, 128 * lengths), (0.5, 0.3, 0.2), True, "shares in the profile")
    of = replace(plan((SDPA, NAIVE, *candidates, MIXING, MODULE), groups), mix=mix)
    return record(of, rounds=8, device="cpu", device_name="8-core CPU")


def hostile() -> Report:
    """Labels that try to be a formula, markup, an escape sequence, a new line, or very long."""
    return labelled(
        "=cmd|'/c calc'!A0", "a|b<script>alert(1)</script>\n# *x*", "\x1b[31mred\u202eevil", "x" * 300,
        "日本語の長いラベル" * 5, "{braces} [bold]m[/]", "-1+2", "1. one",
    )  # fmt: skip


SITUATIONS: dict[str, Callable[[], Report]] = {
    made.__name__: made
    for made in (
        win, loss, tune_first, no_price, no_demand, failures, few_rounds, single_round, ceilings_only,
        nothing_measured, hostile, many_groups, on_a_gpu,
    )
}  # fmt: skip
"""Every situation by name."""
