from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

import pytest
import torch

from benchmarks import kernel_report
from benchmarks.kernel_report import KERNELS, Code, Compiler, Question, Shape

pytestmark = [
    pytest.mark.extra,
    pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed (extra: kernels)"),
]
PINNED_ARCHS = (80, 89, 90, 100)
WITH_PRODUCTS = tuple(kernel for kernel in KERNELS if kernel != "summaries")
"""`summaries` has one query per cluster and head: nothing for a matrix unit, whose least block is 16 rows."""

THAT_READ_TAKEN = ("summaries", "within", "within_to_queries", "within_to_keys")


@pytest.fixture(scope="module")
def compiler() -> Iterator[Compiler]:
    """One child process for all compilations."""
    one = Compiler(seconds=180)
    yield one
    one.close()


def test_bf16_heads_of_64_compile_without_spills_and_with_tensor_cores(
    compiler: Compiler, capsys: pytest.CaptureFixture[str]
) -> None:
    """On sm_80, 89, 90 and 100 no kernel spills registers, with and without padding, and all with products of blocks
    use matrix units.
    """
    began = perf_counter()
    variants = [(kernel, False) for kernel in KERNELS] + [(kernel, True) for kernel in THAT_READ_TAKEN]
    codes = [compiler.ask(Question(k, "bf16", arch, Shape(), m)) for k, m in variants for arch in PINNED_ARCHS]
    with capsys.disabled():
        print(f" [{len(codes)} compilations in {perf_counter() - began:.0f} s]", end="")
    assert [code for code in codes if code.failure is not None] == []
    assert [code for code in codes if code.spills or code.stack_bytes] == []
    assert [code for code in codes if code.kernel in WITH_PRODUCTS and not code.tensor_core] == []
    assert all(code.shared_bytes is not None and code.shared_bytes <= 99 * 1024 for code in codes)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [(Shape(1, 1, 1, 16, 1), "bf16"), (Shape(1, 100, 1, 80, 70), "fp32"), (Shape(2, 4096, 8, 128, 4), "bf16")],
)
def test_any_shape_compiles(compiler: Compiler, shape: Shape, dtype: str) -> None:
    """Sides of 1, which Triton makes constants, head widths off a power of two and the widest heads all compile."""
    codes = [compiler.ask(Question(kernel, dtype, 90, shape, masked=True)) for kernel in KERNELS]
    assert [code for code in codes if code.failure is not None] == []


def test_a_compilation_that_hangs_or_fails_is_a_row() -> None:
    """A question not answered in time, and one that cannot be, come back as failures; the next one is asked."""
    compiler = Compiler(seconds=0.0)
    question = Question("summaries", "bf16", 90, Shape())
    assert compiler.ask(question).failure == "no answer within 0 s"
    compiler = Compiler(seconds=120)
    wrong = compiler.ask(replace(question, kernel="nothing"))
    assert wrong.failure is not None
    assert wrong.failure.startswith("KeyError")
    assert compiler.ask(question).failure is None
    compiler.close()


@pytest.mark.parametrize("shape", [Shape(), Shape(1, 1, 1, 16, 1), Shape(3, 100, 5, 48, 7)])
@pytest.mark.parametrize("masked", [False, True])
def test_what_is_inspected_is_what_triton_would_compile(shape: Shape, masked: bool) -> None:
    """Types, constants and divisibility are those that Triton itself finds in a launch's arguments for a GPU."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import make_backend
    from triton.runtime.jit import create_function_from_signature

    backend = make_backend(GPUTarget("cuda", 90, 32))
    for step in kernel_report.launches(shape, torch.bfloat16, masked=masked).values():
        kernel = step.kernel
        bind = create_function_from_signature(kernel.signature, kernel.params, backend)
        found = bind(**step.arguments, **step.constants, **step.options)
        _, types, constants, attributes = kernel._pack_args(backend, step.options, *found)
        ours = kernel_report.signature(step)
        assert ours[0] == types
        assert {(kernel.arg_names.index(name),): value for name, value in ours[1].items()} == constants
        assert ours[2] == {place: value for place, value in attributes.items() if value}


@pytest.mark.parametrize("clusters", [1, 8, 64, 512, 4096])
def test_no_buffer_grows_with_tokens_times_clusters(clusters: int) -> None:
    """The largest tensor of both passes is as large as q, k and v, whatever the number of clusters."""
    steps = kernel_report.launches(Shape(1, 4096, 8, 64, clusters), torch.bfloat16, masked=True)
    tensors = [value for step in steps.values() for value in step.arguments.values() if isinstance(value, torch.Tensor)]
    assert max(tensor.numel() for tensor in tensors) == 3 * 4096 * 512


def test_work_is_the_formula_of_the_mechanism() -> None:
    """With C·K = N the forward kernels' FLOPs are N·M·(4K + 4C + 4): the spec's, less the choice's 2C, plus 2.

    The 2 are the summaries' own affinities, computed again for the members. No kernel moves less than the minimum,
    and at blocks as long as the sides they move the minimum where heads do not share inputs.
    """
    shape = Shape()
    n, m, k, c = 4096, 512, 128, 32
    forward = [kernel_report.work(kernel, shape, 2) for kernel in ("summaries", "others", "within")]
    assert sum(work.flops for work in forward) == n * m * (4 * k + 4 * c + 4)
    assert all(work.moved >= work.least > 0 for kernel in KERNELS for work in [kernel_report.work(kernel, shape, 2)])
    one = kernel_report.work("others", Shape(1, 32, 1, 64, 16), 2)
    assert one.moved == one.least == 32 * 64 * 2 + 32 * 4 + 32 * 64 * 4 + 32 * 4 + 2 * 16 * 64 * 2 + 16 * 4


def test_the_table_says_what_failed() -> None:
    """A failure is a row, with nothing where numbers would be."""
    codes = [Code("within", "bf16", 90, failure="no answer within 60 s")]
    table = kernel_report.table_of(codes, Shape())
    assert table.row_count == 1
    assert "failed" in "".join(str(cell) for column in table.columns for cell in column.cells)


def test_the_command_writes_what_it_prints(tmp_path: Path) -> None:
    """One kernel for one architecture: a row in the table, the same row in the file, and the work beside it."""
    file = tmp_path / "report.json"
    arguments = ["--kernel", "summaries", "--dtype", "bf16", "--arch", "90", "--json", str(file)]
    command = [sys.executable, "benchmarks/kernel_report.py", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=Path(kernel_report.__file__).parents[1]
    )
    rows = json.loads(file.read_text())
    assert "sm_90" in done.stdout
    assert [(row["kernel"], row["arch"], row["failure"]) for row in rows["code"]] == [("summaries", 90, None)]
    assert rows["work"]["bf16"]["summaries"]["flops"] == 4 * 4096 * 512
