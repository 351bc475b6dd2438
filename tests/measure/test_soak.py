from __future__ import annotations

import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import chaos
from benchmarks.chaos import (
    CTRL_C,
    DISK_FULL,
    ENDS,
    GPU_LOST,
    KILL,
    NO_WORKER,
    NOTHING,
    READ_ONLY,
    Campaign,
    Session,
    ended,
    order_problems,
    second_writer,
    started,
    together,
    wholeness_problems,
)
from castbench import pipeline
from castbench.measure.fake_rig import FakeRig
from castbench.measure.runner import Silent
from castbench.plan import make_plan
from castbench.records import RunRecord
from tests.examples import example_profile

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="a full disk and a read-only place are made Linux's way"
)
SEED = 4
"""Of the faults; the profile is the one below."""


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """Six groups of many rounds, since two arms hardly differ: there is always something left to interrupt."""
    path = tmp_path / "profile.yaml"
    path.write_text(
        "name: soak\nmodel: {layers: 2, embed_dim: 64, num_heads: 4, ffn_dim: 128}\n"
        "lengths:\n  - {tokens: 128, share: 0.5}\n  - {tokens: 256, share: 0.5}\n"
        "batch_sizes: [1, 2]\nbatching: [bucketed, padded]\nphase: inference\ndtype: fp32\nseed: 1\n"
        "baseline: sdpa\nmechanisms: [sdpa, {plus: {of: sdpa, percent: 0.3}}]\n"
        "sampling: {target_ci: 0.01, same_within: 0.0001, min_window_ms: 1, energy: false}\n"
    )
    return path


@pytest.fixture
def campaign(profile: Path, tmp_path: Path) -> Campaign:
    """A run that has not begun."""
    (tmp_path / "runs").mkdir()
    return Campaign(profile, tmp_path / "runs" / "run.jsonl", SEED)


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    """A run that nothing happened to."""
    measured = example_profile()
    return pipeline.measure(measured, make_plan(measured), FakeRig(3), Silent(), out=tmp_path / "whole.jsonl").record


@pytest.mark.slow
def test_a_run_survives_everything_that_ends_a_session(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine sessions, each ended another way while faults strike: every round kept once and in order, right exit codes,
    no traceback, no hang; the last session completes the run, and verify finds nothing wrong.
    """
    monkeypatch.setattr(chaos, "TORN_SHARE", 1.0)
    record = campaign.run(ENDS)
    assert campaign.problems == []
    assert record is not None
    assert len(record.groups) == len(record.header.plan.groups) == 6
    assert {(e.name, e.code) for e in (READ_ONLY, GPU_LOST, NO_WORKER, DISK_FULL)} <= set(campaign.came_of)
    assert len(record.resumed_at) >= 3
    assert campaign.injected["last line torn"] == sum(n for (_, code), n in campaign.came_of.items() if code == -9)


@pytest.mark.slow
def test_two_runs_at_once_in_one_folder_have_a_file_each(profile: Path, tmp_path: Path) -> None:
    """Begun in the same second from one profile, both complete, in two files that verify finds whole."""
    assert together(profile, tmp_path) == []


@pytest.mark.slow
def test_whoever_wants_a_file_that_is_being_written_is_refused(profile: Path, tmp_path: Path) -> None:
    """A new run into it and a resumption of it: one sentence and exit code 4 each; the writer completes its run."""
    assert second_writer(profile, tmp_path / "run.jsonl") == []


def test_the_soak_sees_rounds_twice_and_groups_closed_twice(record: RunRecord) -> None:
    """A whole record has no problem; a doubled, a missing and a misplaced round and a doubled group are each named."""
    rounds, groups = record.rounds, record.groups
    assert list(order_problems(record)) == []
    for broken in (
        replace(record, rounds=(*rounds, rounds[0])),
        replace(record, rounds=rounds[1:]),
        replace(record, rounds=(rounds[1], rounds[0], *rounds[2:])),
        replace(record, groups=(*groups, groups[-1])),
        replace(record, unchained=(3,)),
    ):
        assert len(list(order_problems(broken))) == 1


def test_the_soak_sees_cases_without_an_outcome(record: RunRecord) -> None:
    """A group that was never closed and an arm without an outcome are named in what should be complete."""
    assert list(wholeness_problems(record)) == []
    last = record.groups[-1]
    assert any("no outcome" in p for p in wholeness_problems(replace(record, groups=record.groups[:-1])))
    bare = replace(record, groups=(*record.groups[:-1], replace(last, outcomes=last.outcomes[1:])))
    assert any("no outcome" in p for p in wholeness_problems(bare))


def test_the_soak_sees_a_round_that_is_gone_or_that_nobody_wrote(campaign: Campaign, record: RunRecord) -> None:
    """A written round must be in the file; one that nobody was told of only where the session was ended by a signal."""
    assert record.path is not None
    Path(record.path).rename(campaign.path)
    rounds = [("round", r.group, r.purpose, r.round) for r in record.rounds]
    groups = [("group", g.group) for g in record.groups]

    def problems(end: chaos.End, told: list[tuple[object, ...]]) -> list[str]:
        campaign.record = None
        return list(campaign._what_it_left(Session(end, 0, (), (*told, *groups), 1.0)))

    assert problems(NOTHING, [*rounds]) == []
    assert problems(KILL, [*rounds[:-1]]) == []
    assert len(problems(NOTHING, [*rounds[:-1]])) == 1
    assert len(problems(KILL, [*rounds[:-2]])) == 1
    assert len(problems(KILL, [*rounds, ("round", "lost", "compare", 0)])) == 1


@pytest.mark.parametrize(
    ("end", "code", "said", "problem"),
    [
        (NOTHING, None, "", "did not end"),
        (CTRL_C, 2, "castbench: what", "wrong exit code"),
        (DISK_FULL, 3, "castbench: what", "wrong exit code"),
        (GPU_LOST, 3, "Traceback (most recent call last):", "frightened"),
        (CTRL_C, 130, "", "without a word"),
        (DISK_FULL, 4, "castbench: one\ncastbench: two", "not one sentence"),
        (READ_ONLY, 0, "", "measured where nothing can be written"),
    ],
)
def test_the_soak_sees_a_wrong_ending(
    campaign: Campaign, end: chaos.End, code: int | None, said: str, problem: str
) -> None:
    """A hang, a wrong exit code, a traceback, silence, more than a sentence, measuring in vain: each is named."""
    session = Session(end, code, tuple(said.splitlines()), (("end", end.name),), 1.0)
    assert any(problem in found for found in campaign._how_it_ended(session))


def test_a_process_that_hangs_is_ended_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past its deadline a session is killed and has no exit code; one that was killed by others has its signal."""
    monkeypatch.setattr(chaos, "DEADLINE_S", 0.2)
    sleeping = [sys.executable, "-c", "import time; time.sleep(60)"]
    assert ended(started(sleeping)).code is None
    killed = started(sleeping)
    killed.kill()
    assert ended(killed).code == -signal.SIGKILL
