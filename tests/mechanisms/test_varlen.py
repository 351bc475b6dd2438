from __future__ import annotations

import shutil
import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from castbench.mechanisms import registry
from castbench.mechanisms.dense_reference import reference
from castbench.mechanisms.sdpa.module import SdpaAttention
from castbench.mechanisms.spec import Problem
from castbench.mechanisms.varlen import Impl, VarlenParams
from castbench.mechanisms.varlen import module as varlen
from castbench.mechanisms.varlen.module import VarlenAttention
from tests.mechanisms.cases import Case, cases, roused

SPEC = registry.get("varlen")
LENGTHS = (3, 9, 3, 0, 5)
MASK_BN = torch.arange(9) >= torch.tensor(LENGTHS).unsqueeze(1)
CLOSE = {"rtol": 1e-9, "atol": 1e-10}


@pytest.mark.parametrize("impl", ["rows", "nested"])
@given(case=cases())
@settings(max_examples=30)
def test_unpadding_changes_no_real_tokens_output(impl: Impl, case: Case) -> None:
    """With sdpa's weights it gives what sdpa gives on the padded batch, wherever the padding stands."""
    torch.manual_seed(case.seed)
    padded = roused(SdpaAttention(case.width, case.heads)).double()
    unpadded = VarlenAttention(case.width, case.heads, impl=impl).double()
    unpadded.load_state_dict(padded.state_dict())
    x_BNM, mask_BN = case.inputs(), case.mask()
    for mask, read_BN in ((None, torch.ones_like(mask_BN)), (mask_BN, ~mask_BN)):
        torch.testing.assert_close(unpadded(x_BNM, mask)[read_BN], padded(x_BNM, mask)[read_BN], **CLOSE)


def test_no_work_is_done_on_padding() -> None:
    """Projections and attention of a padded batch cost the FLOPs of its real tokens: 8·T·M² + 4·M·Σn²."""
    module, x_BNM = VarlenAttention(16, 2), torch.randn(5, 9, 16)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.inference_mode():
        module(x_BNM, MASK_BN)
    assert counter.get_total_flops() == 8 * sum(LENGTHS) * 16**2 + 4 * 16 * sum(n * n for n in LENGTHS)


def test_rows_of_one_length_are_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's kernel is called once per length, on all its rows, with no mask; rows without tokens call nothing."""
    seen: list[torch.Size] = []
    attend = functional.scaled_dot_product_attention

    def watched(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        seen.append(query.shape)
        return attend(query, key, value)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", watched)
    VarlenAttention(16, 2)(torch.randn(5, 9, 16), MASK_BN)
    assert seen == [(2, 2, 3, 8), (1, 2, 5, 8), (1, 2, 9, 8)]


@pytest.mark.parametrize("impl", ["rows", "nested"])
def test_padding_gets_zeros_and_no_gradient(impl: Impl) -> None:
    """Outputs at padding are exactly zero, and so are the gradients of what stands there."""
    module, x_BNM = roused(VarlenAttention(16, 2, impl=impl)), torch.randn(5, 9, 16).requires_grad_()
    y_BNM = module(x_BNM, MASK_BN)
    y_BNM.square().sum().backward()
    assert x_BNM.grad is not None
    for found_BNM in (y_BNM, x_BNM.grad):
        assert torch.equal(found_BNM.abs().sum(-1) == 0, MASK_BN)


def test_auto_is_rows_on_a_cpu() -> None:
    """On a CPU `auto` runs row by row, and says so; a named implementation says its own name."""
    for impl, ran_as in (("auto", "rows"), ("rows", "rows"), ("nested", "nested")):
        module = VarlenAttention(16, 2, impl=impl)
        assert module.ran_as is None
        with torch.inference_mode():
            module(torch.randn(5, 9, 16), MASK_BN)
        assert module.ran_as == ran_as


def attended(query: Tensor, key: Tensor, value: Tensor, start_q: Tensor, start_k: Tensor, *longest: int) -> Tensor:
    """What varlen_attn owes, row by row, once its arguments are as documented."""
    assert query.shape == key.shape == value.shape
    assert query.ndim == 3
    assert start_q.dtype == start_k.dtype == torch.int32
    assert torch.equal(start_q, start_k)
    lengths = start_q.diff().tolist()
    assert longest == (max(lengths), max(lengths))
    assert start_q[-1] == len(query)
    rows = zip(*(one.split(lengths) for one in (query, key, value)), strict=True)
    return torch.cat(
        [functional.scaled_dot_product_attention(*(one.transpose(0, 1) for one in row)).transpose(0, 1) for row in rows]
    )


def test_varlen_attn_gets_what_its_documentation_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's kernel for rows of any length gets T×H×D, int32 starts, the longest row; and its result is used."""
    stand_in: Any = ModuleType("torch.nn.attention.varlen")
    stand_in.varlen_attn = attended
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", stand_in)
    monkeypatch.setattr(varlen, "why_not", lambda impl, qkv_T3HD: None)
    module, x_BNM = roused(VarlenAttention(16, 2, impl="varlen_attn")).double(), torch.randn(5, 9, 16).double()
    for mask_BN, read_BN in ((None, torch.ones_like(MASK_BN)), (MASK_BN, ~MASK_BN)):
        wanted_BNM = reference(module, x_BNM, mask_BN)
        torch.testing.assert_close(module(x_BNM, mask_BN)[read_BN], wanted_BNM[read_BN], **CLOSE)
    assert module.ran_as == "varlen_attn"
    assert not bool(module(x_BNM, torch.ones_like(MASK_BN)).any())


def test_what_cannot_run_here_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A named implementation that the machine or the version of torch lacks is never replaced silently."""
    module = VarlenAttention(16, 2, impl="varlen_attn")
    with pytest.raises(
        NotImplementedError, match=r"^impl: varlen_attn cannot run here: varlen_attn needs a CUDA device"
    ):
        module(torch.randn(1, 4, 16))
    monkeypatch.setattr(varlen, "find_spec", lambda name: None)
    with pytest.raises(NotImplementedError, match=r"has no varlen_attn; it came with 2\.10$"):
        module(torch.randn(1, 4, 16))


def test_limits_are_those_of_the_kernel_named() -> None:
    """A plan is told of dtypes and heads that varlen_attn cannot take; the other implementations take all."""
    named, problem = VarlenParams("varlen_attn"), Problem(2, 64, 512, 2, 2)
    assert SPEC.limits(named, problem) is None
    assert "fp16 and bf16 only" in str(SPEC.limits(named, Problem(2, 64, 512, 2, 4)))
    assert "heads of at most 256, in multiples of 8, not 512" in str(SPEC.limits(named, Problem(2, 64, 1024, 2, 2)))
    assert "not 20" in str(SPEC.limits(named, Problem(2, 64, 40, 2, 2)))
    assert SPEC.limits(VarlenParams(), Problem(2, 64, 1024, 1, 4)) is None


def test_an_unknown_implementation_is_refused() -> None:
    """The sentence names what there is."""
    with pytest.raises(ValueError, match="impl: expected 'auto' or 'rows' or 'nested' or 'varlen_attn', got 'fast'"):
        VarlenParams("fast")  # type: ignore[arg-type]


@pytest.mark.parametrize("impl", ["rows", "nested"])
def test_a_batch_of_padding_alone_is_zero(impl: Impl) -> None:
    """Where no token is real nothing is computed, and gradients are zero, not missing."""
    module, x_BNM = VarlenAttention(16, 2, impl=impl), torch.randn(2, 5, 16).requires_grad_()
    y_BNM = module(x_BNM, torch.ones(2, 5, dtype=torch.bool))
    y_BNM.sum().backward()
    assert not bool(y_BNM.any())
    assert x_BNM.grad is not None
    assert not bool(x_BNM.grad.any())


@pytest.mark.extra
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile on a CPU needs a C++ compiler (g++)")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch._prims_common.check` is deprecated:FutureWarning")
def test_torch_compile_leaves_unequal_rows_alone() -> None:
    """A compiled module is not compiled anew for other lengths, which would happen in timed steps; without padding it
    is one graph.
    """
    module, x_BNM = VarlenAttention(32, 2).eval(), torch.randn(2, 24, 32)
    compiled = torch.compile(module, dynamic=False)
    with torch.inference_mode(), torch._dynamo.config.patch(error_on_recompile=True):
        for lengths in ((24, 9), (3, 20), (24, 24), (0, 7)):
            mask_BN = torch.arange(24) >= torch.tensor(lengths).unsqueeze(1)
            torch.testing.assert_close(compiled(x_BNM, mask_BN), module(x_BNM, mask_BN))
    with torch.inference_mode():
        found_BNM = torch.compile(module, fullgraph=True)(x_BNM)
        torch.testing.assert_close(found_BNM, module(x_BNM), rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("impl", ["auto", "rows", "nested", "varlen_attn"])
def test_every_implementation_runs_on_cuda(impl: Impl, dtype: torch.dtype) -> None:
    """On a CUDA device each gives what the reference gives, and `auto` is the kernel for rows of any length."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    if impl == "varlen_attn" and dtype == torch.float32:
        pytest.skip("varlen_attn takes 16-bit numbers only")
    module = roused(VarlenAttention(64, 2, impl=impl)).to("cuda", dtype)
    x_BNM, mask_BN = torch.randn(5, 9, 64, device="cuda", dtype=dtype), MASK_BN.cuda()
    y_BNM, wanted_BNM = module(x_BNM, mask_BN), reference(module, x_BNM, mask_BN)
    y_BNM.float().sum().backward()
    error = (y_BNM.double() - wanted_BNM)[~mask_BN].abs().max() / wanted_BNM.abs().max()
    assert float(error) < (5e-2 if dtype == torch.bfloat16 else 1e-4)
    assert impl != "auto" or module.ran_as == ("varlen_attn" if dtype == torch.bfloat16 else "nested")
