from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from castbench.cost.rehearsed import Rehearsal
from castbench.records import RunEnd
from castbench.report import rehearsal_page, rehearsal_view, text
from castbench.report.terminal import draw
from tests.cost.builder import run_of, times
from tests.rehearsal.builder import SESSION, rehearsal

GOLDEN = Path(__file__).parents[1] / "golden" / "report"


def good() -> Rehearsal:
    """Borne out."""
    return rehearsal()


def bad() -> Rehearsal:
    """On a loaded machine whose code has changed, a trace cut short, slower than said and late."""
    made = rehearsal(source="trace week.csv", cut=3, is_overhead_measured=False)
    low, middle, high = made.percentiles
    session = replace(SESSION, differs=("torch was 2.12 and is now 2.13",), waited_share=0.25, late_p99_s=0.004)
    return replace(made, percentiles=(low, middle, replace(high, observed_s=0.031)), session=session)


def vague() -> Rehearsal:
    """A band from 1 to 30 ms."""
    made = rehearsal()
    low, middle, high = made.percentiles
    return replace(made, percentiles=(low, middle, replace(high, low_s=0.001, high_s=0.030)))


SITUATIONS = {"good": good, "bad": bad, "vague": vague}


def report(found: Rehearsal, kept: Path | None = Path("runs/a.rehearsal.json")) -> rehearsal_page.RehearsalReport:
    """The report of a rehearsal of a finished run."""
    record = run_of(times({"sdpa": 0.01, "cast-32": 0.01}))
    return rehearsal_view.build(replace(record, ended=RunEnd(16, 2, True)), found, kept)


def page(found: Rehearsal) -> str:
    """What a terminal shows."""
    return draw(rehearsal_page.page(report(found)), width=80).decode()


@pytest.mark.parametrize("name", SITUATIONS)
def test_what_is_printed_is_what_was_looked_at(name: str) -> None:
    """Every byte is known; CASTBENCH_UPDATE_GOLDEN=1 writes them anew, to be read in the diff."""
    made, path = page(SITUATIONS[name]()), GOLDEN / f"rehearsal-{name}.txt"
    if os.environ.get("CASTBENCH_UPDATE_GOLDEN") == "1":
        path.write_text(made, encoding="utf-8")
    assert made == path.read_text(encoding="utf-8")
    assert max(map(len, made.splitlines())) <= 80


def test_the_verdict_says_which_percentile_is_outside() -> None:
    """In capitals, as it decides; both where both are."""
    assert "BORNE OUT: median and p99 lie in the replay's bands" in page(good())
    assert "NOT BORNE OUT: p99 of what was served lies outside" in " ".join(page(bad()).split())
    made = bad()
    both = replace(made, percentiles=(replace(made.percentiles[0], observed_s=0.02), *made.percentiles[1:]))
    assert "NOT BORNE OUT: p50 and p99 of what was served lie outside" in " ".join(page(both).split())
    assert "SAYS NOTHING: the band of p99 reaches from 1.00 ms to 30.0 ms" in " ".join(page(vague()).split())


def test_the_json_is_at_full_precision_with_what_follows() -> None:
    """Everything kept, the error and whether it is inside, and the file."""
    data = json.loads(rehearsal_page.as_json(report(good())), parse_constant=pytest.fail)
    assert (data["schema"], data["kind"], data["kept_in"]) == (1, "rehearsal", "runs/a.rehearsal.json")
    assert (data["borne_out"], data["telling"]) == (True, True)
    p99 = data["percentiles"][2]
    assert (p99["observed_s"], p99["inside"]) == (0.020, True)
    assert p99["error"] == pytest.approx(-0.05)
    assert data["policy"] == {"max_batch": 8, "batch_window_s": 0.0, "bucket_edges": []}
    assert data["session"]["late_p99_s"] == SESSION.late_p99_s
    assert json.loads(rehearsal_page.as_json(report(good(), None)))["kept_in"] is None


def test_beside_a_capacity_figure_it_is_one_sentence() -> None:
    """When, what, how loaded, both figures, and whether the band held."""
    said = text.say(rehearsal_page.signature(good()))
    assert said == (
        "Rehearsed on 2026-06-02: sdpa (batches of up to 8) at a load of 70 %: p50 10.0 ms served and 10.1 ms replayed,"
        " p99 20.0 ms and 19.0 ms; the replay's p99 is off by -5.0 %, inside its band."
    )
    assert "OUTSIDE its band" in text.say(rehearsal_page.signature(bad()))
    assert "too wide to say anything" in text.say(rehearsal_page.signature(vague()))
