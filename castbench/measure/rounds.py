"""Rounds of some arms on one group, in worker processes that are replaced as the plan says.

epoch:  prepare every arm ─▶ round ─▶ round ─▶ … ─▶ next epoch
round:  every arm once, order drawn anew
        an arm fails                ─▶ it is dropped, and the round done again without it
        something outside disturbs  ─▶ the round is kept as discarded, with its reason, and done again
        out of memory beside others ─▶ tried alone; if it fits, the group goes on with one arm on the device at a time
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from castbench.errors import HardwareError
from castbench.measure.rig import CaseFailed, Epoch, Prepared, Rig
from castbench.measure.window_rules import shortest_window_s
from castbench.plan import Arm, Group, Plan
from castbench.records import Purpose, RoundRecord, Sample, Status

OPENING_TRIES = 3
"""Worker processes that may die at birth before the device is given up."""
MOST_DISCARDED = 16
"""Discarded rounds after which a group is given up as disturbed."""


class Follower(Protocol):
    """Whoever owns the rounds: keeps them, and hears what happens to the arms."""

    def doing(self, what: str) -> None:
        """Called before every piece of work."""

    def prepared(self, arm: Arm, prepared: Prepared) -> None:
        """An arm was built and has run."""

    def finished(self, record: RoundRecord) -> None:
        """A round, valid or discarded, to be written."""

    def dropped(self, arm: Arm, failure: CaseFailed) -> None:
        """An arm cannot be measured on this group."""


@dataclass
class _Attempts:
    """How often rounds were begun and discarded, earlier sessions included."""

    begun: int
    discarded: int


class Rounds:
    """The rounds of `arms` on `group` for one purpose.

    `recorded` are the group's rounds so far: those of the same purpose are gone on from, and all fix the window sizes.
    """

    def __init__(
        self, rig: Rig, plan: Plan, group: Group, arms: Sequence[Arm], follower: Follower,
        *, purpose: Purpose = "compare", recorded: Sequence[RoundRecord] = (),
    ) -> None:  # fmt: skip
        self._rig, self._plan, self._group, self._follower, self._purpose = rig, plan, group, follower, purpose
        self.alive = list(arms)
        earlier = [r for r in recorded if r.purpose == purpose]
        self.valid = [r for r in earlier if r.valid]
        self.last_round_s = 0.0
        self.preparing_s = 0.0
        self._attempts = _Attempts(len(earlier), len(earlier) - len(self.valid))
        self._steps = {s.label: s.steps for r in recorded for s in r.samples}
        self._epoch: Epoch | None = None
        self._epoch_number = max((r.epoch for r in earlier), default=-1)
        self._one_at_a_time = False

    @property
    def discarded(self) -> int:
        """Rounds that were discarded, earlier sessions included."""
        return self._attempts.discarded

    @property
    def is_disturbed(self) -> bool:
        """Whether so many rounds were discarded that going on makes no sense."""
        return self._attempts.discarded >= MOST_DISCARDED

    def one_round(self) -> None:
        """Every arm once in an order drawn for this round alone; recorded only if all of them succeed."""
        epoch = self.open()
        index = self._attempts.begun
        began = self._rig.now_s()
        samples: list[Sample] = []
        for place, arm in enumerate(self._order(str(index))):
            self._follower.doing(arm.label)
            try:
                samples.append(epoch.window(arm, index, place, self._steps[arm.label]))
            except CaseFailed as failure:
                self._give_up(arm, failure)
                self.close()
                return
        self.last_round_s = self._rig.now_s() - began
        if samples:
            self._keep(index, samples)

    def open(self) -> Epoch:
        """The open worker process, or a fresh one with every arm prepared that can be."""
        while self._epoch is None:
            began = self._rig.now_s()
            self._epoch = self._opened()
            self._epoch_number += 1
            for step in (self._prepare, self._fix_steps):
                for arm in self._order(f"epoch {self._epoch_number}"):
                    self._follower.doing(f"preparing {arm.label}")
                    try:
                        step(self._epoch, arm)
                    except CaseFailed as failure:
                        self._give_up(arm, failure)
                        if failure.epoch_lost or failure.status is Status.OOM:
                            self.close()
                            break
                if self._epoch is None:
                    break
            self.preparing_s += self._rig.now_s() - began
        return self._epoch

    def close(self) -> None:
        """End the worker process, if one is open."""
        if self._epoch is not None:
            self._epoch.close()
            self._epoch = None

    def _keep(self, index: int, samples: list[Sample]) -> None:
        """Hand a finished round on, as discarded if anything outside disturbed one of its windows."""
        reason = next((f"{s.label}: {s.invalid_reason}" for s in samples if s.invalid_reason), None)
        record = RoundRecord(self._group.key, index, self._epoch_number, tuple(samples), self._purpose, reason)
        self._follower.finished(record)
        self._attempts.begun += 1
        if reason is not None:
            self._attempts.discarded += 1
            return
        self.valid.append(record)
        if len(self.valid) in self._plan.analysis.epoch_ends:
            self.close()

    def _order(self, drawn_for: str) -> list[Arm]:
        """The arms in an order of their own for a round, and for preparing them in a process: what is built first
        lies elsewhere in memory, which must not be the same arm every time.
        """
        return drawn_order(self._plan, self._group, self.alive, self._purpose, drawn_for)

    def _opened(self) -> Epoch:
        """A fresh worker; HardwareError where none can be had after some tries."""
        for attempt in range(1, OPENING_TRIES + 1):
            try:
                return self._rig.open_epoch(self._plan, self._group, one_at_a_time=self._one_at_a_time)
            except CaseFailed as failure:
                if attempt == OPENING_TRIES:
                    what = f"no worker process can be started on {self._rig.device}: {failure.reason}"
                    raise HardwareError(what) from None
        raise AssertionError("unreachable: the last try returns or raises")

    def _prepare(self, epoch: Epoch, arm: Arm) -> None:
        """Build an arm and run it for the first time."""
        self._follower.prepared(arm, epoch.prepare(arm))

    def _fix_steps(self, epoch: Epoch, arm: Arm) -> None:
        """Steps per window, the same for the whole group: fixed once, and only when all arms are warm.

        An arm timed while the process was still cold would get shorter windows than an equal one timed after it.
        """
        if arm.label not in self._steps:
            window_s = shortest_window_s(self._rig.device, self._plan.sampling)
            self._steps[arm.label] = max(1, math.ceil(window_s / max(epoch.step_s(arm), 1e-9)))

    def _give_up(self, arm: Arm, failure: CaseFailed) -> None:
        """Drop an arm; out of memory counts only after it did not fit alone in a fresh process either."""
        if failure.status is Status.OOM and self._fits_alone(arm):
            if not self._one_at_a_time:
                self._one_at_a_time = True
                return
            failure = CaseFailed(Status.OOM, f"{failure.reason}; it fits in a fresh process, but not after the others")
        self.alive.remove(arm)
        self._follower.dropped(arm, failure)

    def _fits_alone(self, arm: Arm) -> bool:
        """One step of the arm in a process of its own."""
        self.close()
        self._follower.doing(f"trying {arm.label} alone")
        try:
            return self._rig.fits(self._plan, self._group, arm, self._group.shape.batch_size)
        except CaseFailed:
            return False


def drawn_order(plan: Plan, group: Group, arms: Sequence[Arm], purpose: Purpose, drawn_for: str) -> list[Arm]:
    """An independent uniform permutation, drawn from the seed, the group, the purpose and what it is for: a round by
    its number, or an epoch.
    """
    which = drawn_for if purpose == "compare" else f"{purpose}|{drawn_for}"
    order = list(arms)
    random.Random(f"{plan.served.seed}|{group.key}|{which}").shuffle(order)
    return order
