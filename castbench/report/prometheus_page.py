"""Alert rules for Prometheus with the limits of a report's introduction plan; names of metrics are the team's.

limits ─▶ groups/rules: alert, expr, for, labels, annotations
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from castbench.cost.spec import ArmProjection
from castbench.errors import InputError
from castbench.records import Caveat
from castbench.report import format as fmt
from castbench.report import text
from castbench.report.gates_page import comments, origin, yaml_string
from castbench.report.nouns import Report
from castbench.report.plan_limits import Limit, limits_of
from castbench.report.plan_view import introduction_of
from castbench.said import Quantity, statement

METRICS = {
    "latency": "request_duration_seconds_bucket",
    "requests": "requests_total",
    "errors": "requests_failed_total",
    "memory": "device_memory_used_bytes",
    "cost": "request_cost_usd",
    "quality": "quality_score",
    "label": "mechanism",
}
"""Placeholders by what they stand for: a histogram's buckets, two counters, three gauges, and the label that tells
mechanisms apart.
"""
_PERIOD = "10m"


@dataclass(frozen=True, slots=True)
class _Rule:
    """One alert; `about` is the key of what it says."""

    alert: str
    expr: str
    severity: str
    about: str
    number: Quantity | None


def metric_names(given: Mapping[str, str]) -> dict[str, str]:
    """METRICS with the team's names in place of placeholders; InputError for a name that stands for nothing here."""
    unknown = sorted(set(given) - set(METRICS))
    if unknown:
        raise InputError(f"--metric: expected one of {', '.join(METRICS)} before '=', got {unknown[0]!r}")
    return {**METRICS, **given}


def rules_file(report: Report, given: Mapping[str, str]) -> bytes:
    """The rules of the mechanism that the plan is about, else of what runs today."""
    names = metric_names(given)
    run, arm = report.run, _subject(report)
    listed = tuple(f"{name}={series}" for name, series in names.items())
    rules = [] if arm is None else [line for rule in _rules(report, arm, names) for line in _lines(rule, arm)]
    said = (statement("prometheus.names", names=listed), statement("prometheus.use"))
    comment = comments(origin(report), *(said if rules else (statement("gates.none"),)))
    name = yaml_string(f"castbench {run.profile_name or run.run_id}")
    body = ["groups:", f"  - name: {name}", "    rules:", *rules] if rules else ["groups: []"]
    return "\n".join([*comment, *body, ""]).encode("utf-8", "replace")


def _subject(report: Report) -> ArmProjection | None:
    """The arm whose limits are watched; None where it has too few rounds for limits."""
    plan = introduction_of(report)
    if plan is None:
        return None
    used = plan.configuration or plan.against
    arm = next((arm for arm in report.mechanisms if arm.configuration == used), None)
    return None if arm is None or Caveat.FEW_ROUNDS in arm.caveats else arm


def _rules(report: Report, arm: ArmProjection, names: Mapping[str, str]) -> Iterator[_Rule]:
    """A rule per limit, and one for quality."""
    only = f"{{{names['label']}={_promql_string(arm.arm.label)}}}"
    for limit in limits_of(report, arm):
        yield _rule(report, limit, names, only)
    if arm.arm.label != report.run.baseline_label:
        beside = f"{{{names['label']}={_promql_string(report.run.baseline_label)}}}"
        expr = f"min({names['quality']}{only}) < min({names['quality']}{beside})"
        yield _Rule("CastbenchQuality", expr, "page", "prometheus.quality", None)


def _rule(report: Report, limit: Limit, names: Mapping[str, str], only: str) -> _Rule:
    """The alert on one limit."""
    value = limit.limit.value
    if limit.name in ("p50", "p99"):
        quantile = {"p50": "0.5", "p99": "0.99"}[limit.name]
        number = fmt.bound(value / 1e3, upward=True)
        expr = f"histogram_quantile({quantile}, sum by (le) (rate({names['latency']}{only}[5m]))) > {number}"
        about = "prometheus.latency" if limit.origin in ("objective", "replay") else "prometheus.latency_model"
        return _Rule(f"CastbenchLatency{limit.name.upper()}", expr, "page", about, limit.limit)
    if limit.name == "errors":
        failed, all_of_them = (f"sum(rate({names[name]}{only}[5m]))" for name in ("errors", "requests"))
        expr = f"{failed} / {all_of_them} > {fmt.bound(value / 100, upward=True)}"
        return _Rule("CastbenchErrors", expr, "page", "prometheus.errors", limit.limit)
    if limit.name == "memory":
        expr = f"max({names['memory']}{only}) > {fmt.bound(value * 2**20, upward=True)}"
        return _Rule("CastbenchMemory", expr, "ticket", "prometheus.memory", limit.limit)
    per_request = value * report.money.mix.mean_tokens / 1e6
    expr = f"avg({names['cost']}{only}) > {fmt.bound(per_request, upward=True)}"
    return _Rule("CastbenchCostPerRequest", expr, "ticket", "prometheus.cost", limit.limit)


def _promql_string(words: str) -> str:
    """A string of PromQL, which escapes as YAML does."""
    return yaml_string(words)


def _lines(rule: _Rule, arm: ArmProjection) -> Iterator[str]:
    """A rule in YAML."""
    said = statement(rule.about, label=arm.arm.label, limit=rule.number)
    yield f"      - alert: {rule.alert}"
    yield f"        expr: {yaml_string(rule.expr)}"
    yield f"        for: {_PERIOD}"
    yield f"        labels: {{severity: {rule.severity}}}"
    yield f"        annotations: {{summary: {yaml_string(_untemplated(text.say(said)))}}}"


def _untemplated(words: str) -> str:
    """Words in which Prometheus finds no template to fill."""
    return words.replace("{{", '{{"{{"}}')
