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

from benchmarks import kernel_report
from benchmarks.kernel_report import KERNELS, Code, Compiler, Question, Shape

pytestmark = [
    pytest.mark.extra,
    pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed (extra: kernels)"),
]
PINNED_ARCHS = (80, 89, 90, 100)
WITH_PRODUCTS = tuple(kernel for kernel in KERNELS if kernel != "summaries")
"""`summaries` has one query per cluster and head: nothing for a matrix unit, whose least block is 16 rows."""


@pytest.fixture(scope="module")
def compiler() -> Iterator[Compiler]:
    """One child process for all compilations."""
    one = Compiler(seconds=180)
    yield one
    one.close()


def test_bf16_heads_of_64_compile_without_spills_and_with_tensor_cores(
    compiler: Compiler, capsys: pytest.CaptureFixture[str]
) -> None:
    """On sm_80, 89, 90 and 100 no kernel spills registers, and all with products of blocks use matrix units."""
    began = perf_counter()
    codes = [compiler.ask(Question(k, "bf16", arch, Shape())) for k in KERNELS for arch in PINNED_ARCHS]
    with capsys.disabled():
        print(f" [{len(codes)} compilations in {perf_counter() - began:.0f} s]", end="")
    assert [code for code in codes if code.failure is not None] == []
    assert [code for code in codes if code.spills or code.stack_bytes] == []
    assert [code for code in codes if code.kernel in WITH_PRODUCTS and not code.tensor_core] == []
    assert all(code.shared_bytes is not None and code.shared_bytes <= 99 * 1024 for code in codes)


@pytest.mark.parametrize("shape", [Shape(1, 1, 1, 16, 1), Shape(1, 100, 1, 80, 70), Shape(2, 4096, 8, 128, 4)])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
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
