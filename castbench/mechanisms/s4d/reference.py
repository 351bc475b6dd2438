"""S4D as the recurrence it stands for, token by token in float64: the oracle of module.py.

Shape suffixes: N real tokens of one row, M channels, S complex pairs of state.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from castbench.mechanisms.s4d.module import S4dLayer


def reference(module: S4dLayer, x_BNM: Tensor, key_padding_mask_BN: Tensor | None = None) -> Tensor:
    """y_BNM in float64 from the module's weights; padding is cut off at the right and its state is zero."""
    weights = {name: value.double().cpu() for name, value in module.named_parameters()}
    rows = []
    for b, x_NM in enumerate(x_BNM.double().cpu()):
        real = len(x_NM) if key_padding_mask_BN is None else int((~key_padding_mask_BN[b]).sum())
        state_NM = torch.zeros_like(x_NM)
        state_NM[:real] = filtered(weights, x_NM[:real])
        y_NX = _gelu(state_NM) @ weights["out_proj.weight"].T + weights["out_proj.bias"]
        if module.params.gated:
            value_NM, gate_NM = y_NX.chunk(2, -1)
            y_NX = value_NM / (1 + torch.exp(-gate_NM))
        rows.append(y_NX)
    return torch.stack(rows).to(x_BNM.device)


def filtered(weights: dict[str, Tensor], x_NM: Tensor) -> Tensor:
    """D·u plus what the states read out ahead, and behind where there is a second C, NM.

    Ahead: s_k = Ā·s_(k−1) + B̄·u_k, read after token k was added. Behind: the same from the last token to the first,
    read before token k is added, so that no token counts twice.
    """
    a_MS = torch.complex(-weights["log_decay"].exp(), weights["frequency"])
    a_bar_MS = torch.exp(weights["log_step"].exp().unsqueeze(-1) * a_MS)
    b_bar_MS = (a_bar_MS - 1) / a_MS
    c_RMS = torch.view_as_complex(weights["readout"].contiguous())
    y_NM = weights["skip"] * x_NM
    state_MS = torch.zeros_like(a_bar_MS)
    for k in range(len(x_NM)):
        state_MS = a_bar_MS * state_MS + b_bar_MS * x_NM[k].unsqueeze(-1)
        y_NM[k] += 2 * (c_RMS[0] * state_MS).sum(-1).real
    if len(c_RMS) == 2:
        state_MS = torch.zeros_like(a_bar_MS)
        for k in reversed(range(len(x_NM))):
            y_NM[k] += 2 * (c_RMS[1] * state_MS).sum(-1).real
            state_MS = a_bar_MS * state_MS + b_bar_MS * x_NM[k].unsqueeze(-1)
    return y_NM


def _gelu(x: Tensor) -> Tensor:
    """x·Φ(x), Φ the distribution function of the normal distribution."""
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))
