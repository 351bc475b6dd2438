from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from castbench.mechanisms import registry
from castbench.mechanisms.dense_reference import reference
from castbench.mechanisms.flash_attn import FlashAttnParams
from castbench.mechanisms.flash_attn import module as ours
from castbench.mechanisms.flash_attn.module import FlashAttnAttention
from castbench.mechanisms.spec import Problem
from tests.mechanisms.cases import Case, roused

SPEC = registry.get("flash_attn")
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
CLOSE = {"rtol": 1e-9, "atol": 1e-10}


def dense_stand_in(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """flash_attn_func as documented: B×N×H×D in, and out."""
    assert query.shape == key.shape == value.shape
    assert query.ndim == 4
    assert query.stride(-1) == 1
    heads_second = (one.transpose(1, 2) for one in (query, key, value))
    return functional.scaled_dot_product_attention(*heads_second).transpose(1, 2)


def varlen_stand_in(
    q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, longest_q: int, longest_k: int
) -> Tensor:
    """flash_attn_varlen_func as documented: T×H×D, int32 cumulated lengths of the rows, the longest as a number."""
    assert q.shape == k.shape == v.shape
    assert (q.ndim, q.stride(-1)) == (3, 1)
    assert cu_q.dtype == cu_k.dtype == torch.int32
    assert torch.equal(cu_q, cu_k)
    lengths = cu_q.diff().tolist()
    assert (int(cu_q[0]), int(cu_q[-1])) == (0, len(q))
    assert min(lengths) > 0
    assert isinstance(longest_q, int)
    assert longest_q == longest_k == max(lengths)
    rows = zip(*(one.split(lengths) for one in (q, k, v)), strict=True)
    return torch.cat([dense_stand_in(*(one.unsqueeze(0) for one in row))[0] for row in rows])


@pytest.fixture(autouse=True)
def package(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A package flash_attn that computes by PyTorch what the real one owes."""
    stand_in: Any = ModuleType("flash_attn")
    stand_in.__spec__ = ModuleSpec("flash_attn", None)
    stand_in.flash_attn_func, stand_in.flash_attn_varlen_func = dense_stand_in, varlen_stand_in
    monkeypatch.setitem(sys.modules, "flash_attn", stand_in)
    made: ModuleType = stand_in
    return made


@pytest.fixture
def anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in takes what the real package refuses: CPUs and float64."""
    monkeypatch.setattr(ours, "why_not", lambda device, dtype, head_dim: None)


@pytest.mark.usefixtures("anywhere")
@pytest.mark.parametrize("seed", range(30))
def test_it_equals_its_reference(seed: int) -> None:
    """Outputs of real tokens are softmax attention's, with padding anywhere and without; at padding they are zero."""
    drawn = torch.Generator().manual_seed(seed)
    batch, tokens, heads, head_dim = (int(torch.randint(1, most, (), generator=drawn)) for most in (5, 13, 4, 5))
    case = Case(batch, tokens, heads, head_dim, 1, None, "top_k", seed)
    torch.manual_seed(seed)
    module = roused(FlashAttnAttention(case.width, case.heads)).double()
    x_BNM, mask_BN = case.inputs(), case.mask()
    for mask, read_BN in ((None, torch.ones_like(mask_BN)), (mask_BN, ~mask_BN)):
        found_BNM, wanted_BNM = module(x_BNM, mask), reference(module, x_BNM, mask)
        torch.testing.assert_close(found_BNM[read_BN], wanted_BNM[read_BN], **CLOSE)
        assert not bool(found_BNM[~read_BN].any())


@pytest.mark.usefixtures("anywhere")
def test_the_dense_form_runs_where_there_is_no_padding() -> None:
    """Without padding flash_attn_func runs, with it flash_attn_varlen_func, and `ran_as` is the function's name."""
    module, mask_BN = FlashAttnAttention(16, 2), torch.zeros(2, 6, dtype=torch.bool)
    assert module.ran_as is None
    for mask, ran_as in (
        (None, "func"),
        (mask_BN, "func"),
        (torch.arange(6) > torch.tensor([[5], [3]]), "varlen_func"),
    ):
        module(torch.randn(2, 6, 16), mask)
        assert module.ran_as == f"flash_attn_{ran_as}"


@pytest.mark.usefixtures("anywhere")
def test_rows_of_padding_alone_stay_finite() -> None:
    """Rows without tokens, alone or beside others, give zeros and finite gradients, and call nothing."""
    module, x_BNM = FlashAttnAttention(16, 2), torch.randn(2, 6, 16).requires_grad_()
    for lengths in ((6, 0), (0, 0)):
        y_BNM = module(x_BNM, torch.arange(6) >= torch.tensor(lengths).unsqueeze(1))
        y_BNM.sum().backward()
        assert not bool(y_BNM[1].any())
        assert x_BNM.grad is not None
        assert bool(torch.isfinite(x_BNM.grad).all())


@pytest.mark.usefixtures("anywhere")
def test_gradients_are_those_of_finite_differences() -> None:
    """Gradcheck passes through packing and padding again."""
    module, mask_BN = roused(FlashAttnAttention(8, 2)).double(), torch.arange(5) >= torch.tensor([[3], [5]])
    x_BNM = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x_BNM: module(x_BNM, mask_BN), (x_BNM,), fast_mode=True)


def test_what_cannot_run_here_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package, a GPU it knows, its dtypes or its heads, nothing runs in its place."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert ours.why_not(CUDA, torch.bfloat16, 64) is None
    assert ours.why_not(CPU, torch.bfloat16, 64) == "it needs a CUDA device, not cpu"
    assert ours.why_not(CUDA, torch.float32, 64) == "it takes float16 and bfloat16, not float32"
    assert ours.why_not(CUDA, torch.float16, 512) == "flash-attn takes heads of at most 256, not 512"
    with pytest.raises(NotImplementedError, match=r"^flash-attn cannot run here: it needs a CUDA device, not cpu$"):
        FlashAttnAttention(16, 2)(torch.randn(1, 4, 16))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert ours.why_not(CUDA, torch.float16, 64) == "it needs compute capability 8.0, and this GPU has 7.5"
    monkeypatch.setattr(ours, "find_spec", lambda name: None)
    assert "pip install --no-build-isolation 'castbench[flash-attn]'" in str(ours.why_not(CUDA, torch.bfloat16, 64))


def test_autocasts_dtype_is_the_one_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under autocast to bfloat16 q, k and v are that, whatever x is."""
    asked: list[torch.dtype] = []
    monkeypatch.setattr(ours, "why_not", lambda device, dtype, head_dim: asked.append(dtype))
    module = FlashAttnAttention(16, 2)
    with torch.autocast("cpu", torch.bfloat16):
        module(torch.randn(1, 4, 16))
    module(torch.randn(1, 4, 16))
    assert asked == [torch.bfloat16, torch.float32]


def test_limits_are_those_of_the_package() -> None:
    """A plan is told of dtypes and heads that the package cannot take."""
    assert SPEC.limits(FlashAttnParams(), Problem(2, 64, 512, 2, 2)) is None
    assert SPEC.limits(FlashAttnParams(), Problem(2, 64, 512, 2, 4)) == (
        "flash-attn computes in fp16 and bf16 only; use dtype: bf16"
    )
    assert "at most 256, not 512; use sdpa" in str(SPEC.limits(FlashAttnParams(), Problem(2, 64, 1024, 2, 2)))


def test_its_work_is_sdpas() -> None:
    """FLOPs, bytes, activations and weights of rows without padding are those of sdpa."""
    sdpa, problem = registry.get("sdpa"), Problem(2, 64, 32, 4, 2, training=True)
    assert SPEC.work(SPEC.params(), problem) == sdpa.work(sdpa.params(), problem)
    assert SPEC.weights(SPEC.params(), 32, 4) == sum(p.numel() for p in FlashAttnAttention(32, 4).parameters())
