from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from castbench import pipeline
from castbench.errors import HardwareError, Interrupted, RunFileError
from castbench.findings import case_findings
from castbench.measure.fake_rig import FakeEpoch, FakeRig
from castbench.measure.rig import CaseFailed, MemoryReading, Prepared
from castbench.measure.runner import Progress, Silent
from castbench.plan import Arm, Group, Plan, make_plan
from castbench.records import Caveat, RunRecord, Sample, Status
from castbench.report.verify import verify_run
from castbench.stats import Verdict
from castbench.workload.spec import Demand, MechanismChoice, PriceChoice, SamplingPolicy
from tests.examples import example_profile


class FaultyRig(FakeRig):
    """A fake rig on which chosen things go wrong: `faults[(where, label)] = (status, at the n-th call)`."""

    def __init__(self, faults: dict[tuple[str, str], tuple[Status, int]], seed: int = 3) -> None:
        super().__init__(seed)
        self.faults, self.calls, self.epochs = faults, Counter[tuple[str, str]](), 0
        self.one_at_a_time: list[bool] = []

    def trip(self, where: str, arm: Arm) -> None:
        """Fail if it is this call's turn."""
        self.calls[where, arm.label] += 1
        status, at = self.faults.get((where, arm.label), (Status.OK, 0))
        if status is not Status.OK and self.calls[where, arm.label] >= at:
            if status is Status.INTERRUPTED:
                raise KeyboardInterrupt
            raise CaseFailed(status, f"made to fail at {where}", epoch_lost=status is Status.CRASH)

    def parity_error(self, plan: Plan, arm: Arm) -> float:
        self.trip("parity", arm)
        return 0.0

    def memory(self, plan: Plan, group: Group, arm: Arm) -> MemoryReading:
        self.trip("memory", arm)
        return super().memory(plan, group, arm)

    def fits(self, plan: Plan, group: Group, arm: Arm, batch_size: int) -> bool:
        self.trip("prepare", arm)
        self.trip("window", arm)
        return super().fits(plan, group, arm, batch_size)

    def open_epoch(self, plan: Plan, group: Group, *, one_at_a_time: bool = False) -> FakeEpoch:
        self.epochs += 1
        self.one_at_a_time.append(one_at_a_time)
        return FaultyEpoch(self, plan, group)


class FaultyEpoch(FakeEpoch):
    """An epoch of a faulty rig."""

    def __init__(self, rig: FaultyRig, plan: Plan, group: Group) -> None:
        super().__init__(rig, plan, group)
        self.faulty = rig

    def prepare(self, arm: Arm) -> Prepared:
        self.faulty.trip("prepare", arm)
        return super().prepare(arm)

    def window(self, arm: Arm, round_index: int, order: int, steps: int) -> Sample:
        self.faulty.trip("window", arm)
        return super().window(arm, round_index, order, steps)


def run(tmp_path: Path, rig: FakeRig | None = None, *, budget_s: float | None = None, **changes: object) -> RunRecord:
    """A run of the example profile on the fake device."""
    profile = example_profile(**changes)
    out = tmp_path / f"run{len(list(tmp_path.iterdir()))}.jsonl"
    return pipeline.measure(
        profile, make_plan(profile), rig or FakeRig(profile.seed), Silent(), out=out, budget_s=budget_s
    ).record


def status_of(record: RunRecord, label: str) -> set[Status]:
    """The statuses of an arm over all groups."""
    return {f.status for f in case_findings(record) if f.arm.label == label}


def assert_consistent(record: RunRecord) -> None:
    """The file passes every check of `verify`."""
    comparable = pipeline.comparable_sha256(record.header.plan)
    checks = verify_run(record, pipeline.project(record), comparable)
    assert [c for c in checks if not c.ok] == []


def test_every_round_holds_every_arm_once_in_the_drawn_order(tmp_path: Path) -> None:
    """Rounds are complete, and verify finds the order to be the seeded permutation."""
    record = run(tmp_path)
    labels = Counter(arm.label for arm in record.header.plan.arms)
    assert all(Counter(s.label for s in r.samples) == labels for r in record.rounds if r.purpose == "compare")
    assert len({tuple(s.label for s in r.samples) for r in record.rounds}) > 3
    assert_consistent(record)


def test_rounds_are_spread_over_three_processes_before_the_first_look(tmp_path: Path) -> None:
    """The first eight rounds of a group come from epochs 0, 1 and 2."""
    record = run(tmp_path)
    first = record.rounds_of(record.header.plan.groups[0].key)[:8]
    assert [r.epoch for r in first] == [0, 0, 0, 1, 1, 1, 2, 2]


def test_a_group_stops_only_at_a_look(tmp_path: Path) -> None:
    """Without a time limit a group has 8, 16, 32 or 64 rounds and says what stopped it."""
    record = run(tmp_path)
    assert {g.rounds for g in record.groups} <= {8, 16, 32, 64}
    assert {g.stopped_by for g in record.groups} <= {"precision", "rounds"}


def test_an_unreachable_precision_ends_after_all_looks(tmp_path: Path) -> None:
    """Two equal arms with no margin and no tolerance run the full 64 rounds and stay UNCLEAR or nearly so."""
    twins = (MechanismChoice("sdpa", label="a"), MechanismChoice("sdpa", label="b"))
    policy = SamplingPolicy(target_ci=1e-9, same_within=0.0, min_window_ms=5.0)
    record = run(tmp_path, mechanisms=twins, baseline="a", sampling=policy)
    assert {(g.rounds, g.stopped_by) for g in record.groups} == {(64, "rounds")}


@pytest.mark.parametrize("status", [Status.OOM, Status.CRASH, Status.TIMEOUT, Status.NONFINITE, Status.ERROR])
@pytest.mark.parametrize(("where", "at"), [("prepare", 1), ("prepare", 2), ("window", 1), ("window", 6)])
def test_a_failing_mechanism_is_a_row_and_the_others_complete(
    tmp_path: Path, status: Status, where: str, at: int
) -> None:
    """Whatever fails and when, that arm gets status and reason, and every other arm is ok with a number."""
    record = run(tmp_path, FaultyRig({(where, "naive"): (status, at)}))
    found = {f.arm.label: f for f in case_findings(record) if f.group == record.header.plan.groups[-1]}
    assert found["naive"].status is status
    assert found["naive"].reason
    assert found["naive"].mean_step_s is None
    assert found["sdpa"].status is found["cast-8"].status is Status.OK
    assert found["cast-8"].verdict is not None
    assert_consistent(record)


def test_a_red_parity_check_means_no_number(tmp_path: Path) -> None:
    """An arm that differs from its reference is never timed."""
    rig = FaultyRig({("parity", "cast-8"): (Status.PARITY, 1)})
    record = run(tmp_path, rig)
    assert status_of(record, "cast-8") == {Status.PARITY}
    assert rig.calls["window", "cast-8"] == 0
    assert rig.calls["parity", "cast-8"] == 1


def test_out_of_memory_is_not_tried_again_at_larger_shapes(tmp_path: Path) -> None:
    """After running out at 256 tokens, beside others and alone, 1024 are refused with the smaller shape named."""
    rig = FaultyRig({("prepare", "naive"): (Status.OOM, 1)})
    record = run(tmp_path, rig)
    reasons = [f.reason for f in case_findings(record) if f.arm.label == "naive"]
    assert rig.calls["prepare", "naive"] == 2
    assert reasons[1] == "not tried: it ran out of memory at batch 1, 256 tokens"


def test_a_resumed_run_remembers_what_ran_out_of_memory(tmp_path: Path) -> None:
    """What did not fit at 256 tokens before an interruption is not tried at 1024 after it."""
    record = run(tmp_path, FaultyRig({("prepare", "naive"): (Status.OOM, 1)}))
    assert record.path
    lines = Path(record.path).read_text().splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if '"kind":"group"' in line)
    Path(record.path).write_text("".join(lines[: first + 1]))
    rig = FaultyRig({})
    resumed = pipeline.resume(record.path, rig, Silent()).record
    assert rig.calls["prepare", "naive"] == 0
    assert [f.reason for f in case_findings(resumed) if f.arm.label == "naive"][1] == (
        "not tried: it ran out of memory at batch 1, 256 tokens"
    )


def test_an_arm_that_failed_before_an_interruption_is_not_ok_without_a_number(tmp_path: Path) -> None:
    """Rounds up to the last look are without it, and resuming adds none: it is skipped with the reason, not ok."""
    record = run(tmp_path, FaultyRig({("window", "naive"): (Status.CRASH, 1)}))
    assert record.path
    lines = Path(record.path).read_text().splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if '"kind":"group"' in line)
    Path(record.path).write_text("".join(lines[:first]))
    resumed = pipeline.resume(record.path, FaultyRig({}), Silent()).record
    found = {f.arm.label: f for f in case_findings(resumed) if f.group == record.header.plan.groups[0]}
    assert (found["naive"].status, found["naive"].mean_step_s) == (Status.SKIPPED, None)
    assert "failed in an earlier session" in str(found["naive"].reason)
    assert found["cast-8"].status is Status.OK
    assert_consistent(resumed)


def test_with_nothing_left_to_compare_a_ceiling_is_skipped(tmp_path: Path) -> None:
    """Where every mechanism fails its check, the ceilings are no ok cases without a number either."""
    faults = {("parity", label): (Status.PARITY, 1) for label in ("sdpa", "naive", "cast-8")}
    record = run(tmp_path, FaultyRig(faults))
    assert status_of(record, "ceiling:mixing") == status_of(record, "ceiling:module") == {Status.SKIPPED}
    assert all(f.reason for f in case_findings(record))


def test_a_failing_memory_pass_loses_no_timing(tmp_path: Path) -> None:
    """Memory is empty, with its reason and caveat, and the latency stays."""
    record = run(tmp_path, FaultyRig({("memory", "naive"): (Status.OOM, 1)}))
    found = next(f for f in case_findings(record) if f.arm.label == "naive")
    assert found.outcome is not None
    assert (found.status, found.outcome.peak_bytes) == (Status.OK, None)
    assert found.mean_step_s is not None
    assert Caveat.MEMORY_UNMEASURED in found.caveats


def test_without_its_baseline_a_group_has_latencies_and_no_ratios(tmp_path: Path) -> None:
    """The others keep their absolute numbers; no verdict is made up."""
    record = run(tmp_path, FaultyRig({("parity", "sdpa"): (Status.PARITY, 1)}))
    found = next(f for f in case_findings(record) if f.arm.label == "cast-8")
    assert found.mean_step_s is not None
    assert found.log_ratio is None
    assert found.verdict is Verdict.UNCLEAR
    assert not pipeline.baseline_was_measured(record)


def test_ctrl_c_keeps_finished_rounds_and_resume_repeats_none(tmp_path: Path) -> None:
    """An interrupted run keeps what is finished; resumed, it holds every round once and passes verify."""
    rig = FaultyRig({("window", "cast-8"): (Status.INTERRUPTED, 6)})
    out = tmp_path / "run.jsonl"
    profile = example_profile()
    with pytest.raises(Interrupted, match=r"5 rounds kept[\s\S]*--resume"):
        pipeline.measure(profile, make_plan(profile), rig, Silent(), out=out)
    before = pipeline.read_run(str(out))
    assert len(before.rounds) == 5
    assert status_of(before, "cast-8") == {Status.INTERRUPTED, Status.SKIPPED}
    after = pipeline.resume(str(out), FakeRig(3), Silent())
    assert after.complete
    assert after.record.rounds[:5] == before.rounds
    assert status_of(after.record, "cast-8") == {Status.OK}
    assert_consistent(after.record)


def test_resuming_a_finished_run_measures_nothing(tmp_path: Path) -> None:
    """Resuming a finished run adds no round, and checks and times nothing."""
    record = run(tmp_path)
    assert record.path
    rig = FaultyRig({})
    again = pipeline.resume(record.path, rig, Silent())
    assert not rig.calls
    assert again.record.rounds == record.rounds
    assert again.record.groups == record.groups


def test_resume_refuses_another_machine(tmp_path: Path) -> None:
    """Rounds of two machines are never mixed in one run."""
    record = run(tmp_path)

    class OtherRig(FakeRig):
        def environment(self):  # type: ignore[no-untyped-def]
            return replace(super().environment(), device_name="another")

    assert record.path
    with pytest.raises(RunFileError, match="cannot resume: device was"):
        pipeline.resume(record.path, OtherRig(3), Silent())


def test_a_budget_ends_the_run_and_leaves_whole_groups(tmp_path: Path) -> None:
    """The virtual clock stays near the budget, and what was begun is reported with its caveats."""
    slow = (MechanismChoice("busy", (("ms", 20.0),), "a"), MechanismChoice("busy", (("ms", 30.0),), "b"))
    rig = FakeRig(3)
    record = run(tmp_path, rig, budget_s=3.0, mechanisms=slow, baseline="a")
    assert rig.now_s() < 3.0 * 1.5
    assert record.groups
    assert {g.stopped_by for g in record.groups} <= {"budget", "precision", "rounds"}


def test_few_rounds_give_no_interval_and_say_so(tmp_path: Path) -> None:
    """A group that its time cut below eight rounds has no interval, UNCLEAR, and the caveat few-rounds."""
    slow = (MechanismChoice("busy", (("ms", 100.0),), "a"), MechanismChoice("busy", (("ms", 200.0),), "b"))
    policy = SamplingPolicy(max_seconds_per_case=0.8, min_window_ms=5.0)
    record = run(tmp_path, mechanisms=slow, baseline="a", sampling=policy)
    found = next(f for f in case_findings(record) if f.arm.label == "b")
    assert 0 < found.rounds < 8
    assert found.log_ratio is not None
    assert found.log_ratio.low is None
    assert found.verdict is Verdict.UNCLEAR
    assert Caveat.FEW_ROUNDS in found.caveats
    assert found.stopped_by == "case-limit"


@pytest.mark.parametrize("percent", [1.0, 5.0, 20.0, 100.0])
def test_plus_comes_out_within_the_interval(tmp_path: Path, percent: float) -> None:
    """A stated extra share of work is found again: the interval covers 1 + percent, and the verdict fits."""
    choices = (
        MechanismChoice("sdpa", label="x"),
        MechanismChoice("plus", (("of", "sdpa"), ("percent", percent)), "plus"),
    )
    record = run(tmp_path, mechanisms=choices, baseline="x", scope="attention")
    for found in case_findings(record):
        if found.arm.label == "plus":
            assert found.speedup is not None
            assert found.speedup.low is not None
            assert found.speedup.high is not None
            assert found.speedup.low <= 1 / (1 + percent / 100) <= found.speedup.high
            assert found.verdict in ({Verdict.SLOWER} if percent > 2 else {Verdict.SLOWER, Verdict.UNCLEAR})


def test_busy_comes_out_within_the_interval(tmp_path: Path) -> None:
    """Two stated times give their ratio and their absolute latency."""
    choices = (MechanismChoice("busy", (("ms", 20.0),), "20"), MechanismChoice("busy", (("ms", 25.0),), "25"))
    record = run(tmp_path, mechanisms=choices, baseline="20", scope="attention")
    for found in case_findings(record):
        assert found.latency_s is not None
        assert found.latency_s.value == pytest.approx(0.020 if found.arm.label == "20" else 0.025, rel=0.06)
        if found.speedup is not None:
            assert found.speedup.low is not None
            assert found.speedup.high is not None
            assert found.speedup.low <= 20 / 25 <= found.speedup.high


def test_progress_counts_down(tmp_path: Path) -> None:
    """The time left is finite, never negative, and near zero at the end."""
    seen: list[Progress] = []

    class Recorder(Silent):
        def progress(self, progress: Progress) -> None:
            seen.append(progress)

    profile = example_profile()
    pipeline.measure(profile, make_plan(profile), FakeRig(3), Recorder(), out=tmp_path / "r.jsonl")
    assert all(0 <= p.left_s < 1e6 for p in seen)
    assert seen[-1].left_s < 0.2 * max(p.left_s for p in seen)
    assert seen[-1].group_number == len(make_plan(profile).groups)


def test_a_tampered_round_is_found(tmp_path: Path) -> None:
    """Changing one digit of one window makes verify fail."""
    record = run(tmp_path)
    assert record.path
    path = Path(record.path)
    lines = path.read_text().splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if '"kind":"round"' in line)
    head, _, tail = lines[at].partition('"elapsed_s":0.')
    lines[at] = f'{head}"elapsed_s":0.9{tail}'
    path.write_text("".join(lines))
    _, checks = pipeline.verify(str(path))
    assert any(not c.ok for c in checks)


def test_no_arm_is_always_built_first(tmp_path: Path) -> None:
    """The order in which a process builds its arms is drawn for it: over a run several arms come first."""
    built: list[list[str]] = []

    class Recording(FakeEpoch):
        def prepare(self, arm: Arm) -> Prepared:
            built[-1].append(arm.label)
            return super().prepare(arm)

    class RecordingRig(FakeRig):
        def open_epoch(self, plan: Plan, group: Group, *, one_at_a_time: bool = False) -> FakeEpoch:
            built.append([])
            return Recording(self, plan, group)

    arms = sorted(arm.label for arm in run(tmp_path, RecordingRig(3)).header.plan.arms)
    whole = [order for order in built if sorted(order) == arms]
    assert len({order[0] for order in whole}) >= 3


def test_windows_are_sized_only_when_every_arm_is_warm(tmp_path: Path) -> None:
    """Equal arms get equal windows whichever is built first: no step is timed before all arms have run."""
    calls: list[str] = []

    class Recording(FakeEpoch):
        def prepare(self, arm: Arm) -> Prepared:
            calls.append("prepare")
            return super().prepare(arm)

        def step_s(self, arm: Arm) -> float:
            calls.append("step_s")
            return super().step_s(arm)

    class RecordingRig(FakeRig):
        def open_epoch(self, plan: Plan, group: Group, *, one_at_a_time: bool = False) -> FakeEpoch:
            calls.append("open")
            return Recording(self, plan, group)

    record = run(tmp_path, RecordingRig(3))
    arms = len(record.header.plan.arms)
    assert calls[: 2 * arms + 1] == ["open", *["prepare"] * arms, *["step_s"] * arms]
    assert calls.count("step_s") == arms * len(record.header.plan.groups)


def test_resuming_before_the_group_line_keeps_what_ran(tmp_path: Path) -> None:
    """Killed after the last round and before the group's line: the resumed run still says what ran."""
    record = run(tmp_path)
    assert record.path
    path = Path(record.path)
    lines = path.read_text().splitlines(keepends=True)
    last = max(i for i, line in enumerate(lines) if '"kind":"group"' in line)
    path.write_text("".join(lines[:last]))
    after = pipeline.resume(str(path), FakeRig(3), Silent()).record
    keys = [group.key for group in record.header.plan.groups]
    assert [after.rounds_of(key) for key in keys] == [record.rounds_of(key) for key in keys]
    assert {o.ran_as for o in after.groups[-1].outcomes} == {"fake"}
    assert_consistent(after)


def test_a_device_on_which_no_worker_lives_is_given_up(tmp_path: Path) -> None:
    """Workers that die at birth end the run with a sentence, after some tries, and keep the file readable."""

    class DeadRig(FakeRig):
        def open_epoch(self, plan: Plan, group: Group, *, one_at_a_time: bool = False) -> FakeEpoch:
            raise CaseFailed(Status.CRASH, "died at birth", epoch_lost=True)

    with pytest.raises(HardwareError, match="no worker process can be started on fake: died at birth"):
        run(tmp_path, DeadRig(3))


def test_a_given_price_is_for_the_server_that_the_profile_names(tmp_path: Path) -> None:
    """--price changes what an 8-GPU instance costs, not how many GPUs it has."""
    record = run(tmp_path, price=PriceChoice(cloud="aws", instance="p4d.24xlarge"), demand=Demand(2e6))
    named = pipeline.project(record)
    given = pipeline.project(record, price_usd_per_hour=20.0)
    assert named.price is not None
    assert given.price is not None
    assert (given.price.gpus, given.price.usd_per_hour) == (8, 20.0)
    assert [arm.replicas for arm in given.arms] == [arm.replicas for arm in named.arms]
