from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from castbench.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")]
)
COMMAND = re.compile(r"(?:^|[`\s(])castbench ((?:[a-z][a-z-]*)(?: [a-z][a-z-]*)?)([^\n`|#]*)")


def commands() -> dict[str, set[str]]:
    """Every command of the program with its options."""
    found: dict[str, set[str]] = {}
    root = typer.main.get_command(app)
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        for path, one in {
            name: command,
            **{f"{name} {n}": c for n, c in getattr(command, "commands", {}).items()},
        }.items():
            found[path] = {option for p in one.params for option in getattr(p, "opts", ())}
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_commands_and_links_in_the_documents_exist(page: Path) -> None:
    """Every `castbench command --option` that a page shows is one the program has, and every link leads to a file."""
    known, text = commands(), page.read_text()
    for named, rest in COMMAND.findall(text):
        command = named if named in known else named.split()[0]
        if command not in known:
            assert not rest.strip().startswith("--"), f"castbench {named}"
            continue
        for option in re.findall(r"\s(--[a-z0-9-]+)", rest):
            assert option in known[command] | {"--help"}, f"castbench {command} {option}"
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target


def test_the_readme_shows_a_real_report() -> None:
    """The sample between the markers has the sections of a report and no fake device."""
    sample = (ROOT / "README.md").read_text().partition("<!-- demo:begin -->")[2].partition("<!-- demo:end -->")[0]
    assert "castbench report: quickstart" in sample
    assert "Summary (projected from measurements)" in sample
    assert "FAKE" not in sample


def test_the_kept_run_is_whole_and_says_what_the_documents_quote() -> None:
    """The run file under results/ passes verify and can be reported."""
    from castbench import pipeline

    _, checks = pipeline.verify(str(ROOT / "results" / "arxiv-documents-cpu.jsonl"))
    assert [c for c in checks if not c.ok] == []


def test_the_table_of_mechanisms_is_the_generated_one() -> None:
    """docs/mechanisms.md has what the descriptions in the code say; benchmarks/mechanism_tables.py writes it."""
    from benchmarks import mechanism_tables

    document = mechanism_tables.DOCUMENT.read_text(encoding="utf-8")
    assert mechanism_tables.written(document) == document
