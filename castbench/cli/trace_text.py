"""What a trace says, as `workload from-trace` prints it: traffic, lengths, everything that was sorted or left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from castbench.cli.plan_text import wrapped
from castbench.workload.trace_reader import fault_words
from castbench.workload.yaml_text import shown

if TYPE_CHECKING:
    from castbench.workload.trace_reader import ReadTrace
    from castbench.workload.trace_stats import Lengths, Peak, Traffic

_BURSTY = 2.0
"""Squared coefficient of variation from which arrivals are called bursty: twice that of random ones."""
_COARSE_S = 0.1
"""A clock whose steps are this long hides what a queue is made of."""
_DAY_S = 86400.0
_MEAN_OFF = 0.01
_KEY_WIDTH = 20


def trace_values(read: ReadTrace, lengths: Lengths, traffic: Traffic | None) -> dict[str, Any]:
    """Everything there is to say of a trace, as plain values."""
    return {
        "file": str(read.path),
        "sha256": read.sha256,
        "format": read.kind,
        "layout": read.columns.layout,
        "columns": {
            "time": read.columns.time, "time_unit": read.unit, "tokens": read.columns.tokens,
            "output": read.columns.output,
        },
        "rows": read.rows,
        "requests": len(read.tokens),
        "blank_lines": read.blank,
        "unusable": [asdict(each) for each in read.unusable],
        "out_of_order": read.out_of_order,
        "first_out_of_order": read.first_out_of_order,
        "furthest_back_s": read.furthest_back_s,
        "traffic": None if traffic is None else asdict(traffic),
        "lengths": {
            "mean_tokens": lengths.mean_tokens,
            "quantiles": {f"p{percent:g}": tokens for percent, tokens in lengths.quantiles},
            "mean_of_lines": lengths.mean_of_lines,
        },
        "output_tokens": None if read.output is None else asdict(read.output),
        "warnings": list(_warnings(lengths, traffic)),
    }  # fmt: skip


def trace_text(read: ReadTrace, lengths: Lengths, traffic: Traffic | None, width: int = 80) -> str:
    """The same for people, wrapped to `width` columns."""
    blocks = [
        list(_file_lines(read)),
        ["Traffic", *_traffic_lines(read, traffic)],
        ["Lengths in tokens", *_length_lines(lengths)],
        ["Not in the profile", *_missing_lines(read)],
        [f"warning: {warning}" for warning in _warnings(lengths, traffic)],
    ]
    return "\n\n".join("\n".join(_wrapped(block, width)) for block in blocks if block)


def _wrapped(lines: Iterable[str], width: int) -> Iterable[str]:
    """Lines broken at `width`, what follows a break under the words and not under the key."""
    for line in lines:
        yield from wrapped([line], width, indent=_KEY_WIDTH if line.startswith("  ") else 2)


def _row(key: str, words: str) -> str:
    """A line with its key."""
    return f"{'  ' + key:<{_KEY_WIDTH}}{words}"


def _file_lines(read: ReadTrace) -> Iterable[str]:
    """The file, and how it was read."""
    yield f"{read.path.name}: {_count(len(read.tokens), 'request')} ({read.kind}, {read.columns.layout})"
    times = f"times in {shown(read.columns.time)} ({read.unit}), " if read.columns.time else "no times, "
    yield f"{times}lengths in {shown(read.columns.tokens)}, sha256 {read.sha256[:16]}…"


def _traffic_lines(read: ReadTrace, traffic: Traffic | None) -> Iterable[str]:
    """Rate, bursts, gaps and the order of times."""
    if traffic is None:
        yield _row("rate", "not known: the file has no column that is recognised as times")
        return
    yield _row(
        "rate", f"{_digits(traffic.requests_per_second)} requests/s on average over {_span_words(traffic.span_s)}"
    )
    yield _row(
        "burstiness",
        f"{_digits(traffic.squared_cv)}, the squared coefficient of variation of the gaps (random arrivals 1, a clock "
        "0)",
    )
    yield from _peak_line("busiest second", traffic.busiest_second)
    yield from _peak_line("busiest minute", traffic.busiest_minute)
    yield _row(
        "longest gap",
        f"{_digits(traffic.longest_gap_s)} s, from {_digits(traffic.longest_gap_at_s)} s after the first request",
    )
    yield _row("empty seconds", f"{_digits(100 * traffic.idle_seconds)} % of the seconds have no request")
    yield _row("order", f"{_order_words(read)}; {_same_words(traffic)}")


def _peak_line(key: str, peak: Peak | None) -> Iterable[str]:
    """The busiest window, if the trace is longer than one."""
    if peak is not None:
        yield _row(key, f"{_count(peak.requests, 'request')}, {_digits(peak.over_mean)} times the mean")


def _order_words(read: ReadTrace) -> str:
    """How far the rows are from the order of their times."""
    if not read.out_of_order:
        return "in order of time"
    return (
        f"{_count(read.out_of_order, 'request')} out of order by up to {_digits(read.furthest_back_s)} s (first: "
        f"{read.noun} {read.first_out_of_order}), sorted"
    )


def _same_words(traffic: Traffic) -> str:
    """How many requests share their time with the one before."""
    many = _count(traffic.same_time, "request") if traffic.same_time else "none"
    return f"{many} at the very time of the one before"


def _length_lines(lengths: Lengths) -> Iterable[str]:
    """Mean and a few quantiles; the profile has more."""
    yield _row("mean", _digits(lengths.mean_tokens))
    told = ((0, "shortest"), (10, "p10"), (50, "median"), (90, "p90"), (99, "p99"), (100, "longest"))
    yield _row("quantiles", ", ".join(f"{name} {lengths.at(percent):,}" for percent, name in told))
    off = lengths.mean_of_lines / lengths.mean_tokens - 1
    yield _row(
        "in the profile",
        f"{len(lengths.quantiles)} quantiles; the straight lines between them have the mean "
        f"{_digits(lengths.mean_of_lines)} ({100 * off:+.2f} %)",
    )


def _missing_lines(read: ReadTrace) -> Iterable[str]:
    """What the file has and the profile has not."""
    if read.output is None:
        yield _row("output tokens", "no such column")
    else:
        mean = f", {_digits(read.output.total / read.output.requests)} a request" if read.output.requests else ""
        zero = f"; {_count(read.output.zero, 'request')} with none" if read.output.zero else ""
        unknown = f"; not known of {_count(read.output.unknown, 'request')}" if read.output.unknown else ""
        yield _row("output tokens", f"{read.output.total:,.0f}{mean}{zero}{unknown}: not modelled, encoders write none")
    rows = "; ".join(fault_words(read.unusable, read.noun)) or "none"
    yield _row("rows left out", f"{read.left_out:,} of {read.rows:,}: {rows}" if read.left_out else "none")
    if read.blank:
        yield _row("blank lines", f"{read.blank:,}")


def _warnings(lengths: Lengths, traffic: Traffic | None) -> Iterable[str]:
    """What a reader of these figures should know."""
    off = lengths.mean_of_lines / lengths.mean_tokens - 1
    if abs(off) > _MEAN_OFF:
        yield f"so few requests that the straight lines between the quantiles miss the mean by {100 * off:+.1f} %"
    if traffic is None:
        yield (
            "without times there is no demand, and so no servers and no cost per hour; name the column of times with "
            "--time-column if there is one"
        )
        return
    if traffic.smallest_step_s >= _COARSE_S and traffic.same_time:
        yield (
            f"the times move in steps of {_digits(traffic.smallest_step_s)} s, so requests of one step seem to come at "
            "once; burstiness and the busiest second say little"
        )
    elif traffic.squared_cv >= _BURSTY:
        yield "requests come in bursts: servers for the mean rate alone would queue"
    if traffic.span_s < _DAY_S:
        yield f"{_span_words(traffic.span_s)} do not show how traffic changes over a day"


def _span_words(span_s: float) -> str:
    """A time with the unit that suits it."""
    for limit_s, unit_s, unit in ((120, 1, "s"), (7200, 60, "min"), (48 * 3600, 3600, "h")):
        if span_s < limit_s:
            return f"{_digits(span_s / unit_s)} {unit}"
    return f"{_digits(span_s / _DAY_S)} days"


def _count(number: int, noun: str) -> str:
    """1 request, 2 requests"""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _digits(number: float) -> str:
    """Three significant digits, and no whole digit dropped."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"
