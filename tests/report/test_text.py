from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

import castbench
from castbench.cost.spec import QualityStatus
from castbench.records import Caveat
from castbench.report import exporters, text
from castbench.report.comparison import CASE_METRICS, METRICS
from castbench.said import statement
from tests.report.builder import SITUATIONS, single_round

PACKAGE = Path(castbench.__file__).parent


@pytest.mark.parametrize("caveat", Caveat)
def test_every_caveat_has_one_sentence(caveat: Caveat) -> None:
    """Each doubt is told in plain words, as one sentence of its own."""
    assert text.CAVEATS[caveat].endswith(".")
    assert len(set(text.CAVEATS.values())) == len(Caveat)


def test_every_quality_and_every_figure_has_words() -> None:
    """No enum member and no compared figure is left without a label."""
    assert set(text.QUALITY) == set(QualityStatus)
    assert {metric.name for metric in (*METRICS, *CASE_METRICS)} == set(text.METRICS)


@pytest.mark.parametrize("stopped_by", ["precision", "rounds", "budget", "case-limit", "disturbed", "nothing-left"])
def test_what_ended_a_group_is_said_in_plain_words(stopped_by: str) -> None:
    """No stored word is shown as it is; a group without one was not finished."""
    assert text.ended(stopped_by) == text.STOPPED_BY[stopped_by]
    assert text.ended(None) == "not finished"
    assert "1 round, ended by the time limit per case." in exporters.render(single_round(), "terminal").decode()


def test_every_template_is_used_and_every_use_has_a_template() -> None:
    """Every key of SENTENCES stands in the code, and every statement made there has its template."""
    sources = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    made = set(re.findall(r'\bstatement\(\s*"([\w.]+)"', sources))
    assert made - set(text.SENTENCES) == set()
    assert {key for key in text.SENTENCES if f'"{key}"' not in sources} == set()


@pytest.mark.parametrize("name", SITUATIONS)
def test_no_sentence_says_none_or_keeps_a_placeholder(name: str) -> None:
    """Every statement of every situation fills its template."""
    report = SITUATIONS[name]()
    for said in (*report.warnings, *report.headline, *report.ceilings, *report.assumptions):
        spoken = text.say(said)
        assert "None" not in spoken
        names = {field for _, field, _, _ in string.Formatter().parse(text.SENTENCES[said.key]) if field}
        assert names <= {name for name, _ in said.values}


def test_a_value_that_looks_like_a_placeholder_is_not_filled_in() -> None:
    """Braces in a label stay braces."""
    assert "{cost}" in text.say(statement("headline.nothing", baseline="{cost}"))


def test_legible_removes_what_steers_a_terminal() -> None:
    """Escape sequences, bidirectional overrides and line breaks lose their effect; letters of any script stay."""
    assert text.legible("\x1b[31mA\u202eB\nC\x9bD日本é") == "\ufffd[31mA\ufffdB C\ufffdD日本é"
