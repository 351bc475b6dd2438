"""Opens the machine a run was measured on as a stage for its rehearsal, and says what is no longer as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from castbench.errors import RunFileError
from castbench.records import Environment, RunHeader
from castbench.rehearsal.seam import Stage

if TYPE_CHECKING:
    from castbench.rehearsal.fake_server import FakeClock, FakeServer
    from castbench.rehearsal.seam import ServerOrder


@contextmanager
def open_stage(header: RunHeader) -> Iterator[Stage]:
    """A run's device, with its threads. RunFileError where it is another machine, HardwareError where it is gone."""
    if header.environment.device == "fake":
        yield _fake_stage(header)
        return
    from castbench.hardware.cpu import read_host
    from castbench.measure.torch_rig import TorchRig, usable_device
    from castbench.rehearsal.process import RealClock, ServerProcess

    then = header.environment
    device = usable_device(then.device)
    with closing(TorchRig(device, then.threads)) as rig:
        here, (_, now, code) = rig.environment(), rig.identity()
        differs = _differences(header, here, code)
        limit = read_host().memory_available_bytes if device == "cpu" else None
        opened = partial(ServerProcess, device=device, threads=then.threads, memory_limit_bytes=limit)
        yield Stage(here, now, differs, RealClock(), opened)


def _differences(header: RunHeader, here: Environment, code: str) -> tuple[str, ...]:
    """What changed since the run was measured; RunFileError for what makes it another machine."""
    then = header.environment
    for what, was, now in (("device", then.device_name, here.device_name), ("cores", then.cpu_cores, here.cpu_cores)):
        if was is not None and was != now:
            raise RunFileError(f"cannot rehearse: {what} was {was} and is now {now}; measure a run here first")
    changed = (
        ("castbench's measured code", header.code_sha256[:12], code[:12]), ("torch", then.torch, here.torch),
        ("driver", then.driver, here.driver), ("host", then.host, here.host),
    )  # fmt: skip
    return tuple(f"{what} was {was} and is now {now}" for what, was, now in changed if was != now)


def _fake_stage(header: RunHeader) -> Stage:
    """The machine that does not exist, with the clock that a fake run begins at."""
    from castbench.rehearsal.fake_server import FakeClock

    clock = FakeClock()
    return Stage(
        header.environment, header.created_at, (), clock, partial(_fake_server, clock, header.plan.served.seed)
    )


def _fake_server(clock: FakeClock, seed: int, order: ServerOrder) -> FakeServer:
    """A server whose batches take as long as the FLOP count says."""
    from castbench.encoder.work import step_work
    from castbench.hardware.rates import FAKE_RATES
    from castbench.rehearsal.fake_server import FakeServer, noisy
    from castbench.workload.spec import Shape

    def seconds(rows: int, longest: int) -> float:
        return FAKE_RATES.seconds(step_work(order.served, order.arm, Shape(rows, longest)))

    return FakeServer(clock, order, noisy(seconds, seed))
