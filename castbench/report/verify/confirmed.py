"""What the fresh rounds say of the selected winners, worked out anew: exact p-values by ranks, Holm over the claims."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from castbench.report.verify.cases import Ratio, ratio_of
from castbench.report.verify.intervals import (
    estimate,
    pseudo_median,
    signed_rank_interval,
    signed_rank_p,
    step_down,
    verdict_of,
)
from castbench.report.verify.raw import Json, RawRun, step_s


def confirmation_rows(run: RawRun) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where, and what is said there, of everything selected, in its order."""
    rows = [_row(run, chosen) for chosen in run.selected]
    claimed = [row for row in rows if row["claim"] != "UNCLEAR"]
    adjusted = iter(step_down([1.0 if row["p_value"] is None else row["p_value"] for row in claimed]))
    error = sum(run.plan["analysis"]["look_errors"])
    for chosen, row in zip(run.selected, rows, strict=True):
        p = next(adjusted) if row["claim"] != "UNCLEAR" else None
        if row["p_value"] is not None and p is not None:
            row |= {"adjusted_p": p, "holds": p <= error}
        yield f"{chosen['group']} {chosen['label']} confirmed", row


def _row(run: RawRun, chosen: Json) -> dict[str, Any]:
    """One claim and its fresh rounds, before the adjustment."""
    rules, margin = run.plan["analysis"], run.plan["sampling"]["same_within"]
    key, label, against = chosen["group"], chosen["label"], chosen["against"]
    first = ratio_of(run, key, label, against)
    claim = "UNCLEAR" if first is None else verdict_of(first.ends, margin)
    logs = _fresh(run, key, label, against)
    judged = logs[: rules["confirm_rounds"]] if len(logs) >= rules["confirm_rounds"] else []
    fresh = Ratio(pseudo_median(judged), signed_rank_interval(judged, sum(rules["look_errors"]))) if judged else None
    return {
        "claim": claim, "rounds": len(logs), "wanted": rules["confirm_rounds"], "adjusted_p": None, "holds": False,
        **estimate("speedup_first", *(first.speedup() if first else (None, None, None))),
        **estimate("speedup_fresh", *(fresh.speedup() if fresh else (None, None, None))),
        "p_value": signed_rank_p(judged, claim, margin) if judged and claim != "UNCLEAR" else None,
    }  # fmt: skip


def _fresh(run: RawRun, key: str, label: str, against: str) -> list[float]:
    """Log ratios of the fresh rounds, by their numbers."""
    found = []
    for r in sorted(run.fresh.get(key, ()), key=lambda r: r["round"]):
        mine, theirs = step_s(r, label), step_s(r, against)
        if mine is not None and theirs is not None:
            found.append(math.log(mine) - math.log(theirs))
    return found
