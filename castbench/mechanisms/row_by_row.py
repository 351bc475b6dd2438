"""What oracles share that go row by row in float64: padding taken away, projections from the module's own weights.

    row of x ─ real tokens ─▶ Row ─ mix ─▶ mixed, 0 at padding ─ out_proj ─▶ row of y

Shape suffixes: N tokens of one row (of a Row: its real ones), H heads, D head width, M = H·D.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Row:
    """The real tokens of one row of a batch: its number, their places in it, their inputs; and the module's weights."""

    number: int
    real: list[int]
    x_NM: Tensor
    weights: dict[str, Tensor]

    def parts(self, num_heads: int, inputs: int = 3) -> tuple[Tensor, ...]:
        """What in_proj makes of the tokens, NHD each: q, k and v."""
        projected_NX = self.x_NM @ self.weights["in_proj.weight"].T + self.weights["in_proj.bias"]
        return projected_NX.view(len(self.real), inputs, num_heads, -1).unbind(1)


def row_by_row(module: Any, x_BNM: Tensor, mask_BN: Tensor | None, mix: Callable[[Row], Tensor]) -> Tensor:
    """y_BNM in float64: out_proj of what `mix` gives the real tokens of each row, NM; padding mixes to zero."""
    weights = {name: value.double().cpu() for name, value in module.named_parameters()}
    rows = []
    for number, x_NM in enumerate(x_BNM.double().cpu()):
        real = [n for n in range(len(x_NM)) if mask_BN is None or not mask_BN[number, n]]
        mixed_NM = torch.zeros_like(x_NM)
        if real:
            mixed_NM[real] = mix(Row(number, real, x_NM[real], weights))
        rows.append(mixed_NM @ weights["out_proj.weight"].T + weights["out_proj.bias"])
    return torch.stack(rows).to(x_BNM.device)
