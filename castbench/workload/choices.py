"""Reads the `mechanisms:` list of a profile: a name, or {name: {parameters}} with an optional label beside it.

Only the structure is checked here; whether such mechanisms and parameters exist is checked by make_plan.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from castbench.errors import Problem
from castbench.workload.spec import MechanismChoice, ParamValue
from castbench.workload.spelling import close_to, did_you_mean, quoted
from castbench.workload.yaml_text import shown, shown_key

MOST_MECHANISMS = 32
LONGEST_LABEL = 60
_FORM = "a mechanism's name or {name: {parameter: value}}"


@dataclass(frozen=True, slots=True)
class Choices:
    """What could be read of the list; `choices` keep their places in it, so they end at the first nameless entry."""

    choices: tuple[MechanismChoice, ...]
    problems: tuple[Problem, ...]


def read_choices(entries: object) -> Choices:
    """The choices of the YAML value of `mechanisms`, with every problem found."""
    if isinstance(entries, str) and entries.startswith("preset:"):
        entries = [entries]
    if not isinstance(entries, list) or not entries:
        expected = "expected a list such as [sdpa, naive, cast], or preset:article"
        return Choices((), (Problem("mechanisms", f"{expected}, got {shown(entries)}"),))
    if len(entries) > MOST_MECHANISMS:
        what = f"expected at most {MOST_MECHANISMS} mechanisms, got {len(entries)}"
        return Choices((), (Problem("mechanisms", what),))
    problems: list[Problem] = []
    read = [_choice(entry, f"mechanisms[{index}]", problems) for index, entry in enumerate(entries)]
    named = read[: read.index(None)] if None in read else read
    return Choices(tuple(choice for choice in named if choice), tuple(problems))


def _choice(entry: object, where: str, problems: list[Problem]) -> MechanismChoice | None:
    """One entry, as far as its name can be read; None where it cannot."""
    if isinstance(entry, str) and 0 < len(entry) <= LONGEST_LABEL:
        return MechanismChoice(entry)
    if not isinstance(entry, dict) or not entry:
        problems.append(Problem(where, f"expected {_FORM}, got {shown(entry)}"))
        return None
    names = [key for key in entry if key != "label"]
    if not names or names[0] in ("", "name"):
        hint = did_you_mean(f"`- {entry['name']}`") if isinstance(entry.get("name"), str) else ""
        problems.append(Problem(where, f"expected {_FORM}, got a mapping without a mechanism's name{hint}"))
        return None
    before = len(problems)
    problems += _strangers(names, where)
    params = _params(entry[names[0]], f"{where}.{shown_key(names[0])}", problems)
    label = _label(entry.get("label"), "label" in entry, f"{where}.label", problems)
    if len(problems) > before:
        label = label or where  # a broken entry must not collide with a sound one of the same mechanism
    return MechanismChoice(names[0], params, label)


def _strangers(names: Sequence[str], where: str) -> list[Problem]:
    """Keys beside the mechanism's name that are not `label`."""
    return [Problem(where, _stranger(names[0], name)) for name in names[1:]]


def _stranger(mechanism: str, key: str) -> str:
    """Sentence for a key beside a mechanism's name."""
    if meant := close_to(key, ["label"]):
        return f"unknown key {shown(key)} beside {shown(mechanism)}{did_you_mean(meant)}"
    return (
        f"unknown key {shown(key)} beside {shown(mechanism)}: parameters stand one level deeper, as in "
        f"{{{shown_key(mechanism)}: {{{shown_key(key)}: …}}}}, and every mechanism is an entry of its own"
    )


def _params(given: Any, where: str, problems: list[Problem]) -> tuple[tuple[str, ParamValue], ...]:
    """The parameters given for a mechanism; only plain values."""
    if given is None:
        return ()
    if not isinstance(given, dict):
        problems.append(Problem(where, f"expected a mapping of parameters, got {shown(given)}"))
        return ()
    for name, value in given.items():
        if isinstance(value, (dict, list)):
            problems.append(Problem(f"{where}.{shown_key(name)}", f"expected a single value, got {shown(value)}"))
        elif isinstance(value, float) and not math.isfinite(value):
            problems.append(Problem(f"{where}.{shown_key(name)}", f"expected a finite number, got {value}"))
    return tuple((name, value) for name, value in given.items() if not isinstance(value, (dict, list)))


def _label(given: Any, present: bool, where: str, problems: list[Problem]) -> str | None:
    """The label, if one was given: one printable line."""
    if not present:
        return None
    fits = isinstance(given, str) and 0 < len(given) <= LONGEST_LABEL and given.isprintable() and given == given.strip()
    if fits:
        return str(given)
    hint = did_you_mean(quoted(given))
    rule = f"one line of 1 to {LONGEST_LABEL} printable characters that begins and ends with no space"
    problems.append(Problem(where, f"expected {rule}, got {shown(given)}{hint}"))
    return None
