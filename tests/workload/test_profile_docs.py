from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from castbench.workload.profile import json_schema, parse_profile

DOCS = Path(__file__).parents[2] / "docs" / "profile.md"


def key_names(schema: dict[str, Any]) -> set[str]:
    """Every key a profile may hold, of all its parts."""
    parts = [schema, *schema["$defs"].values()]
    return {name for part in parts for name in part.get("properties", {})} | {"label"}


def test_the_docs_explain_every_key_and_no_other() -> None:
    """docs/profile.md has every key of the schema, and its tables name none that does not exist."""
    text = DOCS.read_text(encoding="utf-8")
    keys = key_names(json_schema())
    assert {key for key in keys if f"`{key}`" not in text and f"{key}:" not in text} == set()
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) <= keys


def _in_yaml(value: object) -> str:
    """A value as a profile spells it."""
    return str(value).lower() if isinstance(value, bool) else str(value).replace("'", "").removesuffix(".0")


def test_the_docs_state_the_defaults() -> None:
    """A default in the docs' tables is the schema's."""
    text = DOCS.read_text(encoding="utf-8")
    stated = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", text, re.MULTILINE))
    schema = json_schema()
    defaults = {
        name: rule["default"]
        for part in (schema, *schema["$defs"].values())
        for name, rule in part.get("properties", {}).items()
        if rule.get("default") is not None
    }
    shown = {name: _in_yaml(value) for name, value in defaults.items()}
    assert stated == shown


def test_the_docs_example_is_a_sound_profile() -> None:
    """The first example of the docs loads as it stands, and the fragments load within it."""
    examples = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    whole, mechanisms = examples
    assert parse_profile(whole, "docs", DOCS.parent).problems == ()
    without = re.sub(r"mechanisms:\n(  .*\n)+", "", whole)
    assert parse_profile(without + mechanisms, "docs", DOCS.parent).problems == ()
