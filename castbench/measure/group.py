"""One group from its parity checks to its line in the run file.

parity ─▶ rounds, looked at where the plan says ─▶ memory ─▶ energy ─▶ largest batch ─▶ group line
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from castbench import stats
from castbench.findings import paired_log_ratio
from castbench.measure.largest_batch import largest_batch
from castbench.measure.rig import CaseFailed, Prepared
from castbench.measure.rounds import Rounds
from castbench.plan import Arm, Group
from castbench.records import (
    Caveat,
    Conditions,
    Environment,
    GroupRecord,
    Outcome,
    RoundRecord,
    Status,
)
from castbench.store import rounds_sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from castbench.measure.runner import PlanRunner

STEAL_LIMIT = 0.02
"""Share of time taken by other guests of the host above which a group carries the caveat loaded-host."""
WAIT_LIMIT = 0.02
"""Share of the windows' time that the worker's threads may stand behind others before the host counts as loaded."""


class GroupRunner:
    """Measures one group and appends its line; on Ctrl-C the finished rounds are in the file already."""

    def __init__(self, run: PlanRunner, group: Group, number: int, limit_s: float) -> None:
        self._run, self._plan, self._rig, self._group, self._number = run, run.plan, run.rig, group, number
        self._limit_s = limit_s - run.passes_s(group)
        self._began_s = self._rig.now_s()
        self._outcomes: dict[str, Outcome] = {}
        recorded = [r for r in run.done.rounds if r.group == group.key] if run.done else []
        self._measured_anew = False
        self._rounds = Rounds(self._rig, self._plan, group, self._plan.arms_of(group), self, recorded=recorded)

    def run(self) -> None:
        """All of it."""
        self._rig.conditions()  # what happened before is no condition of this group
        try:
            self._check_parity()
            while (stopped_by := self._stop_reason()) is None:
                self._rounds.one_round()
            if self._rounds.valid and not self._measured_anew:
                self._rounds.open()  # all rounds came from an earlier session: learn again what ran
        finally:
            self._rounds.close()
        conditions = replace(self._rig.conditions(), wait_share=wait_share(self._rounds.valid, self._run.environment))
        rounds = self._rounds.valid
        timed = {s.label for r in rounds for s in r.samples}
        for arm in tuple(self._rounds.alive):
            if arm.label not in timed:
                self._note(arm, status=Status.SKIPPED, reason=self._why_untimed())
            elif arm.role != "ceiling":
                self._passes(arm)
        self._run.writer.append_group(
            GroupRecord(
                self._group.key, len(rounds), stopped_by, tuple(self._outcomes.values()),
                self._rig.now_s() - self._began_s, rounds_sha256(rounds), conditions, self._caveats(conditions),
            )
        )  # fmt: skip

    def doing(self, what: str) -> None:
        """Report progress with an honest guess at what this group still needs."""
        done = len(self._rounds.valid)
        if self._rounds.last_round_s:
            left = (self._run.next_look(done) - done) * self._rounds.last_round_s
        else:
            left = self._run.expected_s(self._group)
        self._run.report(self._group, self._number, done, what, min(left, self._limit_s))

    def prepared(self, arm: Arm, prepared: Prepared) -> None:
        """Note what ran."""
        self._measured_anew = True
        self._note(arm, ran_as=prepared.ran_as, facts=prepared.facts)

    def finished(self, record: RoundRecord) -> None:
        """Write a round."""
        self._run.writer.append_round(record)

    def dropped(self, arm: Arm, failure: CaseFailed) -> None:
        """Give up one arm on this group; the others go on."""
        self._note(arm, status=failure.status, reason=failure.reason)
        if failure.status is Status.OOM:
            self._run.note_out_of_memory(arm, self._group.shape)
        self._run.watcher.failed(self._group, arm, failure.status, failure.reason)

    def _check_parity(self) -> None:
        """No number without a green check: arms whose check fails, or that outgrew memory before, are left out."""
        for arm in tuple(self._rounds.alive):
            smaller = self._run.smaller_that_did_not_fit(arm, self._group.shape)
            try:
                if smaller is not None:
                    at = f"batch {smaller.batch_size}, {smaller.seq_len} tokens"
                    raise CaseFailed(Status.OOM, f"not tried: it ran out of memory at {at}")
                self.doing(f"checking {arm.label}")
                self._note(arm, parity_error=self._run.parity(arm))
            except CaseFailed as failure:
                self._rounds.alive.remove(arm)
                self.dropped(arm, failure)

    def _stop_reason(self) -> str | None:
        """Why no further round is due, or None."""
        if not any(arm.role != "ceiling" for arm in self._rounds.alive):
            return "nothing-left"
        done = len(self._rounds.valid)
        if done >= self._plan.analysis.looks[-1]:
            return "rounds"
        if done in self._plan.analysis.looks and self._is_settled():
            return "precision"
        if self._rounds.is_disturbed:
            return "disturbed"
        if done and self._spent_s() + self._rounds.last_round_s > self._limit_s:
            return "case-limit" if self._run.budget_s is None else "budget"
        return None

    def _spent_s(self) -> float:
        """Time that counts against the group's limit; a budget is wall time, a case's limit is not for compiling."""
        spent = self._rig.now_s() - self._began_s
        is_compiling = self._group.regime == "compiled" and self._run.budget_s is None
        return spent - self._rounds.preparing_s if is_compiling else spent

    def _is_settled(self) -> bool:
        """Whether every pair has a clear verdict or a narrow enough interval."""
        policy = self._plan.sampling
        for arm in self._rounds.alive:
            if arm.role != "candidate":
                continue
            ratio = paired_log_ratio(self._rounds.valid, arm.label, self._plan.baseline, self._plan)
            if ratio is not None and not stats.is_settled(ratio, policy.same_within, policy.target_ci):
                return False
        return True

    def _why_untimed(self) -> str:
        """Why an arm that could be prepared is in no valid round."""
        if self._rounds.valid:
            return "it failed in an earlier session of this run, and the rounds since then are without it"
        if self._rounds.is_disturbed:
            return "every round was disturbed from outside"
        return "no mechanism was left to be measured beside it"

    def _passes(self, arm: Arm) -> None:
        """The passes apart from timing, because they disturb it; a failure there loses no timing."""
        self._note(arm, **self._tried(f"memory of {arm.label}", lambda: self._memory(arm), "reason", "memory pass: "))
        if self._plan.measures_energy_of(self._group):
            self._note(arm, **self._tried(f"energy of {arm.label}", lambda: self._energy(arm), "energy_reason"))
        if self._plan.searches_batch_of(self._group):
            found = largest_batch(lambda size: self._fits(arm, size), self._group.shape.batch_size)
            self._note(arm, largest_batch=found)

    def _memory(self, arm: Arm) -> dict[str, object]:
        """Facts of the memory pass."""
        reading = self._rig.memory(self._plan, self._group, arm)
        return {
            "peak_bytes": reading.peak_bytes, "weights_bytes": reading.weights_bytes,
            "reserved_bytes": reading.reserved_bytes,
        }  # fmt: skip

    def _energy(self, arm: Arm) -> dict[str, object]:
        """Facts of the energy pass."""
        reading = self._rig.energy(self._plan, self._group, arm)
        return {"energy": reading.record, "energy_reason": reading.reason}

    def _tried(
        self, what: str, measured: Callable[[], dict[str, object]], says_why: str, prefix: str = ""
    ) -> dict[str, object]:
        """A pass's facts; where it failed, the reason under the name `says_why`."""
        self.doing(what)
        try:
            return measured()
        except CaseFailed as failure:
            return {says_why: f"{prefix}{failure.reason}"}

    def _fits(self, arm: Arm, size: int) -> bool:
        """Whether a batch of that size fits; a process that died or hung at it did not serve it."""
        self.doing(f"largest batch of {arm.label}: {size}")
        try:
            return self._rig.fits(self._plan, self._group, arm, size)
        except CaseFailed:
            return False

    def _caveats(self, conditions: Conditions) -> tuple[Caveat, ...]:
        """Doubts about the whole group."""
        loaded = (Caveat.LOADED_HOST,) if is_loaded(conditions) else ()
        return (*loaded, *((Caveat.DISCARDED_ROUNDS,) if self._rounds.discarded else ()))

    def _note(self, arm: Arm, **facts: object) -> None:
        """Add what is known of an arm to its outcome."""
        known = self._outcomes.get(arm.label, Outcome(arm.label, Status.OK))
        self._outcomes[arm.label] = replace(known, **facts)  # type: ignore[arg-type]  # facts are fields of Outcome


def wait_share(rounds: Iterable[RoundRecord], environment: Environment) -> float | None:
    """Time the worker's threads stood behind others, as a share of the windows' time; None where not known."""
    samples = [s for r in rounds for s in r.samples]
    waits = [s.waited_s for s in samples if s.waited_s is not None]
    if not waits:
        return None
    return sum(waits) / (sum(s.elapsed_s for s in samples) * (environment.threads or 1))


def is_loaded(conditions: Conditions) -> bool:
    """Whether other work took a noticeable share of the CPU: from this machine's run queue, or by the hypervisor."""
    return (conditions.wait_share or 0.0) > WAIT_LIMIT or (conditions.steal_share or 0.0) > STEAL_LIMIT
