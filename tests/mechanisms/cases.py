"""Attention problems for tests: drawn shapes, modules with weights that matter, inputs with padding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from castbench.mechanisms.cast import CastAttention, Clustering

CLUSTERINGS: tuple[Clustering, ...] = get_args(Clustering)


@dataclass(frozen=True)
class Case:
    """Sizes of one CAST problem; `cluster_size` None is the automatic one."""

    batch: int
    tokens: int
    heads: int
    head_dim: int
    clusters: int
    cluster_size: int | None
    clustering: Clustering
    seed: int

    @property
    def width(self) -> int:
        """M."""
        return self.heads * self.head_dim

    def module(self, dtype: torch.dtype = torch.float64, **changes: Any) -> CastAttention:
        """The module with weights drawn from the seed."""
        torch.manual_seed(self.seed)
        arguments: dict[str, Any] = {
            "num_clusters": self.clusters, "cluster_size": self.cluster_size, "clustering": self.clustering, **changes,
        }  # fmt: skip
        return roused(CastAttention(self.width, self.heads, **arguments)).to(dtype)

    def inputs(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """x_BNM drawn from the seed."""
        torch.manual_seed(self.seed + 1)
        return torch.randn(self.batch, self.tokens, self.width).to(dtype)

    def mask(self) -> Tensor:
        """Padding anywhere, BN, with a full row, and where there is room for it a row without a real token."""
        torch.manual_seed(self.seed + 2)
        mask_BN = torch.rand(self.batch, self.tokens) < 0.4
        mask_BN[0] = False
        if self.batch > 2:
            mask_BN[2] = True
        return mask_BN


@st.composite
def cases(draw: st.DrawFn, clustering: Clustering | None = None) -> Case:
    """Any small problem that can be run."""
    kind = clustering or draw(st.sampled_from(CLUSTERINGS))
    tokens, clusters = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    fewest = 1 if kind == "top_k" else -(-tokens // clusters)
    size = draw(st.none() | st.integers(fewest, 14))
    return Case(
        draw(st.integers(1, 3)), tokens, draw(st.integers(1, 3)), draw(st.integers(1, 4)), clusters, size, kind,
        draw(st.integers(0, 2**31)),
    )  # fmt: skip


def roused(module: Any) -> Any:
    """The module with every parameter drawn anew, biases too, so that nothing is tested at zero."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=1.0 if parameter.ndim == 1 else 1.5 / parameter.shape[-1] ** 0.5)
    return module


def multihead(module: Any, heads: int) -> nn.MultiheadAttention:
    """PyTorch's own attention with the projections of one of ours."""
    width = module.out_proj.in_features
    theirs = nn.MultiheadAttention(width, heads, batch_first=True, dtype=module.out_proj.weight.dtype)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(module.in_proj.weight)
        theirs.in_proj_bias.copy_(module.in_proj.bias)
        theirs.out_proj.load_state_dict(module.out_proj.state_dict())
    return theirs


def dense(module: Any, heads: int, x_BNM: Tensor, mask_BN: Tensor | None = None) -> Tensor:
    """Softmax attention with a module's projections, by PyTorch's own module."""
    return multihead(module, heads)(x_BNM, x_BNM, x_BNM, key_padding_mask=mask_BN, need_weights=False)[0]


def bytes_kept(module: Any, x_BNM: Tensor) -> int:
    """Bytes that a forward pass keeps for its backward pass, with its output and without the module's own tensors."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*module.parameters(), *module.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y_BNM = module(x_BNM)
    kept[y_BNM.untyped_storage().data_ptr()] = y_BNM.untyped_storage()
    return sum(storage.nbytes() for address, storage in kept.items() if address not in own)
