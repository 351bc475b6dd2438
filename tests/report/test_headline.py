from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from castbench.records import RunEnd, RunRecord
from castbench.report import text, view
from castbench.report.nouns import Report
from castbench.workload.spec import SamplingPolicy
from tests.report.builder import GROUPS, confirmed, few_rounds, naive, plan, projection, record, sdpa, winning_cast


def _built(run: RunRecord, **changes: Any) -> Report:
    return view.build(run, projection(sdpa(), naive(), winning_cast(), **changes))


def _headline(report: Report) -> str:
    return " ".join(text.say(said) for said in report.headline)


def test_a_confirmed_winner_is_said_with_where_and_by_how_much() -> None:
    """The number of fresh rounds, the length and configuration, the speed-up with its range, and the verdict."""
    said = _headline(_built(confirmed(record())))
    assert "Confirmed on 8 fresh rounds at 4,096 tokens (batch 8, padded, eager): cast-32 runs at 1.82× (1." in said
    assert "the speed of sdpa there: FASTER." in said
    assert "ot confirmed" not in said


def test_a_lost_confirmation_is_said_beside_what_was_claimed() -> None:
    """Both speeds stand side by side: the one that won the selection and the one of the fresh rounds."""
    said = _headline(_built(confirmed(record(), slower=1.9)))
    assert "NOT CONFIRMED: when it was picked, cast-32 ran at 1.809–1.832× the speed of sdpa at 4,096 tokens" in said
    assert "FASTER; 8 fresh rounds give 0.959× (0.947–0.972)" in said
    assert "Confirmed on" not in said


def test_missing_fresh_rounds_are_counted() -> None:
    """A confirmation that was cut short gives no figure."""
    said = _headline(_built(confirmed(record(), rounds=3)))
    assert "Not confirmed: of 8 fresh rounds of cast-32 against sdpa at 4,096 tokens (batch 8, padded, eager)" in said
    assert "only 3 were measured." in said


def test_no_verdict_is_nothing_to_confirm() -> None:
    """Where the first rounds of the selected shape gave none, the fresh figure is told without a claim."""
    said = _headline(_built(confirmed(record(noise=80.0))))
    assert "Nothing to confirm: when it was picked, cast-32 against sdpa was UNCLEAR at 4,096 tokens" in said


POLICY = SamplingPolicy(confirm=False)


@pytest.mark.parametrize(
    ("run", "why"),
    [
        (record(replace(plan(), sampling=POLICY)), "the profile asks for none (sampling.confirm: false)"),
        (replace(record(), ended=None), "the run ended before"),
        (replace(record(), ended=RunEnd(48, 3, False)), "the time budget was over before"),
        (record(), "no two of the mechanisms in question were measured on one shape"),
    ],
)
def test_why_nothing_was_confirmed_is_said(run: RunRecord, why: str) -> None:
    """Each cause has its words."""
    assert f"Not confirmed on fresh rounds: {why}." in _headline(_built(run))


def test_another_winner_than_the_confirmed_one_is_pointed_out() -> None:
    """At another price or rate the headline may be about an arm that was not selected when the fresh rounds began."""
    said = _headline(_built(confirmed(record(), label="naive")))
    assert "Fresh rounds were not measured of cast-32, but of naive, which was the pick when they began." in said


def test_both_steps_of_an_advice_are_confirmed_apart() -> None:
    """TUNE-FIRST and the pilot on top each have their sentence."""
    once = confirmed(record(), GROUPS[1], "sdpa", "naive")
    twice = confirmed(once, GROUPS[1])
    assert once.selection is not None
    assert twice.selection is not None
    selected = (*twice.selection.selected, *once.selection.selected)
    both = replace(twice, selection=replace(twice.selection, selected=selected))
    said = _headline(_built(both, today="naive"))
    assert "sdpa runs at 1.80× " in said
    assert said.index("cast-32 runs at") < said.index("sdpa runs at")


def test_too_few_rounds_leave_nothing_to_confirm() -> None:
    """Where nothing can be recommended the headline does not speak of confirmation."""
    assert "onfirm" not in _headline(few_rounds())


def test_fresh_rounds_come_after_how_sure_and_before_what_is_missing() -> None:
    """The headline ends with what nobody measured."""
    said = _headline(_built(confirmed(record())))
    assert said.index("How sure") < said.index("Confirmed on") < said.index("Not measured")
