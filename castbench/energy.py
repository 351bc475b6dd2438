"""From raw blocks of energy to joules per step, sequence and token, with their doubts; computed on every reading."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from castbench.records import Caveat, EnergyBlock, EnergyRecord
from castbench.stats import Estimate, t_half_width

MIN_BLOCKS = 3
"""Fewest usable blocks that a figure rests on."""
DISAGREEMENT_LIMIT = 0.10
"""Counter and integrated power may differ by twice the 5 % to which NVIDIA states the power readings of its first
GPUs that had them (NVML reference, nvmlDeviceGetPowerUsage; for newer ones it states none) before it is a caveat."""


@dataclass(frozen=True, slots=True)
class EnergyFinding:
    """Energy of one arm on one group. Intervals are 95 % t intervals over blocks.

    gross           everything the device used while it worked; what is paid, and what leads
    net             gross less what it would have used idle with the model loaded; None without an idle baseline.
                    Its interval is widened by half the drift of the idle baseline
    idle_w          idle power with the model loaded, mean of before and after
    idle_drift      idle power after the blocks over before them, less 1
    disagreement    integrated power over the counter, less 1, over the usable blocks; None where one is missing
    blocks          usable blocks; `dropped` are those without a usable reading
    """

    source: str
    scope: str
    gross_j_per_step: Estimate
    net_j_per_step: Estimate | None
    idle_w: float | None
    idle_drift: float | None
    mean_power_w: float
    disagreement: float | None
    blocks: int
    dropped: int
    rows_per_step: int
    tokens_per_step: float

    @property
    def gross_j_per_sequence(self) -> Estimate:
        """Joules per row of the batch."""
        return _scaled(self.gross_j_per_step, 1 / self.rows_per_step)

    @property
    def net_j_per_sequence(self) -> Estimate | None:
        """Joules per row above idle."""
        return None if self.net_j_per_step is None else _scaled(self.net_j_per_step, 1 / self.rows_per_step)

    @property
    def gross_j_per_1k_tokens(self) -> Estimate:
        """Joules per thousand tokens."""
        return _scaled(self.gross_j_per_step, 1000 / self.tokens_per_step)

    @property
    def net_j_per_1k_tokens(self) -> Estimate | None:
        """Joules per thousand tokens above idle."""
        return None if self.net_j_per_step is None else _scaled(self.net_j_per_step, 1000 / self.tokens_per_step)


def summarise(record: EnergyRecord | None, batch_size: int, tokens_per_step: float) -> EnergyFinding | None:
    """What the blocks say; None where nothing was measured or fewer than three blocks are usable.

    tokens_per_step counts the tokens of requests, without padding.
    """
    if record is None:
        return None
    usable = [(b, j) for b in record.blocks if b.steps > 0 and (j := joules_of(record.source, b)) is not None]
    if len(usable) < MIN_BLOCKS:
        return None
    gross = [j / b.steps for b, j in usable]
    idle = [j / b.elapsed_s for b in record.idle if (j := joules_of(record.source, b)) is not None]
    counted = [b for b, _ in usable]
    return EnergyFinding(
        record.source, record.scope, _mean_interval(gross), _net(usable, idle),
        idle_w=fmean(idle) if idle else None,
        idle_drift=idle[-1] / idle[0] - 1 if len(idle) > 1 and idle[0] > 0 else None,
        mean_power_w=math.fsum(j for _, j in usable) / math.fsum(b.elapsed_s for b in counted),
        disagreement=_disagreement(counted),
        blocks=len(usable), dropped=len(record.blocks) - len(usable),
        rows_per_step=batch_size, tokens_per_step=tokens_per_step,
    )  # fmt: skip


def energy_caveats(finding: EnergyFinding | None) -> tuple[Caveat, ...]:
    """Doubts about a case's energy: none measured, or two ways of measuring that differ."""
    if finding is None:
        return (Caveat.ENERGY_UNMEASURED,)
    differs = finding.disagreement is not None and abs(finding.disagreement) > DISAGREEMENT_LIMIT
    return (Caveat.ENERGY_DISAGREES,) if differs else ()


def joules_of(source: str, block: EnergyBlock) -> float | None:
    """The energy of a block by the record's source."""
    return block.integrated_j if source == "nvml-power" else block.counter_j


def _net(usable: Sequence[tuple[EnergyBlock, float]], idle: Sequence[float]) -> Estimate | None:
    """Joules per step above idle."""
    if not idle:
        return None
    drift_j = (max(idle) - min(idle)) / 2 * fmean(b.elapsed_s / b.steps for b, _ in usable)
    return _mean_interval([(j - fmean(idle) * b.elapsed_s) / b.steps for b, j in usable], widened_by=drift_j)


def _disagreement(blocks: Sequence[EnergyBlock]) -> float | None:
    """Integrated over counted energy, less 1, of the blocks that have both."""
    both = [(b.counter_j, b.integrated_j) for b in blocks if b.counter_j and b.integrated_j is not None]
    counted = math.fsum(counter for counter, _ in both)
    return math.fsum(integrated for _, integrated in both) / counted - 1 if both else None


def _mean_interval(values: Sequence[float], widened_by: float = 0.0) -> Estimate:
    """Mean of at least two values with its 95 % t interval, wider by so much on both sides."""
    value = fmean(values)
    half = t_half_width(values) + widened_by
    return Estimate(value, value - half, value + half)


def _scaled(estimate: Estimate, factor: float) -> Estimate:
    """The estimate in another unit."""
    low, high = estimate.low, estimate.high
    return Estimate(
        estimate.value * factor, None if low is None else low * factor, None if high is None else high * factor
    )
