from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner, Result

from castbench.cli.mechanisms import mechanisms_command
from castbench.mechanisms import registry

app = typer.Typer()
app.command()(mechanisms_command)


def listed(*options: str) -> Result:
    """`castbench mechanisms` with options, on a terminal of 80 columns."""
    result = CliRunner().invoke(app, list(options), env={"COLUMNS": "80", "TERM": "dumb"})
    assert result.exit_code == 0, result.output
    return result


def named(output: str) -> list[str]:
    """What stands at the very left: the names."""
    return [line.split()[0] for line in output.splitlines() if line[:1].strip()]


def test_known_answers_and_ceilings_are_listed_only_on_request() -> None:
    """The plain list has what a profile would name; --all has every registered mechanism."""
    assert named(listed().output) == [name for name, spec in registry.all_specs().items() if not spec.hidden]
    assert named(listed("--all").output) == list(registry.all_specs())


@pytest.mark.parametrize("options", [(), ("--all",), ("--verbose",), ("--all", "--verbose")])
def test_the_list_fits_80_columns(options: tuple[str, ...]) -> None:
    """No line is wider than a narrow terminal."""
    assert max(map(len, listed(*options).output.splitlines())) <= 80


def test_the_list_says_what_one_needs_to_choose() -> None:
    """Cost, exactness, source with its year and every default are said of cast and of sdpa."""
    output = " ".join(listed().output.split())
    for said in (
        "O(N·(K + C))", "no: the model must be trained with it", "arXiv:2402.04239 (2024)", "num_clusters: auto",
        "cluster_size: null", "clustering: top_k", "impl: auto", "O(N²) time, O(N) memory",
        "yes: softmax attention itself",
    ):  # fmt: skip
        assert said in output


def test_verbose_explains_every_parameter() -> None:
    """--verbose adds what each parameter means; the plain list does not have it."""
    sentence = "every cluster takes its K best tokens"
    assert sentence in listed("--verbose").output
    assert sentence not in listed().output


def test_machines_get_every_detail_as_json() -> None:
    """--json has each mechanism's facts with typed defaults, and null where there is no paper."""
    facts = {entry["name"]: entry for entry in json.loads(listed("--json", "--all").output)}
    assert facts["cast"]["parameters"] == registry.get("cast").param_defaults()
    assert (facts["cast"]["year"], facts["cast"]["exact"], facts["sdpa"]["exact"]) == (2024, False, True)
    assert facts["busy"]["paper"] is None
    assert facts["busy"]["hidden"] is True
