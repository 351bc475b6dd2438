from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from castbench.mechanisms.routing import RoutingParams
from castbench.mechanisms.routing.module import RoutingAttention, build
from tests.mechanisms.cases import roused

pytestmark = pytest.mark.extra

WIDTH, HEADS = 16, 2


def made(clusters: int, window: int, decay: float = 0.999) -> RoutingAttention:
    """Ours in float64."""
    torch.manual_seed(0)
    params = RoutingParams(num_clusters=clusters, window_size=window, decay=decay)
    module: RoutingAttention = roused(build(params, embed_dim=WIDTH, num_heads=HEADS)).double().eval()
    return module


def theirs_with(ours: RoutingAttention) -> Any:
    """KmeansAttention with our centroids, which takes them as drawn already."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = pytest.importorskip("routing_transformer.routing_transformer")
    theirs = package.KmeansAttention(
        ours.num_clusters, ours.params.window_size, HEADS, WIDTH // HEADS, ema_decay=ours.params.decay
    ).double()
    theirs.kmeans.means.copy_(ours.centroids)
    theirs.kmeans.initted.fill_(True)
    return theirs.eval()


def projected(ours: RoutingAttention, x_BNM: Tensor) -> list[Tensor]:
    """Queries and keys, layer-normed, and values, each BHND: the published code norms nothing before it attends."""
    parts = [part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in ours.in_proj(x_BNM).chunk(3, -1)]
    return [functional.layer_norm(part, part.shape[-1:]) for part in parts[:2]] + parts[2:]


def inputs(length: int, seed: int = 1) -> Tensor:
    """x_BNM in float64."""
    return torch.randn(2, length, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("length", "clusters", "window"), [(32, 4, 8), (48, 6, 8), (40, 3, 20), (17, 5, 4), (6, 2, 9)])
def test_routing_transformer_gives_the_same(length: int, clusters: int, window: int) -> None:
    """KmeansAttention agrees with ours on layer-normed queries and keys, but for the 1e-5 it adds to counts."""
    ours, x_BNM = made(clusters, window), inputs(length)
    with torch.no_grad():
        mixed_BHND, _ = theirs_with(ours)(*projected(ours, x_BNM))
        wanted_BNM = ours.out_proj(mixed_BHND.transpose(1, 2).flatten(2))
        torch.testing.assert_close(ours(x_BNM), wanted_BNM, rtol=1e-4, atol=1e-4)


def test_routing_transformer_moves_its_centroids_alike() -> None:
    """A training pass and its update leave the centroids where ours has them."""
    ours, x_BNM = made(4, 8, decay=0.9), inputs(32)
    theirs = theirs_with(ours).train()
    before_HCD = ours.centroids.clone()
    with torch.no_grad():
        theirs(*projected(ours, x_BNM))
        theirs.kmeans.update()
        ours.train()(x_BNM)
    assert float((ours.centroids - before_HCD).abs().max()) > 0.05
    torch.testing.assert_close(ours.centroids, theirs.kmeans.means, rtol=1e-4, atol=1e-5)
