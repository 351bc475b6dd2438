"""MechanismSpec: everything castbench must know of a mechanism before torch is imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Problem:
    """The problem an attention module is given: B rows, N tokens, width M, H heads, bytes per element."""

    batch_size: int
    seq_len: int
    embed_dim: int
    num_heads: int
    element_bytes: int
    training: bool = False

    @property
    def head_dim(self) -> int:
        """D, the width of one head."""
        return self.embed_dim // self.num_heads


@dataclass(frozen=True, slots=True)
class KernelWork:
    """Work of one forward pass of an attention module, projections included, by kernel class.

    FLOPs count a multiply-add as 2. Bytes are what must cross memory at least once. `wait_s` is time that no
    device makes shorter (the known-answer mechanism `busy`).
    """

    gemm_flops: float = 0.0
    attention_flops: float = 0.0
    elementwise_bytes: float = 0.0
    gather_bytes: float = 0.0
    launches: float = 0.0
    activation_bytes: float = 0.0
    wait_s: float = 0.0

    @property
    def flops(self) -> float:
        """All FLOPs together."""
        return self.gemm_flops + self.attention_flops

    def scaled(self, factor: float) -> KernelWork:
        """Every figure but the activations times `factor`."""
        grown = {f.name: getattr(self, f.name) * factor for f in fields(self)}
        return KernelWork(**{**grown, "activation_bytes": self.activation_bytes})

    def __add__(self, other: KernelWork) -> KernelWork:
        return KernelWork(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True, slots=True)
class LengthMix:
    """What `auto` parameters are resolved by: lengths in tokens with their shares of the traffic."""

    tokens: tuple[int, ...]
    shares: tuple[float, ...]


def supports_everything(params: Any, problem: Problem) -> str | None:
    """A `limits` for mechanisms without any."""
    return None


def nothing_to_resolve(params: Any, mix: LengthMix) -> Any:
    """A `resolve` for mechanisms without `auto` parameters."""
    return params


def no_parameters(params: Any, embed_dim: int, num_heads: int) -> int:
    """A `weights` for mechanisms that hold none."""
    return 0


def all_counted(params: Any, problem: Problem) -> float:
    """An `uncounted_flops` for mechanisms that compute by products alone."""
    return 0.0


Family = Literal["softmax", "clustering", "sparsification", "approximation", "replacement", "known answer", "ceiling"]
"""What a mechanism does to softmax attention: computes it, or how it saves work."""


@dataclass(frozen=True, slots=True)
class MechanismSpec:
    """Description of a mechanism.

    name        what profiles call it
    params      frozen dataclass of its parameters with their defaults
    build       "module:function", called as build(params, embed_dim=M, num_heads=H) -> torch.nn.Module whose
                forward is (x_BNM, key_padding_mask_BN=None) -> y_BNM, mask True = padding; the module's
                attribute `ran_as` names the implementation that really ran, after the first forward
    reference   "module:function", called as reference(module, x_BNM, key_padding_mask_BN) -> y_BNM in float64:
                the same result by the slow and readable way, from the module's own weights
    work        KernelWork of one forward pass
    limits      a sentence saying why this problem cannot be run, or None
    resolve     replaces `auto` parameters by numbers for a mix of lengths
    weights     number of learnable numbers the module holds, called as weights(params, embed_dim, num_heads)
    exact       computes softmax attention itself, so that it can replace the deployed one without training
    hidden      listed only on request (known answers, ceilings)
    family      how it saves work, or that it does not
    remark      what a reader must know before comparing it with softmax attention; empty where nothing
    right_padding   positions matter to it, so that padding must stand at the right of every row
    parity_tokens   tokens of the rows on which a run checks it against its reference, where it computes shorter ones in
                another way; None: short rows do
    compiles    its first step compiles a kernel, whatever the regime
    uncounted_flops of `work`, the FLOPs of operations that torch.utils.flop_counter does not see (FFTs, scans)
    """

    name: str
    title: str
    summary: str
    params: type[Any]
    build: str
    reference: str
    work: Callable[[Any, Problem], KernelWork]
    complexity: str
    paper: str = ""
    year: int | None = None
    exact: bool = False
    causal: bool = False
    hidden: bool = False
    family: Family = "softmax"
    remark: str = ""
    right_padding: bool = False
    parity_tokens: int | None = None
    compiles: bool = False
    limits: Callable[[Any, Problem], str | None] = supports_everything
    resolve: Callable[[Any, LengthMix], Any] = nothing_to_resolve
    weights: Callable[[Any, int, int], int] = no_parameters
    uncounted_flops: Callable[[Any, Problem], float] = all_counted

    def param_defaults(self) -> dict[str, Any]:
        """Parameter names with their defaults, in the order they are declared."""
        made = self.params()
        return {f.name: getattr(made, f.name) for f in fields(made)}
