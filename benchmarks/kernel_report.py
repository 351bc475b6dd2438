"""What CAST's Triton kernels become on each GPU generation, found by compiling alone: no GPU is needed.

Every kernel is compiled for every architecture and dtype with the very block sizes that would run, in a child process
with a time limit, and the machine code is read: registers, spills, shared memory, tensor-core instructions. Bytes and
FLOPs are counted for a stated shape, against the bytes that must cross memory once.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from castbench.mechanisms.cast.kernels.sizes import Plan, Sizes, plan_for, span_of_part

ARCHS = (80, 86, 89, 90, 100, 120)
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
KERNELS = (
    "summaries", "others", "within", "others_to_tokens", "others_to_clusters", "within_to_queries", "within_to_keys",
)  # fmt: skip
SECONDS_PER_COMPILATION = 60.0
_TENSOR_CORE = re.compile(r"\b(?:HMMA|HGMMA|UTC\w*MMA)\b")
_SPILL = re.compile(r"\b(?:LDL|STL)\b")
_TYPES = {
    torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32", torch.int64: "i64", torch.bool: "u1",
}  # fmt: skip
_DIVISOR = 16
"""Triton compiles anew for pointers and whole numbers that are multiples of this."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One attention problem: B, N, H, D, C, and K = ceil(N / C) places in every cluster, all of them taken."""

    batch: int = 1
    tokens: int = 4096
    heads: int = 8
    head_dim: int = 64
    clusters: int = 32

    @property
    def places(self) -> int:
        """K."""
        return -(-self.tokens // self.clusters)


@dataclass(frozen=True, slots=True)
class Question:
    """One compilation."""

    kernel: str
    dtype: str
    arch: int
    shape: Shape
    masked: bool = False


@dataclass(frozen=True, slots=True)
class Code:
    """What the compiler made of it, or why it made nothing.

    spills         loads and stores of local memory in the machine code
    stack_bytes    local memory per thread
    tensor_core    matrix instructions in the machine code; loops count once
    """

    kernel: str
    dtype: str
    arch: int
    registers: int | None = None
    spills: int | None = None
    stack_bytes: int | None = None
    shared_bytes: int | None = None
    tensor_core: int | None = None
    threads: int | None = None
    seconds: float | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """Bytes that all programs of a launch load and store, bytes that must cross memory once, and FLOPs."""

    moved: float
    least: float
    flops: float


def launches(shape: Shape, dtype: torch.dtype, *, masked: bool) -> dict[str, Any]:
    """The launches of both passes by kernel, on tensors without storage."""
    from castbench.mechanisms.cast.kernels import launch

    def room(*sizes: int, of: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(sizes, dtype=of, device="meta")

    b, n, h, d, c, k = shape.batch, shape.tokens, shape.heads, shape.head_dim, shape.clusters, shape.places
    given = launch.Given(
        room(b, n, 3 * h * d, of=dtype), room(c, h, d, of=dtype), room(b, n), room(b, n),
        room(b, c, k, of=torch.int64), room(b, c, k, of=torch.bool) if masked else None,
    )  # fmt: skip
    made, into = launch.room_for_results(given), launch.room_for_gradients(given)
    grad_BNM = room(b, n, h * d, of=dtype)
    # The backward pass is handed R as the forward operation gave it, in qkv's dtype.
    saved = launch.Made(grad_BNM, made.summary_BCHD, made.lse_BCH, made.lse_BHN)
    steps = [*launch.forward_launches(given, made), *launch.backward_launches(given, saved, grad_BNM, into)]
    return {step.kernel.fn.__name__: step for step in steps}


def signature(step: Any) -> tuple[dict[str, str], dict[str, Any], dict[tuple[int], list[list[Any]]]]:
    """Types, constants and divisibility of a launch's arguments, as Triton finds them when it runs: 1 is a constant."""
    types: dict[str, str] = {}
    constants: dict[str, Any] = dict(step.constants)
    attributes: dict[tuple[int], list[list[Any]]] = {}
    for place, name in enumerate(step.kernel.arg_names):
        value = None if name in step.constants else step.arguments[name]
        if value is None or (isinstance(value, int) and value == 1):
            types[name] = "constexpr"
            constants.setdefault(name, value)
        elif isinstance(value, float):
            types[name] = "fp32"
        else:
            types[name] = "*" + _TYPES[value.dtype] if isinstance(value, Tensor) else "i32"
            if isinstance(value, Tensor) or value % _DIVISOR == 0:
                attributes[(place,)] = [["tt.divisibility", _DIVISOR]]
    return types, constants, attributes


def compiled(question: Question) -> Code:
    """Compile and read the machine code; in this process."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    began = perf_counter()
    step = launches(question.shape, DTYPES[question.dtype], masked=question.masked)[question.kernel]
    types, constants, attributes = signature(step)
    source = ASTSource(fn=step.kernel, signature=types, constexprs=constants, attrs=attributes)
    result = triton.compile(source, target=GPUTarget("cuda", question.arch, 32), options=step.options)
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(result.asm["cubin"])
        file.flush()
        usage, code = (
            subprocess.run([tools / "cuobjdump", flag, file.name], capture_output=True, text=True, check=True).stdout
            for flag in ("-res-usage", "-sass")
        )
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    if found is None:
        raise ValueError(f"cuobjdump names no registers: {usage[:200]!r}")
    return Code(
        question.kernel, question.dtype, question.arch,
        registers=int(found[1]), stack_bytes=int(found[2]), spills=len(_SPILL.findall(code)),
        shared_bytes=int(result.metadata.shared), tensor_core=len(_TENSOR_CORE.findall(code)),
        threads=32 * step.options["num_warps"], seconds=perf_counter() - began,
    )  # fmt: skip


def answer(connection: Connection) -> None:
    """Compile what is asked for until nobody asks any more; runs in the child process."""
    os.setsid()
    os.environ.pop("TRITON_INTERPRET", None)
    with suppress(EOFError):
        while True:
            question: Question = connection.recv()
            try:
                connection.send(compiled(question))
            except Exception as error:  # a compiler may fail in any way; the failure is a row of the report
                sentence = f"{type(error).__name__}: {str(error).strip().splitlines()[-1] if str(error) else ''}"
                connection.send(Code(question.kernel, question.dtype, question.arch, failure=sentence[:200]))


class Compiler:
    """A child process that compiles; one that takes too long or dies is a row too, and is replaced."""

    def __init__(self, seconds: float = SECONDS_PER_COMPILATION) -> None:
        self._seconds = seconds
        self._process: Any = None
        self._connection: Connection | None = None

    def ask(self, question: Question) -> Code:
        """The code, or a failure."""
        if self._connection is None:
            self._start()
        assert self._connection is not None
        self._connection.send(question)
        failure = f"no answer within {self._seconds:.0f} s"
        with suppress(EOFError):
            if self._connection.poll(self._seconds):
                code: Code = self._connection.recv()
                return code
            self.close()
            return Code(question.kernel, question.dtype, question.arch, failure=failure)
        self.close()
        return Code(question.kernel, question.dtype, question.arch, failure="the compiler's process died")

    def close(self) -> None:
        """End the child process."""
        if self._connection is not None:
            self._connection.close()
            # Its whole group, or a hanging ptxas would outlive it; it has none yet while it still imports.
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
            self._process.join()
            self._connection = None

    def _start(self) -> None:
        """A fresh child, ready: importing torch and Triton is not part of anybody's time limit."""
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=answer, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()


def report(questions: Sequence[Question]) -> Iterator[Code]:
    """Answers one after the other."""
    compiler = Compiler()
    try:
        for question in questions:
            yield compiler.ask(question)
    finally:
        compiler.close()


def work(kernel: str, shape: Shape, element_bytes: int) -> Work:
    """Counted from the kernel's loads and stores: (bytes, how often all programs together touch each of them).

    An atomic addition loads and stores. The minimum is every byte once: members' rows once however many clusters hold
    them. FLOPs are those of products with D; a multiply-add is 2. A test counts the bytes in Triton's interpreter.
    """
    b, n, h, d, c, k = shape.batch, shape.tokens, shape.heads, shape.head_dim, shape.clusters, shape.places
    plan = plan_for(k, c, d, element_bytes)
    sizes: Sizes = getattr(plan, kernel)
    rows, members = b * n * h * d, b * c * k * h * d
    cells, places = b * c * h, b * c * k * h
    often = members / rows
    row, per_token, cluster = float(rows * element_bytes), 4.0 * b * n, float(c * h * d * element_bytes)
    index, kept = 8.0 * b * c * k, 4.0 * places
    blocks = -(-k // sizes.stands)
    stood = -(-(n if kernel in ("others", "others_to_tokens") else c) // sizes.stands)
    spans = -(-n // span_of_part(n, c, plan.others_to_clusters))
    summary, lse, of_head = b * cluster, 4.0 * cells, 4.0 * b * h * n
    sums = 4.0 * cells * d
    counted: dict[str, tuple[list[tuple[float, float]], float]] = {
        "summaries": (
            [(2 * row, often), (index, h), (per_token, h * often), (cluster, b), (summary, 1), (lse, 1)],
            4.0 * members,
        ),
        "others": (
            [(row, 1), (per_token, h), (4.0 * rows, 1), (of_head, 1), (cluster, b * stood), (summary + lse, stood)],
            4.0 * rows * c,
        ),
        "within": (
            [
                (row, often), (2 * row, often * blocks), (index, h * (1 + blocks)), (per_token, h * often),
                (of_head, often), (8.0 * rows, often), (cluster, b * blocks), (summary, blocks),
            ],
            4.0 * members * k,
        ),
        "others_to_tokens": (
            [
                (3 * row, 1), (4.0 * rows, 1), (per_token, h), (3 * of_head, 1), (cluster, b * stood),
                (summary + lse, stood),
            ],
            6.0 * rows * c,
        ),
        "others_to_clusters": (
            [
                (2 * row, stood), (per_token, h * stood), (2 * of_head, stood), (cluster, b * spans),
                (summary + lse, spans), (2 * sums, spans),
            ],
            8.0 * rows * c,
        ),
        "within_to_queries": (
            [
                (2 * row, often), (2 * row, 2 * often * blocks), (index, h * (1 + 2 * blocks)),
                (per_token, h * often), (of_head, often), (2 * of_head, often), (3 * kept, 1),
                (8.0 * rows, often), (cluster, b * blocks), (summary, blocks), (2 * sums, blocks),
            ],
            10.0 * members * k,
        ),
        "within_to_keys": (
            [
                (2 * row, often), (2 * row, often * blocks), (index, h * (1 + blocks)), (per_token, h * often),
                (2 * of_head, often), (3 * kept, blocks), (16.0 * rows, often), (cluster, b * blocks),
                (summary + lse + sums, blocks), (sums, blocks),
            ],
            8.0 * members * k,
        ),
    }  # fmt: skip
    touched, flops = counted[kernel]
    return Work(sum(size * times for size, times in touched), sum(size for size, _ in touched), flops)


def blocks_of(kernel: str, plan: Plan) -> str:
    """Rows of the block a program stands on × rows it loops over, and its warps."""
    sizes: Sizes = getattr(plan, kernel)
    return f"{sizes.stands}×{sizes.loops}, {sizes.num_warps}w"


def table_of(codes: Sequence[Code], shape: Shape) -> Table:
    """All rows, a section per kernel and dtype."""
    table = Table(title=f"CAST's kernels, head dim {shape.head_dim}")
    for title in ("kernel", "dtype", "blocks", "arch"):
        table.add_column(title)
    for title in ("registers", "spills", "stack B", "shared KiB", "tensor-core", "seconds"):
        table.add_column(title, justify="right")
    for before, code in zip([None, *codes], codes, strict=False):
        if before is not None and (before.kernel, before.dtype) != (code.kernel, code.dtype):
            table.add_section()
        plan = plan_for(shape.places, shape.clusters, shape.head_dim, DTYPES[code.dtype].itemsize)
        head = (code.kernel, code.dtype, blocks_of(code.kernel, plan), f"sm_{code.arch}")
        if code.failure is not None:
            table.add_row(*head, "[red]failed[/red]")
            continue
        assert code.shared_bytes is not None
        assert code.seconds is not None
        table.add_row(
            *head, str(code.registers), str(code.spills), str(code.stack_bytes), f"{code.shared_bytes / 1024:.1f}",
            str(code.tensor_core), f"{code.seconds:.1f}",
        )  # fmt: skip
    return table


def work_table(kernels: Sequence[str], shape: Shape, element_bytes: int) -> Table:
    """Bytes and FLOPs per kernel; what programs load again is served by caches where it fits them."""
    table = Table(
        title=f"Work at batch {shape.batch}, {shape.tokens} tokens, {shape.heads} heads of {shape.head_dim}, "
        f"{shape.clusters} clusters of {shape.places}, {element_bytes} bytes per element"
    )
    table.add_column("kernel")
    for title in ("MiB moved", "MiB at least", "ratio", "GFLOP", "FLOP per least byte"):
        table.add_column(title, justify="right")
    for kernel in kernels:
        done = work(kernel, shape, element_bytes)
        table.add_row(
            kernel, f"{done.moved / 2**20:.1f}", f"{done.least / 2**20:.1f}", f"{done.moved / done.least:.1f}",
            f"{done.flops / 1e9:.2f}", f"{done.flops / done.least:.0f}",
        )  # fmt: skip
    return table


def parsed() -> argparse.Namespace:
    """What was asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", type=int, action="append", choices=ARCHS, help="compute capability; default: all")
    parser.add_argument("--dtype", action="append", choices=DTYPES, help="default: all")
    parser.add_argument("--kernel", action="append", choices=KERNELS, help="default: all")
    parser.add_argument("--batch", type=int, default=1, help="rows (default: %(default)s)")
    parser.add_argument("--tokens", type=int, default=4096, help="tokens per row (default: %(default)s)")
    parser.add_argument("--heads", type=int, default=8, help="heads (default: %(default)s)")
    parser.add_argument("--head-dim", type=int, default=64, help="width of a head, at most 128 (default: %(default)s)")
    parser.add_argument("--clusters", type=int, default=32, help="clusters; their size is ceil(tokens / clusters)")
    parser.add_argument("--masked", action="store_true", help="compile the variants that read which places are taken")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows there as well")
    return parser.parse_args()


def main() -> None:
    """Compile, print both tables, write the file."""
    asked = parsed()
    shape = Shape(asked.batch, asked.tokens, asked.heads, asked.head_dim, asked.clusters)
    kernels, dtypes, archs = asked.kernel or KERNELS, asked.dtype or tuple(DTYPES), asked.arch or ARCHS
    questions = [Question(k, t, a, shape, asked.masked) for k in kernels for t in dtypes for a in archs]
    began = perf_counter()
    console = Console()
    with console.status("compiling"):
        codes = list(report(questions))
    console.print(table_of(codes, shape))
    for code in codes:
        if code.failure is not None:
            console.print(f"{code.kernel} {code.dtype} sm_{code.arch}: {code.failure}", markup=False)
    widths = sorted({DTYPES[dtype].itemsize for dtype in dtypes})
    for width in widths:
        console.print(work_table(kernels, shape, width))
    console.print(f"{len(codes)} compilations in {perf_counter() - began:.0f} s")
    if asked.json:
        rows = {
            "shape": asdict(shape),
            "code": [asdict(code) for code in codes],
            "work": {
                dtype: {kernel: asdict(work(kernel, shape, DTYPES[dtype].itemsize)) for kernel in kernels}
                for dtype in dtypes
            },
        }
        asked.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
