"""From a profile to the cases that will be measured: pure, and the same for every device.

WorkloadProfile ─▶ arms (a mechanism with its parameters, under a label)  ×  groups (one shape each)  =  cases
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from castbench.errors import InputError, Problem
from castbench.mechanisms import params as mechanism_params
from castbench.mechanisms import presets, registry
from castbench.mechanisms.spec import LengthMix, MechanismSpec
from castbench.mechanisms.spec import Problem as AttentionProblem
from castbench.workload.lengths import held_out_length, measured_lengths
from castbench.workload.spec import (
    ELEMENT_BYTES,
    Batching,
    Dtype,
    LengthDistribution,
    MechanismChoice,
    ModelSpec,
    ParamValue,
    Phase,
    Regime,
    SamplingPolicy,
    Scope,
    Shape,
    WorkloadProfile,
)

Role = Literal["baseline", "candidate", "ceiling"]

CEILINGS = (("ceiling:mixing", "mixing_ceiling"), ("ceiling:module", "module_ceiling"))
"""Arms measured in every encoder run to bound what any mechanism can reach: label, mechanism."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One mechanism with all its parameters resolved, under the label it is reported by."""

    label: str
    mechanism: str
    params: tuple[tuple[str, ParamValue], ...]
    role: Role
    exact: bool


@dataclass(frozen=True, slots=True)
class Group:
    """One shape, on which all arms are measured interleaved.

    bucketed: every row is `seq_len` tokens long, no mask. padded: rows drawn from the workload's lengths up to
    `seq_len`, the longest exactly that, padding masked. held_out: measured only to check the interpolation.
    regime: how the steps are launched; pairs are compared within one regime, since a group has one.
    """

    shape: Shape
    batching: Batching
    held_out: bool = False
    regime: Regime = "eager"

    @property
    def key(self) -> str:
        """Name of the group within a run file."""
        tail = ("" if self.regime == "eager" else f"-{self.regime}") + ("-heldout" if self.held_out else "")
        return f"b{self.shape.batch_size}-n{self.shape.seq_len}-{self.batching}{tail}"


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A case that cannot be run, known before anything is timed."""

    group: str
    label: str
    reason: str


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What is built and timed: the encoder (or one attention module) of the profile."""

    model: ModelSpec
    scope: Scope
    phase: Phase
    dtype: Dtype
    seed: int
    max_seq_len: int


@dataclass(frozen=True, slots=True)
class AnalysisPlan:
    """How rounds will be judged, fixed and hashed before the first window; see docs/method.md.

    looks           numbers of rounds after which the intervals are looked at
    look_errors     error probability spent at each look; they add up to 0.05
    epoch_ends      numbers of rounds after which the worker process is replaced by a fresh one
    confirm_rounds  fresh rounds for every selected winner, judged once at the whole error, Holm over the winners
    """

    looks: tuple[int, ...] = (8, 16, 32, 64)
    look_errors: tuple[float, ...] = (0.01, 0.0125, 0.0125, 0.015)
    epoch_ends: tuple[int, ...] = (3, 6, 8, 12, 16, 24, 32, 48, 64)
    confirm_rounds: int = 8

    @property
    def total_error(self) -> float:
        """The error probability of one comparison over all its looks."""
        return math.fsum(self.look_errors)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that will be measured and how it will be judged."""

    served: ServedModel
    mix: LengthDistribution
    arms: tuple[Arm, ...]
    groups: tuple[Group, ...]
    unsupported: tuple[Unsupported, ...]
    baseline: str
    sampling: SamplingPolicy
    analysis: AnalysisPlan

    def arm(self, label: str) -> Arm:
        """The arm of that label; KeyError if there is none."""
        for arm in self.arms:
            if arm.label == label:
                return arm
        raise KeyError(label)

    def group(self, key: str) -> Group:
        """The group of that key; KeyError if there is none."""
        for group in self.groups:
            if group.key == key:
                return group
        raise KeyError(key)

    def arms_of(self, group: Group) -> tuple[Arm, ...]:
        """The arms that can run on that group's shape."""
        out = {u.label for u in self.unsupported if u.group == group.key}
        return tuple(arm for arm in self.arms if arm.label not in out)

    def measures_energy_of(self, group: Group) -> bool:
        """Whether the energy pass is made on a group: not for the point that only checks the interpolation."""
        return self.sampling.energy and not group.held_out

    def searches_batch_of(self, group: Group) -> bool:
        """Whether the largest batch is searched for from this group: once per length, from the smallest batch."""
        same = (g for g in self.groups if g.shape.seq_len == group.shape.seq_len and not g.held_out)
        return self.sampling.largest_batch and group == min(same, key=lambda g: g.shape.batch_size, default=None)

    def canonical(self) -> dict[str, Any]:
        """The plan as plain values, for hashing and storing."""
        return asdict(self)


def make_plan(profile: WorkloadProfile, only: Sequence[str] = ()) -> Plan:
    """Expand and validate a profile; `only` keeps these labels (and the baseline).

    Raises InputError with every problem found.
    """
    problems = choice_problems(profile.mechanisms, profile.baseline)
    if problems:
        raise InputError.of(profile.source, problems)
    arms = _selected(_arms(profile), only, profile.baseline)
    groups = _groups(profile)
    served = ServedModel(
        profile.model, profile.scope, profile.phase, profile.dtype, profile.seed,
        max(group.shape.seq_len for group in groups),
    )  # fmt: skip
    unsupported = tuple(_unsupported(arms, groups, served))
    return Plan(served, profile.lengths, arms, groups, unsupported, profile.baseline, profile.sampling, AnalysisPlan())


def choice_problems(choices: Sequence[MechanismChoice], baseline: str | None) -> list[Problem]:
    """What is wrong with the mechanisms asked for: unknown names, parameters, equal labels, a missing baseline."""
    problems: list[Problem] = []
    labels: dict[str, int] = {}
    for index, choice in with_presets(choices):
        where = f"mechanisms[{index}]"
        spec = registry.find(choice.name)
        if spec is None:
            problems.append(Problem(where, _unknown_name(choice)))
            continue
        found = mechanism_params.problems_of(spec, dict(choice.params), where)
        problems += found
        if found:
            continue
        label = label_of(choice, spec)
        if label.startswith("ceiling:"):
            problems.append(Problem(where, f"label {label!r} is reserved for the ceilings; choose another"))
        if label in labels:
            taken = f"label {label!r} is already used by mechanisms[{labels[label]}]"
            problems.append(Problem(where, f"{taken}; give one of them a label of its own"))
        labels.setdefault(label, index)
    if baseline is not None and not problems and baseline not in labels:
        known = ", ".join(labels)
        problems.append(Problem("baseline", f"expected the label of one of the mechanisms ({known}), got {baseline!r}"))
    return problems


def with_presets(choices: Sequence[MechanismChoice]) -> list[tuple[int, MechanismChoice]]:
    """Choices with their places in the list, presets replaced by their mechanisms.

    A preset's mechanism is left out where the list has one of the same label by itself or from an earlier preset; a
    preset that is not there, or that was given parameters or a label, stays as it is.
    """
    labels = {_label_so_far(choice) for choice in choices if not presets.is_preset(choice.name)}
    found: list[tuple[int, MechanismChoice]] = []
    for index, choice in enumerate(choices):
        entries = presets.entries_of(choice.name) if presets.is_preset(choice.name) else None
        if entries is None or choice.params or choice.label:
            found.append((index, choice))
            continue
        for entry in entries:
            meant = MechanismChoice(entry.name, entry.params)
            if _label_so_far(meant) not in labels:
                labels.add(_label_so_far(meant))
                found.append((index, meant))
    return found


def _label_so_far(choice: MechanismChoice) -> str:
    """A choice's label, before it is known whether its mechanism exists."""
    spec = registry.find(choice.name)
    return (choice.label or choice.name) if spec is None else label_of(choice, spec)


def _unknown_name(choice: MechanismChoice) -> str:
    """Sentence for a name that is no mechanism's."""
    if not presets.is_preset(choice.name):
        return registry.unknown_sentence(choice.name)
    if presets.entries_of(choice.name) is None:
        return presets.unknown_preset(choice.name)
    return f"{choice.name} takes neither parameters nor a label; name its mechanisms one by one for that"


def compiles(group: Group, arm: Arm) -> bool:
    """Whether an arm's first step compiles something, so that it says nothing of the time or memory of others."""
    return group.regime == "compiled" or registry.get(arm.mechanism).compiles


def label_of(choice: MechanismChoice, spec: MechanismSpec) -> str:
    """The label given, else the name plus the parameters that differ from their defaults."""
    if choice.label is not None:
        return choice.label
    defaults = spec.param_defaults()
    differing = [f"{name}={value}" for name, value in choice.params if defaults.get(name) != value]
    return f"{choice.name}({','.join(differing)})" if differing else choice.name


def _arms(profile: WorkloadProfile) -> tuple[Arm, ...]:
    """Arms in the order of the profile, then the ceilings of an encoder run."""
    mix = LengthMix(profile.lengths.tokens, profile.lengths.shares)
    arms = []
    for _, choice in with_presets(profile.mechanisms):
        spec = registry.get(choice.name)
        params = spec.resolve(mechanism_params.make(spec, dict(choice.params)), mix)
        label = label_of(choice, spec)
        role: Role = "baseline" if label == profile.baseline else "candidate"
        arms.append(Arm(label, choice.name, mechanism_params.as_pairs(params), role, spec.exact))
    if profile.scope == "encoder":
        arms += [Arm(label, name, (), "ceiling", False) for label, name in CEILINGS]
    return tuple(arms)


def _selected(arms: tuple[Arm, ...], only: Sequence[str], baseline: str) -> tuple[Arm, ...]:
    """The arms named by `only`, the baseline and the ceilings; all when nothing is named."""
    unknown = set(only) - {arm.label for arm in arms}
    if unknown:
        known = ", ".join(arm.label for arm in arms if arm.role != "ceiling")
        raise InputError(f"--only: no mechanism is labelled {', '.join(sorted(unknown))}; labels are {known}")
    wanted = {*only, baseline} if only else {arm.label for arm in arms}
    return tuple(arm for arm in arms if arm.label in wanted or arm.role == "ceiling")


def _groups(profile: WorkloadProfile) -> tuple[Group, ...]:
    """Groups from cheap to dear, so that an early end leaves the most; the held-out point last of its batch."""
    lengths = measured_lengths(profile.lengths, profile.measure_lengths)
    groups = []
    for batch_size in sorted(profile.batch_sizes):
        for batching in ("bucketed",) if batch_size == 1 else profile.batching:
            groups += [Group(Shape(batch_size, length), batching) for length in lengths]
        if batch_size == min(profile.batch_sizes):
            extra = held_out_length(profile.lengths, lengths)
            first = "bucketed" if batch_size == 1 else profile.batching[0]
            groups += [Group(Shape(batch_size, extra), first, held_out=True)] if extra else []
    return tuple(replace(group, regime=regime) for regime in profile.regimes for group in groups)


def _unsupported(arms: Iterable[Arm], groups: Iterable[Group], served: ServedModel) -> Iterable[Unsupported]:
    """Cases that a mechanism's own limits rule out."""
    for arm in arms:
        spec = registry.get(arm.mechanism)
        params = mechanism_params.make(spec, dict(arm.params))
        for group in groups:
            reason = spec.limits(params, attention_problem(served, group.shape))
            if reason:
                yield Unsupported(group.key, arm.label, reason)


def attention_problem(served: ServedModel, shape: Shape) -> AttentionProblem:
    """The problem one attention module faces at this shape."""
    return AttentionProblem(
        shape.batch_size, shape.seq_len, served.model.embed_dim, served.model.num_heads,
        ELEMENT_BYTES[served.dtype], served.phase == "training",
    )  # fmt: skip
