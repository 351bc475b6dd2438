"""Leaves out of a report what must not leave the house: host, GPU and process ids, paths, contract prices and whatever
gives them away.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePath

from castbench.cost.spec import ArmProjection
from castbench.records import Environment
from castbench.report import headline, view
from castbench.report.nouns import CaseRow, GroupTable, Report, RunFacts
from castbench.said import Statement, Value, statement

REDACTED = "[redacted]"
_PATH = re.compile(r"(?<![\w$])(?:[A-Za-z]:)?[~.]{0,2}[/\\][^\s:'\",;()]+")
_PROCESS = re.compile(r"\b(pids?|process(?:es)?|process ids?)([ =:]+)\d+(?:, \d+)*")
_UUID = re.compile(r"\b(?:GPU|MIG)-(?:GPU-)?[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?:/\d+/\d+)?")
_ABOUT_MONEY = re.compile(r"usd|\$|price", re.IGNORECASE)


def redact(report: Report) -> Report:
    """The report without host, device ids, process ids, paths and contract prices.

    With a contract price every amount of money goes too, since cost over servers is the price; percentages stay.
    """
    run, secrets = _run(report.run), _secrets(report.run.environment)
    clean = replace(
        report,
        run=run,
        groups=tuple(_group(table, secrets) for table in report.groups),
        mechanisms=tuple(replace(arm, reason=_scrubbed(arm.reason, secrets)) for arm in report.mechanisms),
        assumptions=tuple(_statement(said, secrets, report.money.mix.source) for said in report.assumptions),
        warnings=tuple(_statement(said, secrets) for said in report.warnings),
        headline=tuple(_statement(said, secrets) for said in report.headline),
        reproduce=view.commands(run),
    )
    if _is_path(clean.money.mix.source):
        clean = replace(clean, money=replace(clean.money, mix=replace(clean.money.mix, source=REDACTED)))
    if (demand := clean.money.demand) is not None and demand.trace is not None:
        unnamed = replace(demand, trace=replace(demand.trace, path=REDACTED))
        clean = replace(clean, money=replace(clean.money, demand=unnamed))
    return _without_money(clean) if _is_contract(report) else clean


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


def _statement(said: Statement, secrets: tuple[str, ...], lengths_source: str = "") -> Statement:
    """A statement whose texts name no path, no host and no id; the source of the lengths may be a relative path."""

    def clean(value: Value) -> Value:
        if not isinstance(value, str):
            return value
        return _scrubbed(value.replace(lengths_source, REDACTED) if _is_path(lengths_source) else value, secrets)

    return Statement(said.key, tuple((name, clean(value)) for name, value in said.values))


def _is_path(source: str) -> bool:
    """Whether a source is a file and no phrase."""
    return "/" in source or "\\" in source or PurePath(source).suffix != ""


def _scrubbed(text: str | None, secrets: tuple[str, ...]) -> str | None:
    """Text without anything that looks like a path or the id of a GPU or process, and without these names."""
    if text is None:
        return None
    scrubbed = _UUID.sub(REDACTED, text)  # before paths: the id of a MIG instance has slashes
    scrubbed = _PROCESS.sub(rf"\1\2{REDACTED}", _PATH.sub(REDACTED, scrubbed))
    for name in secrets:
        scrubbed = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", REDACTED, scrubbed)
    return scrubbed


def _without_money(report: Report) -> Report:
    """No amount of money anywhere; the headline is said anew from what is left."""
    missing = statement("warning.money_redacted")
    mechanisms = tuple(_unpriced(arm) for arm in report.mechanisms)
    money = replace(report.money, price=None, missing=REDACTED)
    kept = tuple(said for said in report.assumptions if not _tells_money(said))
    said = headline.sentences(mechanisms, money, report.groups, report.run, report.confirmations)
    return replace(
        report, mechanisms=mechanisms, money=money, assumptions=kept, warnings=(*report.warnings, missing),
        headline=tuple(s for s in said if s.key != "headline.no_money"),
    )  # fmt: skip


def _tells_money(said: Statement) -> bool:
    """Whether an assumption is about the price."""
    return any(isinstance(value, str) and _ABOUT_MONEY.search(value) is not None for _, value in said.values)


def _unpriced(arm: ArmProjection) -> ArmProjection:
    """A projection without amounts of money; servers, percentages and probabilities stay."""
    return replace(
        arm, usd_per_million_tokens=None, cost_usd_per_hour=None, saving_usd_per_hour=None,
        cash_saving_usd_per_hour=None,
    )  # fmt: skip
