"""The waterfall, the bill explained, the parts of the range and the memory needed, worked out anew from a recount."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from castbench.report.verify.draws import Number, combined
from castbench.report.verify.intervals import estimate
from castbench.report.verify.money import HOURS_PER_MONTH, Recount, Way, at_length, paid_lengths
from castbench.report.verify.raw import Json

PARTS = ("rounds", "interpolation")
MOVED = ("batch_size", "batching", "regime")


class Steps:
    """What a report says of savings, by name, without looking at the report."""

    def __init__(self, recount: Recount, arms: Sequence[Json], observed: Mapping[str, float | None] | None) -> None:
        self._recount, self._observed = recount, observed
        self._rows = {arm["label"]: recount.mechanism(arm) for arm in arms}

    def rows(self) -> dict[str, Any]:
        """Everything that is recomputed, nested as the report has it."""
        return {
            "waterfall": self._waterfall(), "range_parts": self._parts(), "observed": self._explained(),
            "headroom": self._headroom(),
        }  # fmt: skip

    def _waterfall(self) -> dict[str, Any] | None:
        """Today, every step with what it leads to, and the sums."""
        recount = self._recount
        at = today = recount.today
        if at is None or today is None or recount.baseline is None:
            return None
        steps = []
        for move in ("batching", "batch_size", "regime", "together", "mechanism"):
            options = list(self._options(move, at))
            there = min([at, *options], key=lambda way: recount.request_s[way].value)
            if options:
                steps.append(self._step(move, at, there, len(options)))
            at = there
        new = self._best([row for row in self._rows if self._rows[row]["quality_status"] != "equal_within_margin"])
        if new is not None:
            steps.append(self._step("new_model", at, new, 1))
        return {
            "today": recount.run_row(today), "steps": steps, "tuned": recount.change_row(today, at),
            "total": recount.change_row(today, new or at),
        }  # fmt: skip

    def _step(self, move: str, old: Way, new: Way, alternatives: int) -> dict[str, Any]:
        """One step."""
        change = self._recount.change_row(old, new)
        return {"move": move, "to": self._recount.run_row(new), "change": change, "alternatives": alternatives}

    def _options(self, move: str, at: Way) -> Iterator[Way]:
        """Where a step of this kind could lead to."""
        recount = self._recount
        for way in recount.request_s:
            same = way.label == at.label
            apart = {name for name in MOVED if getattr(way, name) != getattr(at, name)}
            if 1 in (way.batch_size, at.batch_size):
                apart.discard("batching")
            fits = {"together": same and way == recount.baseline != at, "mechanism": not same}
            if way.label in recount.exact and fits.get(move, same and apart == {move}):
                yield way

    def _best(self, labels: Sequence[str]) -> Way | None:
        """What the headline speaks of, among these labels: what is recommended, else the best that replaces today's."""
        kept = {way.label for way in (self._recount.today, self._recount.baseline) if way is not None}
        others = [label for label in labels if label not in kept and label in self._recount.best]
        advised = [label for label in others if self._rows[label]["recommendation"] in ("PILOT", "ROLL-OUT")]
        label = max(advised or others, key=self._merit, default=None)
        return None if label is None else self._recount.best[label]

    def _merit(self, label: str) -> tuple[float, float]:
        """Saving first, then speed; what is not known last."""
        known = (self._rows[label]["saving_usd_per_hour.value"], self._rows[label]["speedup.value"])
        return tuple(-math.inf if value is None else value for value in known)  # type: ignore[return-value]

    def _parts(self) -> dict[str, Any] | None:
        """Widths of the range of the headline's saving, as it is and with one part left out."""
        subject = self._best(list(self._rows))
        full = None if subject is None else self._width(subject, None, whole=True)
        smooth = None if subject is None else self._width(subject, None, whole=False)
        if subject is None or full is None or smooth is None:
            return None
        without = [(part, self._width(subject, part, whole=False)) for part in PARTS]
        falls = [(full - smooth, "whole_servers"), *((smooth - (width or 0.0), part) for part, width in without)]
        most, dominant = max(falls, key=lambda fall: fall[0])
        return {
            "label": subject.label, "width_usd_per_hour": full, "fractional_usd_per_hour": smooth,
            "without": without, "dominant": dominant if most > 0 else None,
        }  # fmt: skip

    def _width(self, subject: Way, without: str | None, *, whole: bool) -> float | None:
        """Width of the interval of a saving."""
        recount = self._recount
        seconds, usd = recount.requests(without), recount.usd_per_hour
        if recount.baseline is None or usd is None:
            return None
        old, new = recount.fleet_of(seconds[recount.baseline]), recount.fleet_of(seconds[subject])
        if old is None or new is None:
            return None
        pair = (old.bought, new.bought) if whole else (old.needed, new.needed)
        low, high = combined([(usd, pair[0]), (-usd, pair[1])]).interval()
        noise = 1e-9 * usd * old.bought.value
        return None if low is None or high is None else high - low if high - low > noise else 0.0

    def _explained(self) -> dict[str, Any] | None:
        """Shares of the bill and of the latency that the model explains."""
        if self._observed is None:
            return None
        recount, stated = self._recount, self._observed
        fleet = None if recount.today is None else recount.fleet_of(recount.request_s[recount.today])
        hours, requests = stated["gpu_hours_per_month"], stated["requests_per_month"]
        paid = None if hours is None else hours / (HOURS_PER_MONTH * recount.devices)
        bill = None if fleet is None or paid is None else combined([(1 / paid, fleet.bought)])
        median, p50_ms, rate = self._median(), stated["p50_ms"], recount.rate
        late = None if median is None or p50_ms is None else combined([(1e3 / p50_ms, median)])
        return {
            "stated": dict(stated), **_spread("bill_explained", bill), **_spread("latency_explained", late),
            **_spread("p50_s", median),
            "demand_ratio": None if requests is None or rate is None else rate * 3600 * HOURS_PER_MONTH / requests,
            "units_paid": paid,
            "bill_usd_per_hour": None if paid is None or recount.usd_per_hour is None else paid * recount.usd_per_hour,
            "spare_units": None if fleet is None or paid is None else max(0, math.floor(paid - fleet.bought.value)),
        }  # fmt: skip

    def _median(self) -> Number | None:
        """Time that half of the requests take at most, draw by draw."""
        import numpy as np

        recount = self._recount
        if recount.today is None or recount.plan["served"]["scope"] != "encoder":
            return None
        points = recount.points(recount.today)
        paid = [(share, at_length(points, n)) for n, share in paid_lengths(recount.plan["mix"], recount.today)]
        value = _weighted_median([(number.value, share) for share, number in paid])
        if any(number.draws is None for _, number in paid):
            return Number(value, None)
        drawn = np.array([number.draws for _, number in paid])
        shares = [share for share, _ in paid]
        halves = [_weighted_median(list(zip(column, shares, strict=True))) for column in drawn.T]
        return Number(value, np.array(halves))

    def _headroom(self) -> list[int]:
        """Bytes that each mechanism needs at its best, of those whose memory is known."""
        if not self._recount.has_memory:
            return []
        needs = []
        for label in self._rows:
            way = self._recount.best.get(label)
            cases = [] if way is None else [case.outcome for _, case, _ in self._recount.points(way)]
            known = [one for one in cases if one is not None and one["peak_bytes"] is not None]
            sums = [(one["peak_bytes"] + (one["weights_bytes"] or 0), one["reserved_bytes"] or 0) for one in known]
            if sums:
                needs.append(max(max(pair) for pair in sums))
        return needs


def _weighted_median(values: list[tuple[float, float]]) -> float:
    """The smallest value that half of the weight does not exceed."""
    reached = 0.0
    for value, weight in sorted(values):
        reached += weight
        if reached >= 0.5 - 1e-12:
            return float(value)
    return float(max(values)[0])


def _spread(name: str, number: Number | None) -> dict[str, Any]:
    """A drawn number with its interval, by name."""
    return estimate(name, *(None, None, None) if number is None else (number.value, *number.interval()))
