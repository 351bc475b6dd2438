"""Finds mechanisms by name: the folders beside this file, then third parties' entry points."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from dataclasses import is_dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any

import castbench.mechanisms as home
from castbench.errors import CastbenchError
from castbench.mechanisms.spec import MechanismSpec

ENTRY_POINT_GROUP = "castbench.mechanisms"


@cache
def all_specs() -> dict[str, MechanismSpec]:
    """Every mechanism by name, shipped ones first; a third party cannot replace a shipped one."""
    specs = {}
    for module in pkgutil.iter_modules(home.__path__):
        if module.ispkg:
            spec: MechanismSpec = importlib.import_module(f"{home.__name__}.{module.name}").SPEC
            specs[spec.name] = spec
    for point in entry_points(group=ENTRY_POINT_GROUP):
        spec = _loaded(point)
        if spec.name in specs:
            raise CastbenchError(f"entry point {point.value}: a mechanism named {spec.name!r} is already there")
        specs[spec.name] = spec
    return specs


def find(name: str) -> MechanismSpec | None:
    """The mechanism of that name, or None."""
    return all_specs().get(name)


def get(name: str) -> MechanismSpec:
    """The mechanism of that name; KeyError if there is none."""
    return all_specs()[name]


def unknown_sentence(name: str) -> str:
    """What to tell a user who asked for a mechanism that is not there."""
    shown = [spec.name for spec in all_specs().values() if not spec.hidden]
    close = difflib.get_close_matches(name, all_specs(), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"no mechanism is named {name!r}; there are {', '.join(shown)}.{hint}"


def load(target: str) -> Any:
    """The object a spec names as "package.module:name"; imports the module, torch included."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def _loaded(point: Any) -> MechanismSpec:
    """A third party's spec; any failure of theirs becomes a sentence naming the entry point."""
    try:
        spec = point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plug-in may even try to exit
        where = f"entry point {point.value} (group {ENTRY_POINT_GROUP})"
        raise CastbenchError(f"{where} cannot be loaded: {error}") from error
    if not (isinstance(spec, MechanismSpec) and isinstance(spec.name, str) and is_dataclass(spec.params)):
        raise CastbenchError(
            f"entry point {point.value} (group {ENTRY_POINT_GROUP}) is not a MechanismSpec with a name and a "
            "dataclass of parameters"
        )
    return spec
