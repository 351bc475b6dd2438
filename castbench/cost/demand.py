"""From seconds per step to seconds per request: what a request of the length mix costs in each way of batching."""

from __future__ import annotations

from typing import TYPE_CHECKING

from castbench.cost.spec import Configuration
from castbench.cost.surface import LatencySurface
from castbench.workload.spec import LengthDistribution

if TYPE_CHECKING:
    from castbench.cost.draws import Drawn


def paid_lengths(configuration: Configuration, mix: LengthDistribution) -> LengthDistribution:
    """The lengths a server pays for: a bucketed batch is as long as its requests, a padded one as its longest."""
    return mix if configuration.batching == "bucketed" else mix.longest_of(configuration.batch_size)


def seconds_per_request(surface: LatencySurface, mix: LengthDistribution) -> Drawn:
    """Drawn device seconds of one request, averaged over the mix, batches being full.

    bucketed: sum of share(L) * time(b, L) / b.    padded: sum of P(longest of b = L) * time(b, L) / b.
    """
    paid = paid_lengths(surface.configuration, mix)
    total: Drawn = sum(
        (share * surface.seconds_at(tokens) for tokens, share in zip(paid.tokens, paid.shares, strict=True) if share),
        start=0.0 * surface.step_s[0],
    )
    return total / surface.configuration.batch_size


def rest_of_request(module_today_s: Drawn, attention_share: float) -> Drawn:
    """Drawn seconds of a request outside the attention modules, from the share `a` they have of it today:
    t * (1 - a) / a.
    """
    return module_today_s * ((1 - attention_share) / attention_share)
