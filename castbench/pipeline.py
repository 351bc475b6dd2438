"""The library's front door: load, plan, measure, read, price; the command line calls nothing below it directly.

load_plan ─▶ measure ─▶ RunRecord ─▶ project ─▶ Projection        (report, compare and verify read from there)
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from math import isfinite, log1p
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from castbench.errors import CastbenchError, GateMissed, HardwareError, InputError, Interrupted, RunFileError
from castbench.plain import sha256_of
from castbench.plan import Plan, choice_problems, make_plan, with_presets
from castbench.records import RunEnd, RunHeader, RunRecord, Selection
from castbench.rehearsal.choice import RehearsalChoice
from castbench.store import SCHEMA, RunWriter, find_run, new_run_path
from castbench.store import read_run as read_run_file
from castbench.traffic_source import TrafficChoice, traced, traffic_for
from castbench.units import SECONDS_PER_HOUR
from castbench.workload.lengths import from_shares
from castbench.workload.spec import Demand, PriceChoice, SamplingPolicy, ServiceObjective, WorkloadProfile

if TYPE_CHECKING:
    from castbench.cost.gates import Gate
    from castbench.cost.objective import Objective
    from castbench.cost.outlook_nouns import Rented
    from castbench.cost.prices import DeviceKind, PriceBook
    from castbench.cost.spec import Price, Projection
    from castbench.measure.estimate import PlanEstimate
    from castbench.measure.rig import Rig
    from castbench.measure.runner import Watcher
    from castbench.report.capacity_page import CapacityReport
    from castbench.report.diff_view import Diff
    from castbench.report.nouns import AtObjective
    from castbench.report.rehearsal_page import RehearsalReport
    from castbench.report.verify import Check
    from castbench.said import Statement
    from castbench.stats import Estimate

MOST_REPLAYED = 20_000
"""Requests that a report replays at most: castbench capacity takes longer traces."""
MOST_SERVERS = 10_000
"""Servers that a report sizes at most."""
MADE_UP = 10_000
"""Requests that a report makes up from a rate."""
DEVICES = ("auto", "cpu", "fake", "cuda", "cuda:N")


@dataclass(frozen=True, slots=True)
class Measured:
    """A measured run: the record, its file, and whether the budget cut it short."""

    record: RunRecord
    path: Path
    complete: bool


@dataclass(frozen=True, slots=True)
class AaResult:
    """A module against itself: what difference this machine could resolve."""

    rounds: int
    epochs: int
    seconds: float
    log_ratio: Estimate
    device: str


def load_profile(name_or_path: str) -> WorkloadProfile:
    """A profile by path or by the name of a shipped one; InputError lists every problem found, of the file's
    structure and of the mechanisms it asks for, together.
    """
    from castbench.workload.profile import find_profile, read_profile

    path = find_profile(name_or_path)
    result = read_profile(path)
    problems = [*result.problems, *choice_problems(result.choices, result.baseline)]
    if problems or result.profile is None:
        raise InputError.of(str(path), problems)
    return replace(result.profile, source=name_or_path)


def price_book(source: str | None = None, *, accept_suspect: bool = False) -> PriceBook:
    """The price list that profiles' prices are looked up in: a CSV file or https address, or the shipped catalogue.

    InputError where it cannot be read or is no price list. Rows that look wrong are used only if accepted.
    """
    from castbench.cost.prices import price_book as read_book

    return read_book(source, accept_suspect=accept_suspect)


def check_prices(profile: WorkloadProfile, prices: PriceBook | None = None) -> None:
    """InputError where a price that the profile names is not in the price list, or looks wrong and was not accepted:
    found now, not after measuring.
    """
    from castbench.cost.prices import resolve_price

    today, book = date.today(), prices or price_book()
    if profile.price is not None:
        resolve_price(profile.price, book=book, device_kind="cuda", gpu=profile.gpu, on_date=today)
    if profile.price_cpu is not None:
        resolve_price(profile.price_cpu, book=book, device_kind="cpu", gpu=profile.gpu, on_date=today)


def load_plan(
    name_or_path: str, *, only: Sequence[str] = (), seed: int | None = None, prices: PriceBook | None = None
) -> tuple[WorkloadProfile, Plan]:
    """A profile with its plan; `seed` replaces the profile's, `only` keeps these labels and the baseline, `prices`
    replaces the shipped catalogue.
    """
    profile = load_profile(name_or_path)
    check_prices(profile, prices)
    if seed is not None:
        profile = replace(profile, seed=seed)
    return profile, make_plan(profile, only)


def check_device(device: str) -> str:
    """The spelling of --device, checked."""
    number = device.removeprefix("cuda:")
    if device in ("auto", "cpu", "fake", "cuda") or (number != device and number.isascii() and number.isdigit()):
        return device
    raise InputError(f"--device: expected one of {', '.join(DEVICES)}, got {device!r}")


def open_rig(device: str, dtype: str, seed: int, threads: int | None = None) -> Rig:
    """The rig for a checked device; HardwareError where it is not there or cannot run `dtype`."""
    if device == "fake":
        from castbench.measure.fake_rig import FakeRig

        return FakeRig(seed)
    from castbench.measure.torch_rig import TorchRig, usable_device

    rig = TorchRig(usable_device(device), threads)
    rig.require_usable(dtype)
    return rig


def require_alone(rig: Rig) -> None:
    """HardwareError unless it is known that nobody else computes on the rig's GPU."""
    others = rig.others()
    if others is None:
        raise HardwareError(f"--exclusive: it cannot be told whether others use {rig.device}; see castbench doctor")
    if others:
        named = ", ".join(str(pid) for pid in others)
        raise HardwareError(f"--exclusive: {rig.device} is used by others (pid {named}); stop them or leave it out")


def measure(
    profile: WorkloadProfile, plan: Plan, rig: Rig, watcher: Watcher,
    *, out: Path | None = None, budget_s: float | None = None, prices: PriceBook | None = None,
) -> Measured:  # fmt: skip
    """Measure a plan into a new run file; what is measured is in the file at once, whatever happens later.

    `prices`: the list that the profile's price is looked up in; InputError, before anything is measured, where it
    cannot be used.
    """
    header = _header(profile, plan, rig)
    _priced(header, None, prices)
    path = out or new_run_path(profile.name, header.environment.device, header.created_at)
    with RunWriter.create(path, header) as writer:
        complete = _run(plan, rig, writer, watcher, header, None, budget_s, prices)
    return Measured(read_run_file(path), path, complete)


def rig_of_run(ref: str, workload: str | None = None) -> Rig:
    """The rig a run can be resumed on: its own device and threads.

    RunFileError where `workload` is given and is no longer the profile that was measured.
    """
    header = read_run(ref).header
    if workload is not None and text_sha256(load_profile(workload).text) != header.profile_sha256:
        raise RunFileError(f"cannot resume: {workload} is not the profile that {ref} was measured from")
    environment, served = header.environment, header.plan.served
    return open_rig(environment.device, served.dtype, served.seed, environment.threads)


def resume(
    ref: str, rig: Rig, watcher: Watcher, *, budget_s: float | None = None, prices: PriceBook | None = None
) -> Measured:
    """Go on with a run where it stopped; RunFileError where code or hardware are not what they were, InputError where
    its price is not in the price list.
    """
    path = find_run(ref)
    writer, record = RunWriter.resume(path)
    with writer:
        _priced(record.header, None, prices)
        _, now, code = rig.identity()
        _require_same(record.header, rig, code)
        writer.append_resumed(now)
        complete = _run(record.header.plan, rig, writer, watcher, record.header, record, budget_s, prices)
    return Measured(read_run_file(path), path, complete)


def read_run(ref: str) -> RunRecord:
    """A run by path, name or `latest`."""
    return read_run_file(find_run(ref))


def project(
    record: RunRecord, *, price_usd_per_hour: float | None = None, rate: float | None = None,
    demand_of: RunRecord | None = None, prices: PriceBook | None = None,
) -> Projection:  # fmt: skip
    """The money stage of a run, from the profile it carries; a price or a rate given here wins.

    `demand_of` takes the demand of another run, to compare machines under one traffic; what was observed of this one's
    says nothing then. `prices` is the list that the profile's price is looked up in, the shipped catalogue if none is
    given.
    """
    from castbench.cost.savings import project as project_costs

    stated = record.header.economics
    demand = (demand_of or record).header.economics.demand
    if rate is not None:
        demand = replace(demand, requests_per_second=rate) if demand else Demand(rate)
    price, missing = _priced(record.header, price_usd_per_hour, prices)
    projection = project_costs(
        record, price, demand, money_missing=missing, seed=record.header.plan.served.seed,
        attention_share=stated.attention_share, today=stated.today,
        observed=stated.observed if demand_of is None else None,
    )  # fmt: skip
    rented = _rented(record.header, price, prices) if price_usd_per_hour is None else None
    return replace(projection, rented=rented)


def _rented(header: RunHeader, price: Price | None, prices: PriceBook | None) -> Rented | None:
    """The GPU of a server of one's own as a price list rents it; None where the price is not that of such a server."""
    from castbench.cost.owned import PLAN
    from castbench.cost.rented import rented_twin

    choice = header.economics.price
    if choice is None or choice.owned is None or price is None or price.plan != PLAN or not price.gpus:
        return None
    return rented_twin(choice.owned, price, header.economics.gpu, (prices or price_book()).rows)


def _priced(
    header: RunHeader, price_usd_per_hour: float | None, prices: PriceBook | None
) -> tuple[Price | None, Statement | None]:
    """The price of a run on its device and, where there is none, why; the one given here wins over the profile's."""
    from castbench.cost.cash import as_committed_as
    from castbench.cost.prices import resolve_price

    asked, device = header.economics, device_kind(header.environment.device)
    choice = asked.price_cpu if device == "cpu" else asked.price
    if device == "fake" and choice is None:
        choice = asked.price_cpu
    book = prices or price_book()
    # A row that looks wrong may still say how many GPUs a server has that the caller knows the price of.
    book = book if price_usd_per_hour is None else replace(book, accept_suspect=True)
    on_date = date.fromisoformat(header.created_at[:10])
    price, missing = resolve_price(choice, book=book, device_kind=device, gpu=asked.gpu, on_date=on_date)
    if price_usd_per_hour is None:
        return price, missing
    # Another price for the server that the profile names: its GPUs, size and commitments stay what they are.
    gpus, vcpus = (price.gpus, price.vcpus) if price else (1, None)
    given = PriceChoice(price_usd_per_hour, plan="given with --price", gpus=gpus, vcpus=vcpus)
    found, missing = resolve_price(given, book=book, device_kind=device, gpu=asked.gpu, on_date=on_date)
    return (as_committed_as(found, price) if found and price else found), missing


@dataclass(frozen=True, slots=True)
class CapacityQuestion:
    """What `castbench capacity` is asked; None: as the run's profile says.

    latencies_ms   of p50, p95 and p99; one of them replaces all of the profile's
    replicas       also say which rate so many sustain
    day            also compare fixed, autoscaled and ideal fleets
    truncate       cut requests longer than measured, rather than refuse them
    """

    traffic: TrafficChoice = field(default_factory=TrafficChoice)
    latencies_ms: tuple[float | None, float | None, float | None] = (None, None, None)
    max_utilization: float | None = None
    min_replicas: int | None = None
    zones: int | None = None
    spare: int | None = None
    replicas: int | None = None
    day: bool = False
    overhead_s: float = 0.0
    truncate: bool = False
    labels: tuple[str, ...] = ()
    resamples: int = 100
    seed: int = 0


def capacity(
    record: RunRecord, question: CapacityQuestion, *, price_usd_per_hour: float | None = None,
    prices: PriceBook | None = None, on_progress: Callable[[str, float], None] | None = None,
) -> CapacityReport:  # fmt: skip
    """Servers at an objective, by replay of a trace or a rate through the times of a run.

    `on_progress` is told what is being done and the share of it that is done. Raises InputError where there is neither
    a trace nor a rate, nothing to keep, or requests longer than measured.
    """
    from castbench.cost.capacity_stage import Asked
    from castbench.rehearsal.kept import kept_rehearsals
    from castbench.report import capacity_view

    extras = capacity_view.Extras(question.labels, question.replicas, question.day, question.truncate)
    capacity_view.require_known(record, extras)
    objective = _objective(record.header.economics.demand, question)
    money = capacity_view.Money(*_priced(record.header, price_usd_per_hour, prices))
    found = traffic_for(record.header, question.traffic, _told_as(on_progress, "reading the trace"))
    asked = Asked(
        found.traffic, objective, question.overhead_s, resamples=question.resamples, seed=question.seed
    )  # fmt: skip
    return capacity_view.build(record, asked, found.source, money, extras, on_progress, kept_rehearsals(record))


def _told_as(on_progress: Callable[[str, float], None] | None, what: str) -> Callable[[float], None] | None:
    """Progress of one kind of work."""
    return None if on_progress is None else partial(on_progress, what)


def _objective(demand: Demand | None, question: CapacityQuestion) -> Objective:
    """What is asked of the fleet: latencies given here or else the profile's, and how busy servers may be likewise."""
    from castbench.cost.objective import Objective

    stated = demand.objective if demand else None
    if any(ms is not None for ms in question.latencies_ms):
        stated = ServiceObjective(*question.latencies_ms)
    utilization = question.max_utilization
    if utilization is None and demand is not None:
        utilization = demand.max_utilization
    if stated is None and utilization is None:
        raise InputError(
            "nothing is asked of the servers: give --p99-ms (or --p50-ms, --p95-ms, --max-utilization), or add demand "
            "with an objective to the profile"
        )
    found = Objective.of_service(stated, utilization)
    asked = found if demand is None else found.as_redundant_as(demand)
    return replace(
        asked,
        min_replicas=asked.min_replicas if question.min_replicas is None else question.min_replicas,
        zones=asked.zones if question.zones is None else question.zones,
        spare=asked.spare if question.spare is None else question.spare,
    )


@dataclass(frozen=True, slots=True)
class RehearsalQuestion:
    """What `castbench rehearse` is asked; None: as the run's profile says. smooth: no trace, although it names one."""

    trace: Path | None = None
    smooth: bool = False
    choice: RehearsalChoice = field(default_factory=RehearsalChoice)


def rehearse(
    record: RunRecord, question: RehearsalQuestion, on_progress: Callable[[str, float], None] | None = None
) -> RehearsalReport:
    """Serve one replica's traffic on this machine and hold it against the replay; kept beside the run file.

    Raises InputError for what cannot be rehearsed, RunFileError where the run was measured elsewhere, HardwareError
    where the server fails, Interrupted on Ctrl-C, after which nothing is kept.
    """
    from castbench.rehearsal.kept import keep
    from castbench.rehearsal.machine import open_stage
    from castbench.rehearsal.stage import rehearse as rehearse_on
    from castbench.report import rehearsal_view

    if question.smooth and question.trace is not None:
        raise InputError("--smooth and --trace exclude each other")
    told = _told_as(on_progress, "reading the trace")
    found = None if question.smooth else traced(record.header, TrafficChoice(question.trace), told)
    try:
        with open_stage(record.header) as stage:
            rehearsal = rehearse_on(record, found, question.choice, stage, on_progress)
    except KeyboardInterrupt:
        raise Interrupted("interrupted; nothing of this rehearsal is kept") from None
    return rehearsal_view.build(record, rehearsal, keep(record, rehearsal))


def device_kind(device: str) -> DeviceKind:
    """cpu, cuda or fake, of a device's name."""
    kind = device.partition(":")[0]
    return "cuda" if kind == "cuda" else "fake" if kind == "fake" else "cpu"


def describe_plan(plan: Plan, device: str = "cpu") -> PlanEstimate:
    """What measuring a plan will take on `device`, roughly, and at most."""
    from castbench.hardware.cpu import read_host
    from castbench.measure.estimate import estimate_plan
    from castbench.measure.runner import rates_for

    return estimate_plan(plan, rates_for(device, read_host().usable_cores), device)


def report_bytes(
    record: RunRecord, fmt: str, *, table: str | None = None, price_usd_per_hour: float | None = None,
    rate: float | None = None, redact: bool = False, width: int | None = None, colour: bool | None = None,
    prices: PriceBook | None = None, lang: str = "en", metrics: tuple[tuple[str, str], ...] = (),
) -> bytes:  # fmt: skip
    """A run's report in one of the formats; width and colour default to what standard output can show.

    `lang` is the language of what people read; csv and json do not change with it. InputError for one there is not.
    `metrics` names a team's metrics in alert rules, by what they stand for.
    """
    from castbench.report import exporters, view
    from castbench.report.catalogue import speaking
    from castbench.report.redact import redact as redacted
    from castbench.report.terminal import shown_on

    projection = project(record, price_usd_per_hour=price_usd_per_hour, rate=rate, prices=prices)
    # No table of a CSV has anything of it, and a replay takes seconds.
    replayed = None if fmt == "csv" else _at_objective(record, projection, price_usd_per_hour, prices)
    report = view.build(record, projection, replayed)
    if redact:
        report = redacted(report)
    shown_width, shown_colour = shown_on(sys.stdout)
    with speaking(lang):
        return exporters.render(
            report, fmt, table=table, width=width or shown_width, colour=shown_colour if colour is None else colour,
            metrics=metrics,
        )  # fmt: skip


def _at_objective(
    record: RunRecord, projection: Projection, price_usd_per_hour: float | None, prices: PriceBook | None
) -> AtObjective | None:  # fmt: skip
    """Servers at the projection's latency objective, by a quick replay; None where none is stated or nothing serves.

    What cannot be replayed (a trace that is not there, is too long for this, or has longer requests than measured) is
    told with its reason: a report of a run is never refused for it.
    """
    from castbench.report import objective_view

    demand, plan = projection.demand, record.header.plan
    stated = demand.objective if demand else None
    spoken_of = objective_view.spoken_of(projection)
    if demand is None or stated is None or not spoken_of or plan.served.phase != "inference":
        return None
    told = str(stated)
    servers = [arm.replicas for arm in projection.arms if arm.arm.label in spoken_of and arm.replicas is not None]
    if max(servers, default=0) > MOST_SERVERS:
        return objective_view.too_many_servers(told, MOST_SERVERS)
    if demand.trace is not None and demand.trace.rows > MOST_REPLAYED:
        return objective_view.too_long_a_trace(told, demand.trace.rows)
    hours = None if demand.trace else MADE_UP / demand.requests_per_second / SECONDS_PER_HOUR
    question = CapacityQuestion(
        TrafficChoice(rate=demand.requests_per_second, hours=hours), labels=spoken_of, resamples=0,
        seed=plan.served.seed,
    )  # fmt: skip
    asked, economics = record, record.header.economics
    if economics.demand != demand:  # what was worked out of a record stays with it, and not with a copy
        asked = replace(record, header=replace(record.header, economics=replace(economics, demand=demand)))
    try:
        found = capacity(asked, question, price_usd_per_hour=price_usd_per_hour, prices=prices)
    except CastbenchError as error:
        return objective_view.refused(told, str(error))
    return objective_view.at_objective(found, told)


def verify(
    ref: str, *, exported: Path | None = None, price_usd_per_hour: float | None = None, rate: float | None = None,
    redact: bool = False, prices: PriceBook | None = None,
) -> tuple[Path, tuple[Check, ...]]:  # fmt: skip
    """The file a reference means, with the checks of it and of the numbers that its report prints; `exported` is a
    CSV or JSON report to be held against the run, made with that price, rate, redaction and price list.
    """
    from castbench.report.verify import export_check, verify_run

    path = find_run(ref)
    record = read_run_file(path)
    projection = project(record, price_usd_per_hour=price_usd_per_hour, rate=rate, prices=prices)
    checks = verify_run(record, projection, comparable_sha256(record.header.plan))
    if exported is None:
        return path, checks

    def render(fmt: str, table: str | None) -> bytes:
        return report_bytes(
            record, fmt, table=table, price_usd_per_hour=price_usd_per_hour, rate=rate, redact=redact, prices=prices
        )

    return path, (*checks, export_check(exported, render))


@dataclass(frozen=True, slots=True)
class DiffQuestion:
    """What `castbench diff` is asked.

    gates           as texts; `gates_file` holds more of them
    absolute        also judge times, with a noise floor from repeats of BASE (`noise`) or a stated percentage
    """

    gates: tuple[str, ...] = ()
    gates_file: Path | None = None
    absolute: bool = False
    noise: tuple[str, ...] = ()
    noise_percent: float | None = None
    forced: bool = False
    price_usd_per_hour: float | None = None


def diff(base_ref: str, new_ref: str, question: DiffQuestion, prices: PriceBook | None = None) -> Diff:
    """What changed between two runs of the same work, with every gate judged; the demand is that of BASE.

    Raises InputError for runs of unlike work unless forced, for gates that name nothing in them, and for absolute
    times without a noise floor.
    """
    from castbench.report import diff_view, gate_figures

    base, new = read_run(base_ref), read_run(new_ref)
    given = question.price_usd_per_hour
    projections = (
        project(base, prices=prices), project(new, price_usd_per_hour=given, demand_of=base, prices=prices)
    )  # fmt: skip
    gates = _gates_of(question, tuple(arm.arm.label for arm in projections[1].arms))
    found = diff_view.build((base, new), projections, forced=question.forced, floor=_floor(base, question))
    return gate_figures.with_gates(found, gates)


def require_gates(found: Diff, *, allow_undecided: bool) -> None:
    """GateMissed where a gate is missed, or is not shown to be met and that is not allowed."""
    from castbench.cost.gates import Outcome

    outcomes = [gate.outcome for gate in found.gates]
    missed, undecided = outcomes.count(Outcome.MISSED), outcomes.count(Outcome.UNDECIDED)
    if not missed and (allow_undecided or not undecided):
        return
    hint = "" if missed or allow_undecided else "; --allow-undecided lets pass what is only not shown"
    raise GateMissed(f"gates: {missed} missed, {undecided} undecided, of {len(outcomes)}{hint}")


def _gates_of(question: DiffQuestion, labels: tuple[str, ...]) -> tuple[Gate, ...]:
    """The gates of the command line and of the file."""
    from castbench.cost.gates import parse_gate
    from castbench.workload.gates_file import read_gates

    listed = () if question.gates_file is None else read_gates(question.gates_file)
    return tuple(parse_gate(text, labels, where) for where, text in (*(("--gate", g) for g in question.gates), *listed))


def _floor(base: RunRecord, question: DiffQuestion) -> float | None:
    """Log of the time ratio that absolute changes must pass; None where only ratios are asked for."""
    from castbench.report.diff_view import noise_floor

    percent = question.noise_percent
    if not question.absolute:
        if question.noise or percent is not None:
            raise InputError("--noise and --noise-percent are for absolute times; add --absolute")
        return None
    if percent is not None and not (isfinite(percent) and percent >= 0):
        raise InputError(f"--noise-percent: expected 0 or more, got {percent:g}")
    if not question.noise and percent is None:
        raise InputError(
            "--absolute: times of equal work differ between sessions and machines; give a repeat of BASE with --noise, "
            "or state by how much with --noise-percent"
        )
    measured = noise_floor(base, [(ref, read_run(ref)) for ref in question.noise]) if question.noise else 0.0
    return max(measured, log1p((percent or 0.0) / 100))


def baseline_was_measured(record: RunRecord) -> bool:
    """Whether the baseline has a number in at least one group."""
    from castbench.findings import case_findings

    return any(f.mean_step_s is not None for f in case_findings(record) if f.arm.label == record.header.plan.baseline)


def write_out(data: bytes, out: Path | None, *, force: bool = False) -> None:
    """Bytes to a file that is not there yet, or to standard output; what is not text does not go to a terminal."""
    if out is None:
        if sys.stdout is None:
            raise InputError("there is no standard output to write to; name a file with --out")
        if sys.stdout.isatty() and not _is_text(data):
            raise InputError("this format is not text and cannot be shown in a terminal; name a file with --out")
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        with _opened(out, force=force) as file:
            file.write(data)
    except OSError as error:
        if not force:  # it was not there before
            out.unlink(missing_ok=True)
        raise CastbenchError(f"cannot write {out}: {error.strerror}; make room, or name another place") from None


def _opened(out: Path, *, force: bool) -> BinaryIO:
    """A file to write to; InputError where there is one already, or where none can be."""
    if out.is_dir():
        raise InputError(f"{out} is a folder; name a file in it")
    try:
        return cast(BinaryIO, out.open("wb" if force else "xb"))
    except FileExistsError:
        raise InputError(f"{out} exists already; name another file, or overwrite it with --force") from None
    except FileNotFoundError:
        raise InputError(f"{out}: there is no folder {out.parent}; make it first, or name another") from None
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}") from None


def _is_text(data: bytes) -> bool:
    """Whether bytes are UTF-8 without NUL."""
    try:
        return "\0" not in data.decode("utf-8")
    except UnicodeDecodeError:
        return False


def resolve_difference(seconds: float, threads: int | None = None) -> AaResult:
    """Time one encoder against itself for about `seconds` on this machine's best device."""
    from castbench.findings import paired_log_ratio

    measured = _against_itself(load_profile("quickstart"), seconds, threads)
    plan = measured.record.header.plan
    group = plan.groups[0]
    rounds = measured.record.rounds_of(group.key)
    ratio = paired_log_ratio(rounds, plan.arms[1].label, plan.baseline, plan)
    if ratio is None:
        raise HardwareError("no round was finished; give --aa more time")
    return AaResult(
        len(rounds), len({r.epoch for r in rounds}), seconds, ratio, measured.record.header.environment.device_name
    )


def _against_itself(profile: WorkloadProfile, seconds: float, threads: int | None) -> Measured:
    """A run of a profile's first mechanism twice, on its middle length and without ceilings, in a temporary file."""
    from castbench.measure.runner import Silent

    middle = profile.lengths.tokens[len(profile.lengths.tokens) // 2]
    first = with_presets(profile.mechanisms)[0][1]
    twins = tuple(replace(first, label=label) for label in ("a", "b"))
    policy = SamplingPolicy(
        target_ci=1e-6, max_seconds_per_case=seconds, same_within=0.0, min_window_ms=50.0, energy=False, confirm=False
    )
    twin = replace(
        profile, mechanisms=twins, baseline="a", lengths=from_shares([(middle, 1.0)]), sampling=policy, batch_sizes=(1,)
    )
    full = make_plan(twin)
    plan = replace(full, arms=tuple(arm for arm in full.arms if arm.role != "ceiling"))
    rig = open_rig("auto", profile.dtype, profile.seed, threads)
    with closing(rig), tempfile.TemporaryDirectory() as directory:
        return measure(twin, plan, rig, Silent(), out=Path(directory) / "aa.jsonl", budget_s=seconds)


def _header(profile: WorkloadProfile, plan: Plan, rig: Rig) -> RunHeader:
    """First line of a new run file."""
    run_id, created_at, code = rig.identity()
    return RunHeader(
        SCHEMA, run_id, created_at, profile.source, profile.text, text_sha256(profile.text),
        comparable_sha256(plan), plan, sha256_of(plan), code, rig.environment(),
        profile.name, profile.economics,
    )  # fmt: skip


def text_sha256(text: str) -> str:
    """Hash of a profile's text."""
    return hashlib.sha256(text.encode()).hexdigest()


def comparable_sha256(plan: Plan) -> str:
    """Hash over what two runs must share to be compared: model, lengths, batch sizes, phase, scope, dtype, seed,
    baseline and mechanisms; not name, machine, price, demand and sampling.
    """
    mix = (plan.mix.tokens, plan.mix.shares)
    return sha256_of([plan.served, mix, plan.arms, plan.groups, plan.baseline])


def _run(
    plan: Plan, rig: Rig, writer: RunWriter, watcher: Watcher, header: RunHeader,
    done: RunRecord | None, budget_s: float | None, prices: PriceBook | None,
) -> bool:  # fmt: skip
    """Run what is left of a plan; Ctrl-C becomes Interrupted, which says how to go on."""
    from castbench.measure.runner import PlanRunner

    select = partial(_selected, prices=prices)
    runner = PlanRunner(plan, rig, writer, watcher, header.environment, done=done, budget_s=budget_s, select=select)
    try:
        complete = runner.run()
        held = read_run_file(writer.path)
        writer.append_end(RunEnd(len(held.rounds), len(held.groups), complete))
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {_kept(writer.path)}") from None
    except HardwareError as error:
        raise HardwareError(f"{error}\n{_kept(writer.path)}") from None
    return complete


def _kept(path: Path) -> str:
    """What of a run that ended early is in its file, and what can be done with it."""
    kept = len(read_run_file(path).rounds)
    return (
        f"{kept} round{'' if kept == 1 else 's'} kept in {path}\n"
        f"go on with: castbench profile --resume {path}\n"
        f"see what there is with: castbench report {path}"
    )


def _selected(record: RunRecord, prices: PriceBook | None) -> Selection | None:
    """What of a measured run is confirmed on fresh rounds."""
    from castbench.cost.selection import selection

    return selection(record, project(record, prices=prices))


def _require_same(header: RunHeader, rig: Rig, code: str) -> None:
    """RunFileError where going on would mix two machines or two versions of the code in one run."""
    here = rig.environment()
    then = header.environment
    for what, was, now in (
        ("castbench's measured code", header.code_sha256[:12], code[:12]),
        ("device", f"{then.device} {then.device_name}", f"{here.device} {here.device_name}"),
        ("torch", then.torch, here.torch),
        ("driver", then.driver, here.driver),
        ("threads", then.threads, here.threads),
    ):
        if was != now:
            raise RunFileError(f"cannot resume: {what} was {was} and is now {now}; measure a new run instead")
