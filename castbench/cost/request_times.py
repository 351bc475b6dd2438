"""Drawn seconds of a request in every measured configuration, with what the draws are made of.

mean times (rounds) ─▶ surface ─▶ averaged over the mix ─▶ widened by interpolation and data ─▶ rest of request added
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from castbench.cost.demand import rest_of_request, seconds_per_request
from castbench.cost.draws import shifted
from castbench.cost.spec import Configuration, RangePart
from castbench.cost.surface import Surfaces
from castbench.plan import Plan

if TYPE_CHECKING:
    from castbench.cost.draws import Drawn


@dataclass(frozen=True, slots=True, eq=False)
class RequestTimes:
    """What seconds per request are made of; every method can leave one part of their uncertainty out.

    errors, spread    by label: relative error of the interpolation, and dependence on what the inputs hold
    attention_share   share of a request that the timed modules have today, where only those were timed
    """

    plan: Plan
    surfaces: Surfaces
    errors: Mapping[str, float]
    spread: Mapping[str, float]
    seed: int
    attention_share: float | None

    def of_timed(self, without: RangePart | None = None) -> dict[Configuration, Drawn]:
        """Of what was timed, the whole request or the attention module of it."""
        return {c: self._timed(c, without) for c in self.surfaces.complete}

    def of_requests(self, today: Configuration | None, without: RangePart | None = None) -> dict[Configuration, Drawn]:
        """Of whole requests: as measured, or the attention module plus the rest of the model as it is `today`."""
        timed_s = self.of_timed(without)
        if self.plan.served.scope == "encoder" or self.attention_share is None or today is None:
            return timed_s
        rest = rest_of_request(timed_s[today], self.attention_share)
        return {configuration: rest + seconds for configuration, seconds in timed_s.items()}

    def _timed(self, configuration: Configuration, without: RangePart | None) -> Drawn:
        """Of one configuration; interpolation and dependence on the data widen the range."""
        import numpy as np

        seconds = seconds_per_request(self.surfaces.complete[configuration], self.plan.mix)
        if without == "rounds":
            seconds = np.full_like(seconds, seconds[0])
        doubt = 0.0 if without == "interpolation" else self._doubt(configuration.label)
        return shifted(seconds, doubt, self.seed, configuration.label)

    def _doubt(self, label: str) -> float:
        """Relative size of what is not noise: the two added, since they may point the same way."""
        return abs(self.errors.get(label, 0.0)) + abs(self.spread.get(label, 0.0))
