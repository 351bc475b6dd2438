"""Energy of a case from its raw blocks: joules per step, gross and net, idle power, disagreement."""

from __future__ import annotations

import math
from typing import Any

from castbench.report.verify.intervals import estimate, mean_with_t
from castbench.report.verify.raw import Json

FEWEST_BLOCKS = 3


def energy_row(record: Json | None, rows: int, tokens: float) -> dict[str, Any] | None:
    """What the blocks of a record say, by name; None below three usable blocks.

    gross = joules / steps of each block, averaged; net = (joules - idle watts * seconds) / steps.
    """
    if record is None:
        return None
    reading = "integrated_j" if record["source"] == "nvml-power" else "counter_j"
    blocks = [b for b in record["blocks"] if b["steps"] and b[reading] is not None]
    if len(blocks) < FEWEST_BLOCKS:
        return None
    watts = [b[reading] / b["elapsed_s"] for b in record["idle"] if b[reading] is not None]
    gross = _with_ends([b[reading] / b["steps"] for b in blocks], 0.0)
    net = _net(blocks, reading, watts)
    both = [b for b in blocks if b["counter_j"] and b["integrated_j"] is not None]
    named = {"gross_j_per_step": gross, "net_j_per_step": net}
    named |= {f"{kind}_j_per_sequence": _times(e, 1 / rows) for kind, e in (("gross", gross), ("net", net))}
    named |= {f"{kind}_j_per_1k_tokens": _times(e, 1000 / tokens) for kind, e in (("gross", gross), ("net", net))}
    return {
        **{name: value for key, ends in named.items() for name, value in estimate(key, *ends).items()},
        "source": record["source"],
        "scope": record["scope"],
        "idle_w": sum(watts) / len(watts) if watts else None,
        "idle_drift": (watts[-1] - watts[0]) / watts[0] if len(watts) > 1 and watts[0] > 0 else None,
        "mean_power_w": sum(b[reading] for b in blocks) / sum(b["elapsed_s"] for b in blocks),
        "disagreement": _disagreement(both),
        "blocks": len(blocks),
        "dropped": len(record["blocks"]) - len(blocks),
    }


Triple = tuple[float | None, float | None, float | None]


def _with_ends(values: list[float], wider: float) -> Triple:
    """Mean with its 95 % t interval, wider by so much on both sides."""
    value, half = mean_with_t(values, FEWEST_BLOCKS)
    assert half is not None
    return value, value - half - wider, value + half + wider


def _net(blocks: list[Json], reading: str, watts: list[float]) -> Triple:
    """Joules per step above idle, wider by half the drift of the idle power."""
    if not watts:
        return None, None, None
    idle, seconds = sum(watts) / len(watts), [b["elapsed_s"] / b["steps"] for b in blocks]
    joules = [b[reading] / b["steps"] for b in blocks]
    drift = (max(watts) - min(watts)) / 2 * sum(seconds) / len(seconds)
    return _with_ends([j - idle * s for j, s in zip(joules, seconds, strict=True)], drift)


def _times(ends: Triple, factor: float) -> Triple:
    """A number with its interval in another unit."""
    value, low, high = (None if end is None else end * factor for end in ends)
    return value, low, high


def _disagreement(blocks: list[Json]) -> float | None:
    """Integrated power over the counter, less 1."""
    if not blocks:
        return None
    counted = math.fsum(b["counter_j"] for b in blocks)
    return (math.fsum(b["integrated_j"] for b in blocks) - counted) / counted
