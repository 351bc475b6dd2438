"""CAST's kernels as launches with their buffers, and the operation with gradients that they make up.

A launch is a value: what is compiled ahead of time and counted (benchmarks/kernel_report.py) is what runs. Both
directions are custom operations of PyTorch, so that torch.compile takes them as they are.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from castbench.mechanisms.cast.kernels import backward, forward
from castbench.mechanisms.cast.kernels.sizes import Plan, Sizes, plan_for, span_of_part


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel with its grid, its arguments and what is fixed when it is compiled."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: dict[str, Tensor | int | float | None]
    constants: dict[str, int]
    options: dict[str, int]

    def run(self) -> None:
        """Compile if need be, and start."""
        self.kernel[self.grid](**self.arguments, **self.constants, **self.options)


@dataclass(frozen=True, slots=True)
class Given:
    """What a pass starts from, contiguous; S has qkv's dtype, strengths are float32."""

    qkv_BNX: Tensor
    surrogate_CHD: Tensor
    query_strength_BN: Tensor
    key_strength_BN: Tensor
    index_BCK: Tensor
    taken_BCK: Tensor | None

    @property
    def ints(self) -> dict[str, int]:
        """N, H and C by the names that kernels use."""
        return {
            "N": self.qkv_BNX.shape[1], "H": self.surrogate_CHD.shape[1], "C": self.surrogate_CHD.shape[0],
        }  # fmt: skip

    @property
    def batch(self) -> int:
        """B."""
        return self.qkv_BNX.shape[0]

    @property
    def places(self) -> int:
        """K."""
        return self.index_BCK.shape[-1]

    @property
    def head_dim(self) -> int:
        """D."""
        return self.surrogate_CHD.shape[-1]

    @property
    def members(self) -> dict[str, Tensor | None]:
        """Who is in which cluster, by the names that kernels use."""
        return {"index_BCK": self.index_BCK, "taken_BCK": self.taken_BCK}

    @property
    def plan(self) -> Plan:
        """The block sizes for these shapes."""
        return plan_for(self.places, self.ints["C"], self.head_dim, self.qkv_BNX.element_size())


@dataclass(frozen=True, slots=True)
class Made:
    """What the forward pass makes: R in float32, and what the backward pass needs to find everything else again."""

    mixed_BNM: Tensor
    summary_BCHD: Tensor
    lse_BCH: Tensor
    lse_BHN: Tensor


@dataclass(frozen=True, slots=True)
class Gradients:
    """Sums of the backward pass; parts (first axis P) are added up when all are written."""

    qkv_BNX: Tensor
    query_strength_BHN: Tensor
    key_strength_BHN: Tensor
    delta_BHN: Tensor
    surrogate_PBCHD: Tensor
    summary_PBCHD: Tensor
    summary_BCHD: Tensor
    kept_3BCHK: Tensor


def room_for_results(given: Given) -> Made:
    """Buffers of the forward pass."""
    n, h, c = given.ints.values()
    qkv = given.qkv_BNX
    return Made(
        mixed_BNM=qkv.new_empty(given.batch, n, h * given.head_dim, dtype=torch.float32),
        summary_BCHD=qkv.new_empty(given.batch, c, h, given.head_dim),
        lse_BCH=qkv.new_empty(given.batch, c, h, dtype=torch.float32),
        lse_BHN=qkv.new_empty(given.batch, h, n, dtype=torch.float32),
    )


def forward_launches(given: Given, made: Made) -> list[Launch]:
    """The forward pass: three launches in order."""
    plan, ints = given.plan, given.ints
    cells = given.batch * ints["C"] * ints["H"]
    inputs = {"qkv_BNX": given.qkv_BNX, "surrogate_CHD": given.surrogate_CHD}
    of_queries = {"strength_BN": given.query_strength_BN, "summary_BCHD": made.summary_BCHD}
    result = {"mixed_BNM": made.mixed_BNM, "lse_BHN": made.lse_BHN}
    of_clusters = {"summary_BCHD": made.summary_BCHD, "lse_BCH": made.lse_BCH}
    return [
        _launch(
            forward.summaries, given, plan.summaries, {"loops": "PLACES"}, (cells,),
            inputs | given.members | {"strength_BN": given.key_strength_BN} | of_clusters | ints | {"K": given.places},
        ),
        _launch(
            forward.others, given, plan.others, {"stands": "TOKENS", "loops": "CLUSTERS"},
            (given.batch * ints["H"], _blocks(ints["N"], plan.others.stands)),
            inputs | of_queries | {"lse_BCH": made.lse_BCH} | result | ints,
        ),
        _launch(
            forward.within, given, plan.within, {"stands": "QUERIES", "loops": "KEYS"},
            (cells, _blocks(given.places, plan.within.stands)),
            inputs | given.members | of_queries | result | ints | {"K": given.places, "scale": given.head_dim**-0.5},
        ),
    ]  # fmt: skip


def room_for_gradients(given: Given) -> Gradients:
    """Buffers of the backward pass; what is added into starts at 0, what is stored first does not."""
    n, h, c = given.ints.values()
    plan, qkv, batch = given.plan, given.qkv_BNX, given.batch
    width = h * given.head_dim
    spans, query_blocks, key_blocks = _parts(given, plan)

    def room(*shape: int) -> Tensor:
        return qkv.new_empty(shape, dtype=torch.float32)

    d_qkv_BNX = room(batch, n, 3 * width)
    d_qkv_BNX[..., width:].zero_()
    return Gradients(
        qkv_BNX=d_qkv_BNX,
        query_strength_BHN=room(batch, h, n),
        key_strength_BHN=room(batch, h, n).zero_(),
        delta_BHN=room(batch, h, n),
        surrogate_PBCHD=room(spans + query_blocks + key_blocks, batch, c, h, given.head_dim),
        summary_PBCHD=room(spans + query_blocks, batch, c, h, given.head_dim),
        summary_BCHD=room(batch, c, h, given.head_dim),
        kept_3BCHK=room(3, batch, c, h, given.places),
    )


def backward_launches(given: Given, made: Made, grad_BNM: Tensor, into: Gradients) -> list[Launch]:
    """The backward pass: four launches in order, the last one once `into.summary_BCHD` is the sum of its parts."""
    plan, ints = given.plan, given.ints
    spans, query_blocks, key_blocks = _parts(given, plan)
    cells = given.batch * ints["C"] * ints["H"]
    inputs = {"qkv_BNX": given.qkv_BNX, "surrogate_CHD": given.surrogate_CHD, "grad_BNM": grad_BNM}
    of_queries = {"strength_BN": given.query_strength_BN, "summary_BCHD": made.summary_BCHD, "lse_BHN": made.lse_BHN}
    parts = {"d_surrogate_PBCHD": into.surrogate_PBCHD, "d_summary_PBCHD": into.summary_PBCHD}
    among_members = given.members | ints | {"K": given.places, "scale": given.head_dim**-0.5}
    to_queries = {"d_qkv_BNX": into.qkv_BNX, "d_strength_BHN": into.query_strength_BHN}
    to_tokens, to_clusters = plan.others_to_tokens, plan.others_to_clusters
    span = span_of_part(ints["N"], ints["C"], to_clusters)
    return [
        _launch(
            backward.others_to_tokens, given, to_tokens, {"stands": "TOKENS", "loops": "CLUSTERS"},
            (given.batch * ints["H"], _blocks(ints["N"], to_tokens.stands)),
            inputs | of_queries | {"lse_BCH": made.lse_BCH, "mixed_BNM": made.mixed_BNM} | to_queries
            | {"delta_BHN": into.delta_BHN} | ints,
        ),
        _launch(
            backward.others_to_clusters, given, to_clusters, {"stands": "CLUSTERS", "loops": "TOKENS"},
            (given.batch * ints["H"], _blocks(ints["C"], to_clusters.stands), spans),
            inputs | of_queries | {"lse_BCH": made.lse_BCH, "delta_BHN": into.delta_BHN} | parts | ints
            | {"SPAN": span},
        ),
        _launch(
            backward.within_to_queries, given, plan.within_to_queries, {"stands": "QUERIES", "loops": "KEYS"},
            (cells, query_blocks),
            inputs | of_queries | to_queries | parts | {"kept_3BCHK": into.kept_3BCHK} | among_members
            | {"PARTS": spans},
        ),
        _launch(
            backward.within_to_keys, given, plan.within_to_keys, {"stands": "KEYS", "loops": "QUERIES"},
            (cells, key_blocks),
            inputs | among_members | {
                "strength_BN": given.key_strength_BN, "summary_BCHD": made.summary_BCHD, "lse_BCH": made.lse_BCH,
                "d_summary_BCHD": into.summary_BCHD, "kept_3BCHK": into.kept_3BCHK, "d_qkv_BNX": into.qkv_BNX,
                "d_strength_BHN": into.key_strength_BHN, "d_surrogate_PBCHD": into.surrogate_PBCHD,
                "PARTS": spans + query_blocks,
            },
        ),
    ]  # fmt: skip


def _parts(given: Given, plan: Plan) -> tuple[int, int, int]:
    """How many spans of tokens, blocks of queries and blocks of keys write parts of a gradient."""
    tokens, _, clusters = given.ints.values()
    return (
        _blocks(tokens, span_of_part(tokens, clusters, plan.others_to_clusters)),
        _blocks(given.places, plan.within_to_queries.stands),
        _blocks(given.places, plan.within_to_keys.stands),
    )


def _launch(
    kernel: Any, given: Given, sizes: Sizes, names: dict[str, str], grid: tuple[int, ...], arguments: dict[str, Any]
) -> Launch:
    """A launch; `names` says what the kernel calls the blocks it stands on and loops over."""
    constants = {"D": given.head_dim, "W": given.plan.W} | {name: getattr(sizes, role) for role, name in names.items()}
    # Fused multiply-adds were Triton's default and will not be; named, they are no surprise and no warning.
    options = {"num_warps": sizes.num_warps, "num_stages": sizes.num_stages, "enable_fp_fusion": True}
    return Launch(kernel, grid, arguments, constants, options)


def _blocks(side: int, block: int) -> int:
    """Blocks that cover a side."""
    return -(-side // block)


def _device(tensor: Tensor) -> AbstractContextManager[Any]:
    """Triton starts kernels on the current device; this makes it the tensor's."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


@torch.library.custom_op("castbench::cast_mix", mutates_args=())
def mix_op(
    qkv_BNX: Tensor,
    surrogate_CHD: Tensor,
    query_strength_BN: Tensor,
    key_strength_BN: Tensor,
    index_BCK: Tensor,
    taken_BCK: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """R in qkv's dtype, R_inter, and the log-sum-exps of a_inter's and of A_sum's logits."""
    given = Given(qkv_BNX, surrogate_CHD, query_strength_BN, key_strength_BN, index_BCK, taken_BCK)
    made = room_for_results(given)
    with _device(qkv_BNX):
        for launch in forward_launches(given, made):
            launch.run()
    return made.mixed_BNM.to(qkv_BNX.dtype), made.summary_BCHD, made.lse_BCH, made.lse_BHN


@mix_op.register_fake
def _(
    qkv_BNX: Tensor,
    surrogate_CHD: Tensor,
    query_strength_BN: Tensor,
    key_strength_BN: Tensor,
    index_BCK: Tensor,
    taken_BCK: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Shapes of what mix_op gives."""
    made = room_for_results(Given(qkv_BNX, surrogate_CHD, query_strength_BN, key_strength_BN, index_BCK, taken_BCK))
    return made.mixed_BNM.to(qkv_BNX.dtype), made.summary_BCHD, made.lse_BCH, made.lse_BHN


@torch.library.custom_op("castbench::cast_mix_backward", mutates_args=())
def mix_backward_op(
    grad_BNM: Tensor,
    qkv_BNX: Tensor,
    surrogate_CHD: Tensor,
    query_strength_BN: Tensor,
    key_strength_BN: Tensor,
    index_BCK: Tensor,
    taken_BCK: Tensor | None,
    mixed_BNM: Tensor,
    summary_BCHD: Tensor,
    lse_BCH: Tensor,
    lse_BHN: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of qkv, S and both strengths; R may be rounded to qkv's dtype."""
    given = Given(qkv_BNX, surrogate_CHD, query_strength_BN, key_strength_BN, index_BCK, taken_BCK)
    made = Made(mixed_BNM, summary_BCHD, lse_BCH, lse_BHN)
    into = room_for_gradients(given)
    with _device(qkv_BNX):
        *first, last = backward_launches(given, made, grad_BNM.contiguous(), into)
        for launch in first:
            launch.run()
        torch.sum(into.summary_PBCHD, 0, out=into.summary_BCHD)
        last.run()
    return (
        into.qkv_BNX.to(qkv_BNX.dtype),
        into.surrogate_PBCHD.sum((0, 1)).to(surrogate_CHD.dtype),
        into.query_strength_BHN.sum(1),
        into.key_strength_BHN.sum(1),
    )


@mix_backward_op.register_fake
def _(
    grad_BNM: Tensor,
    qkv_BNX: Tensor,
    surrogate_CHD: Tensor,
    query_strength_BN: Tensor,
    key_strength_BN: Tensor,
    index_BCK: Tensor,
    taken_BCK: Tensor | None,
    mixed_BNM: Tensor,
    summary_BCHD: Tensor,
    lse_BCH: Tensor,
    lse_BHN: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Shapes of the gradients."""
    return (
        torch.empty_like(qkv_BNX),
        torch.empty_like(surrogate_CHD),
        torch.empty_like(query_strength_BN),
        torch.empty_like(key_strength_BN),
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    """What the backward pass needs: the inputs and the results, nothing per pair of tokens or per token and cluster."""
    ctx.save_for_backward(*inputs, *output)


def _backward(ctx: Any, grad_BNM: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    """Gradients of mix_op's inputs; members have none, and the other results are not for use."""
    return (*mix_backward_op(grad_BNM, *ctx.saved_tensors), None, None)


mix_op.register_autograd(_backward, setup_context=_keep)
