from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from castbench.mechanisms.dense_reference import reference
from castbench.mechanisms.naive.module import NaiveAttention
from castbench.mechanisms.sdpa.module import SdpaAttention
from tests.mechanisms.cases import CLUSTERINGS, Case, cases, dense, roused

CLOSE = {"rtol": 1e-9, "atol": 1e-10}
DENSE = [(NaiveAttention, reference), (SdpaAttention, reference)]


@pytest.mark.parametrize(("attention", "reference"), DENSE)
@given(case=cases())
@settings(max_examples=30)
def test_dense_attention_is_pytorchs_own_and_its_reference(attention: Any, reference: Any, case: Case) -> None:
    """naive, sdpa, their references and nn.MultiheadAttention with the same weights agree, padding included."""
    torch.manual_seed(case.seed)
    module = roused(attention(case.width, case.heads)).double()
    x_BNM, mask_BN = case.inputs(), case.mask()
    mask_BN[mask_BN.all(1)] = False
    for mask in (None, mask_BN):
        read_BN = torch.ones_like(mask_BN) if mask is None else ~mask
        wanted_BNM = dense(module, case.heads, x_BNM, mask)[read_BN]
        torch.testing.assert_close(module(x_BNM, mask)[read_BN], wanted_BNM, **CLOSE)
        torch.testing.assert_close(reference(module, x_BNM, mask)[read_BN], wanted_BNM, **CLOSE)


def test_naive_and_sdpa_share_their_weights() -> None:
    """The state dict of one loads into the other and gives the same outputs: only the kernel differs."""
    naive, sdpa = roused(NaiveAttention(8, 2)), SdpaAttention(8, 2)
    sdpa.load_state_dict(naive.state_dict())
    x_BNM = torch.randn(2, 5, 8)
    torch.testing.assert_close(sdpa(x_BNM), naive(x_BNM))


@pytest.mark.parametrize(("attention", "reference"), DENSE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_of_padding_alone_stays_finite(attention: Any, reference: Any, dtype: torch.dtype) -> None:
    """All-padding rows give finite outputs and gradients, and disturb no other row."""
    module = roused(attention(8, 2)).to(dtype)
    x_BNM = torch.randn(2, 5, 8).to(dtype).requires_grad_()
    mask_BN = torch.tensor([[False] * 5, [True] * 5])
    y_BNM = module(x_BNM, mask_BN)
    y_BNM.float().sum().backward()
    assert bool(torch.isfinite(y_BNM).all())
    assert x_BNM.grad is not None
    assert bool(torch.isfinite(x_BNM.grad).all())
    wanted_NM = reference(module, x_BNM, mask_BN)[0]
    assert float((y_BNM[0].double() - wanted_NM).detach().abs().max()) < 0.05 * float(wanted_NM.detach().abs().max())


@pytest.mark.parametrize("backend", [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION])
@pytest.mark.parametrize("masked", [False, True])
def test_sdpa_names_the_kernel_that_really_ran(backend: SDPBackend, masked: bool) -> None:
    """Where PyTorch is allowed one kernel only, `ran_as` is that one's name."""
    module, mask_BN = SdpaAttention(64, 2), torch.zeros(2, 32, dtype=torch.bool) if masked else None
    assert module.ran_as is None
    with sdpa_kernel(backend), torch.inference_mode():
        module(torch.randn(2, 32, 64), mask_BN)
    assert module.ran_as == backend.name.lower()


def test_sdpa_asks_for_its_kernel_once_per_kind_of_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """The question costs nothing in timed steps: it is asked anew only for another shape or mask."""
    asked: list[tuple[Any, ...]] = []
    choose = torch._fused_sdp_choice
    monkeypatch.setattr(torch, "_fused_sdp_choice", lambda *tensors: asked.append(tensors) or choose(*tensors))
    module, mask_BN = SdpaAttention(8, 2), torch.zeros(1, 4, dtype=torch.bool)
    with torch.inference_mode():
        for length, mask in ((4, None), (4, None), (6, None), (4, mask_BN), (4, mask_BN)):
            module(torch.randn(1, length, 8), mask)
    assert len(asked) == 3


@pytest.mark.parametrize(
    "attention", [SdpaAttention(8, 2), *(Case(2, 9, 2, 4, 4, None, kind, 1).module() for kind in CLUSTERINGS)]
)
def test_no_fused_kernel_is_asked_for_a_softmax_over_nothing(attention: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row of a mask handed to PyTorch's kernels reads something: what they do otherwise differs."""
    masks: list[Any] = []
    attend = functional.scaled_dot_product_attention

    def watched(*tensors: Any, attn_mask: Any) -> Any:
        masks.append(attn_mask)
        return attend(*tensors, attn_mask=attn_mask)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", watched)
    mask_BN = torch.arange(9) >= torch.tensor([[3], [0]])
    attention.double()(torch.randn(2, 9, 8, dtype=torch.float64), mask_BN)
    assert masks
    assert all(bool(mask.any(-1).all()) and not bool(mask.all()) for mask in masks)


@given(st.integers(1, 9), st.integers(0, 2**31))
@settings(max_examples=20)
def test_the_content_of_padding_matters_to_no_real_token(length: int, seed: int) -> None:
    """Other content at padding changes nothing that dense attention gives real tokens."""
    torch.manual_seed(seed)
    module, x_BNM = roused(SdpaAttention(8, 2)).double(), torch.randn(1, 9, 8, dtype=torch.float64)
    mask_BN = torch.arange(9).unsqueeze(0) >= length
    changed_BNM = torch.where(mask_BN.unsqueeze(-1), 100 * torch.randn_like(x_BNM), x_BNM)
    torch.testing.assert_close(module(changed_BNM, mask_BN)[~mask_BN], module(x_BNM, mask_BN)[~mask_BN], **CLOSE)


@pytest.mark.gpu
@pytest.mark.parametrize("masked", [False, True])
def test_sdpa_names_its_kernel_on_cuda(masked: bool) -> None:
    """On a CUDA device `ran_as` is one of PyTorch's fused kernels for half precision."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    module = SdpaAttention(256, 4).to("cuda", torch.bfloat16)
    mask_BN = torch.zeros(2, 512, dtype=torch.bool, device="cuda") if masked else None
    with torch.inference_mode():
        module(torch.randn(2, 512, 256, device="cuda", dtype=torch.bfloat16), mask_BN)
    assert module.ran_as in {"flash_attention", "efficient_attention", "cudnn_attention"}
