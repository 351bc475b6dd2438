from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from castbench.cost.selection import RULE
from castbench.findings import case_findings
from castbench.measure.fake_rig import FakeEpoch
from castbench.measure.rig import CaseFailed, Prepared
from castbench.measure.rounds import MOST_DISCARDED
from castbench.plan import Arm, Group, Plan
from castbench.records import Caveat, RunRecord, Sample, Status
from castbench.workload.spec import SamplingPolicy
from tests.measure.test_runner import FaultyRig, assert_consistent, run, status_of


class CrowdedRig(FaultyRig):
    """A device with room for one arm at a time: the second one prepared in a process does not fit beside the first."""

    def __init__(self, hopeless: str | None = None) -> None:
        super().__init__({})
        self.hopeless = hopeless
        self.tried_alone: list[str] = []

    def fits(self, plan: Plan, group: Group, arm: Arm, batch_size: int) -> bool:
        self.tried_alone.append(arm.label)
        return arm.label != self.hopeless

    def open_epoch(self, plan: Plan, group: Group, *, one_at_a_time: bool = False) -> FakeEpoch:
        self.one_at_a_time.append(one_at_a_time)
        return CrowdedEpoch(self, plan, group, one_at_a_time)


class CrowdedEpoch(FakeEpoch):
    """A process in which the second arm does not fit, unless arms are kept one at a time."""

    def __init__(self, rig: CrowdedRig, plan: Plan, group: Group, one_at_a_time: bool) -> None:
        super().__init__(rig, plan, group)
        self.crowded, self.room, self.prepared = rig, one_at_a_time, 0

    def prepare(self, arm: Arm) -> Prepared:
        self.prepared += 1
        if arm.label == self.crowded.hopeless or (self.prepared > 1 and not self.room):
            raise CaseFailed(Status.OOM, "out of memory")
        return super().prepare(arm)


class DisturbedRig(FaultyRig):
    """A device on which something outside disturbs chosen windows."""

    def __init__(self, is_disturbed: Callable[[str, int], bool]) -> None:
        super().__init__({})
        self.is_disturbed = is_disturbed

    def open_epoch(self, plan: Plan, group: Group, *, one_at_a_time: bool = False) -> FakeEpoch:
        return DisturbedEpoch(self, plan, group)


class DisturbedEpoch(FakeEpoch):
    """Its windows say what disturbed them."""

    def __init__(self, rig: DisturbedRig, plan: Plan, group: Group) -> None:
        super().__init__(rig, plan, group)
        self.disturbed = rig

    def window(self, arm: Arm, round_index: int, order: int, steps: int) -> Sample:
        sample = super().window(arm, round_index, order, steps)
        if not self.disturbed.is_disturbed(arm.label, round_index):
            return sample
        # A disturbed window is slow: if it counted, the figures would show it.
        return replace(sample, elapsed_s=100 * sample.elapsed_s, invalid_reason="another process appeared")


def test_arms_that_do_not_fit_together_are_measured_one_at_a_time(tmp_path: Path) -> None:
    """Out of memory beside others is no verdict on an arm: it fits alone, so the group goes on with one at a time."""
    rig = CrowdedRig()
    record = run(tmp_path, rig)
    assert {f.status for f in case_findings(record)} == {Status.OK}
    assert rig.tried_alone
    assert True in rig.one_at_a_time
    assert_consistent(record)


def test_out_of_memory_counts_only_after_a_try_alone(tmp_path: Path) -> None:
    """An arm that fits nowhere is tried alone, then reported as out of memory; the others are measured."""
    rig = CrowdedRig(hopeless="naive")
    record = run(tmp_path, rig)
    assert "naive" in rig.tried_alone
    assert status_of(record, "naive") == {Status.OOM}
    assert status_of(record, "sdpa") == status_of(record, "cast-8") == {Status.OK}


def test_a_disturbed_round_is_kept_as_discarded_and_done_again(tmp_path: Path) -> None:
    """The whole round goes with its disturbed window, stays in the file with its reason, and touches no figure."""
    quiet = run(tmp_path, FaultyRig({}))
    record = run(tmp_path, DisturbedRig(lambda label, index: label == "naive" and index == 2))
    discarded = [r for r in record.rounds if not r.valid]
    assert {(r.purpose, r.round) for r in discarded} >= {("compare", 2)}
    assert all(r.invalid_reason == "naive: another process appeared" for r in discarded)
    assert [len(record.rounds_of(g.group)) for g in record.groups] == [g.rounds for g in record.groups]
    assert all(Caveat.DISCARDED_ROUNDS in g.caveats for g in record.groups)
    assert all(Caveat.DISCARDED_ROUNDS not in g.caveats for g in quiet.groups)
    for mine, theirs in zip(case_findings(record), case_findings(quiet), strict=True):
        assert mine.mean_step_s is not None
        assert theirs.mean_step_s is not None
        assert abs(mine.mean_step_s / theirs.mean_step_s - 1) < 0.1
    assert_consistent(record)


def test_a_device_that_is_never_left_alone_ends_the_group(tmp_path: Path) -> None:
    """A group does not go on for ever: after so many discarded rounds it is closed as disturbed, without a number."""
    record = run(tmp_path, DisturbedRig(lambda _label, _index: True))
    assert {g.stopped_by for g in record.groups} == {"disturbed"}
    assert {len([r for r in record.rounds if r.group == g.group]) for g in record.groups} == {MOST_DISCARDED}
    assert all(f.mean_step_s is None for f in case_findings(record))


def confirming(tmp_path: Path, rig: FaultyRig | None = None, **changes: object) -> RunRecord:
    """A run whose winner is confirmed."""
    return run(tmp_path, rig or FaultyRig({}), **changes)


def test_the_selected_winner_is_measured_again_in_fresh_processes(tmp_path: Path) -> None:
    """Eight fresh rounds hold the winner and what it beat, in three processes, and are no part of the comparison."""
    record = confirming(tmp_path)
    assert record.selection is not None
    assert record.selection.rule == RULE
    for chosen in record.selection.selected:
        fresh = record.rounds_of(chosen.group, "confirm")
        assert len(fresh) == record.header.plan.analysis.confirm_rounds == 8
        assert {s.label for r in fresh for s in r.samples} == {chosen.label, chosen.against}
        assert len({r.epoch for r in fresh}) == 3
    assert {r.purpose for g in record.header.plan.groups for r in record.rounds_of(g.key)} == {"compare"}
    assert_consistent(record)


def test_a_profile_can_leave_the_confirmation_out(tmp_path: Path) -> None:
    """confirm: false measures nothing again and selects nothing."""
    record = confirming(tmp_path, sampling=SamplingPolicy(min_window_ms=5.0, confirm=False))
    assert record.selection is None
    assert {r.purpose for r in record.rounds} == {"compare"}


def test_the_largest_batch_is_searched_for_once_per_length(tmp_path: Path) -> None:
    """Asked for, every mechanism has one result per length, from the smallest batch; not asked for, none has."""
    policy = SamplingPolicy(min_window_ms=5.0, largest_batch=True, confirm=False)
    record = run(tmp_path, batch_sizes=(2, 4), sampling=policy)
    found = {(g.group, o.label) for g in record.groups for o in g.outcomes if o.largest_batch is not None}
    assert found == {(f"b2-n{n}-bucketed", label) for n in (256, 1024) for label in ("sdpa", "naive", "cast-8")}
    assert all(o.largest_batch is None for g in run(tmp_path).groups for o in g.outcomes)
