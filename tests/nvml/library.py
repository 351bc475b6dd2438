"""Builds the test library, writes its scripts, and runs code against it in a child process, as a user's process would.

Script ──write──▶ file ◀──re-read on change── libnvidia-ml.so.1 ◀──ctypes── pynvml ◀── castbench, all in the child

    def test_…(fake_nvml: FakeNvml) -> None:
        script = Script().gpu(A100, power_w=300)
        answer = fake_nvml.run(script, '''
            from castbench.hardware.nvml import open_gpu
            answer = open_gpu(UUID).power_w()
        ''', UUID=A100["uuid"])

The code sets `answer` to what json can write. In it `control` steers the library: control.at(seconds) lets time stand
still there, control.watts(gpu, watts) sets the power from now on, control.calls("nvmlDeviceGetName") counts calls,
control.rewrite(text) replaces the script. Without control.at, time runs as usual from the first nvmlInit.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import castbench
from tests.nvml.models import Model, Setting

SOURCE = Path(__file__).with_name("fake_nvml.c")
SONAME = "libnvidia-ml.so.1"
LIMIT_S = 60.0
_CHILD = """
import ctypes, json, os, sys

class Control:
    def __init__(self):
        self._library = ctypes.CDLL("libnvidia-ml.so.1")
        self._library.fake_nvml_set_time.argtypes = [ctypes.c_double]
        self._library.fake_nvml_set_time.restype = None
        self._library.fake_nvml_set_power.argtypes = [ctypes.c_uint, ctypes.c_double]
        self._library.fake_nvml_set_power.restype = None
        self._library.fake_nvml_calls.restype = ctypes.c_long

    def at(self, seconds):
        self._library.fake_nvml_set_time(seconds)

    def watts(self, gpu, watts):
        self._library.fake_nvml_set_power(gpu, watts)

    def calls(self, function=""):
        return self._library.fake_nvml_calls(function.encode())

    def references(self):
        return self._library.fake_nvml_references()

    def rewrite(self, text):
        path = os.environ["FAKE_NVML_SCRIPT"]
        with open(path + ".new", "w") as file:
            file.write(text)
        os.replace(path + ".new", path)

given = json.loads(sys.stdin.read())
names = {"control": Control() if given["control"] else None, **given["names"]}
exec(compile(given["code"], "<child>", "exec"), names)
print(json.dumps(names.get("answer")))
"""


class Script:
    """What the library plays: GPUs in the driver's order, the driver, and faults. Every method returns a new script."""

    def __init__(self, settings: dict[str, str] | None = None) -> None:
        self.settings = {"driver": "570.133.20", "cuda": "12080", "gpus": "0"} if settings is None else settings

    def gpu(self, model: Model, *, instances: Iterable[Model] = (), **differences: Setting) -> Script:
        """One more GPU: a model with differences (None: NOT_SUPPORTED); with instances, MIG is on."""
        index = int(self.settings["gpus"])
        parts = tuple(instances)
        whole = {**model, **({"mig": 1} if parts else {}), **differences}
        found = _prefixed(f"gpu{index}", whole)
        for number, part in enumerate(parts):
            found |= _prefixed(f"gpu{index}.mig{number}", part)
        return Script({**self.settings, **found, "gpus": str(index + 1)})

    def fault(self, function: str, code: int, *, gpu: int | None = None, from_call: int = 1) -> Script:
        """A function that fails from its n-th call on; on one GPU `function` may be * for any call."""
        where = "" if gpu is None else f"gpu{gpu}."
        return self.with_(f"{where}fault.{function}", f"{code}@{from_call}")

    def slowed(self, cause: str, *episodes: tuple[float, float], gpu: int = 0) -> Script:
        """Episodes (from, to) in seconds during which a cause of castbench's SlowdownCause slows a GPU."""
        steps = "".join(f",{start}:1,{end}:0" for start, end in episodes)
        return self.with_(f"gpu{gpu}.slow.{cause}", f"0:0{steps}")

    def process(
        self, pid: int, used_bytes: int | None, *, gpu: str = "gpu0", since: float = 0, until: float = 1e9
    ) -> Script:
        """A process on a GPU ("gpu0") or MIG instance ("gpu0.mig1") for a time."""
        taken = sum(key.startswith(f"{gpu}.process") for key in self.settings)
        return self.with_(f"{gpu}.process{taken}", f"{pid},{-1 if used_bytes is None else used_bytes},{since},{until}")

    def with_(self, key: str, value: Setting) -> Script:
        """The same with one setting changed, or removed by None."""
        kept = {name: old for name, old in self.settings.items() if name != key}
        return Script(kept if value is None else {**kept, key: str(value)})

    def text(self) -> str:
        """The script file."""
        return "".join(f"{key}={value}\n" for key, value in self.settings.items())


def _prefixed(prefix: str, settings: Model) -> dict[str, str]:
    """Settings of one device."""
    return {f"{prefix}.{key}": str(value) for key, value in settings.items() if value is not None}


@dataclass(frozen=True)
class FakeNvml:
    """The built library in a folder of its own, a place for further builds and one for scripts."""

    folder: Path
    builds: Path
    scratch: Path

    def without(self, *symbols: str) -> FakeNvml:
        """The library of an old driver, which lacks these functions."""
        folder = self.builds / "-".join(("without", *(symbol.removeprefix("nvmlDeviceGet") for symbol in symbols)))
        if not (folder / SONAME).exists():
            build(folder, hidden=symbols)
        return replace(self, folder=folder)

    def environment(self, script: Script | None) -> dict[str, str]:
        """Environment of a process that finds this library; None: a machine without any driver's library."""
        empty = self.scratch / "no-driver"
        empty.mkdir(exist_ok=True)
        if script is None:
            return {**os.environ, "LD_LIBRARY_PATH": str(empty)}
        path = self.scratch / f"script-{len(list(self.scratch.glob('script-*')))}.txt"
        path.write_text(script.text())
        return {**os.environ, "LD_LIBRARY_PATH": str(self.folder), "FAKE_NVML_SCRIPT": str(path)}

    def run(self, script: Script | None, code: str, **names: Any) -> Any:
        """What `code` sets as `answer` in a child process; AssertionError with its stderr where the child fails."""
        given = {"code": textwrap.dedent(code), "names": names, "control": script is not None}
        done = subprocess.run(
            [sys.executable, "-c", _CHILD], input=json.dumps(given), env=self.environment(script),
            cwd=Path(castbench.__file__).parents[1], capture_output=True, text=True, timeout=LIMIT_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])


def build(folder: Path, hidden: Iterable[str] = ()) -> None:
    """Compile the library into `folder`; every warning about NVIDIA's prototypes and types is an error."""
    compiler, header = compiler_and_header()
    folder.mkdir(parents=True)
    symbols = folder / "symbols.map"
    names = tuple(hidden)
    symbols.write_text("{ global: *; " + (f"local: {'; '.join(names)}; " if names else "") + "};\n")
    subprocess.run(
        [
            compiler, "-shared", "-fPIC", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror",
            "-Wincompatible-pointer-types", "-Wstrict-prototypes", "-Wmissing-prototypes",
            # The library must offer the deprecated calls: castbench falls back on them.
            "-Wno-deprecated-declarations",
            f"-I{header}", f"-Wl,-soname,{SONAME}", f"-Wl,--version-script={symbols}",
            "-o", str(folder / SONAME), str(SOURCE), "-lm", "-lpthread",
        ],
        check=True, capture_output=True, text=True,
    )  # fmt: skip


def compiler_and_header() -> tuple[str, Path]:
    """The machine's C compiler and the folder with nvml.h; LookupError with the reason where one is missing."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not sys.platform.startswith("linux"):
        raise LookupError("the test library for NVML is built for Linux only")
    if compiler is None:
        raise LookupError("no C compiler, so that the test library for NVML cannot be built")
    for place in map(Path, sys.path):
        for header in sorted(place.glob("nvidia/*/include/nvml.h")):
            return compiler, header.parent
    raise LookupError("no nvml.h: the package nvidia-nvml-dev is not installed")
