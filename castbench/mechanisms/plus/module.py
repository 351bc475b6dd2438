"""Another mechanism, and after each of its forward passes a wait of a stated share of the time that pass took."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from castbench.mechanisms import registry
from castbench.mechanisms.plus import PlusParams, inner_of

_HOLD = "castbench.mechanisms.busy.module:hold"
_WARM_UPS, _TIMED = 3, 10


class Plus(nn.Module):
    """`forward(x_BNM, key_padding_mask_BN=None) -> y_BNM` of `inner`, `share` of its own time later.

    CPU: every forward pass is timed and followed by its own wait. CUDA: the time is measured once per shape, in the
    first forward pass with it, and waited for on the stream. The backward pass is not made longer.
    """

    def __init__(self, inner: nn.Module, share: float, inner_reference: str) -> None:
        super().__init__()
        self.inner, self.share, self.inner_reference = inner, share, inner_reference
        self._hold: Callable[[torch.device, float], None] = registry.load(_HOLD)
        self._inner_s: dict[object, float] = {}

    @property
    def ran_as(self) -> str | None:
        """What the inner mechanism ran as."""
        ran_as: str | None = getattr(self.inner, "ran_as", None)
        return ran_as

    def forward(self, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
        """The inner mechanism's y_BNM, later."""
        if x_BNM.is_cuda:
            self._hold(x_BNM.device, self.share * self._cuda_seconds(x_BNM, key_padding_mask_BN))
            y_BNM: Tensor = self.inner(x_BNM, key_padding_mask_BN)
            return y_BNM
        began = perf_counter()
        y_BNM = self.inner(x_BNM, key_padding_mask_BN)
        self._hold(x_BNM.device, self.share * (perf_counter() - began))
        return y_BNM

    @torch.no_grad()
    def _cuda_seconds(self, x_BNM: Tensor, mask_BN: Tensor | None) -> float:
        """Device time of the inner forward pass by events, the mean of some back to back, once per kind of input."""
        kind = (x_BNM.shape, x_BNM.dtype, x_BNM.device, mask_BN is None)
        if kind not in self._inner_s:
            for _ in range(_WARM_UPS):
                self.inner(x_BNM, mask_BN)
            began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            began.record()
            for _ in range(_TIMED):
                self.inner(x_BNM, mask_BN)
            ended.record()
            ended.synchronize()
            self._inner_s[kind] = began.elapsed_time(ended) / _TIMED / 1e3
        return self._inner_s[kind]


def build(params: PlusParams, *, embed_dim: int, num_heads: int) -> Plus:
    """Plus around the mechanism `of` with its defaults."""
    spec, inner = inner_of(params)
    module: Any = registry.load(spec.build)(inner, embed_dim=embed_dim, num_heads=num_heads)
    return Plus(module, params.percent / 100, spec.reference)
