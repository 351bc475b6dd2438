"""The published JSON Schema (draft 2020-12) of the JSON report, made from the types of its document.

dataclasses ─▶ schema() ─▶ schema/report-N.json, which `castbench report --json-schema` prints
"""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from importlib.resources import files
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from castbench.report.json_report import SCHEMA, ComparisonDocument, ReportDocument
from castbench.said import Statement

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_DOCUMENTS = (ReportDocument, ComparisonDocument)
_SCALARS: dict[Any, Any] = {
    type(None): {"type": "null"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    str: {"type": "string"},
    # JSON has no NaN and no infinities; they are written as null.
    float: {"type": ["number", "null"]},
    # A sentence inside a value is written out.
    Statement: {"type": "string"},
}


def published() -> bytes:
    """The schema as it is shipped with this version."""
    return (files(__package__) / "schema" / f"report-{SCHEMA}.json").read_bytes()


def generated() -> bytes:
    """The schema as the types have it now; a test holds the shipped one to it."""
    return (json.dumps(schema(_DOCUMENTS), indent=2, ensure_ascii=False) + "\n").encode()


def schema(documents: tuple[type[Any], ...]) -> dict[str, Any]:
    """A schema that accepts any one of these dataclasses as `plain.to_plain` writes it.

    TypeError for a type it cannot describe, ValueError for two dataclasses of one name.
    """
    known: dict[type[Any], dict[str, Any]] = {}
    choices = [_described(document, known) for document in documents]
    definitions = {kind.__name__: known[kind] for kind in sorted(known, key=lambda kind: kind.__name__)}
    if len(definitions) < len(known):
        raise ValueError("two types of the document have one name: " + ", ".join(sorted(k.__name__ for k in known)))
    return {"$schema": _DRAFT, "title": f"castbench report, schema {SCHEMA}", "oneOf": choices, "$defs": definitions}


def _described(hint: Any, known: dict[type[Any], dict[str, Any]]) -> dict[str, Any]:
    """The schema of one type; dataclasses and enums are put into `known` and referred to."""
    if hint in _SCALARS:
        return dict(_SCALARS[hint])
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return {"const": arguments[0]} if len(arguments) == 1 else {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_described(one, known) for one in arguments]}
    if origin is tuple:
        return _array(arguments, known)
    if origin in (dict, Mapping) and arguments[0] is str:
        return {"type": "object", "additionalProperties": _described(arguments[1], known)}
    if isinstance(hint, type) and (is_dataclass(hint) or issubclass(hint, Enum)):
        if hint not in known:
            known[hint] = {}
            known[hint].update(_object(hint, known) if is_dataclass(hint) else _choice(hint))
        return {"$ref": f"#/$defs/{hint.__name__}"}
    raise TypeError(f"no JSON schema for {hint!r}")


def _array(items: tuple[Any, ...], known: dict[type[Any], dict[str, Any]]) -> dict[str, Any]:
    """A tuple: of one type throughout, or one type per place."""
    if len(items) == 2 and items[1] is Ellipsis:
        return {"type": "array", "items": _described(items[0], known)}
    places = [_described(item, known) for item in items]
    return {"type": "array", "prefixItems": places, "items": False, "minItems": len(places)}


def _object(kind: type[Any], known: dict[type[Any], dict[str, Any]]) -> dict[str, Any]:
    """A dataclass: every field is there, and nothing else."""
    hints = get_type_hints(kind)
    properties = {field.name: _described(hints[field.name], known) for field in fields(kind)}
    return {
        "description": inspect.getdoc(kind), "type": "object", "properties": properties,
        "required": list(properties), "additionalProperties": False,
    }  # fmt: skip


def _choice(kind: type[Any]) -> dict[str, Any]:
    """An enum by its values."""
    return {"description": inspect.getdoc(kind), "enum": [member.value for member in kind]}
