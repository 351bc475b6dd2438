"""Gradients of CAST that are written by hand: the same as autograd's, for whoever asks for them and for nobody else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from castbench.mechanisms.cast import gradients, mixing
from castbench.mechanisms.cast.module import CastAttention


class Adapted(nn.Linear):
    """A Linear with a low-rank addition, as people train large models with."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__(base.in_features, base.out_features)
        self.load_state_dict(base.state_dict())
        self.down = nn.Parameter(torch.randn(2, base.in_features) / 8)
        self.up = nn.Parameter(torch.randn(base.out_features, 2) / 8)

    def forward(self, x: Tensor) -> Tensor:
        """The base's result and the addition."""
        return super().forward(x) + x @ self.down.T @ self.up.T


def cast(**params: Any) -> CastAttention:
    """A small module with fixed weights."""
    torch.manual_seed(0)
    return CastAttention(32, 4, num_clusters=4, **params).double()


def rows() -> tuple[Tensor, Tensor]:
    """Two rows, the second padded."""
    torch.manual_seed(1)
    mask_BN = torch.zeros(2, 40, dtype=torch.bool)
    mask_BN[1, 30:] = True
    return torch.randn(2, 40, 32, dtype=torch.float64, requires_grad=True), mask_BN


def gradients_of(module: nn.Module, x: Tensor, mask: Tensor) -> dict[str, Tensor | None]:
    """Gradients of a scalar of the result, by name; x's under "x"."""
    x.grad = None
    module.zero_grad()
    y = module(x, mask)
    (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)).sum().backward()
    return {"x": x.grad, **{name: parameter.grad for name, parameter in module.named_parameters()}}


@pytest.mark.parametrize("clustering", ["top_k", "single_assignment"])
@pytest.mark.parametrize("summaries", [True, False])
def test_both_ways_of_projecting_have_the_gradients_of_autograd(
    clustering: str, summaries: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By parts, by one buffer, and with plain PyTorch in the place of every function with a gradient of its own."""
    module, (x, mask) = cast(clustering=clustering, summaries=summaries), rows()
    assert gradients.can_be_projected(x, module.in_proj)
    by_parts = gradients_of(module, x, mask)
    monkeypatch.setattr(mixing, "can_be_projected", lambda *_: False)
    by_buffer = gradients_of(module, x, mask)
    for name in ("QueriesAndRows", "SharesAndOwn", "Weighed"):
        plain = getattr(gradients, name)
        monkeypatch.setattr(mixing, name, type(name, (), {"apply": staticmethod(PLAIN[name])}))
        assert plain is not getattr(mixing, name)
    by_autograd = gradients_of(module, x, mask)
    for name, wanted in by_autograd.items():
        assert wanted is not None
        torch.testing.assert_close(by_parts[name], wanted, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(by_buffer[name], wanted, rtol=1e-9, atol=1e-12)


PLAIN = {
    "QueriesAndRows": gradients.queries_and_rows,
    "SharesAndOwn": lambda share, own: (share, share.gather(1, own)),
    "Weighed": lambda within, summary, weight: (within - summary.unsqueeze(1)) * weight,
}
"""What the functions compute, left to autograd."""


@pytest.mark.parametrize("frozen", ["x", "in_proj.weight", "in_proj.bias"])
def test_what_is_frozen_gets_no_gradient_and_the_rest_the_same(frozen: str) -> None:
    """A first layer's input and frozen weights have none, and nothing else changes."""
    module, (x, mask) = cast(), rows()
    wanted = gradients_of(module, x, mask)
    wanted = {name: None if grad is None else grad.clone() for name, grad in wanted.items()}
    (x if frozen == "x" else module.get_parameter(frozen)).requires_grad_(False)
    x.grad = None
    module.zero_grad(set_to_none=True)
    found = gradients_of(module, x, mask)
    assert found.pop(frozen) is None
    for name, grad in found.items():
        torch.testing.assert_close(grad, wanted[name], rtol=1e-12, atol=1e-14)


def test_an_adapted_projection_is_trained() -> None:
    """Where in_proj is not a plain Linear, what it adds has the gradient that finite differences give."""
    module, (x, mask) = cast(), rows()
    module.in_proj = Adapted(module.in_proj).double()
    assert not gradients.can_be_projected(x, module.in_proj)
    grad = gradients_of(module, x, mask)["in_proj.up"]
    assert grad is not None
    up, step = module.in_proj.up, 1e-6
    for place in ((0, 0), (40, 1), (90, 0)):
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                up[place] += sign * step
            y = module(x, mask).detach()
            ends.append(float((y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)).sum()))
            with torch.no_grad():
                up[place] -= sign * step
        assert float(grad[place]) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-4, abs=1e-8)


def test_whoever_hooks_the_projection_is_told_its_gradient() -> None:
    """A full backward hook of in_proj is called, as in any module."""
    module, (x, mask) = cast(), rows()
    told: list[Any] = []
    module.in_proj.register_full_backward_hook(lambda _module, _into, out: told.append(out[0].shape))
    gradients_of(module, x, mask)
    assert told == [torch.Size([2, 40, 96])]


@pytest.mark.parametrize("register", ["register_forward_pre_hook", "register_forward_hook"])
def test_hooks_that_change_the_projection_change_its_gradient(register: str) -> None:
    """What a hook makes of in_proj's input or result is what its weights' gradient is of."""
    module, (x, mask) = cast(), rows()
    getattr(module.in_proj, register)(lambda _module, given, *out: out[0] * 2 if out else (given[0] * 2,))
    grad = gradients_of(module, x, mask)["in_proj.weight"]
    assert grad is not None
    hooked, weight, step = [], module.in_proj.weight, 1e-6
    for sign in (1, -1):
        with torch.no_grad():
            weight[70, 3] += sign * step
            y = module(x, mask)
            hooked.append(float((y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)).sum()))
            weight[70, 3] -= sign * step
    assert float(grad[70, 3]) == pytest.approx((hooked[0] - hooked[1]) / (2 * step), rel=1e-4, abs=1e-8)


def test_under_autocast_gradients_stay_those_of_autocast() -> None:
    """In mixed precision the projection runs in bfloat16 and its weights get float32 gradients, near the exact ones."""
    module, (x, mask) = cast().float(), rows()
    x = x.detach().float().requires_grad_()
    wanted = gradients_of(module, x, mask)
    wanted = {name: None if grad is None else grad.clone() for name, grad in wanted.items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gradients_of(module, x, mask)
    grad, exact = found["in_proj.weight"], wanted["in_proj.weight"]
    assert grad is not None
    assert exact is not None
    assert grad.dtype == torch.float32
    assert float((grad - exact).norm() / exact.norm()) < 0.3


def test_inference_under_autocast_is_near_that_in_float32() -> None:
    """Only the projections are rounded to bfloat16: most tokens are where they were to a few of its steps; the others
    are in another cluster by their rounded q and k.
    """
    module, x = cast().float(), rows()[0].detach().float()
    with torch.no_grad():
        wanted = module(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = module(x)
    assert found.dtype == torch.bfloat16
    apart_BN = (found.float() - wanted).norm(dim=-1) / wanted.norm(dim=-1)
    assert float(apart_BN.median()) < 0.02
