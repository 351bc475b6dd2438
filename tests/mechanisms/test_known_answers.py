from __future__ import annotations

from time import perf_counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from castbench.mechanisms import registry
from castbench.mechanisms.busy.module import Busy
from castbench.mechanisms.mixing_ceiling.module import MixingCeiling
from castbench.mechanisms.module_ceiling.module import ModuleCeiling
from castbench.mechanisms.plus import PlusParams
from castbench.mechanisms.plus import module as plus_module
from castbench.mechanisms.plus.module import Plus


def built(name: str, **parameters: Any) -> nn.Module:
    """A mechanism's module, 8 wide with 2 heads."""
    spec = registry.get(name)
    module: nn.Module = registry.load(spec.build)(spec.params(**parameters), embed_dim=8, num_heads=2)
    return module


def test_busy_never_returns_early() -> None:
    """busy(ms=5) holds the CPU for at least 5 ms and gives back its input."""
    module, x_BNM = built("busy", ms=5), torch.randn(1, 3, 8)
    began = perf_counter()
    y_BNM = module(x_BNM)
    assert perf_counter() - began >= 5e-3
    assert y_BNM is x_BNM
    assert isinstance(module, Busy)
    assert module.ran_as == "spin"


def test_plus_holds_its_share_of_the_time_it_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    """plus(percent=20) around a pass that takes 0.5 s by the clock waits 0.1 s after it."""
    stamps = iter([10.0, 10.5])
    monkeypatch.setattr(plus_module, "perf_counter", lambda: next(stamps))
    module = built("plus", of="sdpa", percent=20)
    held: list[float] = []
    monkeypatch.setattr(module, "_hold", lambda _device, seconds: held.append(seconds))
    module(torch.randn(1, 3, 8))
    assert held == [pytest.approx(0.1)]


def test_plus_takes_longer_than_its_inner_mechanism_by_the_stated_share() -> None:
    """plus(of=busy 2 ms, percent=50) never takes less than 3 ms: what the inner pass takes, and half of it again."""
    module = Plus(Busy(2e-3), 0.5, "castbench.mechanisms.busy.reference:reference")
    began = perf_counter()
    module(torch.randn(1, 3, 8))
    assert perf_counter() - began >= 3e-3


def test_plus_computes_what_its_inner_mechanism_computes() -> None:
    """Outputs, kernel and reference of plus are the inner mechanism's."""
    module, x_BNM = built("plus", of="naive"), torch.randn(2, 4, 8)
    assert isinstance(module, Plus)
    assert torch.equal(module(x_BNM), module.inner(x_BNM))
    assert module.ran_as == "math"
    reference_BNM: Tensor = registry.load(registry.get("plus").reference)(module, x_BNM, None)
    torch.testing.assert_close(module(x_BNM).double(), reference_BNM, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"of": "plus"}, "plus cannot wrap itself"),
        ({"of": "spda"}, "no mechanism is named 'spda'.*Did you mean 'sdpa'"),
        ({"percent": 0.0}, "percent: expected a number above zero, got 0.0"),
        ({"percent": float("inf")}, "percent: expected a number above zero, got inf"),
    ],
)
def test_plus_refuses_what_it_cannot_wrap(arguments: dict[str, Any], sentence: str) -> None:
    """Itself, unknown mechanisms and shares that are none are refused with a sentence."""
    with pytest.raises(ValueError, match=sentence):
        PlusParams(**arguments)


@pytest.mark.parametrize("ms", [0.0, -1.0, float("nan"), float("inf")])
def test_busy_refuses_times_that_are_none(ms: float) -> None:
    """Zero, negative and endless times are refused."""
    with pytest.raises(ValueError, match="ms: expected a number of milliseconds above zero"):
        registry.get("busy").params(ms=ms)


def test_ceilings_mix_no_tokens() -> None:
    """The module ceiling is the identity; in the mixing ceiling a token's output depends on that token alone."""
    x_BNM = torch.randn(1, 3, 8)
    changed_BNM = x_BNM.clone()
    changed_BNM[0, 1:] += 1
    mixing, identity = built("mixing_ceiling"), built("module_ceiling")
    assert isinstance(mixing, MixingCeiling)
    assert isinstance(identity, ModuleCeiling)
    assert identity(x_BNM) is x_BNM
    assert torch.equal(mixing(x_BNM)[0, 0], mixing(changed_BNM)[0, 0])
    assert not torch.equal(mixing(x_BNM)[0, 1], mixing(changed_BNM)[0, 1])


@pytest.mark.gpu
def test_busy_holds_a_cuda_device() -> None:
    """busy(ms=20) keeps a CUDA stream busy for 20 ms by events, to within a tenth."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    module, x_BNM = Busy(20e-3), torch.randn(1, 3, 8, device="cuda")
    module(x_BNM)
    began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    began.record()
    module(x_BNM)
    ended.record()
    ended.synchronize()
    assert began.elapsed_time(ended) == pytest.approx(20, rel=0.1)
