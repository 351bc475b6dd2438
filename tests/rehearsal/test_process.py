from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from castbench.cost.replay import BatchingPolicy
from castbench.cost.traffic import Traffic
from castbench.errors import HardwareError, RunFileError
from castbench.measure.runner import Silent
from castbench.pipeline import RehearsalQuestion, load_plan, measure, open_rig, rehearse
from castbench.records import RunRecord
from castbench.rehearsal.choice import RehearsalChoice
from castbench.rehearsal.client import play
from castbench.rehearsal.machine import open_stage
from castbench.rehearsal.process import RealClock, ServerProcess
from castbench.rehearsal.seam import ServerOrder
from tests.cli.test_rehearse import PROFILE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """A tiny encoder measured on this CPU, with one thread, in a few seconds."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "small.yaml").write_text(PROFILE)
    profile, plan = load_plan(str(folder / "small.yaml"))
    rig = open_rig("cpu", profile.dtype, profile.seed, 1)
    try:
        return measure(profile, plan, rig, Silent(), out=folder / "run.jsonl").record
    finally:
        rig.close()


def order(record: RunRecord, label: str = "sdpa", policy: BatchingPolicy | None = None) -> ServerOrder:
    """A mechanism of the run, in padded batches of up to 4."""
    arm = record.header.plan.arm(label)
    return ServerOrder(record.header.plan.served, arm, policy or BatchingPolicy(4), True, (32, 64))


def test_a_real_server_answers_every_request(record: RunRecord) -> None:
    """From a run to a rehearsal with a real process: as many latencies as requests, all of them of some length, and the
    rehearsal kept beside the run.
    """
    question = RehearsalQuestion(choice=RehearsalChoice("cast", rate=40.0, seconds=2.0, seed=1))
    found = rehearse(record, question).rehearsal
    assert found.requests > 40
    assert found.observed_batch >= 1.0
    assert all(one.observed_s > 0 and one.predicted_s > 0 for one in found.percentiles)
    assert found.overhead_s > 0
    assert found.session.device == "cpu"
    assert found.session.threads == 1
    assert Path((record.path or "").replace(".jsonl", ".rehearsal.json")).is_file()


def test_requests_that_come_together_are_served_together(record: RunRecord) -> None:
    """Six at once make batches of at most four; each is served once, in order."""
    server = ServerProcess(order(record), "cpu", 1)
    try:
        traffic = Traffic.of([0.0] * 6, [32, 64, 7, 64, 1, 64])
        played = play(server, RealClock(), traffic, BatchingPolicy(4), 60.0).observed
    finally:
        server.close()
    assert sorted(played.batch_sizes.tolist(), reverse=True)[0] <= 4
    assert played.batch_of.tolist() == sorted(played.batch_of.tolist())
    assert (played.wait_s >= 0).all()


def test_a_server_that_is_killed_is_no_answer(record: RunRecord) -> None:
    """The error says what ended it, in words, and not that it kept silent."""
    server = ServerProcess(order(record), "cpu", 1)
    assert server._forked.pid is not None
    os.kill(server._forked.pid, signal.SIGTERM)
    try:
        with pytest.raises(HardwareError, match=r"the server process died \(SIGTERM\)"):
            play(server, RealClock(), Traffic.of([0.0, 0.2], [32, 32]), BatchingPolicy(4), 60.0)
    finally:
        server.close()


def test_an_order_that_cannot_be_served_is_refused_with_the_reason(record: RunRecord) -> None:
    """Requests longer than the encoder takes."""
    long = replace(order(record), lengths=(32, 100_000))
    with pytest.raises(HardwareError, match="sdpa cannot be served here: "):
        ServerProcess(long, "cpu", 1)


def test_a_run_of_another_machine_is_not_rehearsed_here(record: RunRecord) -> None:
    """Another CPU or number of cores would blame the replay for the machine."""
    here = record.header.environment
    for changed, words in ((replace(here, device_name="a far CPU"), "device was a far CPU"),
                           (replace(here, cpu_cores=64), "cores was 64 and is now")):  # fmt: skip
        header = replace(record.header, environment=changed)
        with pytest.raises(RunFileError, match=words), open_stage(header):
            pass


def test_what_changed_since_is_told(record: RunRecord) -> None:
    """Other code and another torch are no other machine, but are said beside the result."""
    here = replace(record.header.environment, torch="1.0")
    with open_stage(replace(record.header, environment=here, code_sha256="0" * 64)) as stage:
        assert stage.differs[0].startswith("castbench's measured code was 000000000000 and is now ")
        assert stage.differs[1].startswith("torch was 1.0 and is now ")
    with open_stage(record.header) as stage:
        assert stage.differs == ()


def test_ctrl_c_ends_the_server_too(record: RunRecord) -> None:
    """SIGINT to the whole process group, as a terminal sends it: exit 130, no traceback, nobody left."""
    kept = Path((record.path or "").replace(".jsonl", ".rehearsal.json"))
    before = kept.read_text() if kept.exists() else None
    process = subprocess.Popen(
        [sys.executable, "-m", "castbench", "rehearse", record.path or "", "--seconds", "300", "--rate", "5"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    until = time.monotonic() + 120
    while time.monotonic() < until and len(_group(process.pid)) < 3:
        time.sleep(0.1)
    time.sleep(1.0)
    os.killpg(process.pid, signal.SIGINT)
    try:
        out, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in errors
    assert "nothing of this rehearsal is kept" in errors
    until = time.monotonic() + 30
    while time.monotonic() < until and _group(process.pid):
        time.sleep(0.1)
    assert _group(process.pid) == []
    assert (kept.read_text() if kept.exists() else None) == before


def _group(leader: int) -> list[int]:
    """Processes of a group that are still there."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == leader and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def test_the_parent_never_imports_torch() -> None:
    """Neither the process's handle nor the stage."""
    code = (
        "import sys, castbench.rehearsal.process, castbench.rehearsal.stage, castbench.rehearsal.machine,"
        " castbench.measure.torch_rig\nprint('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
