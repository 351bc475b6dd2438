"""Gradients of CAST by hand, where autograd by itself takes more memory: fresh memory is paid for in page faults.

    Projected, QueriesAndRows   in_proj and the gather: gradients of q, k and v are never put side by side
    SharesAndOwn                A_sum and what of it belongs to every place: one buffer for the gradient of both
    Weighed                     weight·(R_intra − R_inter): the difference is made anew instead of being kept

Shape suffixes as in mixing.py. None of them can be differentiated twice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Rows = tuple[Tensor, Tensor, Tensor, Tensor]
"""Queries of all tokens, TM, and q, k and v of every place, PM each."""


def can_be_projected(x_BNM: Tensor, in_proj: nn.Module) -> bool:
    """Whether `Projected` may stand for in_proj: eager on a CPU, in a type whose products can be added up part by part
    without loss, and of a plain Linear, of whose own gradient nobody else is told.
    """
    hooks = (
        in_proj._forward_pre_hooks, in_proj._forward_hooks, in_proj._backward_pre_hooks, in_proj._backward_hooks
    )  # fmt: skip
    is_plain = type(in_proj) is nn.Linear and not any(hooks)
    is_exact = x_BNM.device.type == "cpu" and x_BNM.dtype in (torch.float32, torch.float64)
    return is_plain and is_exact and not (torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"))


class Projected(torch.autograd.Function):
    """q of all tokens, TM, and q, k and v of every place, PM each, as functions of what in_proj reads; `qkv_TX` is what
    it made of it, without a gradient of its own.
    """

    @staticmethod
    def forward(ctx: Any, x_TM: Tensor, weight_XM: Tensor, _bias_X: Tensor, qkv_TX: Tensor, token_P: Tensor) -> Rows:
        """A copy of q, and a gather."""
        ctx.save_for_backward(x_TM, weight_XM, token_P)
        return queries_and_rows(qkv_TX, token_P)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_query_TM: Tensor, *d_rows_PM: Tensor) -> tuple[Tensor | None, ...]:
        """Part by part, so that a part's gradient is let go before the next one needs memory."""
        x_TM, weight_XM, token_P = ctx.saved_tensors
        d_x_TM = torch.empty_like(x_TM) if ctx.needs_input_grad[0] else None
        d_weight_XM = torch.empty_like(weight_XM) if ctx.needs_input_grad[1] else None
        d_bias_3M = []
        for part, weight_MM in enumerate(weight_XM.chunk(3)):
            own_TM = torch.zeros_like(x_TM) if part else d_query_TM.clone(memory_format=torch.contiguous_format)
            own_TM.index_add_(0, token_P, d_rows_PM[part])
            d_bias_3M.append(own_TM.sum(0))
            if d_weight_XM is not None:
                torch.mm(own_TM.T, x_TM, out=d_weight_XM.chunk(3)[part])
            if d_x_TM is not None:
                d_x_TM.addmm_(own_TM, weight_MM, beta=1 if part else 0)
        return d_x_TM, d_weight_XM, torch.cat(d_bias_3M), None, None


class QueriesAndRows(torch.autograd.Function):
    """q of all tokens, TM, and q, k and v of every place, PM each, as functions of in_proj's result."""

    @staticmethod
    def forward(ctx: Any, qkv_TX: Tensor, token_P: Tensor) -> Rows:
        """A copy of q, and a gather."""
        ctx.save_for_backward(token_P)
        return queries_and_rows(qkv_TX, token_P)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_query_TM: Tensor, *d_rows_PM: Tensor) -> tuple[Tensor, None]:
        """All added into one buffer, in which q, k and v of a token are three rows."""
        [token_P] = ctx.saved_tensors
        tokens, width = d_query_TM.shape
        d_qkv_T3M = d_query_TM.new_zeros(tokens, 3, width)
        d_qkv_T3M[:, 0] = d_query_TM
        for part, own_PM in enumerate(d_rows_PM):
            d_qkv_T3M.flatten(0, 1).index_add_(0, 3 * token_P + part, own_PM)
        return d_qkv_T3M.flatten(1), None


def queries_and_rows(qkv_TX: Tensor, token_P: Tensor) -> Rows:
    """The rows; those of places share one gather."""
    width = qkv_TX.shape[1] // 3
    q_PM, k_PM, v_PM = qkv_TX.index_select(0, token_P).chunk(3, 1)
    return qkv_TX[:, :width].contiguous(), q_PM, k_PM, v_PM


class SharesAndOwn(torch.autograd.Function):
    """A_sum of every token and cluster in a row, and what of it belongs to every place, HP."""

    @staticmethod
    def forward(ctx: Any, share_HR: Tensor, own_HP: Tensor) -> tuple[Tensor, Tensor]:
        """A_sum itself, and a gather."""
        ctx.save_for_backward(own_HP)
        return share_HR.view_as(share_HR), share_HR.gather(1, own_HP)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_share_HR: Tensor, d_own_HP: Tensor) -> tuple[Tensor, None]:
        """The places' gradient added to the tokens'."""
        [own_HP] = ctx.saved_tensors
        return d_share_HR.scatter_add(1, own_HP, d_own_HP), None


class Weighed(torch.autograd.Function):
    """weight·(R_intra − R_inter), GKHD."""

    @staticmethod
    def forward(ctx: Any, within_GKHD: Tensor, summary_GHD: Tensor, weight_GKH1: Tensor) -> Tensor:
        """The difference, weighed in its own memory."""
        ctx.save_for_backward(within_GKHD, summary_GHD, weight_GKH1)
        return (within_GKHD - summary_GHD.unsqueeze(1)).mul_(weight_GKH1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_own_GKHD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The difference again, for the gradient of the weight."""
        within_GKHD, summary_GHD, weight_GKH1 = ctx.saved_tensors
        change_GKHD = within_GKHD - summary_GHD.unsqueeze(1)
        d_weight_GKH1 = change_GKHD.mul_(d_own_GKHD).sum(-1, keepdim=True)
        del change_GKHD
        d_within_GKHD = d_own_GKHD * weight_GKH1
        return d_within_GKHD, -d_within_GKHD.sum(1), d_weight_GKH1
