"""Hundreds of groups on the fake rig while faults are injected at random: is anything lost, doubled, hung or misjudged?

profile ─▶ sessions ended in six of nine ways ─▶ complete ─▶ verify    run by run, until there are enough groups
every fourth profile besides: two runs at once in one folder, three writers after one file
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

from chaos import ENDS, NOTHING, Campaign, profile_text, second_writer, together
from trials import write_result

from castbench.findings import case_findings
from castbench.records import RunRecord

RATES = (0.001, 0.005, 0.02)
"""Chance of each kind of fault at each call of the rig, by profile: from a fault in a few groups to some in each."""
ENDS_PER_RUN = 6
PAIRS_EVERY = 4


@dataclass(slots=True)
class Tally:
    """What was injected over all runs, and what came of it."""

    runs: int = 0
    groups: int = 0
    sessions: int = 0
    pairs: int = 0
    longest_s: float = 0.0
    came_of: Counter[tuple[str, int | None]] = field(default_factory=Counter)
    injected: Counter[str] = field(default_factory=Counter)
    rounds: Counter[str] = field(default_factory=Counter)
    cases: Counter[str] = field(default_factory=Counter)
    stopped_by: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def add(self, campaign: Campaign, record: RunRecord | None) -> None:
        """One run through all its sessions."""
        self.runs += 1
        self.sessions += campaign.sessions
        self.longest_s = max(self.longest_s, campaign.longest_s)
        self.came_of += campaign.came_of
        self.injected += campaign.injected
        self.problems += [f"{campaign.path.parent.name}: {problem}" for problem in campaign.problems]
        if record is not None:
            self.groups += len(record.groups)
            self.rounds.update(r.purpose if r.valid else "discarded" for r in record.rounds)
            self.cases.update(case.status.value for case in case_findings(record))
            self.stopped_by.update(group.stopped_by for group in record.groups)

    def as_plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "runs": self.runs, "groups": self.groups, "sessions": self.sessions, "pairs": self.pairs,
            "longest_session_s": self.longest_s, "problems": self.problems,
            "sessions_by_end": [[end, code, times] for (end, code), times in sorted(self.came_of.items(), key=str)],
            "faults": dict(self.injected), "rounds": dict(self.rounds), "cases": dict(self.cases),
            "stopped_by": dict(self.stopped_by),
        }  # fmt: skip


def soak(groups: int, seed: int, directory: Path) -> Tally:
    """Run after run until there are so many groups."""
    tally = Tally()
    while tally.groups < groups and tally.runs < groups:
        number = seed * 10_000 + tally.runs
        draw, place = random.Random(f"soak {number}"), directory / f"run-{number}"
        (place / "runs").mkdir(parents=True)
        profile = place / "profile.yaml"
        profile.write_text(profile_text(number))
        campaign = Campaign(profile, place / "runs" / "run.jsonl", number, draw.choice(RATES))
        tally.add(campaign, campaign.run(draw.sample(ENDS, ENDS_PER_RUN)))
        if tally.runs % PAIRS_EVERY == 1:
            tally.pairs += 1
            tally.problems += together(profile, place)
            tally.problems += second_writer(profile, place / "wanted.jsonl")
        print(f"{tally.groups} groups, {tally.sessions} sessions, {len(tally.problems)} problems", flush=True)
    return tally


def show(tally: Tally) -> None:
    """The tables."""
    codes: dict[str, Counter[str]] = {end.name: Counter() for end in (*ENDS, NOTHING)}
    for (end, code), times in tally.came_of.items():
        codes[end]["hung" if code is None else f"exit {code}"] += times
    _table("sessions, and how they ended", {end: ", ".join(f"{c}: {n}" for c, n in found.items())
                                            for end, found in codes.items()})  # fmt: skip
    for title, counts in (
        ("faults within sessions", tally.injected), ("rounds in the files", tally.rounds),
        ("cases at the end", tally.cases), ("what ended the groups", tally.stopped_by),
    ):  # fmt: skip
        _table(title, {name: str(times) for name, times in counts.most_common()})


def _table(title: str, rows: Mapping[str, str]) -> None:
    print(f"\n{title}")
    for name, value in rows.items():
        print(f"  {name:42} {value}")


def main() -> bool:
    """Soak, say what came of it; whether nothing was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="of profiles, faults and where they strike")
    parser.add_argument("--keep", type=Path, help="write the run files there and keep them")
    parser.add_argument("--out", type=Path, help="write the result there as JSON")
    asked = parser.parse_args()
    began = monotonic()
    if asked.keep is None:
        with TemporaryDirectory() as directory:
            tally = soak(asked.groups, asked.seed, Path(directory))
    else:
        tally = soak(asked.groups, asked.seed, asked.keep)
    seconds = monotonic() - began
    show(tally)
    print(
        f"\n{tally.runs} runs of {tally.groups} groups in {tally.sessions} sessions (longest {tally.longest_s:.1f} s)"
        f" and {tally.pairs} times several at once: {len(tally.problems)} problems, {seconds:.0f} s"
    )
    print("\n".join(tally.problems))
    write_result(asked.out, {"seed": asked.seed, "seconds": seconds, **tally.as_plain()})
    return not tally.problems


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
