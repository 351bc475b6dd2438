"""The profile that `workload from-trace` writes: lengths and demand of a trace, with where every number comes from."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from castbench.workload.spec import TraceReference
from castbench.workload.template import yaml_scalar
from castbench.workload.trace_reader import SORT_WITHIN_S, ReadTrace, fault_words
from castbench.workload.trace_stats import Lengths, Traffic
from castbench.workload.yaml_text import shown

NAIVE_UP_TO = 16_384
"""Longest document for which the profile lists naive attention: beyond, its scores are GiBs per head."""
_WIDTH = 118


def reference_to(read: ReadTrace, path: str, sort_within_s: float) -> TraceReference:
    """What a profile keeps of a trace, so that the same requests are read again; `path` is relative to the profile."""
    return TraceReference(
        path=path, sha256=read.sha256, rows=len(read.tokens), time_column=read.columns.time, time_unit=read.unit,
        tokens_column=read.columns.tokens, skip_unusable=read.left_out > 0,
        sort_within_s=sort_within_s if read.furthest_back_s > SORT_WITHIN_S else SORT_WITHIN_S,
    )  # fmt: skip


def render_profile(
    name: str, read: ReadTrace, lengths: Lengths, traffic: Traffic | None, reference: TraceReference
) -> str:  # fmt: skip
    """The profile as commented YAML. Without traffic (a trace without times) it has no demand, and says so.

    What no trace can say (the model, the mechanisms, prices) stands there as an assumption to be replaced.
    """
    longest = lengths.quantiles[-1][1]
    return _TEMPLATE.format(
        file=shown(read.path.name),
        sources="\n".join(_commented(_sources(read, lengths, traffic))),
        name=yaml_scalar(name),
        quantiles=", ".join(f"p{percent:g}: {tokens}" for percent, tokens in lengths.quantiles),
        naive="- naive" if longest <= NAIVE_UP_TO else f"# naive is left out: it holds {longest:,}² scores per head",
        demand="\n".join(_demand(traffic, reference)),
    )


def _sources(read: ReadTrace, lengths: Lengths, traffic: Traffic | None) -> Iterable[tuple[str, str]]:
    """(what, where it comes from) of the profile's numbers."""
    yield (
        "lengths",
        f"quantiles of {shown(read.columns.tokens)} of {len(read.tokens):,} requests in {shown(read.path.name)} "
        f"({read.columns.layout}). Mean {lengths.mean_tokens:,.1f} tokens; the straight lines between these quantiles "
        f"give {lengths.mean_of_lines:,.1f}.",
    )
    if traffic is None:
        yield "demand", "none: no column of times was read, so how many requests come per second is not known."
    else:
        yield "demand", "the same trace: " + _demand_words(traffic)
    yield "model", "assumed: a trace does not say what model answers. Put yours here."
    if read.left_out:
        told = "; ".join(fault_words(read.unusable, read.noun))
        yield "left out", f"{read.left_out:,} of {read.rows:,} rows: {told}."
    if read.output is not None:
        mean = f" ({read.output.total / read.output.requests:,.1f} a request)" if read.output.requests else ""
        yield (
            "output",
            f"the {read.output.total:,.0f} tokens{mean} in {shown(read.output.column)} are not modelled: an encoder "
            "generates none. Arrivals and lengths of a service that does are lent to one here.",
        )


def _demand_words(traffic: Traffic) -> str:
    """Rate and burstiness in a sentence or two."""
    words = (
        f"{traffic.requests:,} requests in {traffic.span_s:,.0f} s are {traffic.requests_per_second:,.4g} requests/s "
        f"on average. The squared coefficient of variation of their gaps is {traffic.squared_cv:,.3g} (random "
        "arrivals: 1)"
    )
    if traffic.busiest_minute is None:
        return f"{words}."
    return f"{words}, and the busiest minute has {traffic.busiest_minute.over_mean:,.3g} times the mean."


def _commented(sources: Iterable[tuple[str, str]]) -> Iterable[str]:
    """The sources as comment lines, wrapped under their key."""
    for key, words in sources:
        yield from textwrap.wrap(
            words, _WIDTH, initial_indent=f"#   {key:<10}", subsequent_indent="#" + " " * 13, break_long_words=False,
            break_on_hyphens=False,
        )  # fmt: skip


def _demand(traffic: Traffic | None, reference: TraceReference) -> Iterable[str]:
    """The `demand:` of the profile, with the reference to the trace; an example to fill in where there is none."""
    if traffic is None:
        yield "# demand: {requests_per_second: 40}"
        return
    yield "demand:"
    yield f"  requests_per_second: {float(f'{traffic.requests_per_second:.6g}')!r}"
    yield "  max_utilization: 0.7"
    yield "  # objective: {p99_ms: 500}"
    yield "  trace:                  # the requests themselves; the path is relative to this file"
    for key, value in _reference_keys(reference):
        yield f"    {key}: {value}"


def _reference_keys(reference: TraceReference) -> Iterable[tuple[str, str]]:
    """The keys of `demand.trace` as a profile spells them; defaults are left out."""
    yield "file", yaml_scalar(reference.path)
    yield "sha256", yaml_scalar(reference.sha256)
    yield "rows", str(reference.rows)
    for key in ("time_column", "time_unit", "tokens_column"):
        value = getattr(reference, key)
        if value is not None:
            yield key, yaml_scalar(value)
    if reference.sort_within_s != SORT_WITHIN_S:
        yield "sort_within_s", f"{reference.sort_within_s:.12g}"
    if reference.skip_unusable:
        yield "skip_unusable", "true"


_TEMPLATE = """\
# Encoding the requests of {file}: the profile that castbench workload from-trace made of it.
#   castbench workload check FILE     what will be measured, and how long it takes
#   castbench profile FILE            measure it
# Every key is explained in docs/profile.md.
#
# Where the numbers come from
{sources}

name: {name}

model: {{layers: 12, embed_dim: 768, num_heads: 12}}      # assumed: the size of BERT base

lengths:
  quantiles: {{{quantiles}}}

batch_sizes: [1]
phase: inference
dtype: fp32                 # bf16 on a GPU
seed: 0

# gpu: L4
baseline: sdpa              # what you run today
mechanisms:
  - sdpa
  {naive}
  - cast

{demand}

# Prices turn servers into money: your contract's, or {{cloud: …, instance: …}} from the catalogue.
# price: {{usd_per_hour: 3.673}}
# price_cpu: {{usd_per_hour: 0.20, vcpus: 4}}
"""
