"""Named lists of mechanisms for a profile: `mechanisms: preset:lra`, alone or as an entry among others."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

PREFIX = "preset:"


@dataclass(frozen=True, slots=True)
class PresetEntry:
    """A mechanism of a preset, with parameters that differ from its defaults."""

    name: str
    params: tuple[tuple[str, str | int | float | bool | None], ...] = ()


_DEPLOYED = tuple(map(PresetEntry, ("sdpa", "varlen", "flex", "flash_attn")))
_LUNA = tuple(PresetEntry("luna", (("length", length),)) for length in (16, 256))
_LRA = (
    *map(PresetEntry, ("sdpa", "naive", "local", "linformer", "reformer", "bigbird", "performer", "linear", "nystrom")),
    *_LUNA,
    *map(PresetEntry, ("s4d", "cast")),
)
PRESETS: dict[str, tuple[PresetEntry, ...]] = {
    "article": tuple(map(PresetEntry, ("sdpa", "naive", "reformer", "performer", "cast"))),
    "lra": _LRA,
    "deployed": _DEPLOYED,
    "all": (*_DEPLOYED, *_LRA[1:], *map(PresetEntry, ("routing", "clustered", "fnet"))),
}
"""What each preset stands for. sdpa is in all of them: without a fused baseline no saving could be believed.

article    the mechanisms of the article that asks the question: the original Transformer, Reformer, Performer, CAST
lra        those of the Long Range Arena's efficiency table, and what came after it
deployed   softmax attention as it is deployed today
all        everything that a profile can name
"""


def is_preset(name: str) -> bool:
    """Whether an entry of `mechanisms:` names a preset."""
    return name.startswith(PREFIX)


def entries_of(name: str) -> tuple[PresetEntry, ...] | None:
    """What `preset:lra` stands for; None where no preset has that name."""
    return PRESETS.get(name.removeprefix(PREFIX))


def unknown_preset(name: str) -> str:
    """What to tell a user who asked for a preset that is not there."""
    known = [PREFIX + preset for preset in PRESETS]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"no preset is named {name!r}; there are {', '.join(known)}.{hint}"
