from __future__ import annotations

import shutil

import pytest
import torch

from castbench.mechanisms.cast import CastAttention

pytestmark = pytest.mark.extra


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile on a CPU needs a C++ compiler (g++)")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_cast_gives_what_eager_cast_gives() -> None:
    """torch.compile traces CAST without a graph break, and the compiled module's output equals the eager one's."""
    torch.manual_seed(0)
    module = CastAttention(32, 2, num_clusters=4).eval()
    compiled = torch.compile(module, fullgraph=True)
    for length in (24, 40):
        x_BNM = torch.randn(2, length, 32)
        with torch.inference_mode():
            difference = (compiled(x_BNM) - module(x_BNM)).abs().max()
        assert float(difference) < 1e-5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cast_on_cuda_gives_what_it_gives_on_the_cpu() -> None:
    """The same weights and inputs give the same output on both devices, to float32's rounding."""
    torch.manual_seed(0)
    module = CastAttention(64, 4, num_clusters=8).eval()
    x_BNM = torch.randn(2, 256, 64)
    with torch.inference_mode():
        here = module(x_BNM)
        there = module.cuda()(x_BNM.cuda()).cpu()
    assert float((here - there).abs().max()) < 1e-4 * float(here.abs().max())
