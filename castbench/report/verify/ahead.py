"""Break-even, growth, sensitivity and energy of the fleet, worked out anew from a recount."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from castbench.report.verify.draws import COUNT, Number, combined, quotient
from castbench.report.verify.money import HOURS_PER_MONTH, Fleet, Recount, Way, at_length, paid_lengths
from castbench.report.verify.raw import Json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MONTHS_AHEAD = 120
WITHIN = (12, 24)
YEARS = (1, 2, 3)
SECONDS_PER_MONTH = HOURS_PER_MONTH * 3600
JOULES_PER_KWH = 3_600_000
_ADOPTED = ("PILOT", "ROLL-OUT")
_BESIDE = 1e-6
"""How far on either side of a flip its two answers are taken."""


class Ahead:
    """What a report says of what lies ahead, by name, without looking at the report."""

    def __init__(self, recount: Recount, arms: Sequence[Json]) -> None:
        self._recount, self._arms = recount, arms
        self._rows = {arm["label"]: recount.mechanism(arm) for arm in arms}

    @cached_property
    def subject(self) -> Way | None:
        """The way that is adopted, else the one that saves most, of those that do not run today or instead of it."""
        recount = self._recount
        if recount.baseline is None:
            return None
        kept = {recount.baseline.label, *([] if recount.today is None else [recount.today.label])}
        others = [label for label in recount.best if label not in kept]
        adopted = [label for label in others if self._rows[label]["recommendation"] in _ADOPTED]
        label = max(adopted or others, key=self._merit, default=None)
        return None if label is None else recount.best[label]

    def _merit(self, label: str) -> tuple[float, float]:
        """Saving, then speed."""
        saving, speed = self._rows[label]["saving_usd_per_hour.value"], self._rows[label]["speedup.value"]
        return (-math.inf if saving is None else saving), (-math.inf if speed is None else speed)

    def rows(self) -> dict[str, Any]:
        """Everything that is recomputed, nested as the report has it."""
        way = self.subject
        if way is None:
            return {"electricity": self._electricity}
        training = self._recount.plan["served"]["phase"] == "training"
        speedup = quotient(self._recount.request_s[self._base], self._recount.request_s[way]) if training else None
        return {
            "subject": way.label, "break_even": self._break_even, "growth": self._growth(way),
            "sensitivity": dict(self._factors(way)),
            "steps_break_even": None if speedup is None else _ends(speedup.value, *speedup.interval()),
            "electricity": self._electricity,
        }  # fmt: skip

    def cells(self, label: str) -> dict[str, Any]:
        """A mechanism's numbers under the names of the CSV summary."""
        way = self.subject
        paid = self._break_even if way is not None and way.label == label else None
        months = (paid["months_growing"] or paid["months"]) if paid else None
        shares = dict(paid["within"]) if paid else {}
        energy = next((row for row in self._electricity or [] if row["label"] == label), None) or {}
        kwh = energy.get("kwh_per_million_tokens") or {}
        return {
            "one_off_usd": paid["one_off_usd"]["value"] if paid else None,
            **{f"break_even_{end}months": _finite(months and months[name]) for end, name in _ENDS},
            **{f"probability_break_even_{n}_months": shares.get(n) for n in WITHIN},
            "probability_no_break_even": paid["never_probability"] if paid else None,
            **{f"kwh_{end}per_million_tokens": kwh.get(name) for end, name in _ENDS},
            "kg_co2_per_million_tokens": (energy.get("kg_co2_per_million_tokens") or {}).get("value"),
            "kwh_per_month": (energy.get("kwh_per_month") or {}).get("value"),
            "idle_kwh_per_month": energy.get("idle_kwh_per_month"),
            "electricity_usd_per_month": (energy.get("usd_per_month") or {}).get("value"),
            "kg_co2_per_month": (energy.get("kg_co2_per_month") or {}).get("value"),
        }  # fmt: skip

    def flips(self, moved: str, at: float) -> bool:
        """Whether something is saved on one side of a value of a factor, and nothing on the other."""
        way = self.subject
        savings = {} if way is None else {name: saving for name, _, _, saving in self._moves(way)}
        beside = [savings[moved](at * factor) or 0.0 for factor in (1 - _BESIDE, 1 + _BESIDE)]
        return (beside[0] > 0) != (beside[1] > 0)

    @property
    def _base(self) -> Way:
        assert self._recount.baseline is not None
        return self._recount.baseline

    def _fleets(self, way: Way, rate_factor: float) -> tuple[Fleet, Fleet] | None:
        """Servers of the baseline and of a way at so many times the rate; servers follow from rate times seconds."""
        fleets = [
            self._recount.fleet_of(combined([(rate_factor, self._recount.request_s[one])])) for one in (self._base, way)
        ]
        return None if fleets[0] is None or fleets[1] is None else (fleets[0], fleets[1])

    def _cash(self, way: Way, rate_factor: float) -> Number:
        """Dollars per month that leave the invoice at so many times the rate."""
        base, fleet = self._fleets(way, rate_factor) or (None, None)
        held = self._recount.fleet_of(self._recount.request_s[self._recount.today or self._base])
        assert base is not None
        assert fleet is not None
        assert held is not None
        hour = combined([(1.0, self._recount.invoice(base, held)), (-1.0, self._recount.invoice(fleet, held))])
        return combined([(HOURS_PER_MONTH, hour)])

    @cached_property
    def _break_even(self) -> dict[str, Any] | None:
        """Costs, cash and months of the subject."""
        way, costs = self.subject, self._costs
        if way is None or costs is None:
            return None
        percent, cash = self._percent, self._cash(way, 1.0)
        flat = expected = _repaid(costs, [cash] * MONTHS_AHEAD)
        if percent is not None:
            rates = [(1 + percent / 100) ** (month / 12) for month in range(MONTHS_AHEAD)]
            expected = _repaid(costs, [self._cash(way, rate) for rate in rates])
        late = _share_within(expected, MONTHS_AHEAD)
        return {
            "one_off_usd": _ends(costs.value, *costs.interval()),
            "cash_usd_per_month": _ends(cash.value, *cash.interval()), "months": _months(flat),
            "months_growing": None if percent is None else _months(expected),
            "within": [(n, _share_within(expected, n)) for n in WITHIN],
            "never_probability": None if late is None else 1 - late,
        }  # fmt: skip

    @property
    def _costs(self) -> Number | None:
        """One-off costs: what is stated, and the subject's fleet for the days that it runs beside today's."""
        stated, usd, way = self._recount.economics.get("one_off"), self._recount.usd_per_hour, self.subject
        fleets = None if way is None else self._fleets(way, 1.0)
        is_new = way is not None and not next(arm["exact"] for arm in self._arms if arm["label"] == way.label)
        if stated is None or usd is None or fleets is None or not is_new:
            return None
        fixed = sum(once or 0.0 for name, once in stated.items() if name != "dual_running_days")
        hourly, whole = usd * 24 * (stated["dual_running_days"] or 0.0), fleets[1].bought
        return Number(fixed + hourly * whole.value, None if whole.draws is None else fixed + hourly * whole.draws)

    @property
    def _percent(self) -> float | None:
        """Growth of the rate per year, as stated."""
        demand = self._recount.economics.get("demand") or {}
        found: float | None = demand.get("growth_percent_per_year")
        return found if self._recount.rate is not None else None

    def _growth(self, way: Way) -> dict[str, Any] | None:
        """Both fleets in years to come."""
        if self._percent is None:
            return None
        return {
            "percent_per_year": self._percent,
            "years": [self._grown(way, years, (1 + self._percent / 100) ** years) for years in YEARS],
        }

    def _grown(self, way: Way, years: int, factor: float) -> dict[str, Any]:
        """Both fleets when the rate is so many times what it is."""
        base, fleet = self._fleets(way, factor) or (None, None)
        usd, rate = self._recount.usd_per_hour, self._recount.rate
        assert base is not None
        assert fleet is not None
        assert rate is not None
        counts = {"baseline_replicas": base.bought, "replicas": fleet.bought}
        money = {} if usd is None else {
            "baseline_cost_usd_per_hour": combined([(usd, base.bought)]),
            "cost_usd_per_hour": combined([(usd, fleet.bought)]),
            "saving_usd_per_hour": combined([(usd, base.bought), (-usd, fleet.bought)]),
        }  # fmt: skip
        known = {name: _ends(number.value, *number.interval()) for name, number in {**counts, **money}.items()}
        return {"years": years, "requests_per_second": rate * factor, **known}

    def _factors(self, way: Way) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each assumption moved alone, with what is saved at both ends."""
        for name, base, (lower, upper), saving in self._moves(way):
            ends = {"now": saving(base), "at_lower": saving(lower), "at_upper": saving(upper)}
            yield name, {"moved": name, "base": base, "lower": lower, "upper": upper, **ends}

    def _moves(self, way: Way) -> Iterator[tuple[str, float, tuple[float, float], Callable[[float], float | None]]]:
        """What moves, its value, both ends, and what is saved at a value of it."""
        recount = self._recount
        usd, rate, busy = recount.usd_per_hour, recount.rate, recount.utilization
        if usd is None or not rate:
            return
        times = {one: recount.request_s[one].value for one in (self._base, way)}
        theirs, mine = times[self._base], times[way]
        now = self._saves(theirs, mine)
        yield "price", usd, (0.8 * usd, 1.2 * usd), lambda value: now * value / usd
        yield "rate", rate, (0.75 * rate, 1.25 * rate), lambda r: self._saves(theirs * r / rate, mine * r / rate)
        yield "utilization", busy, (max(0.01, busy - 0.1), min(1.0, busy + 0.1)), (
            lambda share: self._saves(theirs * busy / share, mine * busy / share)
        )  # fmt: skip
        low, high = quotient(recount.request_s[self._base], recount.request_s[way]).interval()
        ends = (1 / high, 1 / low) if low and high else (mine / theirs, mine / theirs)
        yield "times", mine / theirs, ends, lambda ratio: self._saves(theirs, ratio * theirs)
        yield "lengths", 1.0, (0.75, 1.25), lambda factor: self._longer(way, factor)
        if self._share is not None:
            yield from self._attention(theirs, mine, self._share)

    @property
    def _share(self) -> float | None:
        """Share of attention in a request today, where only attention was timed."""
        part: float | None = self._recount.economics["attention_share"]
        return part if self._recount.plan["served"]["scope"] == "attention" else None

    def _attention(self, theirs: float, mine: float, share: float) -> Iterator[Any]:
        """The share of attention moved: modules keep their time, the rest of a request follows from the share."""
        today = self._recount.request_s[self._recount.today or self._base].value
        modules = [one - today * (1 - share) for one in (theirs, mine)]

        def saving(other: float) -> float:
            rest = today * share / other - today * share
            return self._saves(*(module + rest for module in modules))

        yield "attention", share, (max(0.01, share - 0.1), min(1.0, share + 0.1)), saving

    def _saves(self, theirs: float, mine: float) -> float:
        """Dollars per hour between two numbers of seconds per request."""
        old, new = (self._recount.fleet_of(Number(seconds, None)) for seconds in (theirs, mine))
        assert old is not None
        assert new is not None
        return (old.bought.value - new.bought.value) * (self._recount.usd_per_hour or 0.0)

    def _longer(self, way: Way, factor: float) -> float | None:
        """Dollars per hour saved when every request is so many times as long; None beyond what was measured."""
        recount, mix = self._recount, self._recount.plan["mix"]
        if factor == 1.0:
            return self._saves(recount.request_s[self._base].value, recount.request_s[way].value)
        reach = min(recount.points(one)[-1][0] for one in (self._base, way))
        if self._share is not None or factor * mix["tokens"][-1] > reach * (1 + 1e-12):
            return None
        shares: dict[int, float] = {}
        for tokens, share in zip(mix["tokens"], mix["shares"], strict=True):
            moved = max(1, round(tokens * factor))
            shares[moved] = shares.get(moved, 0.0) + share
        moved_mix = {"tokens": list(shares), "shares": list(shares.values())}
        return self._saves(*(self._seconds(one, moved_mix) for one in (self._base, way)))

    def _seconds(self, way: Way, mix: Json) -> float:
        """Seconds per request of a mix."""
        points = self._recount.points(way)
        paid = paid_lengths(mix, way)
        return math.fsum(share * at_length(points, tokens).value for tokens, share in paid) / way.batch_size

    @cached_property
    def _electricity(self) -> list[dict[str, Any]] | None:
        """Energy of every mechanism that has it."""
        terms = self._recount.economics.get("energy")
        return None if terms is None else [self._energy(arm["label"], terms) for arm in self._arms]

    def _energy(self, label: str, terms: Mapping[str, float | None]) -> dict[str, Any]:
        """One mechanism's energy: joules of a request, of a million tokens, and of a month of the fleet."""
        recount, way = self._recount, self._recount.best.get(label)
        points = [] if way is None else recount.points(way)
        rows = [case.row for _, case, _ in points]
        if way is None or recount.plan["served"]["scope"] != "encoder" or any(_joules(r) is None for r in rows):
            return {"label": label}
        mix, pue = recount.plan["mix"], terms["pue"] or 1.0
        mean_tokens = sum(t * s for t, s in zip(mix["tokens"], mix["shares"], strict=True))
        kwh = [
            sum(share * _at(points, column, tokens) for tokens, share in paid_lengths(mix, way)) / way.batch_size
            * pue / JOULES_PER_KWH
            for column in ("value", "low", "high")
        ]  # fmt: skip
        row: dict[str, Any] = {"label": label, "kwh_per_million_tokens": _triple(kwh, 1e6 / mean_tokens)}
        row["kg_co2_per_million_tokens"] = _priced(row["kwh_per_million_tokens"], terms["kg_co2_per_kwh"])
        if recount.rate is None:
            return row
        idle = self._idle(label, rows)
        waiting = None if idle is None else idle * pue * SECONDS_PER_MONTH / JOULES_PER_KWH
        row["kwh_per_month"], row["idle_kwh_per_month"] = _triple(kwh, recount.rate * SECONDS_PER_MONTH), waiting
        both = {name: value + (waiting or 0.0) for name, value in row["kwh_per_month"].items()}
        row["usd_per_month"] = _priced(both, terms["usd_per_kwh"])
        row["kg_co2_per_month"] = _priced(both, terms["kg_co2_per_kwh"])
        return row

    def _idle(self, label: str, rows: Sequence[Mapping[str, Any]]) -> float | None:
        """Watts of a mechanism's fleet while it waits, averaged over all hours."""
        watts = [row["energy.idle_w"] for row in rows if row["energy.idle_w"] is not None]
        servers, busy = self._rows[label]["replicas"], self._rows[label]["utilization"]
        if not watts or servers is None:
            return None
        return float(servers * self._recount.devices * max(0.0, 1 - busy) * sum(watts) / len(watts))


_ENDS = (("", "value"), ("low_", "low"), ("high_", "high"))
"""Parts of column names, and what they hold of an estimate."""


def _repaid(costs: Number, cash: Sequence[Number]) -> Number:
    """Months in which cash adds up to costs: month after month, the last one in part."""
    import numpy as np

    def walk(cost: NDArray[np.float64], monthly: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        months, got = np.full(cost.shape, np.inf), np.zeros(cost.shape)
        for month, usd in enumerate(monthly):
            comes = np.isinf(months) & (got + usd >= cost) & (got + usd > 0)
            months[comes] = month + (cost[comes] - got[comes]) / usd[comes]
            got = got + usd
        return months

    value = float(walk(np.array([costs.value]), [np.array([one.value]) for one in cash])[0])
    draws = [one.draws for one in cash if one.draws is not None]
    return Number(value, None if costs.draws is None or not draws else walk(costs.draws, draws))


def _months(months: Number) -> dict[str, float | None]:
    """Months with the draws that 2.5 and 97.5 % of them do not exceed."""
    import numpy as np

    if months.draws is None:
        return _ends(months.value, None, None)
    ranked = np.sort(months.draws)
    low, high = (float(ranked[math.ceil(share * COUNT) - 1]) for share in (0.025, 0.975))
    return _ends(months.value, min(low, months.value), max(high, months.value))


def _share_within(months: Number, limit: int) -> float | None:
    """Share of the draws that are no more than so many months."""
    return None if months.draws is None else int((months.draws <= limit).sum()) / COUNT


def _ends(value: float, low: float | None, high: float | None) -> dict[str, float | None]:
    """An estimate as a report nests it."""
    return {"value": value, "low": low, "high": high}


def _finite(number: float | None) -> float | None:
    """A number that a cell can hold."""
    return None if number is None or math.isinf(number) else number


def _joules(row: Mapping[str, Any]) -> float | None:
    """Gross joules per step of a case."""
    found: float | None = row.get("energy.gross_j_per_step.value")
    return found


def _at(points: Sequence[tuple[int, Any, Number]], end: str, tokens: int) -> float:
    """Joules per step at a length, or an end of their interval, never below a millionth of them."""
    floors = [1e-6 * case.row["energy.gross_j_per_step.value"] for _, case, _ in points]
    joules = [
        (length, case, Number(max(case.row[f"energy.gross_j_per_step.{end}"], floor), None))
        for (length, case, _), floor in zip(points, floors, strict=True)
    ]
    return at_length(joules, tokens).value


def _triple(ends: Sequence[float], factor: float) -> dict[str, float]:
    """A number with its ends in another unit."""
    return {name: end * factor for name, end in zip(("value", "low", "high"), ends, strict=True)}


def _priced(ends: Mapping[str, float], each: float | None) -> dict[str, float] | None:
    """A number with its ends times what one of it stands for; None where that is not stated."""
    return None if each is None else {name: end * each for name, end in ends.items()}
