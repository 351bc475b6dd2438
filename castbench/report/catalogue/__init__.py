"""What a report says, by language: YAML files of templates, and which language is spoken now.

catalogue/en/*.yaml, catalogue/ja/*.yaml ─▶ section ─▶ key ─▶ template

A file holds sections; files of one language add up, and no key stands twice. English is complete; a test holds the
other languages to the same keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.resources import files
from typing import Literal, get_args

from castbench.errors import InputError

Language = Literal["en", "ja"]
LANGUAGES: tuple[Language, ...] = get_args(Language)

_spoken: ContextVar[Language] = ContextVar("spoken", default="en")


class Section(Mapping[str, str]):
    """One section's templates in the language that is spoken when they are asked for."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __getitem__(self, key: str) -> str:
        return self._templates[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._templates)

    def __len__(self) -> int:
        return len(self._templates)

    @property
    def _templates(self) -> Mapping[str, str]:
        return sections(_spoken.get())[self._name]


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """While it lasts, reports are in this language; InputError for one that there is no catalogue of."""
    found = next((known for known in LANGUAGES if known == language), None)
    if found is None:
        raise InputError(f"--lang (or CASTBENCH_LANG): expected one of {', '.join(LANGUAGES)}, got {language!r}")
    before = _spoken.set(found)
    try:
        yield
    finally:
        _spoken.reset(before)


def spoken() -> Language:
    """The language that is spoken now."""
    return _spoken.get()


@cache
def sections(language: Language) -> Mapping[str, Mapping[str, str]]:
    """All sections of a language, its files put together."""
    import yaml

    # Everything in a catalogue is text: on, no and 1.0 must not become anything else.
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    found: dict[str, dict[str, str]] = {}
    folder = files(__package__) / language
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        for name, templates in yaml.load(file.read_text("utf-8"), loader).items():
            section = found.setdefault(name, {})
            twice = section.keys() & templates.keys()
            if twice:
                raise AssertionError(f"{language}/{file.name}: {name}.{min(twice)} stands twice")
            section.update(templates)
    return found
