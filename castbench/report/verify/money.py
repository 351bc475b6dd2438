"""Every number of the money stage from the cases: seconds per request, servers, cost, saving, verdicts, advice."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from castbench.report.verify.cases import Case, case_of, is_faster
from castbench.report.verify.confirmed import confirmation_rows
from castbench.report.verify.draws import COUNT, Number, combined, group_draws, quotient, still, widened
from castbench.report.verify.intervals import estimate, last_error, step_down
from castbench.report.verify.numbers import leaves
from castbench.report.verify.raw import Json, RawRun, step_s

DATA_MARGIN = 0.03
CREDIBLE = 0.95
ROUNDING = 1e-9
HOURS_PER_MONTH = 730


@dataclass(frozen=True, slots=True)
class Terms:
    """What is paid for a server, how many devices and vCPUs it has, and the traffic; None: not known.

    avoidable          what of the price is saved when a server of today is given back
    min_replicas, zones, spare   devices there must be in each zone, and beyond what is needed
    years              for which servers are reserved
    """

    usd_per_hour: float | None
    devices: int
    rate: float | None
    utilization: float
    vcpus: int | None = None
    avoidable: float | None = None
    min_replicas: int = 1
    zones: int = 1
    spare: int = 0
    years: int | None = None


class Way(NamedTuple):
    """One way of running an arm."""

    label: str
    batch_size: int
    batching: str
    regime: str


class Fleet(NamedTuple):
    """Servers as needed and as bought."""

    needed: Number
    bought: Number


class Recount:
    """Cases and money of a run, worked out anew from its raw lines."""

    def __init__(self, run: RawRun, terms: Terms) -> None:
        self._run, self.plan, self._asked = run, run.plan, terms
        self._seed: int = run.plan["served"]["seed"]

    @property
    def stated(self) -> list[float]:
        """Numbers that the profile, the question and the machine give: they are in sentences as they are."""
        mix, here, asked = self.plan["mix"], self._run.header["environment"], self._asked
        share = self._run.header["economics"]["attention_share"]
        known = (
            math.fsum(t * s for t, s in zip(mix["tokens"], mix["shares"], strict=True)), max(mix["tokens"]),
            asked.usd_per_hour, asked.rate, 100 * asked.utilization, HOURS_PER_MONTH, here["threads"],
            None if share is None else 100 * share, asked.vcpus,
            asked.avoidable, asked.min_replicas * asked.zones, asked.zones, asked.spare, asked.years,
        )  # fmt: skip
        return [number for number in known if number is not None]

    @cached_property
    def cases(self) -> dict[tuple[str, str], Case]:
        """Every case of the plan, by group and label."""
        return {
            (key, arm["label"]): case_of(self._run, key, group, arm)
            for key, group in self._run.groups()
            for arm in self.plan["arms"]
        }

    @cached_property
    def ceilings(self) -> dict[str, Any]:
        """Speed-ups of what leaves the mixing, or the module, out."""
        row: dict[str, Any] = {}
        for name, label in (("ceiling", "ceiling:mixing"), ("module_ceiling", "ceiling:module")):
            bare = None if self.baseline is None else self.baseline._replace(label=label)
            row |= _spread(name, self._speedup(bare if bare in self.request_s else None))
        return row

    @cached_property
    def confirmations(self) -> list[tuple[str, dict[str, Any]]]:
        """What the fresh rounds say of everything selected."""
        return list(confirmation_rows(self._run))

    def confirmed(self, label: str) -> dict[str, Any]:
        """What the first confirmation of a label says; empty where it was not selected."""
        rows = zip(self._run.selected, self.confirmations, strict=True)
        return next((row for chosen, (_, row) in rows if chosen["label"] == label), {})

    def discarded(self, key: str) -> int:
        """How many of a group's rounds that compare were discarded."""
        return sum(reason is not None for reason in self._run.attempts.get((key, "compare"), ()))

    def discards(self, key: str) -> dict[str, Any]:
        """Discarded rounds of a group by purpose, with the reasons, the commonest first."""
        found = []
        for purpose in ("compare", "confirm"):
            tried = self._run.attempts.get((key, purpose), [])
            reasons = Counter(reason for reason in tried if reason is not None)
            if reasons:
                listed = sorted(reasons.items(), key=lambda item: -item[1])
                found.append({"purpose": purpose, "attempts": len(tried), "reasons": listed})
        return dict(leaves({"discards": found}))

    def mechanism(self, arm: Json) -> dict[str, Any]:
        """What a report says of a mechanism, by name."""
        way = self.best.get(arm["label"])
        seconds = None if way is None else self.request_s[way]
        quality, verdict = self._quality(arm), self._verdicts.get(arm["label"], "UNCLEAR")
        last, first = self._crossover(arm["label"])
        return {
            "configuration.batch_size": None if way is None else way.batch_size,
            **_spread("seconds_per_request", seconds),
            **_spread("usd_per_million_tokens", self._token_cost(seconds, self._terms.utilization)),
            **_spread("usd_per_million_tokens_full_load", self._token_cost(seconds, 1.0)),
            **self._fleet_row(way), **self._bill_row(way), **_spread("speedup", self._speedup(way)),
            "verdict": verdict, "quality_status": quality, "crossover.0": last, "crossover.1": first,
            "peak_memory_bytes": self._peak(way), "interpolation_error": self._interpolation.get(arm["label"]),
            "recommendation": self._advice(quality, verdict, way),
        }  # fmt: skip

    @cached_property
    def _terms(self) -> Terms:
        """Price and traffic; nothing where what was timed is no whole request."""
        share = self._run.header["economics"]["attention_share"]
        is_whole = self.plan["served"]["scope"] == "encoder" or (share is not None and self.today is not None)
        return self._asked if is_whole else Terms(None, 1, None, 1.0)

    @cached_property
    def _steps(self) -> dict[tuple[str, str], Number]:
        """Drawn mean step of every measured case."""
        found: dict[tuple[str, str], Number] = {}
        for key, _ in self._run.groups():
            labels = [label for (group, label), case in self.cases.items() if group == key and case.mean_s is not None]
            rounds = self._run.rounds.get(key, [])
            windows = {label: [step_s(r, label) for r in rounds] for label in labels}
            if labels:
                found |= {(key, label): n for label, n in group_draws(windows, self._seed, key).items()}
        return found

    @cached_property
    def _surfaces(self) -> dict[Way, list[tuple[int, Case, Number]]]:
        """Measured lengths of every way whose cases are all there and reach the longest request."""
        by_way: dict[Way, list[tuple[int, Case, Number | None]]] = {}
        for (key, label), case in self.cases.items():
            if not case.group["held_out"]:
                length = case.group["shape"]["seq_len"]
                by_way.setdefault(_way(case.group, label), []).append((length, case, self._steps.get((key, label))))
        longest = max(self.plan["mix"]["tokens"])
        whole = {}
        for way, points in by_way.items():
            measured = [(length, case, step) for length, case, step in points if step is not None]
            if len(measured) == len(points) and max(length for length, _, _ in points) >= longest:
                whole[way] = sorted(measured, key=lambda point: point[0])
        return whole

    @cached_property
    def _interpolation(self) -> dict[str, float]:
        """Relative error at the held-out points, the largest of each label."""
        errors: dict[str, list[float]] = {}
        for (key, label), case in self.cases.items():
            way, measured = _way(case.group, label), self._steps.get((key, label))
            if case.group["held_out"] and way in self._surfaces and measured is not None:
                guessed = at_length(self._surfaces[way], case.group["shape"]["seq_len"]).value
                errors.setdefault(label, []).append((guessed - measured.value) / measured.value)
        return {label: max(found, key=abs) for label, found in errors.items()}

    @cached_property
    def _dependence(self) -> dict[str, float]:
        """Share by which clustered inputs change an arm's time in some regime, where it is more than the margin."""
        times: dict[str, dict[str, list[tuple[float, float]]]] = {}
        for (_, label), case in self.cases.items():
            if case.mean_s is not None and (ratio := _clustered(case)) is not None:
                by_regime = times.setdefault(label, {})
                by_regime.setdefault(case.group["regime"], []).append((case.mean_s, ratio))
        largest = {label: max(map(_excess, by_regime.values()), key=abs) for label, by_regime in times.items()}
        return {label: apart for label, apart in largest.items() if abs(apart) > DATA_MARGIN}

    @cached_property
    def _timed_s(self) -> dict[Way, Number]:
        """Seconds per request of what was timed."""
        return self._timed(None)

    def _timed(self, without: str | None) -> dict[Way, Number]:
        """Seconds per request of what was timed, widened by what is not noise; `without` leaves one of the two out."""
        made = {}
        for way, points in self._surfaces.items():
            shares = paid_lengths(self.plan["mix"], way)
            parts = [(share / way.batch_size, at_length(points, tokens)) for tokens, share in shares if share]
            seconds = combined(parts)
            doubt = abs(self._interpolation.get(way.label, 0.0)) + abs(self._dependence.get(way.label, 0.0))
            if without == "rounds":
                seconds = still(seconds)
            made[way] = widened(seconds, 0.0 if without == "interpolation" else doubt, self._seed, way.label)
        return made

    @cached_property
    def request_s(self) -> dict[Way, Number]:
        """Seconds of whole requests."""
        return self.requests(None)

    def requests(self, without: str | None) -> dict[Way, Number]:
        """Seconds of whole requests, with all of their uncertainty or without one part of it."""
        share, timed = self._run.header["economics"]["attention_share"], self._timed(without)
        if self.plan["served"]["scope"] == "encoder" or share is None or self.today is None:
            return timed
        today = timed[self.today]
        return {way: combined([(1.0, seconds), (1 / share - 1, today)]) for way, seconds in timed.items()}

    @cached_property
    def today(self) -> Way | None:
        """What runs today: as the profile states it, or the cheapest way of its baseline."""
        stated = self._run.header["economics"].get("today")
        if stated is None:
            return _cheapest(self._timed_s, [self.plan["baseline"]])
        way = Way(self.plan["baseline"], stated["batch_size"], stated["batching"], stated["regime"])
        return way if way in self._timed_s else None

    @cached_property
    def baseline(self) -> Way | None:
        """The cheapest way that needs no new model."""
        return _cheapest(self._timed_s, self.exact)

    @property
    def today_cost(self) -> float | None:
        """What today's servers cost per hour."""
        fleet = self._fleet(self.today) if self.baseline is not None else None
        return None if fleet is None or self.usd_per_hour is None else fleet.bought.value * self.usd_per_hour

    @property
    def exact(self) -> list[str]:
        """Labels that need no new model."""
        return [a["label"] for a in self._mechanisms() if a["exact"] or a["label"] == self.plan["baseline"]]

    @cached_property
    def best(self) -> dict[str, Way]:
        """The cheapest way of each mechanism."""
        labels = [arm["label"] for arm in self._mechanisms()]
        return {label: way for label in labels if (way := _cheapest(self.request_s, [label])) is not None}

    def _mechanisms(self) -> list[Json]:
        return [arm for arm in self.plan["arms"] if arm["role"] != "ceiling"]

    def _quality(self, arm: Json) -> str:
        """Equal only where nothing new is computed."""
        base = next(a for a in self.plan["arms"] if a["label"] == self.plan["baseline"])
        is_same = arm["label"] == base["label"] or (arm["exact"] and base["exact"])
        return "equal_within_margin" if is_same else "not_measured"

    def _speedup(self, way: Way | None) -> Number | None:
        if way is None or self.baseline is None:
            return None
        return quotient(self.request_s[self.baseline], self.request_s[way])

    def _token_cost(self, seconds: Number | None, busy: float) -> Number | None:
        """Dollars per million real tokens on servers that are so busy; all the time without traffic."""
        terms, mix = self._terms, self.plan["mix"]
        if seconds is None or terms.usd_per_hour is None:
            return None
        mean_tokens = sum(t * s for t, s in zip(mix["tokens"], mix["shares"], strict=True))
        share = busy if terms.rate is not None else 1.0
        return combined([(terms.usd_per_hour / 3600 / terms.devices / share / mean_tokens * 1e6, seconds)])

    @property
    def usd_per_hour(self) -> float | None:
        """Price of a server; None where it, or what to pay it for, is not known."""
        return self._terms.usd_per_hour

    @property
    def utilization(self) -> float:
        """How busy servers may be."""
        return self._terms.utilization

    @property
    def economics(self) -> Json:
        """What the profile states of money."""
        found: Json = self._run.header["economics"]
        return found

    @property
    def rate(self) -> float | None:
        """Requests per second, likewise."""
        return self._terms.rate

    @property
    def devices(self) -> int:
        """Devices of a server."""
        return self._terms.devices

    @property
    def has_memory(self) -> bool:
        """Whether the size of the device's memory, or of the machine's for a CPU, is known."""
        here = self._run.header["environment"]
        is_gpu = str(here["device"]).startswith("cuda")
        return (here["device_memory_bytes"] if is_gpu else here["memory_bytes"]) is not None

    def points(self, way: Way) -> list[tuple[int, Case, Number]]:
        """Measured lengths of a way, with their cases and drawn steps."""
        return self._surfaces[way]

    def _fleet(self, way: Way | None) -> Fleet | None:
        """Servers for the traffic, as needed and as bought."""
        return None if way is None else self.fleet_of(self.request_s[way])

    def fleet_of(self, seconds: Number) -> Fleet | None:
        """The same for so many seconds per request."""
        import numpy as np

        terms = self._terms
        if terms.rate is None:
            return None
        busy = combined([(terms.rate / terms.utilization, seconds)])
        floor = terms.min_replicas * terms.zones

        def units(replicas: Any) -> Any:
            return np.ceil((np.clip(np.ceil(replicas * (1 - ROUNDING)), floor, None) + terms.spare) / terms.devices)

        draws = None if busy.draws is None else units(busy.draws)
        return Fleet(combined([(1 / terms.devices, busy)]), Number(float(units(busy.value)), draws))

    def _fleet_row(self, way: Way | None) -> dict[str, Any]:
        """Servers and how busy they are."""
        fleet = self._fleet(way)
        if fleet is None or way is None or self._terms.rate is None:
            nothing: dict[str, Any] = {"replicas": None, "replicas_shares": [], "utilization": None}
            return {**nothing, **_spread("replicas_fractional", None)}
        counts = Counter([] if fleet.bought.draws is None else fleet.bought.draws.tolist())
        used = self._terms.rate * self.request_s[way].value / (fleet.bought.value * self._terms.devices)
        return {
            "replicas": int(fleet.bought.value), **_spread("replicas_fractional", fleet.needed),
            "replicas_shares": [[int(n), counts[n] / COUNT] for n in sorted(counts)], "utilization": used,
        }  # fmt: skip

    def _bill_row(self, way: Way | None) -> dict[str, Any]:
        """Cost, and what is saved of the baseline's."""
        fleet, usd = self._fleet(way), self._terms.usd_per_hour
        cost = None if fleet is None or usd is None else combined([(usd, fleet.bought)])
        return {**_spread("cost_usd_per_hour", cost), **self.change_row(self.baseline, way)}

    def change_row(self, before: Way | None, after: Way | None) -> dict[str, Any]:
        """Capacity, worth and cash of running one way instead of another."""
        old, new, usd = self._fleet(before), self._fleet(after), self._terms.usd_per_hour
        saving = cash = released = percent = probability = None
        if old is not None and new is not None:
            released = combined([(1.0, old.needed), (-1.0, new.needed)])
        if old is not None and new is not None and usd is not None:
            saving = combined([(usd, old.bought), (-usd, new.bought)])
            percent = 100 * (old.bought.value - new.bought.value) / old.bought.value
            probability = saving.share_above(0.0)
            held = self._fleet(self.today) or old
            cash = combined([(1.0, self.invoice(old, held)), (-1.0, self.invoice(new, held))])
        return {
            **_spread("saving_usd_per_hour", saving), **_spread("cash_saving_usd_per_hour", cash),
            **_spread("capacity_released_units_per_hour", released),
            "saving_percent": percent, "probability_saving_positive": probability,
        }  # fmt: skip

    def invoice(self, fleet: Fleet, held: Fleet) -> Number:
        """What is paid per hour, servers that are held already at what they cost only when they run."""
        import numpy as np

        usd = self._terms.usd_per_hour or 0.0
        spared = usd - (usd if self._terms.avoidable is None else self._terms.avoidable)

        def paid(bought: Any, already: Any) -> Any:
            return usd * bought + spared * (already - np.where(bought < already, bought, already))

        known = fleet.bought.draws is not None and held.bought.draws is not None
        draws = paid(fleet.bought.draws, held.bought.draws) if known else None
        return Number(float(paid(fleet.bought.value, held.bought.value)), draws)

    def run_row(self, way: Way) -> dict[str, Any]:
        """A way as it would run: its name, time, servers and cost."""
        fleet, usd = self._fleet(way), self._terms.usd_per_hour
        cost = None if fleet is None or usd is None else combined([(usd, fleet.bought)])
        row = self._fleet_row(way)
        return {
            **{f"configuration.{name}": value for name, value in way._asdict().items()},
            **_spread("seconds_per_request", self.request_s[way]), **_spread("cost_usd_per_hour", cost),
            **{name: row[name] for name in ("replicas", "replicas_shares", "utilization")},
        }  # fmt: skip

    def _peak(self, way: Way | None) -> int | None:
        """The largest memory of a way's cases."""
        cases = [] if way is None else [case for _, case, _ in self._surfaces[way]]
        peaks = [c.outcome["peak_bytes"] for c in cases if c.outcome is not None]
        return max((peak for peak in peaks if peak is not None), default=None)

    def _has_few(self, way: Way) -> bool:
        """Whether a case of a way has too few rounds for a verdict."""
        return any(case.rounds < self.plan["analysis"]["looks"][0] for _, case, _ in self._surfaces[way])

    @cached_property
    def _unproven(self) -> set[str]:
        """Labels whose figures, or whose baseline's, have too few rounds for a verdict."""
        few = {label for label, way in self.best.items() if self._has_few(way)}
        return set(self.best) if self.baseline is not None and self.baseline.label in few else few

    @cached_property
    def _verdicts(self) -> dict[str, str]:
        """Verdicts over the traffic, Holm over the mechanisms."""
        if self.baseline is None or self.baseline.label not in self.best:
            return {}
        base = self.request_s[self.best[self.baseline.label]]
        rivals = {label: way for label, way in self.best.items() if label != self.baseline.label}
        margin = self.plan["sampling"]["same_within"]
        answers = {label: _likeliest(quotient(self.request_s[way], base), margin) for label, way in rivals.items()}
        adjusted = step_down([p for _, p in answers.values()])
        said = {
            label: word if p <= self._error() and label not in self._unproven else "UNCLEAR"
            for (label, (word, _)), p in zip(answers.items(), adjusted, strict=True)
        }
        return {**said, self.baseline.label: "BASELINE"}

    def _error(self) -> float:
        """The least that the last look of any group may spend."""
        rules = self.plan["analysis"]
        counts = [len(self._run.rounds.get(key, ())) for key, _ in self._run.groups()]
        errors = [last_error(n, rules["looks"], rules["look_errors"]) for n in counts]
        return min((e for e in errors if e is not None), default=sum(rules["look_errors"]))

    def _advice(self, quality: str, verdict: str, way: Way | None) -> str:
        """KEEP unless a gain is credible and not refuted."""
        if way is None or self._is_refuted(way.label):
            return "KEEP"
        margin = self.plan["sampling"]["same_within"]
        if quality == "equal_within_margin":
            if self.today is None or way.label in self._unproven or self._has_few(self.today):
                return "KEEP"
            ratio = quotient(self.request_s[self.today], self.request_s[way])
            gains = ratio.share_above(math.exp(margin))
            return "TUNE-FIRST" if gains is not None and gains >= CREDIBLE else "KEEP"
        saves = self._saves(way)
        return "PILOT" if verdict == "FASTER" and saves is not None and saves >= CREDIBLE else "KEEP"

    def _saves(self, way: Way | None) -> float | None:
        """Probability that servers, or without traffic seconds, are saved."""
        if way is None or self.baseline is None:
            return None
        fleet, base = self._fleet(way), self._fleet(self.baseline)
        if fleet is not None and base is not None:
            return combined([(1.0, base.bought), (-1.0, fleet.bought)]).share_above(0.0)
        return combined([(1.0, self.request_s[self.baseline]), (-1.0, self.request_s[way])]).share_above(0.0)

    def _crossover(self, label: str) -> tuple[int | None, int | None]:
        """At batch 1, in the baseline's regime: the last length not won against it, and the first of those after."""
        if self.baseline is None or self.baseline.label == label:
            return None, None
        won = sorted(self._won(label, self.baseline))
        last = max((length for length, faster in won if not faster), default=None)
        return last, min((length for length, _ in won if last is None or length > last), default=None)

    def _won(self, label: str, baseline: Way) -> Iterable[tuple[int, bool]]:
        """Lengths at batch 1, and whether the label is FASTER there; not where either has no number."""
        for key, group in self._run.groups():
            if group["shape"]["batch_size"] != 1 or group["held_out"] or group["regime"] != baseline.regime:
                continue
            measured = None not in (self.cases[key, label].mean_s, self.cases[key, baseline.label].mean_s)
            yield group["shape"]["seq_len"], measured and is_faster(self._run, key, label, baseline.label)

    def _is_refuted(self, label: str) -> bool:
        """Whether an arm was selected as FASTER and all its fresh rounds do not show it."""
        rows = zip(self._run.selected, (row for _, row in self.confirmations), strict=True)
        return any(
            chosen["label"] == label
            and row["claim"] == "FASTER"
            and not row["holds"]
            and row["speedup_fresh.value"] is not None
            for chosen, row in rows
        )


def _way(group: Json, label: str) -> Way:
    """The way of running an arm that a group measures."""
    return Way(label, group["shape"]["batch_size"], group["batching"], group["regime"])


def _clustered(case: Case) -> float | None:
    """An arm's time on clustered inputs over its time on others."""
    facts = dict((case.outcome or {}).get("facts", ()))
    return facts.get("clustered_input_time_ratio")


def _excess(times: list[tuple[float, float]]) -> float:
    """What clustered inputs add to a total time, as a share of it."""
    return sum(t * (ratio - 1) for t, ratio in times) / sum(t for t, _ in times)


def _cheapest(seconds: dict[Way, Number], labels: list[str]) -> Way | None:
    """The way of these labels with the least seconds per request."""
    return min((way for way in seconds if way.label in labels), key=lambda way: seconds[way].value, default=None)


def paid_lengths(mix: Json, way: Way) -> list[tuple[int, float]]:
    """Lengths a server pays for with their shares: of a padded batch, those of its longest row."""
    shares = list(zip(mix["tokens"], mix["shares"], strict=True))
    if way.batching == "bucketed":
        return shares
    up_to = [0.0, *(min(1.0, sum(s for t, s in shares if t <= tokens)) ** way.batch_size for tokens, _ in shares)]
    return [(tokens, up_to[place + 1] - up_to[place]) for place, (tokens, _) in enumerate(shares)]


def at_length(points: list[tuple[int, Case, Number]], tokens: int) -> Number:
    """Seconds of a step at a length: a straight line in logarithms between its measured neighbours."""
    import numpy as np

    before = [point for point in points if point[0] <= tokens]
    after = [point for point in points if point[0] >= tokens]
    (low, _, left), (high, _, right) = (before or after)[-1 if before else 0], after[0]
    if low == high:
        return left
    slope = math.log(tokens / low) / math.log(high / low)
    value = left.value * (right.value / left.value) ** slope
    if left.draws is None or right.draws is None:
        return Number(value, None)
    return Number(value, left.draws * np.power(right.draws / left.draws, slope))


def _likeliest(ratio: Number, margin: float) -> tuple[str, float]:
    """The answer that the draws of a time ratio leave the least doubt of, and that doubt."""
    if ratio.draws is None:
        return "UNCLEAR", 1.0
    below = int((ratio.draws < math.exp(-margin)).sum())
    above = int((ratio.draws > math.exp(margin)).sum())
    doubts = {"FASTER": COUNT - below, "SLOWER": COUNT - above, "SAME": max(below, above)}
    word = min(doubts, key=lambda name: doubts[name])
    return word, min(1.0, 2 * (doubts[word] + 1) / (COUNT + 1))


def _spread(name: str, number: Number | None) -> dict[str, Any]:
    """A drawn number with its interval, by name."""
    return estimate(name, *(None, None, None) if number is None else (number.value, *number.interval()))
