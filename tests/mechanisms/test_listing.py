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
    """What stands at the very left of the table, below its heading: the names."""
    table = output.partition("\n\n")[0]
    return [line.split()[0] for line in table.splitlines()[1:] if line[:1].strip()]


def test_known_answers_and_ceilings_are_listed_only_on_request() -> None:
    """The plain list has what a profile would name; --all has every registered mechanism."""
    assert named(listed().output) == [name for name, spec in registry.all_specs().items() if not spec.hidden]
    assert named(listed("--all").output) == list(registry.all_specs())


@pytest.mark.parametrize("options", [(), ("--all",), ("--verbose",), ("--all", "--verbose")])
def test_the_list_fits_80_columns(options: tuple[str, ...]) -> None:
    """No line is wider than a narrow terminal."""
    assert max(map(len, listed(*options).output.splitlines())) <= 80


def test_the_list_says_what_one_needs_to_choose() -> None:
    """How each saves work, what it costs in N, whether it is exact and of which year; and which lists there are."""
    rows = {line.split()[0]: " ".join(line.split()) for line in listed().output.splitlines() if line.strip()}
    assert rows["sdpa"] == "sdpa softmax O(N²) time, O(N) memory yes 2022"
    assert rows["cast"].startswith("cast clustering O(N·(K + C))")
    assert "preset:lra" in listed().output


def test_verbose_says_all_that_is_known() -> None:
    """Source, exactness, defaults, what every parameter means, whether it can be causal, and what is not like for like;
    the plain list has none of it.
    """
    output = " ".join(listed("--verbose").output.split())
    for said in (
        "no: the model must be trained with it", "arXiv:2402.04239 (2024)", "num_clusters: auto", "cluster_size: null",
        "clustering: top_k", "impl: auto", "yes: softmax attention itself", "every cluster takes its K best tokens",
        "causal no", "remark",
    ):  # fmt: skip
        assert said in output
        assert said not in listed().output


def test_machines_get_every_detail_as_json() -> None:
    """--json has each mechanism's facts with typed defaults, and null where there is no paper."""
    facts = {entry["name"]: entry for entry in json.loads(listed("--json", "--all").output)}
    assert facts["cast"]["parameters"] == registry.get("cast").param_defaults()
    assert (facts["cast"]["year"], facts["cast"]["exact"], facts["sdpa"]["exact"]) == (2024, False, True)
    assert facts["busy"]["paper"] is None
    assert facts["busy"]["hidden"] is True
