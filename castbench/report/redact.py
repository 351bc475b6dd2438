"""Leaves out of a report what must not leave the house: host, GPU and process ids, paths, contract prices and whatever
gives them away.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePath

from castbench.cost.outlook_nouns import Electricity, Outlook
from castbench.cost.spec import ArmProjection, Change, Running, Savings, Waterfall
from castbench.records import Environment
from castbench.report import headline, text, view
from castbench.report.nouns import AtObjective, CaseRow, GroupTable, Report, RunFacts
from castbench.said import Quantity, Statement, Value, Words, statement

REDACTED = "[redacted]"
_PATH = re.compile(r"(?<![\w$])(?:[A-Za-z]:)?[~.]{0,2}[/\\][^\s:'\",;()]+")
_PROCESS = re.compile(r"\b(pids?|process(?:es)?|process ids?)([ =:]+)\d+(?:, \d+)*")
_UUID = re.compile(r"\b(?:GPU|MIG)-(?:GPU-)?[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?:/\d+/\d+)?")
_OF_OBSERVED = ("warning.bill", "warning.latency")
"""Warnings that tell what the service takes."""
_ABOUT_MONEY = re.compile(r"usd|\$|price", re.IGNORECASE)


def redact(report: Report) -> Report:
    """The report without host, device ids, process ids, paths and contract prices.

    With a contract price every amount of money goes too, since cost over servers is the price; percentages stay.
    """
    run, secrets, trace = _run(report.run), _secrets(report.run.environment), _trace_name(report)
    clean = replace(
        report,
        run=run,
        groups=tuple(_group(table, secrets) for table in report.groups),
        mechanisms=tuple(_arm(arm, secrets) for arm in report.mechanisms),
        assumptions=tuple(_statement(said, secrets, report.money.mix.source) for said in report.assumptions),
        warnings=tuple(_statement(said, secrets) for said in report.warnings),
        headline=tuple(_statement(said, secrets, trace) for said in report.headline),
        reproduce=view.commands(run),
        electricity=None if report.electricity is None else _electricity(report.electricity, secrets),
        at_objective=None
        if report.at_objective is None
        else _replayed(report.at_objective, secrets, _trace_name(report)),
    )
    if _is_path(clean.money.mix.source):
        clean = replace(clean, money=replace(clean.money, mix=replace(clean.money.mix, source=REDACTED)))
    if (demand := clean.money.demand) is not None and demand.trace is not None:
        unnamed = replace(demand, trace=replace(demand.trace, path=REDACTED))
        clean = replace(clean, money=replace(clean.money, demand=unnamed))
    return _without_money(clean) if _is_contract(report) else clean


def _trace_name(report: Report) -> str:
    """The file name of the trace that the demand was taken from; empty where there is none."""
    demand = report.money.demand
    return "" if demand is None or demand.trace is None else _file_name(demand.trace.path)


def _replayed(found: AtObjective, secrets: tuple[str, ...], trace: str) -> AtObjective:
    """Servers at the objective without the name of the replayed trace, which a reason may tell too."""
    why = None if found.untested is None else _statement(found.untested, secrets, trace)
    return replace(found, source=None if found.source is None else REDACTED, untested=why)


def _electricity(found: Electricity, secrets: tuple[str, ...]) -> Electricity:
    """Energy without the price of electricity, which is a contract's, and without paths and names in reasons."""
    arms = tuple(
        replace(arm, usd_per_month=None, missing=None if arm.missing is None else _statement(arm.missing, secrets))
        for arm in found.arms
    )
    return replace(found, terms=replace(found.terms, usd_per_kwh=None), arms=arms)


def _is_contract(report: Report) -> bool:
    """Whether the price was the user's own."""
    return report.money.price is not None and report.money.price.contract


def _run(run: RunFacts) -> RunFacts:
    """A run's facts without host, ids and paths."""
    here, secrets = run.environment, _secrets(run.environment)
    return replace(
        run, path=None, profile_source=_file_name(run.profile_source),
        damage=tuple(_scrubbed(what, secrets) or "" for what in run.damage),
        environment=replace(
            here, host=REDACTED, device_uuid=None,
            thread_settings=tuple((name, _scrubbed(value, secrets) or "") for name, value in here.thread_settings),
            gpu=None if here.gpu is None else replace(here.gpu, uuid=None, parent_uuid=None),
        ),
    )  # fmt: skip


def _secrets(here: Environment) -> tuple[str, ...]:
    """Names of the host and of the GPU, wherever they stand."""
    gpu = (here.gpu.uuid, here.gpu.parent_uuid) if here.gpu is not None else ()
    return tuple(name for name in (here.host, here.device_uuid, *gpu) if name)


def _file_name(source: str) -> str:
    """The last part of a path, of either kind of separator."""
    return PurePath(source.replace("\\", "/")).name


def _arm(arm: ArmProjection, secrets: tuple[str, ...]) -> ArmProjection:
    """A projection whose reason names no path, no host and no id."""
    return arm if arm.reason is None else replace(arm, reason=_statement(arm.reason, secrets))


def _group(table: GroupTable, secrets: tuple[str, ...]) -> GroupTable:
    """A table whose reasons name no path, no host and no id."""
    discards = tuple(
        replace(each, reasons=tuple((_scrubbed(reason, secrets) or "", times) for reason, times in each.reasons))
        for each in table.discards
    )
    return replace(table, rows=tuple(_row(row, secrets) for row in table.rows), discards=discards)


def _row(row: CaseRow, secrets: tuple[str, ...]) -> CaseRow:
    """A row whose reasons name no path, no host and no id."""
    return replace(
        row, reason=_scrubbed(row.reason, secrets), energy_reason=_scrubbed(row.energy_reason, secrets)
    )  # fmt: skip


def _statement(said: Statement, secrets: tuple[str, ...], source: str = "") -> Statement:
    """A statement whose texts name no path, no host and no id; a source may be a relative path."""

    def words(value: Words) -> Words:
        if isinstance(value, Statement):
            return _statement(value, secrets, source)
        named = value.replace(source, REDACTED) if _is_path(source) else value
        return _scrubbed(named, secrets) or ""

    def clean(value: Value) -> Value:
        if isinstance(value, tuple):
            return tuple(words(one) for one in value if not isinstance(one, Quantity)) or value
        return value if value is None or isinstance(value, Quantity) else words(value)

    return Statement(said.key, tuple((name, clean(value)) for name, value in said.values))


def _is_path(source: str) -> bool:
    """Whether a source is a file and no phrase."""
    return "/" in source or "\\" in source or PurePath(source).suffix != ""


def _scrubbed(words: str | None, secrets: tuple[str, ...]) -> str | None:
    """Text without anything that looks like a path or the id of a GPU or process, and without these names."""
    if words is None:
        return None
    scrubbed = _UUID.sub(REDACTED, words)  # before paths: the id of a MIG instance has slashes
    scrubbed = _PROCESS.sub(rf"\1\2{REDACTED}", _PATH.sub(REDACTED, scrubbed))
    for name in secrets:
        scrubbed = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", REDACTED, scrubbed)
    return scrubbed


def _without_money(report: Report) -> Report:
    """No amount of money anywhere; the headline is said anew from what is left."""
    missing = statement("warning.money_redacted")
    mechanisms = tuple(_unpriced(arm) for arm in report.mechanisms)
    missing_money, savings = statement("no_money.redacted"), _unpriced_savings(report.money.savings)
    money = replace(report.money, price=None, missing=missing_money, savings=savings, currency=None)
    kept = tuple(said for said in report.assumptions if not _tells_money(said))
    sized = _unpriced_sizes(report.at_objective)
    said = headline.sentences(mechanisms, money, report.groups, report.run, report.confirmations, sized)
    return replace(
        report, mechanisms=mechanisms, money=money, assumptions=kept,
        warnings=(*(said for said in report.warnings if said.key not in _OF_OBSERVED), missing),
        headline=tuple(s for s in said if s.key != "headline.no_money"), rented=None,
        outlook=None if report.outlook is None else _unpriced_outlook(report.outlook), at_objective=sized,
    )  # fmt: skip


def _unpriced_sizes(found: AtObjective | None) -> AtObjective | None:
    """Servers at the objective without what they cost, which divided by their number is the price."""
    if found is None:
        return None
    return replace(found, arms=tuple(replace(arm, cost_usd_per_hour=None) for arm in found.arms))


def _unpriced_outlook(ahead: Outlook) -> Outlook:
    """What lies ahead without amounts: one-off costs and months would give the price away, servers do not."""
    years = ahead.growth.years if ahead.growth else ()
    bare = tuple(
        replace(year, baseline_cost_usd_per_hour=None, cost_usd_per_hour=None, saving_usd_per_hour=None)
        for year in years
    )
    return replace(
        ahead, break_even=None, sensitivity=(), growth=replace(ahead.growth, years=bare) if ahead.growth else None,
        next_measurement=replace(ahead.next_measurement, usd=None),
    )  # fmt: skip


def _tells_money(said: Statement) -> bool:
    """Whether an assumption is about the price."""
    return _ABOUT_MONEY.search(text.in_english(said) or "") is not None


def _unpriced_savings(savings: Savings | None) -> Savings | None:
    """Steps without amounts of money, and nothing of the bill that was observed."""
    if savings is None:
        return None
    found = savings.waterfall
    if found is not None:
        steps = tuple(replace(s, to=_unpriced_run(s.to), change=_unpriced_change(s.change)) for s in found.steps)
        today, tuned, total = _unpriced_run(found.today), _unpriced_change(found.tuned), _unpriced_change(found.total)
        found = Waterfall(today, steps, tuned, total)
    return replace(savings, waterfall=found, observed=None, range_parts=None)


def _unpriced_run(running: Running) -> Running:
    """A configuration without its cost."""
    return replace(running, cost_usd_per_hour=None)


def _unpriced_change(change: Change) -> Change:
    """A change without amounts of money; servers, percentages and probabilities stay."""
    return replace(change, saving_usd_per_hour=None, cash_saving_usd_per_hour=None)


def _unpriced(arm: ArmProjection) -> ArmProjection:
    """A projection without amounts of money; servers, percentages and probabilities stay."""
    return replace(
        arm, usd_per_million_tokens=None, cost_usd_per_hour=None, saving_usd_per_hour=None,
        cash_saving_usd_per_hour=None, usd_per_million_tokens_full_load=None,
    )  # fmt: skip
