"""What the rounds leave open: joint draws of the mean times of one group, carried through every later formula.

A *drawn* number is a vector of 1 + DRAWS values: first the number itself, then what it might as well have been.
Arithmetic on whole vectors carries the uncertainty along, and keeps what two arms share, because draw i of one arm
and draw i of another come from the same rounds.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, TypeAlias

from castbench.stats import Estimate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Drawn: TypeAlias = NDArray[np.float64]

DRAWS = 4000
MIN_ROUNDS = 2
"""Below this there is no spread to draw from: the draws are NaN, and no interval is given."""
LEAST_TIME = 0.01
"""Draws of a time are kept above this share of its mean: with 2 rounds Student's t reaches below zero."""


def drawn_means(
    windows: Mapping[str, Sequence[float | None]], seed: int, name: str, into: Drawn | None = None
) -> dict[str, Drawn]:
    """Mean of each arm's window means with joint draws of it; `windows[label][round]`, None where it has none.

    draw = mean + sqrt((n-1) / chi2) * sum over rounds of g_r * residual_r / sqrt(n (n-1)),   g_r ~ N(0, 1)

    with one g per round and one chi2 (n-1 degrees) for all arms. Each arm's draws are then Student's t with n-1
    degrees around its mean, at the scale s/sqrt(n), and so is every difference of two arms with the spread of its
    paired differences. Not a percentile bootstrap: below 30 rounds that is too narrow (from 5 rounds it gave 14 to
    18 % false). Residuals are taken from the mean over all rounds, not within worker processes, so that part of the
    difference between processes counts; docs/cost.md gives the coverage. `name` gives each group draws of its own.
    They are written `into` rows of (labels, 1 + DRAWS), where given.
    """
    import numpy as np

    rng = np.random.default_rng([seed % 2**63, zlib.crc32(name.encode())])
    times = np.array([[np.nan if t is None else t for t in row] for row in windows.values()], dtype=float)
    counts = (~np.isnan(times)).sum(axis=1)
    held = [[t for t in row if t is not None] for row in windows.values()]
    means = [fmean(row) if row else math.nan for row in held]
    degrees = max(1, min((int(n) for n in counts if n >= MIN_ROUNDS), default=MIN_ROUNDS) - 1)
    shocks = rng.standard_normal((DRAWS, times.shape[1]))
    shocks *= np.sqrt(degrees / rng.chisquare(degrees, DRAWS))[:, None]
    drawn = np.empty((len(times), 1 + DRAWS)) if into is None else into
    for own, row, mean, n in zip(drawn, times, means, counts, strict=True):
        _draw_around(mean, row, int(n), shocks, own)
    return dict(zip(windows, drawn, strict=True))


def shifted(drawn: Drawn, error: float, seed: int, name: str) -> Drawn:
    """The draws made wider by a relative error of unknown sign: each is multiplied or divided by 1 plus its size, so
    that a time stays a time however large the error is.

    `name` fixes the signs: two numbers of one arm are moved together, those of two arms independently.
    """
    import numpy as np

    rng = np.random.default_rng([seed % 2**63, zlib.crc32(name.encode())])
    moved = drawn.copy()
    moved[1:] *= (1 + abs(error)) ** rng.choice((-1.0, 1.0), DRAWS)
    return moved


def estimate(drawn: Drawn) -> Estimate:
    """The number with its 95 % interval, the 2.5 and 97.5 percentiles of its draws; none where there are no draws.

    The interval is stretched to the number itself where a whole number of servers sits on a step of the staircase.
    """
    import numpy as np

    value = float(drawn[0])
    if np.isnan(drawn[1:]).any():
        return Estimate(value)
    low, high = (float(end) for end in np.quantile(drawn[1:], (0.025, 0.975)))
    return Estimate(value, min(low, value), max(high, value))


def share(drawn_truth: NDArray[np.bool_], drawn: Drawn) -> float | None:
    """Share of the draws for which something is true; None where `drawn`, which it was said of, has no draws."""
    import numpy as np

    return None if np.isnan(drawn[1:]).any() else float(drawn_truth[1:].mean())


def _draw_around(mean: float, row: NDArray[np.float64], rounds: int, shocks: NDArray[np.float64], into: Drawn) -> None:
    """One arm's mean followed by its draws, written `into`; a round the arm has no window in moves nothing."""
    import numpy as np

    into[0] = mean
    if rounds < MIN_ROUNDS:
        into[1:] = np.nan
        return
    weights = np.nan_to_num(row - mean) / np.sqrt(rounds * (rounds - 1))
    np.maximum(mean + shocks @ weights, mean * LEAST_TIME, out=into[1:])
