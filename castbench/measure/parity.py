"""Correctness before timing: an arm's module against its own reference on small shapes, on this device and dtype."""

from __future__ import annotations

import torch
from torch import nn

from castbench.measure.rig import CaseFailed
from castbench.mechanisms import params as mechanism_params
from castbench.mechanisms import registry
from castbench.mechanisms.spec import MechanismSpec, Problem
from castbench.plan import Arm, ServedModel
from castbench.records import Status

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Largest allowed difference relative to the reference's largest value: some tens of roundings of each dtype."""

_LENGTHS = (40, 24, 12, 5, 1)
_MAX_HEADS = 4
_MASKED_TOKENS = 7


def parity_error(served: ServedModel, arm: Arm, device: torch.device, dtype: torch.dtype) -> float:
    """Largest relative error over a full and a padded small batch; CaseFailed with PARITY above the tolerance."""
    spec = registry.get(arm.mechanism)
    params = mechanism_params.make(spec, dict(arm.params))
    heads = min(served.model.num_heads, _MAX_HEADS)
    width = heads * served.model.head_dim
    length = _length_that_runs(spec, params, width, heads)
    torch.manual_seed(served.seed)
    module = registry.load(spec.build)(params, embed_dim=width, num_heads=heads).to(device, dtype).eval()
    x_BNM = torch.randn(2, length, width).to(device, dtype)
    mask_BN = torch.zeros(2, length, dtype=torch.bool, device=device)
    mask_BN[1, length - min(_MASKED_TOKENS, length - 1) :] = length > 1
    worst = max(_error(spec, module, x_BNM, None), _error(spec, module, x_BNM, mask_BN))
    if not worst <= TOLERANCE[dtype]:
        raise CaseFailed(
            Status.PARITY,
            f"differs from its reference by {worst:.2g} of the largest value; allowed {TOLERANCE[dtype]:.2g}",
        )
    return worst


def _error(spec: MechanismSpec, module: nn.Module, x_BNM: torch.Tensor, mask_BN: torch.Tensor | None) -> float:
    """Largest difference on real tokens over the reference's largest value; infinite where it is not finite."""
    with torch.inference_mode():
        found_BNM = module(x_BNM, mask_BN).double()
        try:
            wanted_BNM = registry.load(spec.reference)(module, x_BNM, mask_BN).to(found_BNM.device)
        except ValueError as error:
            raise CaseFailed(Status.PARITY, str(error)) from None
    if not bool(torch.isfinite(found_BNM).all()):
        return float("inf")
    if mask_BN is not None:
        found_BNM, wanted_BNM = found_BNM[~mask_BN], wanted_BNM[~mask_BN]
    largest = float(wanted_BNM.abs().max())
    return float((found_BNM - wanted_BNM).abs().max()) / (largest or 1.0)


def _length_that_runs(spec: MechanismSpec, params: object, width: int, heads: int) -> int:
    """The length that the mechanism asks for, else the largest small one, as its own limits allow."""
    for length in (*([spec.parity_tokens] if spec.parity_tokens else []), *_LENGTHS):
        if spec.limits(params, Problem(2, length, width, heads, 8)) is None:
            return length
    raise CaseFailed(Status.PARITY, "no small shape can be checked with these parameters")
