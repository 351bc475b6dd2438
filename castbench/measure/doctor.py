"""Looks a machine over: the host and its GPUs from here, torch in a child process, and then the diagnosis.

read_host ─┐
inventory ─┼─▶ diagnose ─▶ Examination
torch_facts ─▶ child: import torch, print one line of JSON
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from castbench.hardware import cpu, nvml
from castbench.hardware.cpu import Host
from castbench.hardware.gpu import GpuInventory
from castbench.measure.diagnosis import (
    DeviceIdentity,
    TorchDevice,
    TorchFacts,
    device_identities,
    device_problem,
    diagnose,
    torch_text,
)
from castbench.measure.finding import Finding
from castbench.plain import from_plain, to_plain

__all__ = ["Examination", "device_problem", "diagnose", "examine", "torch_facts", "torch_text"]

LOOKING_S = 0.5
"""How long the host is watched: steal and CPU shares are then known to about 2 %."""
TORCH_LIMIT_S = 60.0
"""Importing torch takes 2 s from a warm disk and may take half a minute from a cold network disk."""
_CHILD = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from castbench.measure.doctor import print_torch_facts
print_torch_facts()
"""


@dataclass(frozen=True, slots=True)
class Examination:
    """What the machine is, which GPU each of torch's devices is, and what follows from it."""

    host: Host
    inventory: GpuInventory
    torch: TorchFacts
    devices: tuple[DeviceIdentity, ...]
    findings: tuple[Finding, ...]


def examine() -> Examination:
    """The machine as it is now, in about three seconds.

    The GPUs are listed before torch starts, so that castbench's own child is not taken for somebody else.
    """
    host, inventory = cpu.read_host(LOOKING_S), nvml.inventory()
    facts = torch_facts()
    return Examination(
        host, inventory, facts, device_identities(inventory, facts), diagnose(host, inventory, facts)
    )  # fmt: skip


def torch_facts(limit_s: float = TORCH_LIMIT_S) -> TorchFacts:
    """What torch says of itself, asked in a child process: a broken build or a hanging driver ends the child only.

    The child gets this process's import path, so that both mean the same torch.
    """
    command = [sys.executable, "-P", "-c", _CHILD, json.dumps(sys.path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return TorchFacts(problem=f"importing it took longer than {limit_s:g} s")
    except OSError as error:
        return TorchFacts(problem=f"no child process could be started: {error.strerror}")
    return parse_answer(done.returncode, done.stdout, done.stderr)


def parse_answer(code: int, stdout: str, stderr: str) -> TorchFacts:
    """The child's last line as facts; where there is none, what it died of. Libraries may print before it."""
    lines, complaints = stdout.strip().splitlines(), stderr.strip().splitlines()
    if code != 0 or not lines:
        died = f"signal {-code}" if code < 0 else f"exit code {code}"
        return TorchFacts(problem=f"its process ended with {died}{f': {complaints[-1]}' if complaints else ''}")
    try:
        return from_plain(TorchFacts, json.loads(lines[-1]))
    except ValueError as error:
        return TorchFacts(problem=f"its process answered with something else: {error}")


def print_torch_facts() -> None:
    """In the child: one line of JSON on stdout."""
    print(json.dumps(to_plain(read_torch_facts())))


def read_torch_facts() -> TorchFacts:
    """Facts of the torch that this process can import; only the child calls this."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return TorchFacts(problem=f"it cannot be imported: {next(iter(str(error).splitlines()), 'no reason given')}")
    libraries: Any = torch.backends
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return TorchFacts(
        torch=torch.__version__, cuda=torch.version.cuda, hip=torch.version.hip,
        arch_list=tuple(torch.cuda.get_arch_list()), devices=tuple(_torch_device(index) for index in range(count)),
        threads=torch.get_num_threads(), mkl=libraries.mkl.is_available(), onednn=libraries.mkldnn.is_available(),
        cpu_capability=libraries.cpu.get_cpu_capability(), tf32=libraries.cuda.matmul.allow_tf32,
        visible=os.environ.get("CUDA_VISIBLE_DEVICES"), device_order=os.environ.get("CUDA_DEVICE_ORDER"),
    )  # fmt: skip


def _torch_device(index: int) -> TorchDevice:
    """One device as torch sees it."""
    import torch

    properties = torch.cuda.get_device_properties(index)
    uuid = getattr(properties, "uuid", None)
    return TorchDevice(
        index, properties.name, (properties.major, properties.minor), properties.total_memory,
        None if uuid is None else str(uuid),
    )  # fmt: skip
