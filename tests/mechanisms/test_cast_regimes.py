from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from castbench.mechanisms.cast import CastAttention, Clustering
from tests.mechanisms.cases import CLUSTERINGS, Case

READING = {"aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::masked_select", "aten::is_nonzero"}
"""Operations whose answer, or the shape of it, must be fetched from the device."""
UNSYNCHRONISED: tuple[Clustering, ...] = ("top_k", "balanced")


class Readings(TorchDispatchMode):
    """Notes the operations that read a value back from the device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Note the operation if it is one of them, and run it."""
        name = func.name().partition(".")[0]
        if name in READING:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def readings_of(clustering: Clustering, masked: bool, train: bool, **changes: Any) -> list[str]:
    """What a pass reads back."""
    case = Case(3, 40, 2, 4, 5, None, clustering, 3)
    module, x_BNM = case.module(torch.float32, **changes), case.inputs(torch.float32)
    mask_BN = case.mask() if masked else None
    with Readings() as seen, torch.set_grad_enabled(train):
        y_BNM = module(x_BNM, mask_BN)
        if train:
            y_BNM.sum().backward()
    return seen.found


@pytest.mark.parametrize("clustering", UNSYNCHRONISED)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("train", [False, True])
def test_a_pass_reads_nothing_back_from_the_device(clustering: Clustering, masked: bool, train: bool) -> None:
    """No host synchronisation: a GPU's queue never runs dry, and a CUDA graph can hold the pass."""
    assert readings_of(clustering, masked, train) == []


@pytest.mark.parametrize("changes", [{"assignment": "random"}, {"summaries": False}, {"gates": False}])
def test_no_ablation_reads_anything_back(changes: dict[str, Any]) -> None:
    """Ablations can be measured in every regime too."""
    assert readings_of("top_k", True, False, **changes) == []


def test_exact_single_assignment_reads_and_is_known_to() -> None:
    """The documented exception: how many tokens were turned away is read between rounds."""
    assert readings_of("single_assignment", False, False)


@pytest.mark.parametrize("clustering", UNSYNCHRONISED)
@pytest.mark.parametrize("masked", [False, True])
def test_the_compiler_takes_a_pass_in_one_piece(clustering: Clustering, masked: bool) -> None:
    """torch.compile finds no graph break, and its graph computes what the module does."""
    case = Case(3, 40, 2, 4, 5, None, clustering, 3)
    module, x_BNM = case.module(torch.float32), case.inputs(torch.float32)
    mask_BN = case.mask() if masked else None
    compiled = torch.compile(module, fullgraph=True, backend="eager", dynamic=False)
    with torch.inference_mode():
        torch.testing.assert_close(compiled(x_BNM, mask_BN), module(x_BNM, mask_BN))


@pytest.mark.parametrize("clustering", CLUSTERINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equal_inputs_give_equal_bits_on_a_cpu(clustering: Clustering, dtype: torch.dtype) -> None:
    """Outputs and gradients of two passes are the same to the last bit, with several clusters per token too."""
    case = Case(2, 600, 4, 8, 8, 120, clustering, 9)
    module, x_BNM = case.module(dtype), case.inputs(dtype)

    def bits() -> list[torch.Tensor]:
        module.zero_grad(set_to_none=True)
        with torch.inference_mode():
            served_BNM = module(x_BNM)
        y_BNM = module(x_BNM)
        y_BNM.float().square().sum().backward()
        return [served_BNM, y_BNM, *(p.grad for p in module.parameters() if p.grad is not None)]

    assert all(torch.equal(one, other) for one, other in zip(bits(), bits(), strict=True))


def test_a_named_implementation_that_cannot_run_is_an_error() -> None:
    """impl: triton on a CPU is a sentence that says why, and nothing else runs in its place."""
    module = CastAttention(8, 2, num_clusters=2, impl="triton")
    with pytest.raises(NotImplementedError, match="impl: triton cannot run here: "):
        module(torch.randn(1, 4, 8))
    assert module.ran_as is None
