"""Is a run file whole and in itself consistent: hashes, order of events, rules, and what its profile's text states."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from castbench.errors import CastbenchError
from castbench.plain import sha256_of
from castbench.records import RunRecord
from castbench.report.verify.checks import Check, listed
from castbench.store import rounds_sha256

_END_MISSING = (
    "no closing line: the run is unfinished, was interrupted, or lines were cut off; which of them cannot be told"
)


def file_checks(record: RunRecord, comparable_sha256: str) -> Iterator[Check]:
    """The checks of the file itself; `comparable_sha256` is the hash of its plan, computed anew."""
    header = record.header
    hashes = (
        ("profile hash", sha256(header.profile_text.encode()).hexdigest(), header.profile_sha256),
        ("analysis plan hash", sha256_of(header.plan), header.plan_sha256),
        ("comparability hash", comparable_sha256, header.comparable_sha256),
    )
    for what, found, stored in hashes:
        yield listed(what, [] if found == stored else ["the header was changed"], "")
    yield _as_stated(record)
    yield listed("whole lines", record.damage, "no torn line")
    yield listed("every line follows from the one before", _chain_problems(record), "a chain of hashes")
    yield listed("rounds in order, none twice", _round_problems(record), _rounds_said(record))
    yield listed("order of every round as drawn", _order_problems(record), "seeded permutations")
    yield listed("groups as they were closed", _group_problems(record), _finished(record))
    yield listed("selection and fresh rounds", _selection_problems(record), _selected_said(record))
    yield listed("end of the run", _end_problems(record), _end_said(record))


def _rounds_said(record: RunRecord) -> str:
    """How many rounds there are, and how many of them do not count."""
    discarded = sum(not r.valid for r in record.rounds)
    return f"{len(record.rounds)} rounds" + (f", {discarded} of them discarded with a reason" if discarded else "")


def _finished(record: RunRecord) -> str:
    """How far the run got."""
    return f"{len(record.groups)} of {len(record.header.plan.groups)} groups are finished"


def _selected_said(record: RunRecord) -> str:
    """What was selected."""
    if record.selection is None:
        return "nothing was selected"
    return ", ".join(f"{s.label} against {s.against} at {s.group}" for s in record.selection.selected)


def _end_said(record: RunRecord) -> str:
    """How the run ended."""
    if record.ended is None:
        return _END_MISSING
    return "complete" if record.ended.complete else "the budget was over before everything was measured"


def _as_stated(record: RunRecord) -> Check:
    """Whether the header's economics, sampling and model are those that the profile's text states."""
    from castbench.workload.profile import parse_profile

    what, header = "header as the profile's text states", record.header
    try:
        folder = Path(header.profile_source).parent
        stated = parse_profile(header.profile_text, header.profile_source, folder).profile
    except CastbenchError:
        stated = None
    if stated is None:
        return Check(what, True, "not compared: the text, or a file of lengths it names, cannot be read here")
    plan = header.plan
    pairs = (
        ("economics", stated.economics, header.economics), ("sampling", stated.sampling, plan.sampling),
        ("baseline", stated.baseline, plan.baseline), ("model", stated.model, plan.served.model),
        ("scope, phase and dtype", (stated.scope, stated.phase, stated.dtype),
         (plan.served.scope, plan.served.phase, plan.served.dtype)),
        ("lengths", (stated.lengths.tokens, stated.lengths.shares), (plan.mix.tokens, plan.mix.shares)),
    )  # fmt: skip
    return listed(what, [f"{name} differ" for name, said, held in pairs if said != held], "economics, sampling, model")


def _chain_problems(record: RunRecord) -> Iterator[str]:
    """Lines that were changed, moved, added or taken out: the line after them no longer fits."""
    for number in record.unchained:
        yield f"line {number} does not follow from line {number - 1}"


def _round_problems(record: RunRecord) -> Iterator[str]:
    """Rounds that are missing, doubled, or of a group or arm that was never planned."""
    numbers: dict[tuple[str, str], list[int]] = {}
    for r in record.rounds:
        numbers.setdefault((r.group, r.purpose), []).append(r.round)
    planned = {group.key: group for group in record.header.plan.groups}
    for (key, purpose), found in numbers.items():
        twice = [number for number, times in Counter(found).items() if times > 1]
        yield from (f"{key} has round {number} twice or more ({purpose})" for number in twice)
        if key not in planned:
            yield f"{key} is not in the plan"
            continue
        if not twice and found != list(range(len(found))):
            yield f"{key} has rounds {found} ({purpose})"
        known = {arm.label for arm in record.header.plan.arms_of(planned[key])}
        strangers = {s.label for r in record.rounds if r.group == key for s in r.samples} - known
        yield from (f"{key} has windows of {label}, which was not planned there" for label in sorted(strangers))


def _order_problems(record: RunRecord) -> Iterator[str]:
    """Rounds whose arms did not run once each in the order that the plan's seed draws."""
    plan = record.header.plan
    for r in record.rounds:
        ran = [s.label for s in sorted(r.samples, key=lambda s: s.order)]
        drawn = [arm.label for arm in plan.arms if arm.label in set(ran)]
        which = f"{r.round}" if r.purpose == "compare" else f"{r.purpose}|{r.round}"
        random.Random(f"{plan.served.seed}|{r.group}|{which}").shuffle(drawn)
        if ran != drawn or [s.order for s in r.samples] != list(range(len(ran))):
            yield f"{r.group} round {r.round} ran in another order than its seed draws"


def _group_problems(record: RunRecord) -> Iterator[str]:
    """Finished groups whose rounds are not those they were closed with, or that stopped where the rules do not."""
    for key, times in Counter(g.group for g in record.groups).items():
        if times > 1:
            yield f"{key} was closed {times} times"
    rules = record.header.plan.analysis
    if not rules.total_error <= 0.05 + 1e-12 or sorted(set(rules.looks)) != list(rules.looks):
        yield f"the looks {rules.looks} spend {rules.total_error:g}, more than 5 %, or are out of order"
    for group in record.groups:
        rounds = record.rounds_of(group.group)
        if len(rounds) != group.rounds:
            yield f"{group.group} was closed with {group.rounds} rounds and has {len(rounds)}"
        elif rounds_sha256(rounds) != group.rounds_sha256:
            yield f"a round of {group.group} was changed after the group was closed"
        allowed = {"precision": rules.looks, "rounds": rules.looks[-1:]}.get(group.stopped_by)
        if allowed is not None and group.rounds not in allowed:
            yield f"{group.group} stopped by {group.stopped_by} after {group.rounds} rounds, which is no such look"


def _selection_problems(record: RunRecord) -> Iterator[str]:
    """Fresh rounds of what was not selected, and selections of what was not planned."""
    plan = record.header.plan
    selected = record.selection.selected if record.selection else ()
    labels: dict[str, set[str]] = {}
    for chosen in selected:
        labels.setdefault(chosen.group, set()).update((chosen.label, chosen.against))
    known = {group.key: {arm.label for arm in plan.arms_of(group)} for group in plan.groups}
    for key, named in labels.items():
        yield from (f"{label} at {key} was selected and not planned" for label in sorted(named - known.get(key, set())))
    for r in record.rounds:
        if r.purpose == "confirm" and not {s.label for s in r.samples} <= labels.get(r.group, set()):
            yield f"{r.group} has fresh round {r.round} of arms that were not selected"


def _end_problems(record: RunRecord) -> Iterator[str]:
    """A closing line that counted something else than the file holds."""
    end = record.ended
    if end is None:
        return
    for what, said, held in (("rounds", end.rounds, len(record.rounds)), ("groups", end.groups, len(record.groups))):
        if said != held:
            yield f"the run ended with {said} {what} and the file has {held}"
    if end.complete and len(record.groups) != len(record.header.plan.groups):
        yield f"the run ended as complete, and only {_finished(record)}"
