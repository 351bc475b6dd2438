"""Leaves out of a report what must not leave the house: host, paths, contract prices and whatever gives them away."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import PurePath

from castbench.cost.spec import ArmProjection
from castbench.report import headline, view
from castbench.report.nouns import CaseRow, GroupTable, Report, RunFacts, Statement, Value, statement

REDACTED = "[redacted]"
_PATH = re.compile(r"(?<![\w$])(?:[A-Za-z]:)?[~.]{0,2}[/\\][^\s:'\",;()]+")
_ABOUT_MONEY = re.compile(r"usd|\$|price", re.IGNORECASE)


def redact(report: Report) -> Report:
    """The report without host, device id, paths and contract prices.

    With a contract price every amount of money goes too, since cost over servers is the price; percentages stay.
    """
    host, run = report.run.environment.host, _run(report.run)
    clean = replace(
        report,
        run=run,
        groups=tuple(_group(table, host) for table in report.groups),
        mechanisms=tuple(replace(arm, reason=_scrubbed(arm.reason, host)) for arm in report.mechanisms),
        assumptions=tuple(_statement(said, host, report.money.mix.source) for said in report.assumptions),
        warnings=tuple(_statement(said, host) for said in report.warnings),
        headline=tuple(_statement(said, host) for said in report.headline),
        reproduce=view.commands(run),
    )
    if _is_path(clean.money.mix.source):
        clean = replace(clean, money=replace(clean.money, mix=replace(clean.money.mix, source=REDACTED)))
    return _without_money(clean) if _is_contract(report) else clean


def _is_contract(report: Report) -> bool:
    """Whether the price was the user's own."""
    return report.money.price is not None and report.money.price.contract


def _run(run: RunFacts) -> RunFacts:
    """A run's facts without host and paths."""
    return replace(
        run, path=None, profile_source=_file_name(run.profile_source),
        damage=tuple(_scrubbed(what, run.environment.host) or "" for what in run.damage),
        environment=replace(run.environment, host=REDACTED, device_uuid=None),
    )  # fmt: skip


def _file_name(source: str) -> str:
    """The last part of a path, of either kind of separator."""
    return PurePath(source.replace("\\", "/")).name


def _group(table: GroupTable, host: str) -> GroupTable:
    """A table whose reasons name no path and no host."""
    return replace(table, rows=tuple(_row(row, host) for row in table.rows))


def _row(row: CaseRow, host: str) -> CaseRow:
    """A row whose reason names no path and no host."""
    return replace(row, reason=_scrubbed(row.reason, host))


def _statement(said: Statement, host: str, lengths_source: str = "") -> Statement:
    """A statement whose texts name no path and no host; the source of the lengths may be a relative path."""

    def clean(value: Value) -> Value:
        if not isinstance(value, str):
            return value
        return _scrubbed(value.replace(lengths_source, REDACTED) if _is_path(lengths_source) else value, host)

    return Statement(said.key, tuple((name, clean(value)) for name, value in said.values))


def _is_path(source: str) -> bool:
    """Whether a source is a file and no phrase."""
    return "/" in source or "\\" in source or PurePath(source).suffix != ""


def _scrubbed(text: str | None, host: str) -> str | None:
    """Text without anything that looks like a path, and without the host's name."""
    if text is None:
        return None
    without_paths = _PATH.sub(REDACTED, text)
    return re.sub(rf"\b{re.escape(host)}\b", REDACTED, without_paths) if host else without_paths


def _without_money(report: Report) -> Report:
    """No amount of money anywhere; the headline is said anew from what is left."""
    missing = statement("warning.money_redacted")
    mechanisms = tuple(_unpriced(arm) for arm in report.mechanisms)
    money = replace(report.money, price=None, missing=REDACTED)
    kept = tuple(said for said in report.assumptions if not _tells_money(said))
    said = headline.sentences(mechanisms, money, report.groups, report.run.baseline_label)
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
