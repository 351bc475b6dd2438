"""Every sentence and label a report can say, in English; numbers arrive unrounded and are formatted by format.py.

A template names its values; after a colon it says how a quantity is spoken: {saving} value, interval and unit,
{saving:spread} the interval and unit, {saving:value} the bare value, {n:rounds} a number of rounds with its noun.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from dataclasses import dataclass

from castbench.cost.spec import QualityStatus
from castbench.records import Caveat
from castbench.report import format as fmt
from castbench.said import Quantity, Statement, Value

_PRICED_SIZE = (
    "The price is for a server of another size than the machine measured; costs are wrong by about that ratio."
)

SENTENCES: dict[str, str] = {
    "verbatim": "{text}",
    # --- loud things first
    "warning.fake": "FAKE DEVICE: a simulation made these times up from operation counts. Nothing was measured;"
    " decide nothing on them.",
    "warning.cpu": "Measured on a CPU: it says nothing about a GPU.",
    "warning.device": "The profile names another device than the one that was measured ({device}).",
    "warning.unfinished": "UNFINISHED: the run was interrupted, or lines were cut off the end of its file. What is"
    " there is used; castbench profile --resume goes on with it.",
    "warning.budget": "UNFINISHED: the time budget was over before everything was measured.",
    "warning.damage": "The run file is damaged: {what}",
    "warning.money_redacted": "Money figures are left out: the price is a contract's, and they would give it away.",
    # --- headline
    "headline.nothing": "Nothing can be recommended: the baseline {baseline} has no usable measurement.",
    "headline.tune": "TUNE-FIRST: run {baseline} instead of {today}. That needs no new model and alone saves"
    " {saving:spread}, or {month:spread} per month.",
    "headline.tune_unsure": "{baseline} instead of {today} might alone save {saving:spread}, or {month:spread} per"
    " month, with no new model; that is not sure enough to act on.",
    "headline.tune_faster": "TUNE-FIRST: run {baseline} instead of {today}. It is faster and needs no new model.",
    "headline.tune_same": "TUNE-FIRST: run {baseline} instead of {today}. It is faster and needs no new model, but"
    " saves no whole server.",
    "headline.adopt": "{word} {configuration}. If a retrained {model} model meets your quality gate, it would cost"
    " {cost}; quality was not measured.",
    "headline.adopt_scored": "{word} {configuration}. It would cost {cost}; its quality is {quality}.",
    "headline.saves": "That is {saving:spread} less than {baseline} at {base_cost}: {month:spread} per month,"
    " {year:spread} per year.",
    "headline.saves_or_costs": "Against {baseline} at {base_cost} that saves {saving:spread}, {month:spread} per month,"
    " {year:spread} per year; negative means it costs more.",
    "headline.keep": "KEEP. Keep what you have: {today}, at {cost}.",
    "headline.alternative_costs": "The cheapest alternative, {configuration}, would cost {loss:spread} more:"
    " {month:spread} per month, {year:spread} per year.",
    "headline.alternative_same": "The cheapest alternative, {configuration}, would cost the same {cost} and run at"
    " {speedup:spread} the speed: {verdict}.",
    "headline.alternative_unclear": "The cheapest alternative, {configuration}, would save {saving:spread}"
    " ({month:spread} per month, {year:spread} per year; negative means it costs more): not enough to act on.",
    "headline.alternative_may_save": "The cheapest alternative, {configuration}, would save {saving:spread}"
    " ({month:spread} per month, {year:spread} per year): not enough to act on.",
    "headline.alternative_too_few": "Not enough was measured of {configuration} to say what it would change.",
    "headline.too_few": "Not enough was measured to recommend anything: {rounds:rounds} per shape where 8 are needed;"
    " give it more time (--budget or sampling.max_seconds_per_case), then read this again.",
    "headline.alone": "Nothing was measured that could replace it.",
    "headline.no_money": "No cost can be given: {why}.",
    "headline.speed": "Over your traffic {configuration} runs at {speedup:spread} the speed of {baseline}: {verdict}.",
    "headline.speed_adopt": "{word} {configuration}. If a retrained {model} model meets your quality gate, it would run"
    " at {speedup:spread} the speed of {baseline} over your traffic; quality was not measured.",
    "headline.sure": "How sure: P(saving > 0) {probability:relation}, from {rounds:rounds} per shape; ranges are"
    " 95 % intervals for this machine on this day.",
    "headline.sure_of_speed": "How sure: {rounds:rounds} per shape; ranges are 95 % intervals for this machine"
    " on this day.",
    "headline.confirmed": "Confirmed on {wanted} fresh rounds at {length} ({how}): {label} runs at {speedup} the speed"
    " of {against} there: {claim}.",
    "headline.refuted": "NOT CONFIRMED: when it was picked, {label} ran at {first:spread} the speed of {against} at"
    " {length} ({how}), {claim}; {wanted} fresh rounds give {speedup}, which does not bear that out.",
    "headline.confirmed_in_part": "Not confirmed: of {wanted} fresh rounds of {label} against {against} at"
    " {length} ({how}) only {rounds} were measured.",
    "headline.nothing_claimed": "Nothing to confirm: when it was picked, {label} against {against} was UNCLEAR at"
    " {length} ({how}); {wanted} fresh rounds give {speedup} its speed.",
    "headline.confirmed_other": "Fresh rounds were not measured of {label}, but of {other}, which was the pick when"
    " they began.",
    "headline.unconfirmed": "Not confirmed on fresh rounds: {why}.",
    "headline.unsure": "How sure: not at all. Below 8 rounds no verdict can be given and the ranges are rough.",
    "headline.priced_size": _PRICED_SIZE,
    "headline.unmeasured_quality": "Not measured: quality.",
    "headline.unmeasured_objective": "Not measured: whether the objective {objective} is met.",
    "headline.unmeasured_both": "Not measured: quality, and whether the objective {objective} is met.",
    # --- ceilings
    "ceiling.mixing": "Amdahl's ceiling: even free attention mixing would only give {speedup} over {baseline}, in that"
    " configuration.",
    "ceiling.module": "With no attention module at all it would be {speedup}.",
    "ceiling.too_few": "Amdahl's ceiling is not stated: it rests on fewer than 8 rounds.",
    "ceiling.noisy": "Amdahl's ceiling is not stated: it came out slower than what it bounds, so the machine was too"
    " noisy to measure it.",
    "crossover.bracket": "{label}: FASTER than {baseline} from {first} on, not at {last} (batch 1, {regime}).",
    "crossover.bracket_open": "{label}: FASTER than {baseline} from {first} on; not determined below that: {why} at"
    " {lengths} (batch 1, {regime}).",
    "crossover.open": "{label}: crossover not determined: {why} at {lengths} (batch 1, {regime}).",
    "crossover.all": "{label}: FASTER than {baseline} at every measured length, from {first} on (batch 1, {regime}).",
    "crossover.none": "{label}: crossover not in the measured range; at {last}, the longest, it is not FASTER"
    " than {baseline} (batch 1, {regime}).",
    # --- configurations
    "use.servers": "{configuration}: {verdict}; servers needed {replicas:spread}, {utilization} busy;"
    " {tokens_cost:spread}.",
    "use.unpriced": "{configuration}: {verdict}; servers needed {replicas:spread}, {utilization} busy.",
    "use.tokens": "{configuration}: {verdict}; {tokens_cost:spread} at full load.",
    "use.speed": "{configuration}: {verdict}.",
    "use.rough": "Rough: fewer than 8 rounds.",
    "use.none": "{label}: no cost, because {reason}.",
    "group.end": "{rounds:rounds}, {ended}.",
    "group.discarded": "{count} of {attempts:rounds} {were} discarded: {reasons}.",
    "group.discarded_fresh": "{count} of {attempts} fresh rounds {were} discarded: {reasons}.",
    "group.unmeasured": "{length}, batch {batch_size}, {batching}, {regime}: {reasons}",
    # --- energy and memory
    "energy.none": "Energy was not measured.",
    "energy.none_because": "Energy was not measured: {why}.",
    "energy.missing": "No energy of {cases}: {why}.",
    "energy.source": "Gross is everything used while working, net is gross less idle. By {source}, for {scope}; idle"
    " {idle:spread} with the model loaded.",
    "energy.disagreement": "Integrated power readings give {disagreement:spread} of the counter's energy.",
    "memory.largest": "{label} at {length} ({how}): the largest batch that fits is {fits} ({fails} does not).",
    "memory.unlimited": "{label} at {length} ({how}): no limit met up to a batch of {fits}.",
    "use.parameters": "Parameters: {parameters}.",
    "use.interpolation": "Interpolation was off by {error} at the held-out length.",
    # --- assumptions
    "assumption.margin": "FASTER, SLOWER and SAME are against {baseline}, with a margin of {margin}.",
    "assumption.verdicts": "The tables by shape hold {count} such verdicts, each judged by itself: one is false with a"
    " probability of at most {error}, so on average up to {false} of them are. A length from which on something is"
    " FASTER is tested from the longest downwards, and is as sure as one verdict.",
    # --- the run
    "run.identity": "Run {run_id} of {created_at}; profile {profile}{source}.",
    "run.scope": "Measured: {scope}, {phase}, {dtype}; {regimes}.",
    "run.windows": "Windows: {mode}.",
    "run.device": "Device: {device_name} ({device}); host {host}; {os}.",
    "run.threads": "Threads: {threads}, on cores {cores}; {settings}.",
    "run.gpu": "GPU: {uuid}; ECC {ecc}, MIG {mig}; compute mode {compute_mode}, persistence {persistence}; power limit"
    " {limit}, shipped with {shipped}; clocks {clocks}.",
    "run.software": "Software: castbench {castbench}, Python {python}, torch {torch}, CUDA {cuda}, driver {driver}.",
    "run.resumed": "Times the run was interrupted and resumed: {times}.",
    # --- capacity
    "capacity.trace": "Traffic: {source}; {requests} requests in {hours}, {rate} on average. Arrivals and lengths are"
    " taken from it; what the traced service generated, if it did, is not modelled.",
    "capacity.poisson": "Traffic: {requests} independent arrivals in {hours}, {rate}, made up from the rate: real"
    " traffic comes in bursts and needs more servers; replay a trace of yours (--trace).",
    "capacity.objective": "Objective: {objective}.",
    "capacity.floor": "At least {floor} replicas (zones: {zones}) are bought, and {spare} spare.",
    "capacity.cut": "Requests longer than the {longest} measured, cut to that (--truncate): {count}.",
    "capacity.overhead": "Every batch spends {overhead} outside the model.",
    "capacity.price": "Price: {price} USD per hour for {name} ({plan}); {source}{when}.",
    "capacity.price_doubt": "Doubt about the price: {doubt}.",
    "capacity.no_cost": "No cost can be given: {why}.",
    "capacity.units": "A server has {devices} devices, each of them a replica; servers are bought whole.",
    "capacity.replayed": "Projected: times per batch were measured, and the queue was replayed from them; a rehearsal"
    " on your device (castbench rehearse) measures how far that is off.",
    "capacity.proof": "{label} ({way}): {proof}. Before rounding up: {fraction:value}. {drop}",
    "capacity.drop": "One server fewer would do at {times} the speed.",
    "capacity.no_drop": "No speed removes a server: {why}.",
    "capacity.none": "{label}: {why}.",
    "capacity.rate": "{label}: {rate} of such traffic with {replicas}.",
    "capacity.no_rate": "{label}: no limit can be given: {why}.",
    "capacity.no_rate_either": "{label}: none, as no number of replicas keeps the objective at any rate.",
    # --- rehearsal
    "rehearsal.served": "Served: {requests} requests in {span} by one replica of {label} ({way}, {regime}), {rate} on"
    " average, a load of {load} with full batches.",
    "rehearsal.source": "Arrivals: a stretch of {source}, at another rate.",
    "rehearsal.poisson": "Arrivals: independent, made up from the rate; real traffic comes in bursts.",
    "rehearsal.overhead": "A batch spends {overhead} outside the model, measured on this server before the first"
    " request: castbench capacity takes it as --overhead-ms {bare:value}.",
    "rehearsal.overhead_given": "A batch is taken to spend {overhead} outside the model (--overhead-ms).",
    "rehearsal.band": "The band holds {level} of {replays} replays of these very arrivals, each with other times: a"
    " draw of the measured means, one factor for the whole session as sessions of the run differ, and single steps of"
    " the run for the batches.",
    "rehearsal.borne_out": "BORNE OUT: median and p99 lie in the replay's bands; its p99 is off by {error}.",
    "rehearsal.not_borne_out": "NOT BORNE OUT: {what} of what was served {lies} outside the replay's band; its p99 is"
    " off by {error}.",
    "rehearsal.untelling": "SAYS NOTHING: the band of {what} reaches from {low} to {high}, too wide to bear anything"
    " out; measure the run again on a quiet machine and with more rounds, then rehearse it.",
    "rehearsal.batches": "Batches took {ratio} the time measured for their size and length; with that the replay says"
    " p50 {p50}, p99 {p99}: what is left of the error is the queue's.",
    "rehearsal.together": "Requests per batch: {observed:value} served, {predicted:value} replayed. Busy: {busy}"
    " served, {predicted_busy} replayed.",
    "rehearsal.late": "99 % of the requests were sent within {late} of their time.",
    "rehearsal.loaded": "LOADED HOST: the server's threads stood behind others for {share} of the time they served.",
    "rehearsal.differs": "Not as when the run was measured: {what}.",
    "rehearsal.kept": "Kept in {path}; castbench capacity says it beside its figures.",
    "rehearsal.signature": "Rehearsed on {date}: {label} ({way}) at a load of {load}: p50 {p50} served and"
    " {said_p50} replayed, p99 {p99} and {said_p99}; the replay's p99 is off by {error}, {outcome}.",
    # --- comparison
    "compare.unlike": "UNLIKE RUNS: these runs did not do the same work; differences below may come from that.",
    "compare.difference": "They differ in {what}.",
    "compare.unpaired": "The machines were measured apart: differences between them carry differences of day and"
    " machine, not only of device.",
    "compare.same_machine": "{runs} are the same machine measured {times}: differences between them carry differences"
    " of moment and load.",
    "compare.threads": "The number of CPU threads differs: {threads}; times on a CPU hang on it.",
    "compare.demand": "Demand is that of {run}: {rate} requests/s, at most {utilization} busy.",
    "compare.no_demand": "{run} states no demand: servers and cost per hour are not known.",
    "compare.cheapest": "Cheapest overall: {configuration} on {run}, at {cost}.",
    "compare.cheapest_tied": "Cheapest overall: {configuration} on {run}, at {cost}; not separable from {rivals}.",
    "compare.cheapest_rough": "Cheapest overall: cannot be said. The lowest cost, {cost} of {configuration} on {run},"
    " has no valid range.",
    "compare.no_cheapest": "Cheapest overall: not known, because no cost per hour is known.",
    "compare.run": "{letter}: {label}; run {run_id} of {created_at}; {price} Threads"
    " {threads}, cores {cores}; {rounds:rounds} per shape; caveats: {caveats}.",
    "compare.priced": "{price} $/h, {source}.",
    "compare.unpriced": "no cost: {why}.",
}

CAVEATS: dict[Caveat, str] = {
    Caveat.FEW_ROUNDS: "Fewer than 8 rounds: no verdict can be given and the ranges are rough.",
    Caveat.FEW_EPOCHS: "Fewer than 3 worker processes: absolute times have no interval.",
    Caveat.LOADED_HOST: "The host was busy with other work while this was measured.",
    Caveat.SHARED_DEVICE: "Other processes used the device while this was measured.",
    Caveat.THERMAL_THROTTLE: "The GPU slowed itself for heat for more than 2 % of the time.",
    Caveat.POWER_CAPPED: "The GPU's power limit slowed it for more than 2 % of the time.",
    Caveat.CLOCKS_LOCKED: "The GPU's clocks are held below their maximum; unlocked, it would run at other speeds.",
    Caveat.LAUNCH_BOUND: "The host needs at least 80 % of the time to launch the work: the times say more of Python and"
    " driver than of the mechanism.",
    Caveat.CARRY_OVER: "Its windows depend on which mechanism ran just before; the ratios there may be off by more than"
    " the margin.",
    Caveat.DISCARDED_ROUNDS: "Rounds that something outside disturbed were discarded and done again; how many, and why,"
    " stands below their shape.",
    Caveat.ENERGY_DISAGREES: "Energy by the counter and by integrated power differ by more than 10 %.",
    Caveat.NOT_CONFIRMED: "It was picked as the best, and fresh rounds did not bear its verdict out, or were not all"
    " measured.",
    Caveat.CPU_RUN: "Measured on a CPU: it says nothing about a GPU.",
    Caveat.FAKE_DEVICE: "Simulated, not measured.",
    Caveat.WRONG_DEVICE: "Measured on another device than the profile names.",
    Caveat.INTERPOLATED: "Times between measured lengths are interpolated.",
    Caveat.DATA_DEPENDENT: (
        "Its time depends on what the inputs hold by more than 3 %; the ranges of cost and saving are widened by that."
    ),
    Caveat.EXTRAPOLATED: "Times beyond the measured lengths are extrapolated.",
    Caveat.PARITY_UNCHECKED: "The result was not checked against the mechanism's reference.",
    Caveat.ENERGY_UNMEASURED: "Energy was not measured.",
    Caveat.MEMORY_UNMEASURED: "Peak memory was not measured.",
    Caveat.QUALITY_NOT_MEASURED: "Quality was not measured: this is another function than softmax attention and"
    " needs training.",
    Caveat.OBJECTIVE_NOT_TESTED: "The latency objective was not tested: servers follow from the rate alone.",
    Caveat.PRICED_SIZE: _PRICED_SIZE,
    Caveat.PRICE_OLD: "The price is old; check it before deciding.",
    Caveat.PRICE_SUSPECT: "The price looks wrong beside its neighbours; check it before deciding.",
    Caveat.INCOMPLETE: "The run ended before all of this was measured.",
}

QUALITY: dict[QualityStatus, str] = {
    QualityStatus.NOT_MEASURED: "not measured",
    QualityStatus.LOWER: "lower than the baseline's",
    QualityStatus.EQUAL: "equal to the baseline's within the margin",
    QualityStatus.HIGHER: "higher than the baseline's",
}

STOPPED_BY: dict[str, str] = {
    "precision": "ended because the results were precise enough",
    "rounds": "ended by the largest number of rounds",
    "budget": "ended by the run's time budget",
    "case-limit": "ended by the time limit per case",
    "disturbed": "given up because too many rounds were disturbed from outside",
    "nothing-left": "ended because nothing was left to measure",
}
"""What ended a group, by the word that is stored."""
UNCONFIRMED: dict[str, str] = {
    "not-asked": "the profile asks for none (sampling.confirm: false)",
    "budget": "the time budget was over before",
    "interrupted": "the run ended before",
    "nothing-to-choose": "no two of the mechanisms in question were measured on one shape",
}
"""Why nothing was confirmed, by the word a report carries."""

ENERGY_SOURCES: dict[str, str] = {
    "nvml-counter": "the GPU's energy counter",
    "nvml-power": "integrated power readings, since the GPU has no energy counter",
    "rapl": "the CPU's energy counter (RAPL)",
}
ENERGY_SCOPES: dict[str, str] = {
    "gpu": "the GPU board",
    "module": "the whole module, CPU and memory included",
    "cpu-package": "the CPU sockets, memory excluded",
}
NO_ENERGY_ASKED = "the profile asks for none (sampling.energy: false)"
MODES: dict[str, str] = {
    "sustained": "sustained, in blocks of at least 1 s after settling at each mechanism's own clock",
    "burst": "burst, short and interleaved, on a GPU that has not settled",
}
UNBOUND = "no variable binds or limits them"
SWITCH = {True: "on", False: "off"}
LOCKED = {True: "held below their maximum", False: "free"}

UNFINISHED = "not finished"
NO_CAVEATS = "none"

HEADINGS: dict[str, str] = {
    "report": "castbench report: {profile}",
    "report.nameless": "castbench report",
    "summary": "Summary (projected from measurements)",
    "summary.speed": "Summary (measured)",
    "use": "How each would run",
    "ceilings": "Ceilings and crossover (measured)",
    "group": "Measured: batch {batch_size}, {seq_len} tokens, {batching}, {regime}",
    "group.held_out": "Measured to check the interpolation: batch {batch_size}, {seq_len} tokens, {batching}, {regime}",
    "unmeasured": "Shapes without any measurement",
    "energy": "Energy (measured)",
    "memory": "Memory (measured)",
    "assumptions": "Assumptions",
    "caveats": "Caveats",
    "environment": "Where and how it was measured",
    "reproduce": "To see it again",
    "comparison": "castbench compare",
    "capacity": "castbench capacity",
    "capacity.servers": "Servers (projected by replay; range: the middle 90 % over traffic resampled in blocks of"
    " {block})",
    "capacity.servers_unranged": "Servers (projected by replay)",
    "capacity.proof": "Why so many",
    "capacity.sustained": "What so many replicas sustain",
    "capacity.day": "Fleets over the traffic, in replica hours (projected)",
    "rehearsal": "castbench rehearse",
    "rehearsal.table": "Latency of one replica, from arrival to answer",
    "rehearsal.more": "What lies behind it",
    "compare.runs": "Runs",
    "compare.mechanisms": "By mechanism (projected from measurements; * is the best, beyond its range)",
    "compare.cases": "By case (measured, eager unless said; * is the best, beyond its range)",
}

COLUMNS: dict[str, str] = {
    "label": "mechanism",
    "cost": "cost $/h",
    "saving": "saving $/h",
    "speedup": "speed-up ×",
    "probability": "P(saving > 0)",
    "memory": "peak MiB",
    "reserved": "reserved MiB",
    "weights": "weights MiB",
    "gross": "J/sequence",
    "net": "net J/sequence",
    "per_tokens": "J/1k tokens",
    "power": "mean W",
    "recommendation": "do",
    "latency": "p50 ms",
    "mean": "mean ms",
    "tokens": "tokens/s",
    "verdict": "verdict",
    "case": "batch × tokens",
    "metric": "",
}

CAPACITY_COLUMNS: dict[str, str] = {
    "label": "mechanism",
    "servers": "servers",
    "replicas": "replicas",
    "range": "range",
    "cost": "$/h",
    "p50": "p50 ms",
    "p95": "p95 ms",
    "p99": "p99 ms",
    "busy": "busy %",
    "formula": "by formula",
    "line": "fleet",
    "hours": "hours",
    "mean": "mean",
    "peak": "most",
    "missed": "misses",
}
DAY_LINES = {"fixed": "fixed", "autoscaled": "autoscaled", "ideal": "ideal"}
DAY_LINE_KEPT = "nothing"
DAY_LINE_BOUND = "a bound, not an offer"
ONE_AT_A_TIME = "one at a time"
OPEN_RANGE = "{low} or more"

SHARES = {0.5: "p50", 0.95: "p95", 0.99: "p99"}
REHEARSAL_COLUMNS: dict[str, str] = {
    "share": "",
    "observed": "served ms",
    "predicted": "replayed ms",
    "band": "band ms",
    "error": "replay off by %",
    "inside": "inside",
}
INSIDE = {True: "yes", False: "NO"}
OUTCOME = {True: "inside its band", False: "OUTSIDE its band"}
UNTELLING = "whose band is too wide to say anything"

METRICS: dict[str, str] = {
    "cost_usd_per_hour": "cost $/h",
    "replicas": "servers",
    "cost_usd_per_million_tokens": "$ per M tokens",
    "time_per_request_ms": "ms per request",
    "speedup_vs_baseline": "speed-up ×",
    "peak_memory_mib": "peak MiB",
    "latency_p50_ms": "p50 ms",
    "throughput_tokens_per_s": "tokens/s",
    "reserved_memory_mib": "reserved MiB",
    "largest_batch": "largest batch",
    "energy_j_per_seq": "J/sequence",
}

SUMMARY_NOTE = "Each mechanism in its best configuration, listed below, against {baseline}; ranges are 95 % intervals."
SUMMARY_NOTE_UNRANGED = "Each mechanism in its best configuration, listed below, against {baseline}."
SUMMARY_NOTE_ROUGH = "~ marks rough figures from fewer than 8 rounds: no verdict can be given and no range is valid."
BASELINE_CELL = "baseline"
ROUGH = "~"

_ACRONYMS = {"cast": "CAST", "sdpa": "SDPA"}


@dataclass(frozen=True, slots=True)
class _Spoken:
    """A quantity inside a template; the template's format specification says how it is spoken."""

    quantity: Quantity

    def __format__(self, how: str) -> str:
        ways = {
            "": fmt.text, "spread": fmt.spread, "value": fmt.value, "relation": fmt.relation, "rounds": fmt.rounds,
        }  # fmt: skip
        return ways[how](self.quantity)


class _Words(str):
    """Words inside a template: the same however the template asks for them."""

    __slots__ = ()

    def __format__(self, how: str) -> str:
        return str(self)


def say(said: Statement) -> str:
    """The sentence of a statement."""
    return SENTENCES[said.key].format(**{name: _spoken(value) for name, value in said.values})


def ended(stopped_by: str | None) -> str:
    """What ended a group, in plain words."""
    if stopped_by is None:
        return UNFINISHED
    return STOPPED_BY.get(stopped_by, f"ended by {stopped_by}")


def _spoken(value: Value) -> object:
    """A value as a template takes it; what is not known stays a dash."""
    if isinstance(value, Quantity):
        return _Spoken(value)
    if isinstance(value, tuple):
        return _Words(fmt.listed(value))
    return _Words(fmt.NOTHING if value is None else value)


def doubt(caveat: Caveat, labels: Collection[str], everybody: Collection[str]) -> str:
    """One doubt in plain words, with the labels it touches where it is not all of them."""
    whom = "" if set(everybody) <= set(labels) else f"{', '.join(labels)}: "
    return whom + CAVEATS[caveat]


def model_name(mechanism: str, label: str) -> str:
    """What to call the model that would have to be retrained."""
    return _ACRONYMS.get(mechanism, label)


def legible(foreign: str) -> str:
    """Text of unknown origin without anything that could steer a terminal or turn the writing direction."""
    return "".join(_legible_character(c) for c in foreign)


def _legible_character(character: str) -> str:
    """A space for a line break or tab, the replacement character for control and format characters."""
    if character in "\n\r\t\u2028\u2029":
        return " "
    return "\ufffd" if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn") else character
