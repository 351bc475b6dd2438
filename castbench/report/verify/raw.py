"""A run file as plain JSON, read without the code that reports are made with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RawRun:
    """The lines of a run by what they hold.

    rounds   valid rounds that compare, by group
    fresh    valid rounds that confirm, by group
    closed   the first closing line of each group
    attempts by group and purpose, why each round was discarded; None for one that counts
    """

    header: Json
    rounds: dict[str, list[Json]]
    fresh: dict[str, list[Json]]
    closed: dict[str, Json]
    selected: tuple[Json, ...]
    attempts: dict[tuple[str, str], list[str | None]]

    @property
    def plan(self) -> Json:
        """What was to be measured, and how it is judged."""
        plan: Json = self.header["plan"]
        return plan

    def groups(self) -> Iterator[tuple[str, Json]]:
        """Key and shape of every planned group."""
        for group in self.plan["groups"]:
            yield key_of(group), group

    def outcome(self, key: str, label: str) -> Json | None:
        """What a closed group says of an arm."""
        found: list[Json] = self.closed[key]["outcomes"] if key in self.closed else []
        return next((o for o in found if o["label"] == label), None)


def key_of(group: Json) -> str:
    """A group's key, spelled from its parts."""
    parts = [f"b{group['shape']['batch_size']}", f"n{group['shape']['seq_len']}", group["batching"]]
    parts += [] if group["regime"] == "eager" else [group["regime"]]
    return "-".join([*parts, "heldout"] if group["held_out"] else parts)


def read_raw(path: Path) -> RawRun:
    """The lines of a file that castbench.store could read; a torn last line is left out."""
    lines = path.read_bytes().split(b"\n")[:-1]
    values: list[Json] = [json.loads(line) for line in lines]
    rounds: dict[str, dict[str, list[Json]]] = {"compare": {}, "confirm": {}}
    closed: dict[str, Json] = {}
    selected: list[Json] = []
    attempts: dict[tuple[str, str], list[str | None]] = {}
    for value in values:
        if value["kind"] == "round":
            purpose, reason = value.get("purpose", "compare"), value.get("invalid_reason")
            attempts.setdefault((value["group"], purpose), []).append(reason)
            if reason is None:
                rounds[purpose].setdefault(value["group"], []).append(value)
        elif value["kind"] == "group":
            closed.setdefault(value["group"], value)
        elif value["kind"] == "selection":
            selected = value["selected"]
    return RawRun(values[0], rounds["compare"], rounds["confirm"], closed, tuple(selected), attempts)


def step_s(a_round: Json, label: str) -> float | None:
    """Mean step of an arm's window in a round; None where it has no valid one."""
    sample = sample_of(a_round, label)
    return None if sample is None else sample["elapsed_s"] / sample["steps"]


def sample_of(a_round: Json, label: str) -> Json | None:
    """An arm's valid window in a round."""
    for sample in a_round["samples"]:
        if sample["label"] == label and sample.get("invalid_reason") is None:
            found: Json = sample
            return found
    return None
