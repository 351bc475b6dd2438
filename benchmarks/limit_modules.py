"""What cast_limit.py runs: the modules, rounds of seconds, peaks of memory, operations one by one, the machine's rates.

modules ─▶ runs ─▶ rounds, every run timed once in each, in fresh order
             ├──▶ allocator's peak, resident set's peak (in a process of its own)
             └──▶ every operation with its seconds, FLOPs and bytes

Shape suffixes: B batch, N tokens, M model width, H heads, D head width.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any, Literal, get_args

import torch
from limit_sums import ATTENTION, affordable, attention_flops, moved_bytes, part_of, turns
from torch import nn
from torch.autograd import DeviceType
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from castbench.measure import memory
from castbench.mechanisms.cast import CastAttention, Clustering
from castbench.mechanisms.naive.module import NaiveAttention
from castbench.mechanisms.sdpa.module import SdpaAttention

Mode = Literal["forward", "training"]
COMPILED = "compiled"
CLUSTERINGS: tuple[str, ...] = get_args(Clustering)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

SLOW_S = 0.5
"""What takes this long is not run once more before it is timed: what it finds in caches is a small part of it."""
SHORTEST_S = 0.02
"""What is shorter is called until this has passed, and the mean is taken."""
LEAST_ROUNDS = 3
_COPY_BYTES = 256 * 1024**2
"""Far above any cache that two cores share."""
_SQUARE = 2048


class Projections(nn.Module):
    """The four projections that every attention has, and nothing else."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_proj, self.out_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x_BNM: torch.Tensor) -> torch.Tensor:
        """Projects, and drops two thirds of it."""
        return self.out_proj(self.in_proj(x_BNM)[..., : x_BNM.shape[-1]].contiguous())


@dataclass(frozen=True, slots=True)
class Run:
    """A module with its input: called, it does one forward pass, in training a backward pass as well."""

    module: nn.Module
    batch: torch.Tensor
    mode: Mode = "forward"

    def __call__(self, _: int = 0) -> torch.Tensor:
        """The output, which nobody reads."""
        if self.mode == "forward":
            with torch.inference_mode():
                return self.module(self.batch)
        y_BNM = self.module(self.batch)
        torch.autograd.grad(y_BNM, (self.batch, *self.module.parameters()), torch.ones_like(y_BNM))
        return y_BNM


def run_of(
    arm: str, width: int, heads: int, tokens: int, clusters: int | None, dtype: str, mode: Mode = "forward"
) -> Run:
    """A run of projections, sdpa, naive, one of CAST's clusterings, or top_k compiled and warm; batch 1, seeded."""
    torch.manual_seed(0)
    module: nn.Module
    if clusters is None:
        kinds: dict[str, Callable[[], nn.Module]] = {
            "projections": lambda: Projections(width),
            "sdpa": lambda: SdpaAttention(width, heads),
            "naive": lambda: NaiveAttention(width, heads),
        }
        module = kinds[arm]()
    else:
        clustering = "top_k" if arm == COMPILED else arm
        module = CastAttention(width, heads, num_clusters=clusters, clustering=clustering)
    module = module.to(DTYPES[dtype])
    x_BNM = torch.randn(1, tokens, width).to(DTYPES[dtype]).requires_grad_(mode == "training")
    if arm != COMPILED:
        return Run(module, x_BNM, mode)
    run = Run(torch.compile(module, dynamic=False), x_BNM, mode)
    for _ in range(LEAST_ROUNDS):
        run()
    return run


def seconds_of(run: Callable[[], object], calls: int = 1) -> float:
    """Mean wall time of a call."""
    began_s = perf_counter()
    for _ in range(calls):
        run()
    return (perf_counter() - began_s) / calls


def cost_s(run: Callable[[], object]) -> float:
    """About what a call takes: the second one, unless the first says that it is slow."""
    first_s = seconds_of(run)
    return first_s if first_s > SLOW_S else seconds_of(run)


def timed_rounds(
    runs: Mapping[str, Callable[[], object]], rounds: int, budget_s: float, draw: random.Random,
    least: int = LEAST_ROUNDS,
) -> list[dict[str, float]]:  # fmt: skip
    """Seconds of every run by round, in an order drawn for the round; slow runs take part in fewer rounds.

    A run is called once before it is timed, so that it finds its own data in the caches and not another's.
    """
    costs = {name: cost_s(run) for name, run in runs.items()}
    mine = {
        name: turns(rounds, affordable(rounds, budget_s, cost if cost > SLOW_S else max(2 * cost, SHORTEST_S), least))
        for name, cost in costs.items()
    }
    found: list[dict[str, float]] = []
    for index in range(rounds):
        times: dict[str, float] = {}
        for name in draw.sample(list(runs), len(runs)):
            if index not in mine[name]:
                continue
            if costs[name] <= SLOW_S:
                runs[name]()
            times[name] = seconds_of(runs[name], max(1, math.ceil(SHORTEST_S / costs[name])))
        found.append(times)
    return found


def allocator_peak_bytes(run: Callable[[], object]) -> int:
    """Most bytes that PyTorch's CPU allocator holds at once during a call beyond those from before: exact, no noise.

    The profiler notes each allocation and each release with its size, those inside an operation too (scores of
    naive's softmax, the workspace of fused attention), which a TorchDispatchMode would not see. What a library
    takes by malloc (packing buffers of MKL and oneDNN) is not in it; the resident set shows that, with pages that
    happen to be reused or not. Weights and input are from before the call, so they are in neither. The run should
    be warm: what a module keeps from its first call for later ones is no call's peak.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        run()
    events = seen.profiler.kineto_results.events()
    held_bytes = peak_bytes = 0
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        if event.device_type() == DeviceType.CPU:
            held_bytes += event.nbytes()
            peak_bytes = max(peak_bytes, held_bytes)
    return int(peak_bytes)


def resident_peak_bytes(run: Run) -> int:
    """Growth of this process's peak resident set by a call, after a call on few tokens has loaded what torch loads."""
    Run(run.module, run.batch[:, :64].detach(), "forward")()
    return int(memory.measure(run.module, run, torch.device("cpu")).peak_bytes)


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of one operation within a forward pass."""

    part: str
    seconds: float
    flops: int
    moved_bytes: int


class Look(TorchDispatchMode):
    """Notes every operation below autograd with its time, FLOPs and bytes; named ranges, if any, name the parts."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.seen, self.ranges = width, list[Operation](), list[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        began_s = perf_counter()
        out = func(*args, **(kwargs or {}))
        took_s = perf_counter() - began_s
        op = func.overloadpacket._qualified_op_name
        if op.startswith("profiler::"):
            if "enter" in op:
                self.ranges.append(args[0])
            else:
                self.ranges.pop()
        elif not func.is_view:
            self.seen.append(self._operation(op, func, args, kwargs or {}, out, took_s))
        return out

    def _operation(self, op: str, func: Any, args: Any, kwargs: Any, out: Any, took_s: float) -> Operation:
        """What the call was."""
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        shapes = [list(tensor.shape) for tensor in tensors]
        kind = part_of(op, shapes, self.width)
        counted = flop_registry.get(func.overloadpacket)
        flops = counted(*args, **kwargs, out_val=out) if counted else 0
        if kind == ATTENTION:
            flops = attention_flops(shapes[0], shapes[1])
        written = sum(_bytes(leaf) for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor))
        moved = moved_bytes(op, [_bytes(tensor) for tensor in tensors], written)
        return Operation(self.ranges[-1] if self.ranges else kind, took_s, int(flops), moved)


def _bytes(tensor: torch.Tensor) -> int:
    """Bytes of a tensor's own elements; what is expanded counts once."""
    kept = (n for n, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride or n == 0)
    return math.prod(kept) * tensor.element_size()


@torch.no_grad()
def operations(run: Run, rounds: int) -> list[list[Operation]]:
    """Every operation of a forward pass, so many times, after one that warms up; without gradients."""
    width, found = run.batch.shape[-1], []
    run.module(run.batch)
    for _ in range(rounds):
        with Look(width) as look:
            run.module(run.batch)
        found.append(look.seen)
    return found


def parts_of(passes: Sequence[Sequence[Operation]]) -> list[dict[str, Any]]:
    """Per part its operations, FLOPs and bytes of one pass, and the median of its seconds over the passes."""
    names = list(dict.fromkeys(o.part for o in passes[0]))
    rows = []
    for name in names:
        first = [o for o in passes[0] if o.part == name]
        rows.append({
            "part": name, "operations": len(first), "flops": sum(o.flops for o in first),
            "moved_bytes": sum(o.moved_bytes for o in first),
            "seconds": median(sum(o.seconds for o in p if o.part == name) for p in passes),
        })  # fmt: skip
    return rows


@torch.inference_mode()
def machine_rates(dtype: str, sizes: Sequence[tuple[int, int]], tokens: int, repeats: int) -> dict[str, Any]:
    """Rates seen now: products of a large square and of in_proj's shapes, fused attention by width, copying.

    Copies count a read and a write; what the cache reads before it writes is not counted.
    """
    kind = DTYPES[dtype]
    source = torch.ones(_COPY_BYTES // kind.itemsize, dtype=kind)
    target = torch.empty_like(source)
    copies = [2 * _COPY_BYTES / s for s in _repeated(lambda: target.copy_(source), repeats)]
    shapes = [(_SQUARE, _SQUARE, _SQUARE), *((tokens, width, 3 * width) for width, _ in sizes)]
    products = []
    for rows, inner, columns in shapes:
        a, b = torch.randn(rows, inner).to(kind), torch.randn(columns, inner).to(kind)
        times = _repeated(lambda a=a, b=b: functional.linear(a, b), repeats)
        rates = [2.0 * rows * inner * columns / s for s in times]
        products.append({"shape": [rows, inner, columns], "flops_per_s": rates})
    attention = []
    for width, heads in sizes:
        q = torch.randn(1, heads, tokens, width // heads).to(kind)
        times = _repeated(lambda q=q: functional.scaled_dot_product_attention(q, q, q), repeats)
        attention.append({"width": width, "flops_per_s": [attention_flops(q.shape, q.shape) / s for s in times]})
    return {"copy_bytes_per_s": copies, "products": products, "attention": attention}


@dataclass(frozen=True, slots=True)
class Kernel:
    """One of PyTorch's operations on tensors of its own; in training its backward pass to all of them as well."""

    operation: Callable[..., torch.Tensor]
    tensors: tuple[torch.Tensor, ...]
    mode: Mode = "forward"

    def __call__(self, _: int = 0) -> torch.Tensor:
        """The result, which nobody reads."""
        if self.mode == "forward":
            with torch.inference_mode():
                return self.operation(*self.tensors)
        result = self.operation(*self.tensors)
        torch.autograd.grad(result, self.tensors, torch.ones_like(result))
        return result


def cast_kernels(
    width: int, heads: int, tokens: int, clusters: int, dtype: str, mode: Mode = "forward"
) -> dict[str, Callable[[], object]]:
    """PyTorch's own operation for each thing that CAST's equations ask for, each on tensors of its size.

    Everything is contiguous, in the layout that the operation likes best. The choice has no backward pass. Left out are
    A_sum's normalisation, the lookup of a member's own share, the strengths and all copies. C·K = N, K rounded down.
    """
    kind, size, head_dim = DTYPES[dtype], tokens // clusters, width // heads
    members = clusters * size

    def made(*shape: int) -> torch.Tensor:
        return torch.randn(shape).to(kind).requires_grad_(mode == "training")

    def learned(operation: Callable[..., torch.Tensor], *tensors: torch.Tensor) -> Kernel:
        return Kernel(operation, tensors, mode)

    member_P = torch.randperm(tokens)[:members]
    x_NM, member_scores = made(tokens, width), (clusters * heads, size)
    kernels: dict[str, Callable[[], object]] = {
        "in_proj": learned(functional.linear, x_NM, made(3 * width, width)),
        "out_proj": learned(functional.linear, made(tokens, width), made(width, width)),
        "gate": learned(torch.mv, x_NM, made(width)),
        "scores": learned(torch.bmm, made(heads, tokens, head_dim), made(heads, head_dim, clusters)),
        "gather of q, k, v": learned(lambda qkv: qkv.index_select(0, member_P), made(tokens, 3 * width)),
        "members' scores": learned(torch.bmm, made(*member_scores, head_dim), made(clusters * heads, head_dim, 1)),
        "summaries": learned(torch.bmm, made(clusters * heads, 1, size), made(*member_scores, head_dim)),
        "summaries' share": learned(torch.bmm, made(heads, tokens, clusters), made(heads, clusters, head_dim)),
        "adding up results": learned(lambda to, what: to.index_add(0, member_P, what), x_NM, made(members, width)),
    }
    ways = [Kernel(way, tuple(made(clusters, heads, size, head_dim) for _ in "qkv"), mode) for way in _WAYS_WITHIN]
    return {**kernels, **_choosing(width, heads, tokens, clusters, kind), "attention within clusters": _fastest(ways)}


def _choosing(
    width: int, heads: int, tokens: int, clusters: int, kind: torch.dtype
) -> dict[str, Callable[[], object]]:  # fmt: skip
    """What has no backward pass: both affinities summed over heads, A_g, the best of every cluster, exponentials."""
    x_NM, flat_CM = torch.randn(tokens, width).to(kind), torch.randn(clusters, width).to(kind)
    q_NC, k_NC, lean_N1 = torch.randn(tokens, clusters), torch.randn(tokens, clusters), torch.rand(tokens, 1)
    gated_CN, block = torch.rand(clusters, tokens), torch.randn(2**16)
    powers, places = torch.empty_like(block), tokens // clusters

    def exponentials() -> None:
        for _ in range(math.ceil(heads * tokens * clusters / len(block))):
            torch.exp(block, out=powers)

    def best() -> torch.Tensor:
        return gated_CN.topk(places, sorted=False).indices

    def best_by_order() -> torch.Tensor:
        return gated_CN.argsort(-1, descending=True)[:, :places]

    return {
        "affinities of q for the choice": Kernel(lambda: functional.linear(x_NM, flat_CM), ()),
        "affinities of k for the choice": Kernel(lambda: functional.linear(x_NM, flat_CM), ()),
        "their softmaxes": Kernel(lambda: k_NC.softmax(-1).lerp_(q_NC.softmax(-1), lean_N1), ()),
        "best of every cluster": _fastest([Kernel(best, ()), Kernel(best_by_order, ())]),
        "exponentials of scores": exponentials,
    }  # fmt: skip


def _products(q_CHKD: torch.Tensor, k_CHKD: torch.Tensor, v_CHKD: torch.Tensor) -> torch.Tensor:
    """Attention by products around a softmax."""
    q_GKD, k_GKD, v_GKD = (part.flatten(0, 1) for part in (q_CHKD, k_CHKD, v_CHKD))
    return torch.bmm((torch.bmm(q_GKD, k_GKD.transpose(1, 2)) * q_GKD.shape[-1] ** -0.5).softmax(-1), v_GKD)


def _products_in_slices(step: int) -> Callable[..., torch.Tensor]:
    """The same, so many clusters at a time."""

    def run(*qkv: torch.Tensor) -> torch.Tensor:
        parts = [_products(*(part[at : at + step] for part in qkv)) for at in range(0, qkv[0].shape[0], step)]
        return torch.cat(parts)

    return run


_WAYS_WITHIN: tuple[Callable[..., torch.Tensor], ...] = (
    functional.scaled_dot_product_attention, _products, *map(_products_in_slices, (1, 4, 16)),
)  # fmt: skip


def _fastest(ways: Sequence[Callable[[], object]]) -> Callable[[], object]:
    """The way that takes least, by the least of some calls."""
    return min(ways, key=lambda way: min(_repeated(way, 3)))


def _repeated(run: Callable[[], object], repeats: int) -> list[float]:
    """Seconds of a call, several times, warm."""
    calls = max(1, math.ceil(SHORTEST_S / cost_s(run)))
    return [seconds_of(run, calls) for _ in range(repeats)]
