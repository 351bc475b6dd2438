from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import jsonschema
import pytest

from castbench.plain import to_plain
from castbench.report import exporters, json_schema
from castbench.report.json_report import SCHEMA
from tests.report import builder
from tests.report.test_golden import _comparison

SHIPPED = Path(json_schema.__file__).parent / "schema" / f"report-{SCHEMA}.json"
SHAPES = {1: "5656ec4c2df18a7918e679a9f62c923b3809ba563b9b45ecb87ccbf506a3aeb3"}
"""sha256 of the shape of every schema that was published, by its number."""


def _validator(schema: Any) -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.fixture(scope="module")
def published() -> jsonschema.Draft202012Validator:
    """A validator of the schema that is shipped."""
    return _validator(json.loads(json_schema.published()))


def test_the_shipped_schema_is_the_one_of_the_types() -> None:
    """What --json-schema prints describes the dataclasses as they are; CASTBENCH_UPDATE_GOLDEN=1 writes it anew."""
    made = json_schema.generated()
    if os.environ.get("CASTBENCH_UPDATE_GOLDEN") == "1":
        SHIPPED.write_bytes(made)
    assert json_schema.published() == made


def test_a_changed_shape_raises_the_number() -> None:
    """The hash of the shape, descriptions left out, is the one noted for its number: a change of shape needs the next
    number and a new line here, once the number was released.
    """
    shape = json.dumps(_undescribed(json.loads(json_schema.published())), sort_keys=True).encode()
    assert hashlib.sha256(shape).hexdigest() == SHAPES[SCHEMA]


def _undescribed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _undescribed(item) for key, item in value.items() if key != "description"}
    return [_undescribed(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", builder.SITUATIONS)
def test_every_report_is_valid(name: str, published: jsonschema.Draft202012Validator) -> None:
    """The JSON of every situation follows the published schema."""
    published.validate(json.loads(exporters.render(builder.SITUATIONS[name](), "json")))


def test_a_comparison_is_valid(published: jsonschema.Draft202012Validator) -> None:
    """So does the JSON of a comparison."""
    published.validate(json.loads(_comparison("json")))


def test_a_missing_or_unknown_key_is_not_valid(published: jsonschema.Draft202012Validator) -> None:
    """Whichever key is taken out of any object of a report, and whichever is put in, the schema notices."""
    document = json.loads(exporters.render(builder.on_a_gpu(), "json"))
    objects = list(_objects(document))
    assert len(objects) > 100
    for one in objects[:: len(objects) // 25]:
        for key in list(one):
            value = one.pop(key)
            assert not published.is_valid(document), key
            one[key] = value
        one["stray"] = 1
        assert not published.is_valid(document)
        del one["stray"]
    assert published.is_valid(document)


def _objects(value: Any, name: str = "") -> Iterator[dict[str, Any]]:
    """Every object in a document but the values of a sentence, which are named by its template."""
    if isinstance(value, dict):
        if name != "values":
            yield value
        for key, item in value.items():
            yield from _objects(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from _objects(item)


class Colour(Enum):
    """A colour."""

    RED = "red"


@dataclass(frozen=True)
class Leaf:
    """A leaf."""

    colour: Colour
    size: float


@dataclass(frozen=True)
class Tree:
    """A tree."""

    name: Literal["oak", "elm"]
    height: int | None
    leaves: tuple[Leaf, ...]
    place: tuple[int, str]
    tags: dict[str, bool]


TREE = Tree("oak", None, (Leaf(Colour.RED, 1.5),), (1, "left"), {"old": True})


@pytest.mark.parametrize(
    "broken",
    [
        lambda tree: tree.update(name="ash"),
        lambda tree: tree.update(height=1.5),
        lambda tree: tree.update(leaves={}),
        lambda tree: tree["leaves"][0].update(colour="blue"),
        lambda tree: tree["leaves"][0].update(size="large"),
        lambda tree: tree["leaves"][0].pop("size"),
        lambda tree: tree["place"].pop(),
        lambda tree: tree["place"].append(2),
        lambda tree: tree.update(tags={"old": "yes"}),
        lambda tree: tree.update(age=3),
    ],
)
def test_the_schema_of_types_takes_their_values_and_no_others(broken: Callable[[dict[str, Any]], object]) -> None:
    """Every kind of type becomes a rule that its own values keep and wrong ones break; NaN was written as null."""
    validator = _validator(json_schema.schema((Tree,)))
    plain = json.loads(json.dumps(to_plain(TREE)))
    validator.validate(plain)
    plain["leaves"][0]["size"] = None
    validator.validate(plain)
    broken(plain)
    assert not validator.is_valid(plain)


@dataclass(frozen=True)
class Holder:
    """Holds what JSON has no word for."""

    thing: object


def test_a_type_that_json_cannot_hold_is_refused() -> None:
    """The generator does not guess."""
    with pytest.raises(TypeError, match="object"):
        json_schema.schema((Holder,))


def test_two_types_of_one_name_are_refused() -> None:
    """Their definitions would overwrite each other."""
    twin = dataclass(frozen=True)(type("Leaf", (), {"__annotations__": {"size": int}, "__doc__": "Another leaf."}))
    both = dataclass(frozen=True)(
        type("Both", (), {"__annotations__": {"one": Leaf, "other": twin}, "__doc__": "Both leaves."})
    )
    with pytest.raises(ValueError, match="Leaf"):
        json_schema.schema((both,))
