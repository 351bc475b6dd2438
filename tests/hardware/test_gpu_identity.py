from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.hardware.gpu import Gpu, GpuInventory
from castbench.hardware.gpu_identity import Identity, identify
from castbench.records import GpuFacts

UUIDS = tuple(f"GPU-{letter}0000000-0000-4000-8000-00000000000{n}" for n, letter in enumerate("abcd"))
SLICES = tuple(f"MIG-{letter}0000000-0000-4000-8000-00000000000{n}" for n, letter in enumerate("ef"))


def gpu(index: int, name: str = "NVIDIA A100-SXM4-80GB", *, mig: bool = False) -> Gpu:
    """A whole GPU."""
    return Gpu(GpuFacts(index, UUIDS[index], name, mig=mig))


def part(index: int, of: int) -> Gpu:
    """A MIG instance of a GPU."""
    return Gpu(GpuFacts(of, SLICES[index], "NVIDIA A100 MIG 3g.40gb", parent_uuid=UUIDS[of], mig=True))


FOUR = GpuInventory(tuple(map(gpu, range(4))))
MIXED = GpuInventory((gpu(0, "Tesla T4"), gpu(1)))
CUT = GpuInventory((gpu(0, mig=True),), (part(0, 0), part(1, 0)))
CUT_ONCE = replace(CUT, instances=(part(0, 0),))
HALF_CUT = GpuInventory((gpu(0), gpu(1, mig=True)), (part(0, 1),))


def found(
    inventory: GpuInventory,
    visible: str | None,
    device: str = "cuda:0",
    *,
    torch: str | None = None,
    order: str | None = None,
) -> str | None:
    """The UUID that is told, or None; a reason stands exactly where there is none."""
    identity = identify(device, inventory, torch_uuid=torch, visible=visible, device_order=order)
    assert (identity.uuid is None) != (identity.reason is None)
    return identity.uuid


@pytest.mark.parametrize(
    ("visible", "device", "uuid"),
    [
        (None, "cuda", UUIDS[0]),
        (None, "cuda:3", UUIDS[3]),
        ("2", "cuda:0", UUIDS[2]),
        ("2,0", "cuda:1", UUIDS[0]),
        (" 3 , 1 ", "cuda:1", UUIDS[1]),
        ("1,7,2", "cuda:0", UUIDS[1]),
        ("1,7,2", "cuda:1", None),
        ("0,-1,1", "cuda:1", None),
        ("1,x,2", "cuda:1", None),
        ("2gpu", "cuda:0", UUIDS[2]),
        ("", "cuda:0", None),
        ("-1", "cuda:0", None),
        ("NoDevFiles", "cuda:0", None),
        ("1,1", "cuda:0", None),
        (None, "cuda:4", None),
        (f"{UUIDS[3]},{UUIDS[1]}", "cuda:1", UUIDS[1]),
        ("GPU-c,GPU-b", "cuda:0", UUIDS[2]),
        ("gpu-C000", "cuda:0", UUIDS[2]),
        ("GPU-c,GPU-z,GPU-b", "cuda:1", None),
        ("GPU-", "cuda:0", None),
        ("GPU-c,GPU-c0", "cuda:0", None),
        ("GPU-c,1", "cuda:1", None),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(visible: str | None, device: str, uuid: str | None) -> None:
    """Numbers and beginnings of UUIDs count in their order, up to the first invalid entry; a repetition hides all."""
    assert found(FOUR, visible, device) == uuid


def test_a_beginning_that_two_uuids_share_names_none() -> None:
    """An abbreviation must be unique."""
    twins = GpuInventory((gpu(0), Gpu(GpuFacts(1, "GPU-a1111111-0000-4000-8000-000000000009", "NVIDIA A100"))))
    assert found(twins, "GPU-a") is None
    assert found(twins, "GPU-a1") == "GPU-a1111111-0000-4000-8000-000000000009"


def test_several_models_are_numbered_by_speed_unless_told_otherwise() -> None:
    """CUDA puts the fastest first, which the driver's list does not say; by PCI order or by UUID there is no doubt."""
    reason = identify("cuda:0", MIXED, torch_uuid=None, visible=None).reason
    assert reason is not None
    assert "sorts by speed" in reason
    assert "CUDA_DEVICE_ORDER" in reason
    assert found(MIXED, None, order="FASTEST_FIRST") is None
    assert found(MIXED, None, order="PCI_BUS_ID") == UUIDS[0]
    assert found(MIXED, "1", order="PCI_BUS_ID") == UUIDS[1]
    assert found(MIXED, UUIDS[1]) == UUIDS[1]


@pytest.mark.parametrize(
    ("inventory", "visible", "device", "uuid"),
    [
        (CUT, SLICES[1], "cuda:0", SLICES[1]),
        (CUT, f"{SLICES[1]},{SLICES[0]}", "cuda:1", None),
        (CUT, None, "cuda:0", None),
        (CUT, "0", "cuda:0", None),
        (CUT, UUIDS[0], "cuda:0", None),
        (CUT, f"MIG-{UUIDS[0]}/1/0", "cuda:0", None),
        (CUT_ONCE, None, "cuda:0", SLICES[0]),
        (CUT_ONCE, "0", "cuda:0", SLICES[0]),
        (CUT_ONCE, UUIDS[0], "cuda:0", SLICES[0]),
        (CUT_ONCE, f"MIG-{UUIDS[0]}/1/0", "cuda:0", SLICES[0]),
        (HALF_CUT, None, "cuda:0", None),
        (HALF_CUT, UUIDS[0], "cuda:0", UUIDS[0]),
        (HALF_CUT, SLICES[0], "cuda:0", SLICES[0]),
        (replace(CUT, instances=()), None, "cuda:0", None),
    ],
)
def test_a_gpu_that_is_cut_is_its_instance(
    inventory: GpuInventory, visible: str | None, device: str, uuid: str | None
) -> None:
    """With MIG on, CUDA runs on one instance: the one named, or the only one; never the whole GPU, never a second."""
    assert found(inventory, visible, device) == uuid


def test_torch_s_own_word_comes_first() -> None:
    """A UUID from torch, with or without its prefix, settles it whatever the environment says."""
    assert found(FOUR, "3", torch=UUIDS[1]) == UUIDS[1]
    assert found(FOUR, "3", torch=UUIDS[1].removeprefix("GPU-").upper()) == UUIDS[1]
    assert found(MIXED, None, torch=UUIDS[1]) == UUIDS[1]
    assert found(CUT, None, torch=SLICES[1].removeprefix("MIG-")) == SLICES[1]
    reason = identify("cuda:0", FOUR, torch_uuid="ffff", visible=None).reason
    assert reason == (
        "which GPU cuda:0 is cannot be told: the driver lists no GPU with the UUID that torch gives, ffff"
    )


def test_a_torch_that_names_the_whole_gpu_does_not_hide_the_instance() -> None:
    """Where torch gives the UUID of the GPU that is cut, the environment or a single instance decides."""
    assert found(CUT, SLICES[1], torch=UUIDS[0]) == SLICES[1]
    assert found(CUT_ONCE, None, torch=UUIDS[0]) == SLICES[0]
    assert found(CUT, None, torch=UUIDS[0]) is None


def test_gpus_that_do_not_answer_leave_a_doubt_about_numbers() -> None:
    """With a lost or forbidden GPU the numbers may shift, and only UUIDs are believed."""
    for missing in (replace(FOUR, unreadable=("GPU 4 …",)), replace(FOUR, forbidden=("GPU 4 …",))):
        assert found(missing, "1") is None
        assert found(missing, UUIDS[1]) == UUIDS[1]


def test_without_a_driver_the_reason_is_the_driver_s() -> None:
    """Nothing listed: the sentence says why."""
    none = GpuInventory(reason="this machine has no NVIDIA driver")
    assert identify("cuda:0", none, torch_uuid=None, visible=None) == Identity(
        None, "which GPU cuda:0 is cannot be told: this machine has no NVIDIA driver"
    )


def test_a_gpu_without_a_uuid_is_not_made_up() -> None:
    """Where the driver gives no UUID there is a reason."""
    nameless = GpuInventory((Gpu(GpuFacts(0, None, "NVIDIA A100")),))
    assert found(nameless, None) is None


@given(st.permutations(range(4)), st.integers(1, 4))
def test_numbers_and_uuids_say_the_same(order: list[int], shown: int) -> None:
    """For GPUs of one model, a list of numbers and the list of their UUIDs show the same devices in the same order."""
    chosen = order[:shown]
    for place in range(4):
        by_number = found(FOUR, ",".join(map(str, chosen)), f"cuda:{place}")
        by_uuid = found(FOUR, ",".join(UUIDS[i] for i in chosen), f"cuda:{place}")
        assert by_number == by_uuid == (UUIDS[chosen[place]] if place < shown else None)
