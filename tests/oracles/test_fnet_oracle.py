from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from castbench.mechanisms.fnet.module import FNetMixing

pytestmark = pytest.mark.extra


@pytest.fixture
def package() -> Any:
    """The FNet of transformers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("transformers.models.fnet.modeling_fnet")


@pytest.mark.parametrize(("tokens", "width"), [(1, 4), (33, 24), (128, 7), (512, 256)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_fnet_is_that_of_transformers(
    package: Any, tokens: int, width: int, dtype: torch.dtype, tolerance: float
) -> None:
    """FNetBasicFourierTransform agrees with ours to rounding on rows without padding; it has no mask."""
    config = package.FNetConfig(hidden_size=width, use_tpu_fourier_optimizations=False)
    x_BNM = torch.randn(2, tokens, width, dtype=dtype)
    [wanted_BNM] = package.FNetBasicFourierTransform(config)(x_BNM)
    assert float((FNetMixing(1)(x_BNM) - wanted_BNM).abs().max()) < tolerance * float(wanted_BNM.abs().max())
