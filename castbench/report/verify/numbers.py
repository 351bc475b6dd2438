"""Two columns of numbers side by side: what a report says and what was worked out anew, by name and kind."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

TOLERANCE = 1e-9
"""Relative difference that two orders of the same sums may show."""
NEAR_ZERO = 1e-12
"""Absolute difference below which two numbers near 0 are one: what is left where equal numbers are subtracted."""

KINDS: dict[str, tuple[str, ...]] = {
    "times": ("latency_ms", "mean_ms", "step_p95_ms", "step_p99_ms", "seconds_per_request"),
    "ratios": ("speedup", "speedup_first", "speedup_fresh", "ceiling", "module_ceiling", "p_value", "adjusted_p"),
    "throughput": ("sequences_per_s", "tokens_per_s"),
    "memory": (
        "peak_memory_mib", "weights_mib", "peak_memory_bytes", "reserved_memory_mib", "largest_batch", "headroom",
    ),
    "interpolation": ("interpolation_error", "parity_error"),
    "servers": ("replicas", "replicas_fractional", "replicas_shares", "utilization"),
    "money": (
        "usd_per_million_tokens", "cost_usd_per_hour", "saving_usd_per_hour", "cash_saving_usd_per_hour",
        "saving_percent", "probability_saving_positive", "capacity_released_units_per_hour",
        "usd_per_million_tokens_full_load", "waterfall", "observed", "range_parts",
    ),
    "what lies ahead": ("ahead",),
    "energy": ("energy",),
    "words": ("verdict", "recommendation", "quality_status", "status", "stopped_by", "claim", "holds"),
    "claims": ("claims",),
    "plan": ("plan",),
    "counts": ("rounds", "wanted", "discards", "crossover", "configuration", "counted"),
    "sentences": ("sentence",),
    "table cells": ("cell",),
}  # fmt: skip
"""What is recomputed, by the first part of its name."""
_KIND_OF = {name: kind for kind, names in KINDS.items() for name in names}


@dataclass(frozen=True, slots=True)
class Difference:
    """A number that comes out differently; `where` is a case, a mechanism or a sentence."""

    where: str
    name: str
    reported: Any
    recomputed: Any

    def __str__(self) -> str:
        return f"{self.where} {self.name}: {self.reported} reported, {self.recomputed} recomputed"


@dataclass(frozen=True, slots=True)
class Pair:
    """One thing said and the same worked out anew."""

    where: str
    name: str
    reported: Any
    recomputed: Any

    @property
    def kind(self) -> str:
        """The kind of number it is."""
        return _KIND_OF.get(self.name.partition(".")[0], "not worked out anew")

    def difference(self) -> Difference | None:
        """What differs, or None."""
        if agree(self.reported, self.recomputed):
            return None
        return Difference(self.where, self.name, self.reported, self.recomputed)


def pairs(where: str, reported: Mapping[str, Any], recomputed: Mapping[str, Any]) -> Iterator[Pair]:
    """Everything that either side has; what one of them lacks is None there."""
    for name in dict.fromkeys([*recomputed, *reported]):
        yield Pair(where, name, reported.get(name), recomputed.get(name))


def agree(reported: Any, recomputed: Any) -> bool:
    """Equal words, or equal numbers up to rounding; unknown agrees with unknown only."""
    if _is_number(reported) and _is_number(recomputed):
        return math.isclose(reported, recomputed, rel_tol=TOLERANCE, abs_tol=NEAR_ZERO)
    return type(reported) is type(recomputed) and bool(reported == recomputed)


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Numbers, words and unknowns of nested plain values, by dotted path."""
    if isinstance(value, Mapping):
        items: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        yield name, value
        return
    for key, item in items:
        yield from leaves(item, f"{name}.{key}" if name else str(key))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
