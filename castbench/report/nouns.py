"""What a report consists of: unrounded numbers and statements, no sentence and no layout yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from castbench.cost.outlook_nouns import Electricity, Outlook, Rented
from castbench.cost.spec import ArmProjection, Configuration, Price, Savings, Waterfall
from castbench.plan import Arm, Group
from castbench.records import BatchSearch, Caveat, Environment, Purpose, RunEnd, Status
from castbench.said import Statement
from castbench.stats import Estimate, Verdict
from castbench.workload.spec import Currency, Demand, LengthDistribution, Regime, SamplingMode


@dataclass(frozen=True, slots=True)
class EnergyRow:
    """Energy of one mechanism at one shape; gross is everything the device used, net is gross less idle.

    source, scope   how it was read, and what the readings cover; see records.EnergyRecord
    disagreement    integrated power over the counter, less 1; None where one of the two is missing
    blocks          blocks of work it rests on; `dropped` had no usable reading
    """

    source: str
    scope: str
    gross_j_per_step: Estimate
    net_j_per_step: Estimate | None
    gross_j_per_sequence: Estimate
    net_j_per_sequence: Estimate | None
    gross_j_per_1k_tokens: Estimate
    net_j_per_1k_tokens: Estimate | None
    idle_w: float | None
    idle_drift: float | None
    mean_power_w: float
    disagreement: float | None
    blocks: int
    dropped: int


@dataclass(frozen=True, slots=True)
class CaseRow:
    """One mechanism at one shape, as measured; None: not known.

    latency_ms   median step: mean over worker processes with a 95 % interval over them
    mean_ms      mean wall time of a step, stalls included
    tokens_per_s real tokens; in padded groups the number expected from the length mix
    reserved_memory_mib  the most that the caching allocator took from the device; None where there is none
    energy_reason  why there is no energy; None where there is some, or nobody knows
    """

    arm: Arm
    status: Status
    reason: str | None
    latency_ms: Estimate | None
    mean_ms: float | None
    step_p95_ms: float | None
    step_p99_ms: float | None
    sequences_per_s: float | None
    tokens_per_s: float | None
    peak_memory_mib: float | None
    weights_mib: float | None
    parity_error: float | None
    ran_as: str | None
    speedup: Estimate | None
    verdict: Verdict | None
    rounds: int
    stopped_by: str | None
    reserved_memory_mib: float | None
    largest_batch: BatchSearch | None
    energy: EnergyRow | None
    energy_reason: str | None
    caveats: tuple[Caveat, ...]


@dataclass(frozen=True, slots=True)
class Discards:
    """Rounds of a group that were discarded: of how many for that purpose, and how often for which reason."""

    purpose: Purpose
    attempts: int
    reasons: tuple[tuple[str, int], ...]

    @property
    def count(self) -> int:
        """Discarded rounds."""
        return sum(times for _, times in self.reasons)


@dataclass(frozen=True, slots=True)
class GroupTable:
    """All mechanisms at one shape."""

    group: Group
    rows: tuple[CaseRow, ...]
    discards: tuple[Discards, ...] = ()

    @property
    def is_measured(self) -> bool:
        """Whether any mechanism has a number here."""
        return any(row.rounds for row in self.rows)


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What fresh rounds say of a selected mechanism, as speed-ups over `against` on that shape.

    claim            verdict of the first rounds; with UNCLEAR there was nothing to confirm
    speedup_first    on the first rounds, which flatter a winner; `speedup_fresh` is None until all `wanted` are there
    adjusted_p       of the claim being wrong, by Holm over all that was selected
    """

    group: Group
    label: str
    against: str
    claim: Verdict
    speedup_first: Estimate | None
    speedup_fresh: Estimate | None
    rounds: int
    wanted: int
    p_value: float | None
    adjusted_p: float | None
    holds: bool

    @property
    def outcome(self) -> Literal["confirmed", "refuted", "incomplete", "nothing-claimed"]:
        """What became of the claim, in a word."""
        if self.speedup_fresh is None:
            return "incomplete"
        if self.claim is Verdict.UNCLEAR:
            return "nothing-claimed"
        return "confirmed" if self.holds else "refuted"


@dataclass(frozen=True, slots=True)
class CaveatNote:
    """A doubt and the labels it touches; no labels: the whole run."""

    caveat: Caveat
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Which run this is, where it was measured, and under which rules.

    mode         how windows were taken on a GPU
    ended        the closing line; None where the run was interrupted
    unconfirmed  why no winner was confirmed, a key of text.UNCONFIRMED; None where one was selected
    """

    run_id: str
    created_at: str
    profile_name: str
    profile_source: str
    path: str | None
    profile_sha256: str
    comparable_sha256: str
    plan_sha256: str
    environment: Environment
    phase: str
    scope: str
    dtype: str
    baseline_label: str
    same_within: float
    damage: tuple[str, ...]
    resumed: int
    seed: int
    regimes: tuple[Regime, ...]
    mode: SamplingMode
    ended: RunEnd | None
    energy_asked: bool
    unconfirmed: str | None


@dataclass(frozen=True, slots=True)
class Money:
    """What the projection stands on.

    missing    why there is no money figure; None where there is
    currency   what amounts are given in besides US dollars
    """

    today: Configuration | None
    baseline: Configuration | None
    price: Price | None
    demand: Demand | None
    mix: LengthDistribution
    missing: Statement | None
    ceiling: Estimate | None
    module_ceiling: Estimate | None
    currency: Currency | None = None
    savings: Savings | None = None

    @property
    def waterfall(self) -> Waterfall | None:
        """The steps from today; None where today was not measured."""
        return self.savings.waterfall if self.savings else None


@dataclass(frozen=True, slots=True)
class SizedArm:
    """One mechanism's whole servers at the objective, by replay; None: no number keeps it, and `reason` says why.

    latencies_s      (share, seconds) of the replayed requests with that many servers
    load             work per second and replica
    formula_servers  what a queueing formula says beside it
    """

    label: str
    servers: int | None
    cost_usd_per_hour: float | None
    latencies_s: tuple[tuple[float, float | None], ...]
    load: float | None
    formula_servers: int | None
    reason: Statement | None


@dataclass(frozen=True, slots=True)
class AtObjective:
    """Servers that keep the profile's latency objective, of those mechanisms that the headline speaks of.

    source    where the replayed traffic came from; None: made up from the rate
    untested  why nothing was replayed; None where it was
    """

    objective: str
    source: str | None
    requests: int | None
    rate_per_s: float | None
    arms: tuple[SizedArm, ...]
    untested: Statement | None


@dataclass(frozen=True, slots=True)
class HowMeasured:
    """How a run was measured, in numbers.

    processes        worker processes of a shape, fewest to most
    windows, steps   valid ones of all shapes, ceilings included
    discarded        rounds done again, of `attempts`
    looks            numbers of rounds at which the intervals were looked at, with `error` over all looks together
    steps_at_best    steps of each mechanism in its best configuration, none of which failed
    repeat_percent   slowdown of each against the baseline that a repeat of the same work shows in 2.5 % of cases
    coverage         least share of tokens that were in a cluster, of mechanisms that say so
    """

    processes: tuple[int, int]
    windows: int
    steps: int
    discarded: int
    attempts: int
    looks: tuple[int, ...]
    error: float
    confirm_rounds: int
    steps_at_best: tuple[tuple[str, int], ...]
    repeat_percent: tuple[tuple[str, float], ...]
    coverage: tuple[tuple[str, float], ...]


Claim = Literal["confirmed", "not_confirmed", "unclear", "not_measured"]
"""What a run says of a published figure; unclear: its interval holds the figure, or there is none."""


@dataclass(frozen=True, slots=True)
class ClaimedAgainst:
    """CAST against one mechanism at one length: times as fast, and share of its peak memory; None: unknown."""

    label: str | None
    speedup: Estimate | None
    memory_share: float | None
    speed: Claim
    memory: Claim


@dataclass(frozen=True, slots=True)
class ClaimedLength:
    """A published claim beside what was measured at one shape: against the original attention and the fused one."""

    label: str
    group: Group
    original: ClaimedAgainst
    fused: ClaimedAgainst


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is said of one run, in the order in which it is said."""

    run: RunFacts
    warnings: tuple[Statement, ...]
    headline: tuple[Statement, ...]
    mechanisms: tuple[ArmProjection, ...]
    money: Money
    ceilings: tuple[Statement, ...]
    groups: tuple[GroupTable, ...]
    confirmations: tuple[Confirmed, ...]
    assumptions: tuple[Statement, ...]
    caveats: tuple[CaveatNote, ...]
    reproduce: tuple[str, ...]
    at_objective: AtObjective | None = None
    outlook: Outlook | None = None
    electricity: Electricity | None = None
    rented: Rented | None = None
    how: HowMeasured | None = None
    claims: tuple[ClaimedLength, ...] = ()
