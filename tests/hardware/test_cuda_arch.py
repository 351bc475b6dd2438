from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.hardware.cuda_arch import FIRST_CUDA, Capability, Support, build_advice, support

CU118 = ("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90")
CU130 = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_110", "sm_120", "compute_120")


@pytest.mark.parametrize(
    ("arch_list", "capability", "expected"),
    [
        (CU118, (8, 0), Support.BINARY),
        (CU118, (8, 9), Support.BINARY),
        (CU118, (9, 0), Support.BINARY),
        (CU118, (10, 0), Support.NONE),
        (CU118, (12, 0), Support.NONE),
        (CU130, (7, 0), Support.NONE),
        (CU130, (10, 3), Support.BINARY),
        (CU130, (12, 1), Support.BINARY),
        (("sm_80", "compute_80"), (9, 0), Support.PTX),
        (("sm_80", "compute_80"), (7, 5), Support.NONE),
        (("sm_86",), (8, 0), Support.NONE),
        (("sm_90a",), (9, 0), Support.BINARY),
        (("sm_100a",), (10, 3), Support.NONE),
        (("sm_100f",), (10, 3), Support.BINARY),
        (("compute_90a",), (10, 0), Support.NONE),
        (("compute_100f",), (12, 0), Support.NONE),
        (("gfx90a",), (9, 0), Support.NONE),
        ((), (8, 0), Support.NONE),
    ],
)
def test_a_build_runs_on_what_the_cuda_rules_allow(
    arch_list: tuple[str, ...], capability: Capability, expected: Support
) -> None:
    """Machine code: same major and not older; PTX: anything newer; suffix a: exactly that GPU; suffix f: its major."""
    assert support(arch_list, capability) is expected


@given(built=st.tuples(st.integers(5, 12), st.integers(0, 9)), device=st.tuples(st.integers(5, 12), st.integers(0, 9)))
def test_machine_code_never_runs_on_another_major(built: Capability, device: Capability) -> None:
    """sm_XY runs exactly on the same major with an equal or higher minor; PTX of it on everything equal or newer."""
    name = f"{built[0]}{built[1]}"
    runs = built[0] == device[0] and built[1] <= device[1]
    assert (support([f"sm_{name}"], device) is Support.BINARY) is runs
    assert (support([f"compute_{name}"], device) is Support.PTX) is (built <= device)


def test_advice_goes_in_the_right_direction() -> None:
    """A GPU newer than the build needs a newer one, with its CUDA where known; one that was dropped an older one."""
    assert "sm_100 (for CUDA 12.8 or later)" in build_advice(CU118, (10, 0))
    assert build_advice(CU118, (11, 0)).startswith("install a newer torch build that lists sm_110")
    assert "older CUDA" in build_advice(CU130, (7, 0))
    assert FIRST_CUDA[9, 0] == "11.8"
