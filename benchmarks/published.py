"""Published relative speeds and memories beside a run's own, and the article's claims against naive and sdpa.

run file ─▶ time and memory relative to naive at the longest length ─▶ table beside the published one, order compared
        └─▶ cast against naive and against sdpa at every length ─▶ 6 times the speed, 10 % of the memory: yes or no

Published figures are training steps per second on other hardware (TPU v3 or V100), batch 32, against attention with
its scores in memory. They stand in a table of their own: nothing here puts them beside milliseconds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from castbench.findings import CaseFinding, case_findings
from castbench.records import RunRecord
from castbench.report.claims_view import (
    CLAIMED_MEMORY,
    CLAIMED_SPEED,
    memory_claim,
    memory_share,
    speed_claim,
    speed_over,
)
from castbench.report.nouns import Claim
from castbench.stats import Estimate
from castbench.store import read_run

ORIGINAL, FUSED = "naive", "sdpa"
SAID: dict[Claim, str] = {
    "confirmed": "yes", "not_confirmed": "no", "unclear": "unclear", "not_measured": "not measured"
}  # fmt: skip
BEGIN, END = "<!-- published:begin -->\n", "<!-- published:end -->"


@dataclass(frozen=True, slots=True)
class Published:
    """One row of a published efficiency table: 4K text, relative to the Transformer with its scores in memory."""

    label: str
    speed: float
    memory: float
    source: str


LRA = "Tay et al. 2020, arXiv:2011.04006"
MEGA = "Ma et al. 2022, arXiv:2209.10655"
PUBLISHED = (
    Published("performer", 5.7, 0.11, LRA), Published("linear", 5.6, 0.11, LRA), Published("linformer", 5.5, 0.10, LRA),
    Published("local", 5.3, 0.14, LRA), Published("bigbird", 1.1, 0.30, LRA), Published("reformer", 0.8, 0.24, LRA),
    Published("luna(length=256)", 4.9, 0.16, MEGA), Published("s4d", 4.8, 0.14, MEGA),
)  # fmt: skip
"""Rows of mechanisms that castbench has; s4d stands beside the figure of S4-v2, of which it is the diagonal form."""


@dataclass(frozen=True, slots=True)
class Relative:
    """One arm relative to another at one length: how many times as fast, and which share of its memory."""

    speed: Estimate
    memory: float | None


def relative(record: RunRecord, findings: Sequence[CaseFinding], label: str, to: str, tokens: int) -> Relative | None:
    """`label` relative to `to` at that length, over the smallest batch; None where either was not measured."""
    cases = {f.arm.label: f for f in findings if f.group.shape.seq_len == tokens and not f.group.held_out}
    mine, theirs = cases.get(label), cases.get(to)
    if mine is None or theirs is None or mine.mean_step_s is None or theirs.mean_step_s is None:
        return None
    speed = speed_over(record, mine.group, label, to)
    return None if speed is None else Relative(speed, memory_share(mine, theirs))


def told(value: Estimate) -> str:
    """A speed with its interval."""
    between = "" if value.low is None or value.high is None else f" ({value.low:.2f}–{value.high:.2f})"
    return f"{value.value:.2f}×{between}"


def share(value: float | None) -> str:
    """A share of memory."""
    return "not measured" if value is None else f"{value:.2f}"


def published_rows(record: RunRecord, findings: Sequence[CaseFinding], tokens: int) -> list[str]:
    """The published table, and beside each row what this run has for it."""
    rows = [
        "| mechanism | published speed | here | published memory | here | source |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in PUBLISHED:
        here = relative(record, findings, row.label, ORIGINAL, tokens)
        mine = ("not measured", "not measured") if here is None else (told(here.speed), share(here.memory))
        rows.append(f"| `{row.label}` | {row.speed:g}× | {mine[0]} | {row.memory:g} | {mine[1]} | {row.source} |")
    return rows


def order_rows(record: RunRecord, findings: Sequence[CaseFinding], tokens: int) -> list[str]:
    """In which pairs of mechanisms the order of speeds is the published one, and in which not."""
    here = {row.label: relative(record, findings, row.label, ORIGINAL, tokens) for row in PUBLISHED}
    pairs = [(a, b) for a, b in combinations(PUBLISHED, 2) if here[a.label] and here[b.label] and a.speed != b.speed]
    turned = []
    for a, b in pairs:
        first, second = here[a.label], here[b.label]
        assert first is not None and second is not None  # noqa: PT018 - filtered above
        if (a.speed > b.speed) != (first.speed.value > second.speed.value):
            fast, slow = (a, b) if first.speed.value > second.speed.value else (b, a)
            turned.append(
                f"`{fast.label}` is faster than `{slow.label}` here ({slow.speed:g}× and {fast.speed:g}× published)"
            )
    said = f"Of {len(pairs)} pairs {len(pairs) - len(turned)} are in the published order."
    return [said + (" Not so: " + "; ".join(turned) + "." if turned else "")]


def claim_rows(record: RunRecord, findings: Sequence[CaseFinding]) -> list[str]:
    """The article's claims at every length, against naive and against sdpa."""
    rows = [
        f"| tokens | speed over `{ORIGINAL}` | {CLAIMED_SPEED:g}×? | memory of it | {CLAIMED_MEMORY:.0%}? | speed over "
        f"`{FUSED}` | {CLAIMED_SPEED:g}×? | memory of it | {CLAIMED_MEMORY:.0%}? |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for tokens in sorted({f.group.shape.seq_len for f in findings if not f.group.held_out}):
        cells = []
        for rival in (ORIGINAL, FUSED):
            found = relative(record, findings, "cast", rival, tokens)
            if found is None:
                cells += ["not measured"] * 4
                continue
            fits = SAID[memory_claim(found.memory)]
            cells += [told(found.speed), confirmed(found.speed), share(found.memory), fits]
        rows.append(f"| {tokens:,} | {' | '.join(cells)} |")
    return rows


def confirmed(speed: Estimate) -> str:
    """Whether a speed reaches what is claimed: by its whole interval, not at all, or nobody knows."""
    return "too few rounds" if speed.low is None or speed.high is None else SAID[speed_claim(speed)]


def described(record: RunRecord) -> str:
    """What was measured, in a line."""
    served, environment = record.header.plan.served, record.header.environment
    batches = sorted({group.shape.batch_size for group in record.header.plan.groups})
    return (
        f"{record.header.profile_name}: {served.phase}, {served.dtype}, batch {', '.join(map(str, batches))}, "
        f"{served.model.layers} layers {served.model.embed_dim} wide, on {environment.device_name}"
    )


def page(record: RunRecord) -> str:
    """Everything, as Markdown."""
    findings = case_findings(record)
    longest = max(f.group.shape.seq_len for f in findings)
    parts = (
        [
            f"Measured: {described(record)}; published: training, batch 32, other hardware. At {longest:,} tokens, "
            f"relative to `{ORIGINAL}`:"
        ],
        published_rows(record, findings, longest), order_rows(record, findings, longest),
        ["The article's claims (up to about 6 times the speed, about 10 % of the memory) against both:"],
        claim_rows(record, findings),
    )  # fmt: skip
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def main() -> None:
    """Print the page, or put it into a document between its markers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run of profiles/lra-text.yaml, on any machine")
    parser.add_argument("--into", type=Path, help="a document with the markers; else it is printed")
    asked = parser.parse_args()
    text = page(read_run(asked.run))
    if asked.into is None:
        sys.stdout.write(text)
        return
    head, _, rest = asked.into.read_text(encoding="utf-8").partition(BEGIN)
    asked.into.write_text(f"{head}{BEGIN}{text}{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
