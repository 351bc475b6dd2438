from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from castbench.encoder.inputs import Batch
from castbench.measure.cuda_graph import WARM_UPS, graphed
from castbench.measure.rig import CaseFailed
from castbench.records import Status
from tests.measure.fake_cuda import FakeCuda


class Doubled(nn.Module):
    """Twice its input, less 100 where masked, by two kernels of the fake; `before` runs first."""

    def __init__(self, fake: FakeCuda, before: Callable[[Tensor], None] = lambda x: None) -> None:
        super().__init__()
        self.fake, self.before = fake, before

    def forward(self, x_BN: Tensor, mask_BN: Tensor | None = None) -> Tensor:
        self.before(x_BN)
        out_BN = torch.empty_like(x_BN)
        self.fake.launch(1e-4, effect=lambda: out_BN.copy_(2 * x_BN))
        if mask_BN is not None:
            self.fake.launch(1e-4, effect=lambda: out_BN.sub_(100.0 * mask_BN))
        return out_BN


def pool_of(*lengths: int, masked: bool = False) -> tuple[Batch, ...]:
    """Batches of different values; the mask of the n-th hides its n-th token."""
    pool = []
    for index, length in enumerate(lengths):
        mask = torch.arange(length).unsqueeze(0) == index if masked else None
        pool.append(Batch(torch.arange(length).unsqueeze(0) + 10.0 * index, mask))
    return tuple(pool)


def test_a_graph_is_warmed_up_on_the_stream_it_is_captured_on_and_only_then_captured() -> None:
    """Order of calls: side stream, warm-up steps, back, wait, capture of one step on that stream."""
    fake = FakeCuda()
    graphed(Doubled(fake), pool_of(4, 4, 4), fake)
    captured = [
        "select",
        "on-side",
        *["launch"] * WARM_UPS,
        "off-side",
        "synchronize",
        "capture-side",
        "launch",
        "captured",
    ]
    assert fake.calls[: len(captured)] == captured
    assert "launch" not in fake.calls[len(captured) :]


@pytest.mark.parametrize("masked", [False, True])
def test_a_replay_computes_on_the_batch_of_its_step(masked: bool) -> None:
    """Round the pool, with and without a mask, every step's output is that of its own inputs, not the captured ones."""
    fake = FakeCuda()
    pool = pool_of(4, 4, 4, masked=masked)
    kept = [batch.inputs.clone() for batch in pool]
    step = graphed(Doubled(fake), pool, fake)
    eager = Doubled(FakeCuda())
    for index in (0, 1, 2, 3, 1):
        batch = pool[index % 3]
        assert torch.equal(step(index), eager(batch.inputs, batch.key_padding_mask))
    assert all(torch.equal(batch.inputs, before) for batch, before in zip(pool, kept, strict=True))


def test_a_step_is_one_launch_whatever_its_kernels() -> None:
    """Replaying costs the host one launch, and no module code runs."""
    fake = FakeCuda()
    step = graphed(Doubled(fake), pool_of(4, masked=True), fake)
    fake.calls.clear()
    began, busy = fake.now_s(), fake.busy_s
    step(0)
    assert fake.calls == ["replay"]
    assert fake.now_s() - began == pytest.approx(fake.machine.launch_s)
    assert fake.busy_s - busy == pytest.approx(2e-4)


def test_there_is_one_graph_per_shape_of_batch() -> None:
    """Two lengths in the pool are two captures, and each step replays its own."""
    fake = FakeCuda()
    pool = pool_of(4, 6, 4, 6)
    step = graphed(Doubled(fake), pool, fake)
    assert fake.calls.count("capture-side") == 2
    for index, batch in enumerate(pool):
        assert torch.equal(step(index), 2 * batch.inputs)


def refusal(fake: FakeCuda, before: Callable[[Tensor], None]) -> CaseFailed:
    """How a module that does `before` first is refused."""
    with pytest.raises(CaseFailed) as caught:
        graphed(Doubled(fake, before), pool_of(4), fake)
    return caught.value


def test_what_waits_for_the_device_cannot_be_captured() -> None:
    """A synchronising module is UNSUPPORTED with the first fault as the reason, and its worker is given up."""
    fake = FakeCuda()
    failure = refusal(fake, lambda x: fake.synchronize())
    assert failure.status is Status.UNSUPPORTED
    assert failure.reason == (
        "cannot be captured as a CUDA graph: CUDA error: operation not permitted when stream is capturing"
    )
    assert failure.epoch_lost


def test_a_capture_that_runs_out_of_memory_is_out_of_memory() -> None:
    """OOM keeps its own status, also when the end of the broken capture raises on top of it."""
    fake = FakeCuda()

    def before(x: Tensor) -> None:
        if "capture-side" in fake.calls:
            fake.break_capture()
            raise torch.OutOfMemoryError("CUDA out of memory")

    failure = refusal(fake, before)
    assert failure.status is Status.OOM
    assert failure.reason == "CUDA out of memory"


def test_a_module_that_is_wrong_by_itself_fails_as_itself() -> None:
    """An error of the eager warm-up is no failure of capturing."""
    fake = FakeCuda()

    def before(x: Tensor) -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        graphed(Doubled(fake, before), pool_of(4), fake)


def test_copying_the_inputs_is_timed_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """`copy_s` is the device time of one copy, from many of them between two events and nothing else."""
    fake, copied = FakeCuda(), list[int]()

    def load(captured: object, batch: Batch) -> None:
        fake.launch(1e-5)
        copied.append(int(batch.inputs[0, 0]) // 10)

    monkeypatch.setattr("castbench.measure.cuda_graph._Captured.load", load)
    step = graphed(Doubled(fake), pool_of(4, 4), fake)
    copies = ["record", *["launch"] * len(copied), "record", "synchronize"]
    assert fake.calls[-len(copies) - 1 :] == ["synchronize", *copies]
    assert copied[:4] == [0, 1, 0, 1]
    assert step.copy_s == pytest.approx(1e-5, rel=0.05)
