from __future__ import annotations

from dataclasses import replace

import pytest

from castbench.cost.savings import project
from castbench.cost.spec import Price
from castbench.records import Caveat, RunRecord
from castbench.report import text
from tests.cost.builder import DEMAND, run_of, times

SERVER = Price(0.2, "a server", "on_demand", 0, None, "stated by you", contract=True)


def on_cpu(threads: int) -> RunRecord:
    """A run on a CPU with that many threads."""
    record = run_of(times({"sdpa": 0.1, "cast-32": 0.05}))
    environment = replace(record.header.environment, device="cpu", threads=threads)
    return replace(record, header=replace(record.header, environment=environment))


@pytest.mark.parametrize(("vcpus", "doubted"), [(2, False), (4, True), (None, False)])
def test_a_price_for_another_size_of_server_is_doubted(vcpus: int | None, doubted: bool) -> None:
    """Measured on 2 threads and priced for 4 vCPUs: every row says so; an unstated size is an assumption."""
    found = project(on_cpu(2), replace(SERVER, vcpus=vcpus), DEMAND, money_missing=None, seed=0)
    assert all((Caveat.PRICED_SIZE in arm.caveats) is doubted for arm in found.arms)
    said = next(s for s in map(text.say, found.assumptions) if s.startswith("Measured on 2 threads"))
    assert ("nobody stated" in said) is (vcpus is None)
