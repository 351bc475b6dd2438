"""Requests in time, as a trace gave them or as Poisson arrivals; scaled in rate, and resampled in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from castbench.errors import InputError
from castbench.units import SECONDS_PER_HOUR

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from castbench.workload.spec import LengthDistribution

    Floats: TypeAlias = NDArray[np.float64]
    Integers: TypeAlias = NDArray[np.int64]

BLOCK_S = 300.0
"""Length of a bootstrap block: bursts shorter than this stay whole."""


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """Requests in the order of their arrival: `arrival_s` ascending in seconds from any origin, `tokens` of each.

    Made by `of`, which checks; the arrays are not to be written to.
    """

    arrival_s: Floats
    tokens: Integers

    @classmethod
    def of(cls, arrival_s: ArrayLike, tokens: ArrayLike) -> Traffic:
        """Checked traffic. InputError names the first request that is not one."""
        import numpy as np

        times = np.ascontiguousarray(arrival_s, dtype=np.float64)
        lengths = np.ascontiguousarray(tokens, dtype=np.float64)
        if times.ndim != 1 or times.shape != lengths.shape:
            raise InputError(f"traffic: {times.size} arrivals and {lengths.size} lengths; give one length per arrival")
        _refuse(~np.isfinite(times), "its arrival is not a number of seconds")
        _refuse(~(np.isfinite(lengths) & (lengths >= 1) & (lengths == np.floor(lengths))),
                "its length is not a positive whole number of tokens")  # fmt: skip
        _refuse(np.diff(times, prepend=times[:1]) < 0, "it arrives before the one ahead of it; sort the trace by time")
        return cls(times, lengths.astype(np.int64))

    @property
    def requests(self) -> int:
        """Number of requests."""
        return int(self.arrival_s.size)

    @property
    def span_s(self) -> float:
        """Seconds from the first arrival to the last; 0 with fewer than two requests."""
        return float(self.arrival_s[-1] - self.arrival_s[0]) if self.requests else 0.0

    @property
    def rate_per_s(self) -> float | None:
        """Requests per second: gaps over the span; None where the span is 0."""
        return (self.requests - 1) / self.span_s if self.span_s > 0 else None

    def faster(self, factor: float) -> Traffic:
        """The same requests at `factor` times the rate: every gap is divided by it."""
        origin = self.arrival_s[:1]
        return Traffic(origin + (self.arrival_s - origin) / factor, self.tokens)

    def spread(self, step_s: float, seed: int) -> Traffic:
        """The same requests with every stamp moved on by a random part of `step_s`: for stamps that were rounded down
        to steps so long that requests seem to arrive together.
        """
        import numpy as np

        moved = self.arrival_s + np.random.default_rng(seed).uniform(0.0, step_s, self.requests)
        order = np.argsort(moved, kind="stable")
        return Traffic(moved[order], self.tokens[order])

    def between(self, begin_s: float, end_s: float) -> Traffic:
        """The requests that arrive from `begin_s` on and before `end_s`."""
        import numpy as np

        low, high = np.searchsorted(self.arrival_s, (begin_s, end_s))
        return Traffic(self.arrival_s[low:high], self.tokens[low:high])

    def edges_s(self, block_s: float) -> Floats:
        """Ends of the blocks the traffic is cut into: from the first arrival, the last block ending just behind the
        last request, so that it may be shorter.
        """
        import numpy as np

        first, last = float(self.arrival_s[0]), float(self.arrival_s[-1])
        end = np.nextafter(last, np.inf)
        inner = first + block_s * np.arange(max(1, int(np.ceil((end - first) / block_s))))
        return np.append(inner, end)

    def resampled(self, block_s: float, seed: int) -> Traffic:
        """As many blocks drawn with replacement and put one behind the other (block bootstrap; Künsch 1989).

        Fixed blocks that do not overlap: what happens within one, bursts above all, is kept; what lasts longer than
        one, such as the hour of the day, is not.
        """
        import numpy as np

        if self.requests == 0:
            return self
        edges = self.edges_s(block_s)
        begins = np.searchsorted(self.arrival_s, edges)
        drawn = np.random.default_rng(seed).integers(0, edges.size - 1, edges.size - 1)
        offsets = np.concatenate(([0.0], np.cumsum(np.diff(edges)[drawn])))
        picks = [np.arange(begins[block], begins[block + 1]) for block in drawn]
        moved = [self.arrival_s[p] - edges[b] + o for p, b, o in zip(picks, drawn, offsets[:-1], strict=True)]
        return Traffic(np.concatenate(moved), self.tokens[np.concatenate(picks)])


def poisson_traffic(
    rate_per_s: float, duration_s: float, mix: LengthDistribution, seed: int, hourly: Sequence[float] = ()
) -> Traffic:
    """Independent arrivals at a mean rate, lengths drawn from the mix: what a demand without a trace is replayed as.

    hourly: relative rates of the hours of the day, of mean 1 over those used; the first hour is hourly[0], and the
    list repeats. Real traffic is burstier than this: see docs/capacity.md. InputError for a rate or duration that is
    not positive.
    """
    import numpy as np

    if not (rate_per_s > 0 and duration_s > 0):
        raise InputError(
            f"demand: a rate and a duration above 0 are needed, got {rate_per_s:g}/s over {duration_s:g} s"
        )
    rng = np.random.default_rng(seed)
    shares = hourly or (1.0,)
    pieces = []
    for hour, begin in enumerate(np.arange(0.0, duration_s, SECONDS_PER_HOUR)):
        length = min(SECONDS_PER_HOUR, duration_s - begin)
        expected = rate_per_s * shares[hour % len(shares)] * length
        pieces.append(begin + length * np.sort(rng.random(rng.poisson(expected))))
    times = np.concatenate(pieces)
    return Traffic.of(times, rng.choice(mix.tokens, times.size, p=mix.shares))


def _refuse(wrong: NDArray[np.bool_], what: str) -> None:
    """InputError for the first request of which `wrong` is true."""
    if wrong.any():
        raise InputError(f"traffic: request {int(wrong.argmax()) + 1}: {what}")
