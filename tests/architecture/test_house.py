from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import castbench

ROOT = Path(castbench.__file__).parent
SOURCES = sorted(path for path in ROOT.rglob("*.py") if "profiles" not in path.parts)
LONGEST_FUNCTION = 40
TORCH_ROOMS = (
    "mechanisms/*/[!_]*.py", "mechanisms/dense_reference.py", "mechanisms/packing.py",
    "mechanisms/projected.py", "mechanisms/row_by_row.py",
    "mechanisms/uncompiled.py", "mechanisms/*/kernels/*.py",
    "encoder/model.py", "encoder/inputs.py", "encoder/training.py",
    "measure/clock.py", "measure/cpu_clock.py", "measure/cuda.py", "measure/cuda_clock.py",
    "measure/cuda_graph.py", "measure/memory.py", "measure/parity.py", "measure/worker.py",
    "measure/torch_facts.py", "measure/doctor.py", "measure/regimes.py", "rehearsal/server.py",
)  # fmt: skip
PURE_ROOMS = ("cost/*.py", "stats.py", "plan.py", "findings.py", "energy.py", "carry_over.py")
COMMANDS = (
    (), ("profile",), ("report",), ("compare",), ("workload",), ("workload", "init"), ("workload", "check"),
    ("workload", "schema"), ("runs",), ("runs", "show"), ("runs", "remove"), ("mechanisms",), ("doctor",), ("verify",),
    ("prices",), ("workload", "from-trace"), ("capacity",), ("rehearse",), ("diff",),
)  # fmt: skip
HEAVY = ("torch", "numpy", "pandas", "pynvml", "rich.table", "yaml")


def imported_names(tree: ast.AST) -> set[str]:
    """Top-level packages a module imports anywhere, outside `if TYPE_CHECKING`."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_a_file_says_what_it_is_for_and_its_functions_are_short(path: Path) -> None:
    """Every file opens with a docstring, and no function outside kernels is longer than 40 lines; of a command's, whose
    signature is the documentation of its options, the body counts.
    """
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "no module docstring"
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    lines = {node.name: _lines(node, is_command="cli" in path.parts) for node in functions}
    assert "kernels" in path.parts or not {name: n for name, n in lines.items() if n > LONGEST_FUNCTION}


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef, *, is_command: bool) -> int:
    """Lines of a function, or of its body."""
    first = function.body[0] if is_command and function.name.endswith("_command") else function
    assert function.end_lineno is not None
    return function.end_lineno - first.lineno + 1


def test_torch_stays_in_its_rooms() -> None:
    """Only the files named above import torch."""
    allowed = {path for pattern in TORCH_ROOMS for path in ROOT.glob(pattern)}
    strays = [p.name for p in SOURCES if p not in allowed and "torch" in imported_names(ast.parse(p.read_text()))]
    assert strays == []


def test_pure_rooms_import_no_io_libraries() -> None:
    """cost, stats, plan and findings import no torch, pandas or yaml."""
    for pattern in PURE_ROOMS:
        for path in ROOT.glob(pattern):
            assert not imported_names(ast.parse(path.read_text())) & {"torch", "pandas", "yaml", "rich", "typer"}, path


def test_one_file_imports_pynvml_and_one_room_pydantic() -> None:
    """Vendor names stop at one file each."""
    users = {
        name: [p.relative_to(ROOT).as_posix() for p in SOURCES if name in imported_names(ast.parse(p.read_text()))]
        for name in ("pynvml", "pydantic", "yaml")
    }
    assert users["pynvml"] == ["hardware/nvml.py"]
    assert all(user.startswith("workload/") for user in users["pydantic"])
    assert all(user.startswith(("workload/", "report/catalogue/")) for user in users["yaml"])


def test_no_drawer_has_a_name_that_says_nothing() -> None:
    """No file or folder is called utils, common, helpers, manager or base."""
    drawers = {"utils", "util", "common", "helpers", "manager", "base", "misc"}
    assert [p for p in SOURCES if p.stem in drawers or p.parent.name in drawers] == []


def heavy_modules_after(code: str) -> list[str]:
    """Which heavy packages a fresh interpreter has imported after running `code`."""
    script = f"import sys\n{code}\nprint(' '.join(m for m in {HEAVY!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split() if done.stdout.strip() else []


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: " ".join(c) or "castbench")
def test_help_imports_nothing_heavy(command: tuple[str, ...]) -> None:
    """`castbench … --help` in a fresh interpreter imports none of torch, numpy, pandas, pynvml, yaml."""
    code = (
        "from castbench.cli.app import app\n"
        "try:\n"
        f"    app([*{command!r}, '--help'])\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
    )
    assert heavy_modules_after(code) == []


def test_importing_the_package_imports_nothing() -> None:
    """`import castbench` is free."""
    assert heavy_modules_after("import castbench") == []


def test_listing_mechanisms_imports_no_torch() -> None:
    """Every mechanism's description is read without torch."""
    code = "from castbench.mechanisms.registry import all_specs\nassert len(all_specs()) >= 7"
    assert "torch" not in heavy_modules_after(code)
