from __future__ import annotations

import shutil
import warnings
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend

from castbench.mechanisms import registry
from castbench.mechanisms.sdpa import Backend, SdpaParams
from castbench.mechanisms.sdpa import module as sdpa
from castbench.mechanisms.sdpa.module import KERNELS, SdpaAttention
from castbench.mechanisms.spec import Problem

SPEC = registry.get("sdpa")
PROBLEM = Problem(2, 64, 32, 4, 4)


@pytest.mark.parametrize("backend", ["flash", "math"])
@pytest.mark.parametrize("masked", [False, True])
def test_the_kernel_named_is_the_one_that_runs(backend: Backend, masked: bool) -> None:
    """With `backend` given, PyTorch runs that kernel, and `ran_as` is its name."""
    module, mask_BN = SdpaAttention(64, 2, backend=backend), torch.zeros(2, 32, dtype=torch.bool) if masked else None
    with torch.profiler.profile() as profile, torch.inference_mode():
        module(torch.randn(2, 32, 64), mask_BN)
    ran = {event.name for event in profile.events()}
    assert module.ran_as == KERNELS[backend].name.lower()
    assert ("aten::_scaled_dot_product_flash_attention_for_cpu" in ran) == (backend == "flash")
    assert ("aten::_scaled_dot_product_attention_math" in ran) == (backend == "math")


@pytest.mark.parametrize("backend", ["efficient", "cudnn"])
def test_a_kernel_this_device_lacks_is_refused_in_a_sentence(backend: Backend) -> None:
    """CPUs have no memory-efficient and no cuDNN attention: nothing else runs in their place."""
    with pytest.raises(
        NotImplementedError, match=f"^backend: {backend} cannot run here: PyTorch has this kernel for GPUs"
    ):
        SdpaAttention(64, 2, backend=backend)(torch.randn(2, 32, 64))


def test_pytorchs_own_reasons_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """What PyTorch warns of is the reason given; its headings, kernels switched off and source lines are left out."""

    def refused(*tensors: Any) -> int:
        for text in (
            "Memory efficient kernel not used because: (Triggered internally at sdp_utils.cpp:1.)",
            "Memory efficient attention has been runtime disabled. (Triggered internally at sdp_utils.cpp:2.)",
            "Flash attention kernel not used because: (Triggered internally at sdp_utils.cpp:3.)",
            "Flash Attention does not support non-null attn_mask. (Triggered internally at sdp_utils.cpp:4.)",
        ):
            warnings.warn(text, UserWarning, stacklevel=1)
        raise RuntimeError("No available kernel. Aborting execution.")

    monkeypatch.setattr(torch, "_fused_sdp_choice", refused)
    with pytest.raises(NotImplementedError) as raised:
        SdpaAttention(64, 2, backend="flash")(torch.randn(2, 32, 64))
    assert str(raised.value) == (
        "backend: flash cannot run here: Flash Attention does not support non-null attn_mask; "
        "No available kernel. Aborting execution"
    )


def test_leaving_the_choice_to_pytorch_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a `backend` PyTorch's switches are never touched, so that a step is no slower than a bare call."""

    def never(backends: Any) -> None:
        raise AssertionError("sdpa_kernel was entered")

    monkeypatch.setattr(sdpa, "sdpa_kernel", never)
    SdpaAttention(8, 2)(torch.randn(1, 4, 8))
    with pytest.raises(AssertionError, match="sdpa_kernel was entered"):
        SdpaAttention(8, 2, backend="math")(torch.randn(1, 4, 8))


def test_switches_are_left_as_they_were() -> None:
    """A named backend is over with its call, also where it cannot run: other mechanisms choose freely again."""
    before = torch.nn.attention._cur_sdpa_kernel_backends()
    SdpaAttention(8, 2, backend="math")(torch.randn(1, 4, 8))
    with pytest.raises(NotImplementedError):
        SdpaAttention(8, 2, backend="cudnn")(torch.randn(1, 4, 8))
    assert torch.nn.attention._cur_sdpa_kernel_backends() == before


def test_only_math_keeps_its_scores() -> None:
    """`backend: math` has the scores in memory, counted as in naive; the FLOPs are the same for all."""
    fused, math = SPEC.work(SdpaParams(), PROBLEM), SPEC.work(SdpaParams("math"), PROBLEM)
    assert fused.flops == math.flops == registry.get("naive").work(None, PROBLEM).flops
    score_bytes = 2 * 4 * 64 * 64 * 4
    assert math.activation_bytes - fused.activation_bytes == 2 * score_bytes


def test_backends_are_those_pytorch_knows() -> None:
    """Every backend but `auto` is a kernel of PyTorch's, and an unknown one is refused by a sentence naming them."""
    assert set(KERNELS.values()) == {
        SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.MATH,
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"backend: expected 'auto' or 'flash' or .* got 'fast'"):
        SdpaParams("fast")  # type: ignore[arg-type]


@pytest.mark.extra
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile on a CPU needs a C++ compiler (g++)")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch._prims_common.check` is deprecated:FutureWarning")
@pytest.mark.parametrize("backend", ["auto", "math"])
def test_it_compiles_without_a_graph_break(backend: Backend) -> None:
    """torch.compile traces the module as one graph, names the kernel, and gives what the eager module gives."""
    module = SdpaAttention(32, 2, backend=backend).eval()
    x_BNM, mask_BN = torch.randn(2, 24, 32), torch.arange(24) >= torch.tensor([[24], [9]])
    compiled = torch.compile(module, fullgraph=True)
    for mask in (None, mask_BN):
        with torch.inference_mode():
            found_BNM = compiled(x_BNM, mask)
            ran_as, module.ran_as = module.ran_as, None
            torch.testing.assert_close(found_BNM, module(x_BNM, mask), rtol=1e-4, atol=1e-5)
        assert ran_as == module.ran_as == ("math" if backend == "math" else "flash_attention")


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["flash", "efficient", "cudnn", "math"])
def test_every_backend_runs_on_cuda_or_says_why_not(backend: Backend) -> None:
    """On a CUDA device each kernel runs in half precision without a mask; flash refuses a mask by PyTorch's reason."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    module = SdpaAttention(256, 4, backend=backend).to("cuda", torch.bfloat16)
    x_BNM = torch.randn(2, 512, 256, device="cuda", dtype=torch.bfloat16)
    module(x_BNM)
    assert module.ran_as == KERNELS[backend].name.lower()
    if backend == "flash":
        with pytest.raises(NotImplementedError, match=r"backend: flash cannot run here: .*attn_mask"):
            module(x_BNM, torch.zeros(2, 512, dtype=torch.bool, device="cuda"))
