"""Second opinion on a run: its file's hashes and order of events, and every number of its reports worked out anew.

run file ─┬─▶ store, findings, cost, report ─▶ numbers reported   ┐
          └─▶ raw JSON ─▶ cases ─▶ draws ─▶ money ─▶ numbers anew ┴─▶ side by side ─▶ checks

The lower path shares no code with stats.py, findings.py, energy.py and cost/; see docs/decisions/0008-verify.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from castbench.cost.spec import Price, Projection
from castbench.errors import RunFileError
from castbench.records import RunRecord
from castbench.report import view
from castbench.report.verify.checks import Check, compared
from castbench.report.verify.exported import export_check
from castbench.report.verify.money import Recount, Terms
from castbench.report.verify.planned import planned_pairs
from castbench.report.verify.raw import RawRun, read_raw
from castbench.report.verify.reported import cell_pairs, known_numbers, row_pairs, sentence_pairs
from castbench.report.verify.whole import file_checks

__all__ = ["Check", "export_check", "verify_run"]


def verify_run(record: RunRecord, projection: Projection, comparable_sha256: str) -> tuple[Check, ...]:
    """All checks of a run that was read from a file; `comparable_sha256` is recomputed by the caller from the plan."""
    if record.path is None:
        raise RunFileError("only a run that was read from a file can be verified")
    run = read_raw(Path(record.path))
    return (*file_checks(record, comparable_sha256), *_number_checks(record, projection, run))


def _number_checks(record: RunRecord, projection: Projection, run: RawRun) -> Iterator[Check]:
    """Every number of a report against the same worked out anew."""
    report = view.build(record, projection)
    recount = Recount(run, _terms(projection))
    yield compared("numbers of the report, recomputed from the raw rounds", row_pairs(report, recount))
    yield compared("cells of the CSV tables", cell_pairs(report, recount))
    yield compared("claims, limits of the plan and counts", planned_pairs(report, recount, run))
    yield compared("numbers in sentences", sentence_pairs(report, known_numbers(report, recount)))


def _terms(projection: Projection) -> Terms:
    """Price and traffic that the report was asked for."""
    price, demand = projection.price, projection.demand
    return Terms(
        None if price is None else price.usd_per_hour, 1 if price is None else max(price.gpus, 1),
        None if demand is None else demand.requests_per_second, 1.0 if demand is None else demand.max_utilization,
        None if price is None else price.vcpus, None if price is None else _given_back(price),
        **({} if demand is None else {name: getattr(demand, name) for name in ("min_replicas", "zones", "spare")}),
        years=None if price is None else price.term_years,
    )  # fmt: skip


def _given_back(price: Price) -> float:
    """What an hour of a server of today costs less when it is given back."""
    committed = {"reserved": 0.0, "owned": price.electricity_usd_per_hour or 0.0}
    return committed.get(price.plan, price.usd_per_hour)
