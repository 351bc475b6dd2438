from __future__ import annotations

import pytest

from castbench.errors import InputError
from castbench.mechanisms import params as mechanism_params
from castbench.mechanisms import registry
from castbench.mechanisms.presets import PRESETS
from castbench.pipeline import load_profile
from castbench.plan import label_of, make_plan, with_presets
from castbench.workload.profile import parse_profile
from castbench.workload.spec import MechanismChoice

PROFILE = """
name: presets
model: {layers: 1, embed_dim: 64, num_heads: 4}
lengths: [{tokens: 64, share: 1}]
batch_sizes: [1]
baseline: sdpa
mechanisms: MECHANISMS
"""


def labels(mechanisms: str) -> list[str]:
    """Labels of the arms of a profile with these mechanisms, without the ceilings."""
    from pathlib import Path

    result = parse_profile(PROFILE.replace("MECHANISMS", mechanisms), "presets.yaml", Path())
    assert result.profile is not None, result.problems
    return [arm.label for arm in make_plan(result.profile).arms if arm.role != "ceiling"]


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_names_mechanisms_that_are_there_each_once(name: str) -> None:
    """Every entry of a preset can be made, and no two share a label."""
    found = with_presets([MechanismChoice(f"preset:{name}")])
    assert all(registry.find(choice.name) is not None for _, choice in found)
    assert all(
        not mechanism_params.problems_of(registry.get(choice.name), dict(choice.params), "") for _, choice in found
    )
    assert len({label_of(choice, registry.get(choice.name)) for _, choice in found}) == len(found) == len(PRESETS[name])


def test_all_means_all() -> None:
    """preset:all has every mechanism that is not hidden."""
    shown = {spec.name for spec in registry.all_specs().values() if not spec.hidden}
    assert {entry.name for entry in PRESETS["all"]} == shown


def test_a_preset_stands_for_its_mechanisms_in_a_profile() -> None:
    """`mechanisms: preset:article`, alone or in a list, is what the article compares, with sdpa beside it."""
    article = ["sdpa", "naive", "reformer", "performer", "cast"]
    assert labels("preset:article") == article
    assert labels("[preset:article]") == article


def test_what_the_list_has_by_itself_is_not_repeated() -> None:
    """An own entry of the same label wins over a preset's, wherever it stands; another label is another arm."""
    own = "[preset:article, naive, {cast: {num_clusters: 8}}, {cast: {num_clusters: 4}, label: performer}]"
    assert labels(own) == ["sdpa", "reformer", "cast", "naive", "cast(num_clusters=8)", "performer"]
    assert labels("[preset:article, preset:article]") == labels("preset:article")


@pytest.mark.parametrize(
    ("mechanisms", "sentence"),
    [
        ("preset:articel", "no preset is named 'preset:articel'; .*Did you mean 'preset:article'"),
        ("[{preset:lra: {window: 2}}]", "preset:lra takes neither parameters nor a label"),
        ("[{preset:lra: {}, label: many}]", "preset:lra takes neither parameters nor a label"),
    ],
)
def test_a_preset_that_cannot_be_is_refused_with_a_sentence(tmp_path: object, mechanisms: str, sentence: str) -> None:
    """A wrong preset's name gets a suggestion; parameters or a label are told where they belong."""
    from pathlib import Path

    file = Path(str(tmp_path)) / "presets.yaml"
    file.write_text(PROFILE.replace("MECHANISMS", mechanisms), encoding="utf-8")
    with pytest.raises(InputError, match=sentence):
        load_profile(file)
