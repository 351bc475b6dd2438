"""Which requests a question about a run is asked for: a trace, the trace its profile names, or arrivals from a rate.

--trace FILE ┐
profile ─────┼─▶ traffic_for ─▶ SourcedTraffic ─▶ capacity, rehearse
--rate ──────┘
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from castbench.errors import InputError
from castbench.records import RunHeader
from castbench.units import SECONDS_PER_HOUR

if TYPE_CHECKING:
    from castbench.cost.traffic import Traffic
    from castbench.workload.spec import TraceReference

MOST_MADE_UP = 20_000_000
"""Most requests that are made up from a rate: half a gigabyte of them, and minutes of every replay."""
_PROFILES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class TrafficChoice:
    """What is asked for; None: as the run's profile says.

    trace   a trace, or a profile that names one
    rate    requests per second: a trace is sped up or slowed to it
    hours   length of what is made up from a rate, 1 by default; a trace has its own
    """

    trace: Path | None = None
    rate: float | None = None
    hours: float | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class SourcedTraffic:
    """Requests with where they come from; `source` is None for arrivals made up from a rate."""

    traffic: Traffic
    source: str | None


def traffic_for(
    header: RunHeader, choice: TrafficChoice, on_progress: Callable[[float], None] | None = None
) -> SourcedTraffic:
    """The requests; `on_progress` is told the share of a trace that was read.

    InputError where neither a trace nor a rate is known, a trace cannot be replayed, or hours are asked of a trace.
    """
    demand = header.economics.demand
    found = traced(header, choice, on_progress)
    if found is None:
        rate = choice.rate or (demand.requests_per_second if demand else None)
        if rate is None:
            raise InputError("no traffic is known: give --trace FILE or --rate, or add demand to the profile")
        return SourcedTraffic(_made_up(header, choice, rate), None)
    if choice.hours is not None:
        raise InputError("--hours: it is for traffic made up from a rate; a trace is as long as it is")
    return found if choice.rate is None else _at_rate(found, choice.rate)


def traced(
    header: RunHeader, choice: TrafficChoice, on_progress: Callable[[float], None] | None
) -> SourcedTraffic | None:
    """The requests of the trace that is named here, else of the profile's; None where neither names one."""
    demand = header.economics.demand
    if choice.trace is None:
        if demand is None or demand.trace is None:
            return None
        return _referred(demand.trace, _folder_of(header.profile_source), on_progress)
    if choice.trace.suffix in _PROFILES:
        return _referred(_named_by(choice.trace), choice.trace.parent, on_progress)
    return _read(choice.trace, on_progress)


def _folder_of(profile: str) -> Path:
    """The folder that a run's profile lay in, which may have been named without its path."""
    from castbench.workload.shipped import find_profile

    try:
        return find_profile(profile).parent
    except InputError:
        return Path(profile).parent


def _named_by(path: Path) -> TraceReference:
    """The trace that a profile names."""
    from castbench.workload.profile import read_profile

    result = read_profile(path)
    if result.profile is None:
        raise InputError.of(str(path), result.problems)
    demand = result.profile.demand
    if demand is None or demand.trace is None:
        raise InputError(f"--trace: {path} names no trace (demand.trace)")
    return demand.trace


def _referred(
    reference: TraceReference, folder: Path, on_progress: Callable[[float], None] | None
) -> SourcedTraffic:  # fmt: skip
    """The requests a profile refers to, read as it says."""
    from castbench.cost.traffic import Traffic
    from castbench.workload.trace import load_trace

    trace = load_trace(reference, folder, on_progress)
    source = f"{trace.source}, rows that cannot be used left out" if reference.skip_unusable else trace.source
    return SourcedTraffic(Traffic.of(trace.arrival_s, trace.tokens), source)


def _read(path: Path, on_progress: Callable[[float], None] | None) -> SourcedTraffic:
    """The requests of a trace, all of its rows."""
    from castbench.cost.traffic import Traffic
    from castbench.workload.trace_reader import read_trace

    try:
        read = read_trace(path, None, on_progress)
    except InputError as error:
        if "--" not in str(error):
            raise
        # The options it speaks of are those of another command.
        hint = "castbench workload from-trace takes such options; name the profile that it writes with --trace"
        raise InputError(f"{error} ({hint})") from None
    if read.arrival_s is None:
        raise InputError(
            f"{path}: the trace has no times that are recognised, so it cannot be replayed; castbench workload "
            "from-trace takes --time-column: name the profile that it writes with --trace"
        )
    return SourcedTraffic(Traffic.of(read.arrival_s, read.tokens), f"trace {path.name}")


def _at_rate(found: SourcedTraffic, rate: float) -> SourcedTraffic:
    """The same requests at another mean rate."""
    known = found.traffic.rate_per_s
    if known is None:
        raise InputError("--rate: all requests of the trace arrive at one moment, so that there is no rate to change")
    return replace(found, traffic=found.traffic.faster(rate / known), source=f"{found.source}, at another rate")


def _made_up(header: RunHeader, choice: TrafficChoice, rate: float) -> Traffic:
    """Independent arrivals at a rate, of the profile's lengths."""
    from castbench.cost.traffic import poisson_traffic

    hours = 1.0 if choice.hours is None else choice.hours
    expected = rate * hours * SECONDS_PER_HOUR
    if expected > MOST_MADE_UP:
        raise InputError(
            f"{expected:,.3g} requests would be made up ({rate:g} per second over {hours:g} h), at most "
            f"{MOST_MADE_UP:,} are; take fewer --hours"
        )
    traffic = poisson_traffic(rate, hours * SECONDS_PER_HOUR, header.plan.mix, choice.seed)
    if traffic.requests < 2:
        raise InputError(
            f"{traffic.requests} requests arrive in {hours:g} h at {rate:g} per second: too few to say anything; take "
            "more --hours"
        )
    return traffic
