"""Which GPUs a torch build can run on: compute capabilities against the list of architectures it was built for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum

Capability = tuple[int, int]
"""Compute capability (major, minor): (9, 0) is sm_90."""

_ENTRY = re.compile(r"(?P<kind>sm|compute)_(?P<major>\d+)(?P<minor>\d)(?P<suffix>[af]?)")
FIRST_CUDA = {
    (8, 0): "11.0", (8, 6): "11.1", (8, 9): "11.8", (9, 0): "11.8",
    (10, 0): "12.8", (10, 3): "12.9", (12, 0): "12.8", (12, 1): "12.9",
}  # fmt: skip
"""First CUDA toolkit that knows an architecture (release notes of the CUDA toolkit)."""


class Support(StrEnum):
    """How a build runs on a GPU: with machine code made for it, through PTX compiled on first use, or not at all."""

    BINARY = "binary"
    PTX = "ptx"
    NONE = "none"


def support(arch_list: Iterable[str], capability: Capability) -> Support:
    """How a build for `arch_list` (as torch.cuda.get_arch_list() spells it) runs on a GPU of that capability.

    Machine code (sm_XY) runs on the same major and an equal or higher minor; PTX (compute_XY) on anything equal or
    newer; with suffix a on exactly that GPU, with suffix f within the major only (CUDA C++ programming guide,
    "Binary compatibility", "PTX compatibility").
    """
    matches = [match for entry in arch_list if (match := _ENTRY.fullmatch(entry))]
    kinds = {match["kind"] for match in matches if _fits(match, capability)}
    if "sm" in kinds:
        return Support.BINARY
    return Support.PTX if "compute" in kinds else Support.NONE


def build_advice(arch_list: Iterable[str], capability: Capability) -> str:
    """Which torch build to install for a GPU that the one at hand cannot run on."""
    name = f"sm_{capability[0]}{capability[1]}"
    known = [(int(m["major"]), int(m["minor"])) for entry in arch_list if (m := _ENTRY.fullmatch(entry))]
    if known and capability < min(known):
        return f"install a torch build for an older CUDA that still lists {name} (it dropped this GPU's generation)"
    first = FIRST_CUDA.get(capability)
    least = f" (for CUDA {first} or later)" if first else ""
    return f"install a newer torch build that lists {name}{least}"


def _fits(match: re.Match[str], capability: Capability) -> bool:
    """Whether code for one entry runs on a GPU of that capability."""
    built = (int(match["major"]), int(match["minor"]))
    if match["suffix"] == "a":
        return built == capability
    same_major = built[0] == capability[0]
    return built <= capability and (same_major or (match["kind"] == "compute" and not match["suffix"]))
