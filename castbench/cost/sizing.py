"""Searches on the replay: fewest replicas that keep an objective, the speed-up one fewer needs, the rate a fleet bears.

fewest      double until kept, then bisect: R keeps it, R-1 misses, and both replays are there to show
speed-up    the same on a factor of the model's seconds
rate        the same on a factor of all gaps

At batch 1 more replicas, faster service and longer gaps never make any request wait longer (Kiefer and Wolfowitz 1955),
so that bisection is proof. With batching a fuller fleet makes smaller batches, and nothing is guaranteed: then smaller
numbers are replayed one by one as well, as far as `SCAN_REQUESTS` go, and the sizing says down to which.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from castbench.cost.objective import Objective
from castbench.cost.replay import ONE_AT_A_TIME, BatchingPolicy, Replay, ReplayBench
from castbench.cost.service import Service
from castbench.cost.traffic import Traffic
from castbench.errors import InputError
from castbench.said import Quantity, Statement, Unit, Value, statement

SCAN_REQUESTS = 5_000_000
"""Most requests that are replayed to rule out smaller numbers one by one; at least the next three are."""
TOLERANCE = 1e-3
"""Relative width to which factors of speed and rate are found."""
MOST_FACTOR = 2.0**20
"""Factors beyond this are called unlimited."""


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """What is asked: requests that come so, are batched so and take so long, and what must be kept for them.

    seed: fixes which measured round each batch draws.
    """

    traffic: Traffic
    service: Service
    objective: Objective
    policy: BatchingPolicy = ONE_AT_A_TIME
    seed: int = 0

    def __post_init__(self) -> None:
        if self.traffic.requests == 0:
            raise InputError("traffic: there is no request in it; nothing can be sized")

    def bench(self) -> ReplayBench:
        """Made ready for replays with several numbers of replicas."""
        return ReplayBench(self.traffic, self.service, self.policy, self.seed)

    def outcome(self, replicas: int) -> Replay:
        """What happens with this many."""
        return self.bench().run(replicas)

    def is_kept_by(self, replicas: int) -> bool:
        """Whether this many keep the objective."""
        return self.objective.is_met(self.outcome(replicas))


@dataclass(frozen=True, slots=True)
class Try:
    """One replay of the search: what this many replicas miss of the objective; nothing where they keep it."""

    replicas: int
    missed: tuple[Statement, ...]

    @property
    def kept(self) -> bool:
        """Whether they miss nothing."""
        return not self.missed


@dataclass(frozen=True, slots=True)
class Sizing:
    """The fewest replicas that keep an objective, with the proof.

    needed      fewest of those from which on every number replayed keeps the objective; None where no number does, and
                `reason` says why
    replicas    those to buy: needed, at least the floor, plus spare
    tries       every number replayed, ascending
    ruled_out_from   every number from this one to needed - 1 misses: by replay with batching, by theory at batch 1
    """

    needed: int | None
    replicas: int | None
    tries: tuple[Try, ...]
    ruled_out_from: int | None
    reason: Statement | None = None

    @property
    def is_proven(self) -> bool:
        """Whether every smaller number misses."""
        return self.needed is not None and self.ruled_out_from == 1

    @property
    def is_monotone(self) -> bool:
        """Whether no replayed number keeps the objective while a larger one misses it."""
        kept = [one.kept for one in self.tries]
        return kept == sorted(kept)

    @property
    def proof(self) -> Statement | None:
        """What stands beside the number: what one replica fewer misses."""
        if self.needed is None:
            return self.reason
        if self.needed == 1:
            return statement("proof.one")
        fewer = next(one for one in self.tries if one.replicas == self.needed - 1)
        said: dict[str, Value] = {
            "needed": _count(self.needed), "fewer": _count(fewer.replicas), "missed": fewer.missed[0],
        }  # fmt: skip
        if not self.is_monotone:
            return statement("proof.lucky", lucky=_count(next(t.replicas for t in self.tries if t.kept)), **said)
        if self.is_proven or self.ruled_out_from is None:
            return statement("proof.tight", **said)
        return statement("proof.open", ruled_out_from=_count(self.ruled_out_from), **said)


@dataclass(frozen=True, slots=True)
class Factor:
    """The end of what a fleet bears, to a relative 0.1 %; None where there is no such end, with the reason."""

    value: float | None
    reason: Statement | None = None


@dataclass(slots=True)
class _Search:
    """Tries of one setting, each number replayed once."""

    bench: ReplayBench
    objective: Objective
    tries: dict[int, Try] = field(default_factory=dict)

    def kept(self, replicas: int) -> bool:
        """Whether this many keep the objective."""
        if replicas not in self.tries:
            self.tries[replicas] = Try(replicas, tuple(self.objective.misses(self.bench.run(replicas))))
        return self.tries[replicas].kept

    def fewest(self, guess: int, most: int) -> int:
        """The fewest that keep it, if `most` do: doubled from the guess, then bisected."""
        low, high = 0, min(max(1, guess), most)
        while high < most and not self.kept(high):
            low, high = high, min(2 * high, most)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.kept(middle) else (middle, high)
        return high

    def ruled_out_from(self, needed: int, scan: bool) -> int:
        """Replays smaller numbers downwards until one keeps it; the least number above which all miss.

        `needed` itself where the number below keeps it. At batch 1 the number below is enough to rule out all.
        """
        scanned = max(3, SCAN_REQUESTS // self.bench.traffic.requests) if scan else 1
        for fewer in range(needed - 1, max(0, needed - 1 - scanned), -1):
            if self.kept(fewer):
                return fewer + 1
            if self.bench.policy.max_batch == 1:
                return 1
        return max(1, needed - scanned)


def size_fleet(setting: Setting, *, guess: int | None = None, scan: bool = True) -> Sizing:
    """The fewest replicas that keep the objective.

    guess: where to begin, by default at the load. scan: whether smaller numbers are replayed too; see the module.
    """
    search = _Search(setting.bench(), setting.objective)
    most = setting.traffic.requests
    if not search.kept(most):
        return Sizing(None, None, (search.tries[most],), None, _impossible(search.tries[most], setting.policy))
    needed = search.fewest(guess or _load_of(search.bench), most)
    ruled_out_from = search.ruled_out_from(needed, scan)
    while ruled_out_from == needed > 1:  # the number below keeps it after all
        needed -= 1
        ruled_out_from = search.ruled_out_from(needed, scan)
    tries = tuple(search.tries[number] for number in sorted(search.tries))
    return Sizing(needed, setting.objective.bought(needed), tries, ruled_out_from)


def speedup_for(setting: Setting, replicas: int) -> Factor:
    """How many times as fast the model must be for this many replicas to be enough; below 1: how much slower it may be.

    Overhead is not sped up. None where not even a model that takes no time would do, or any would.
    """

    def kept(slowdown: float) -> bool:
        return replace(setting, service=setting.service.slower(slowdown)).is_kept_by(replicas)

    if not kept(0.0):
        return Factor(None, statement("factor.outside"))
    slowdown = _largest(kept)
    return Factor(None, statement("factor.no_difference")) if slowdown is None else Factor(1 / slowdown)


def rate_factor(setting: Setting, replicas: int) -> Factor:
    """How many times the traffic's rate this many replicas bear, all gaps scaled alike, so that bursts get shorter too.

    None where any rate is kept, or none.
    """

    def kept(faster: float) -> bool:
        return replace(setting, traffic=setting.traffic.faster(faster)).is_kept_by(replicas)

    if setting.traffic.span_s == 0:
        return Factor(None, statement("factor.one_moment"))
    if not kept(1 / MOST_FACTOR):
        return Factor(None, statement("factor.never"))
    found = _largest(kept)
    return Factor(found, None if found else statement("factor.always"))


def rate_sustained(setting: Setting, replicas: int) -> Factor:
    """Requests per second that this many replicas sustain, with the traffic's pattern and lengths."""
    found, rate = rate_factor(setting, replicas), setting.traffic.rate_per_s
    return found if found.value is None or rate is None else Factor(found.value * rate)


def fraction_of(setting: Setting, needed: int) -> float:
    """How much of `needed`, the fewest replicas that are enough, is used: above needed - 1, up to needed.

    Where the slow-down of the model that a fleet bears, interpolated from needed - 1 replicas (below 1; none bear
    none) to needed (1 or more), is 1. Where what a fleet bears is proportional to its size this is exact.
    """

    def slowdown(replicas: int) -> float:
        found = speedup_for(setting, replicas).value if replicas else None
        return 0.0 if found is None else 1 / found

    whole, fewer = slowdown(needed), slowdown(needed - 1)
    if not fewer < 1 < whole:
        return float(needed)
    return needed - 1 + (1 - fewer) / (whole - fewer)


def _largest(kept: Callable[[float], bool]) -> float | None:
    """The largest factor that is kept, bracketed from 1 by doubling; None beyond MOST_FACTOR either way."""
    low = high = 1.0
    if kept(1.0):
        while kept(high := high * 2):
            low = high
            if high > MOST_FACTOR:
                return None
    else:
        while not kept(low := low / 2):
            high = low
            if low < 1 / MOST_FACTOR:
                return None
    while high / low > 1 + TOLERANCE:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if kept(middle) else (low, middle)
    return low


def _load_of(bench: ReplayBench) -> int:
    """Work per second while requests come, in replicas with full batches: where the search begins."""
    load = bench.run(1).load
    return bench.traffic.requests if load is None else math.ceil(load)


def _impossible(most: Try, policy: BatchingPolicy) -> Statement:
    """Why no number of replicas is enough."""
    if not policy.batch_window_s:
        return statement("proof.impossible", missed=most.missed[0])
    window = Quantity(policy.batch_window_s * 1e3, Unit.MS)
    return statement("proof.impossible_window", missed=most.missed[0], window=window)


def _count(replicas: int) -> Quantity:
    """A number of replicas."""
    return Quantity(replicas, Unit.COUNT)
