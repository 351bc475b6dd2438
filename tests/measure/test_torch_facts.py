from __future__ import annotations

import pytest
import torch

from castbench.measure.torch_facts import cannot_run_sentence

GPU = torch.device("cuda:0")


@pytest.fixture
def blackwell(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A torch that sees a GPU of compute capability 10.0 and was built for Ampere and Hopper only."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (10, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA B200")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80", "sm_90"])
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    return monkeypatch


def test_a_build_without_code_for_the_gpu_says_what_to_install(blackwell: pytest.MonkeyPatch) -> None:
    """The sentence names what the build has, the GPU, and the build that would do."""
    sentence = cannot_run_sentence(GPU, "fp32")
    assert sentence is not None
    for part in ("built for sm_80, sm_90", "cannot run on NVIDIA B200", "lists sm_100 (for CUDA 12.8 or later)"):
        assert part in sentence


def test_a_build_with_code_for_the_gpu_is_asked_for_the_dtype(blackwell: pytest.MonkeyPatch) -> None:
    """With the architecture in the list fp32 runs, and bf16 is refused where the GPU has no units for it."""
    blackwell.setattr(torch.cuda, "get_arch_list", lambda: ["sm_80", "sm_100"])
    assert cannot_run_sentence(GPU, "fp32") is None
    assert "NVIDIA B200 has no bf16 units" in (cannot_run_sentence(GPU, "bf16") or "")
    blackwell.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert cannot_run_sentence(GPU, "bf16") is None
