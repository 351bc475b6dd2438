"""Selected winners once more on fresh rounds, in fresh processes: what was picked as best looked better than it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from castbench.measure.rig import CaseFailed, Prepared
from castbench.measure.rounds import Rounds
from castbench.plan import Arm, Group
from castbench.records import RoundRecord, RunRecord, Selection

if TYPE_CHECKING:
    from castbench.measure.runner import PlanRunner

Selector = Callable[[RunRecord], Selection | None]
"""Which arms of a measured run are to be confirmed; None where nothing was selected."""


class ConfirmRunner:
    """The fresh rounds of one group: its selected arms and what they are held against."""

    def __init__(self, run: PlanRunner, record: RunRecord, group: Group, labels: set[str]) -> None:
        self._run, self._group = run, group
        arms = [arm for arm in run.plan.arms if arm.label in labels]
        recorded = [r for r in record.rounds if r.group == group.key]
        self._rounds = Rounds(run.rig, run.plan, group, arms, self, purpose="confirm", recorded=recorded)
        self._wanted = set(labels)

    def run(self) -> None:
        """Measure until the plan's number of rounds is there, or an arm fails: then nothing is confirmed."""
        wanted = self._run.plan.analysis.confirm_rounds
        try:
            while len(self._rounds.valid) < wanted and not self._rounds.is_disturbed and self._is_whole():
                self._rounds.one_round()
        finally:
            self._rounds.close()

    def doing(self, what: str) -> None:
        """Report progress."""
        done, wanted = len(self._rounds.valid), self._run.plan.analysis.confirm_rounds
        number = self._run.plan.groups.index(self._group) + 1
        left = (wanted - done) * self._rounds.last_round_s
        self._run.report(self._group, number, done, f"confirming: {what}", left)

    def prepared(self, arm: Arm, prepared: Prepared) -> None:
        """Known from the first rounds."""

    def finished(self, record: RoundRecord) -> None:
        """Write a round."""
        self._run.writer.append_round(record)

    def dropped(self, arm: Arm, failure: CaseFailed) -> None:
        """Say what failed."""
        self._run.watcher.failed(self._group, arm, failure.status, f"while confirming: {failure.reason}")

    def _is_whole(self) -> bool:
        """Whether every arm is still there."""
        return {arm.label for arm in self._rounds.alive} == self._wanted
