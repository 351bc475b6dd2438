"""How long a replica takes for a batch: measured over batch size and length, or a stated law, plus overhead.

seconds(b, L) = model(b, L) · slowdown · factor + overhead

seconds     b = 1       b = 8        measured at the corners; in between, log-log in both
 L = 512      o ---- . ---- o        fewer rows than the smallest measured batch cost what that batch costs,
   .          |     .       |        and so do fewer tokens; beyond the largest of either: refused
 L = 2048     o ---- . ---- o
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from castbench.errors import InputError
from castbench.findings import sample_of
from castbench.records import RunRecord
from castbench.workload.spec import Regime

if TYPE_CHECKING:
    from castbench.cost.surface import LatencySurface, Surfaces
    from castbench.cost.traffic import Floats, Integers


class ModelTime(Protocol):
    """Seconds of one step of the model."""

    def seconds(self, batch_size: int, tokens: Integers) -> Floats:
        """Seconds of a step of `batch_size` rows padded to each of these lengths; InputError beyond what is known."""
        ...


@dataclass(frozen=True, slots=True)
class LinearTime:
    """A stated law: `fixed_s` per step and `per_token_s` for every token of it, padding included."""

    fixed_s: float
    per_token_s: float

    def seconds(self, batch_size: int, tokens: Integers) -> Floats:
        """The law, padding included."""
        import numpy as np

        return np.asarray(self.fixed_s + self.per_token_s * batch_size * tokens, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class MeasuredTime:
    """Mean seconds per step at measured batch sizes and lengths, both ascending: `step_s[batch][length]`."""

    batch_sizes: tuple[int, ...]
    lengths: tuple[int, ...]
    step_s: tuple[tuple[float, ...], ...]

    def seconds(self, batch_size: int, tokens: Integers) -> Floats:
        """Interpolated in log-log between measured points."""
        import numpy as np

        if batch_size > self.batch_sizes[-1]:
            raise InputError(f"a batch of {batch_size} was not measured; the largest is {self.batch_sizes[-1]}")
        if tokens.size and tokens.max() > self.lengths[-1]:
            raise InputError(f"requests reach {tokens.max()} tokens, measured only up to {self.lengths[-1]}")
        above = bisect_left(self.batch_sizes, batch_size)
        if above == 0 or self.batch_sizes[above] == batch_size:
            return np.exp(self._log_seconds(above, tokens))
        low, high = self.batch_sizes[above - 1], self.batch_sizes[above]
        weight = float(np.log(batch_size / low) / np.log(high / low))
        below, over = self._log_seconds(above - 1, tokens), self._log_seconds(above, tokens)
        between: Floats = np.exp((1 - weight) * below + weight * over)
        return between

    def _log_seconds(self, batch: int, tokens: Integers) -> Floats:
        """Logarithm of the seconds at one measured batch size; flat below the first measured length."""
        import numpy as np

        return np.interp(np.log(tokens), np.log(self.lengths), np.log(self.step_s[batch]))


@dataclass(frozen=True, slots=True)
class Service:
    """What a replica is busy for with one batch.

    overhead_s   what a batch spends outside the model while it holds the replica; not sped up by a faster model
    factors      window means of the measured rounds over their mean: a batch draws one; (1,) is the mean itself
    slowdown     what the model's seconds are multiplied by: to ask what a faster or slower model would need
    """

    model: ModelTime
    overhead_s: float = 0.0
    factors: tuple[float, ...] = (1.0,)
    slowdown: float = 1.0

    def __post_init__(self) -> None:
        if not self.factors or min(self.factors) < 0 or self.overhead_s < 0 or self.slowdown < 0:
            raise InputError(
                "service time: overhead, slowdown and round factors must be 0 or more, and one factor given"
            )

    def slower(self, factor: float) -> Service:
        """The same with the model's seconds multiplied by `factor`."""
        return replace(self, slowdown=self.slowdown * factor)

    def model_seconds(self, batch_size: int, tokens: Integers) -> Floats:
        """Mean seconds of the model, slowdown included, overhead not."""
        return self.model.seconds(batch_size, tokens) * self.slowdown

    def mean_seconds(self, batch_size: int, tokens: Integers) -> Floats:
        """Mean seconds a batch of these padded lengths holds a replica."""
        return self.model_seconds(batch_size, tokens) * (sum(self.factors) / len(self.factors)) + self.overhead_s

    def factor_draws(self, requests: int, seed: int) -> Floats:
        """One factor per request, from the seed alone: a batch takes that of its oldest request, so that request
        number i meets the same luck however many replicas there are.
        """
        import numpy as np

        if len(self.factors) == 1:
            return np.full(requests, self.factors[0])
        return np.random.default_rng(seed).choice(np.asarray(self.factors), requests)


def measured_service(
    record: RunRecord, surfaces: Iterable[LatencySurface], *, overhead_s: float = 0.0, draw: int = 0
) -> Service:
    """What a run measured of one arm in one regime and one way of batching: its table, and its rounds to draw from.

    draw: see `measured_time`. Factors are pooled over all measured shapes.
    """
    chosen = list(surfaces)
    cases = [case for surface in chosen for case in surface.cases]
    samples = ([sample_of(r, case.arm.label) for r in record.rounds_of(case.group.key)] for case in cases)
    windows = [[sample.mean_step_s for sample in row if sample is not None] for row in samples]
    return Service(measured_time(chosen, draw), overhead_s, round_factors(windows))


def surfaces_for(
    surfaces: Surfaces, label: str, regime: Regime = "eager", *, bucketed: bool = False
) -> tuple[LatencySurface, ...]:
    """The surfaces that batches of an arm are priced by: padded ones, or with length buckets those of equal lengths.

    A batch of 1 has no padding, and belongs to both.
    """
    wanted = "bucketed" if bucketed else "padded"
    return tuple(
        surface for surface in surfaces.of(label)
        if surface.configuration.regime == regime
        and (surface.configuration.batch_size == 1 or surface.configuration.batching == wanted)
    )  # fmt: skip


def measured_time(surfaces: Iterable[LatencySurface], draw: int = 0) -> MeasuredTime:
    """The surfaces of one arm in one regime and one way of batching, one per batch size, as one table.

    draw: 0 is the mean; draw i of every surface comes from the same rounds, so that arms stay paired (cost/draws.py).
    Lengths are those that all batch sizes share. InputError where there is no surface.
    """
    ordered = sorted(surfaces, key=lambda surface: surface.configuration.batch_size)
    if not ordered:
        raise InputError("service time: no batch size was measured at every length")
    shared = sorted(set.intersection(*(set(surface.lengths) for surface in ordered)))
    rows = tuple(tuple(float(surface.seconds_at(n)[draw]) for n in shared) for surface in ordered)
    return MeasuredTime(tuple(s.configuration.batch_size for s in ordered), tuple(shared), rows)


def round_factors(windows: Iterable[Sequence[float]]) -> tuple[float, ...]:
    """Window means of every case over that case's mean, pooled: what a step's time is multiplied by in one round."""
    found: list[float] = []
    for times in windows:
        if times:
            mean = sum(times) / len(times)
            found += [time / mean for time in times]
    return tuple(found) or (1.0,)
