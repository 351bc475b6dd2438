from __future__ import annotations

import json
import os
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from castbench.cost.capacity_stage import Asked
from castbench.cost.objective import Limit, Objective
from castbench.cost.spec import Price
from castbench.cost.traffic import Traffic
from castbench.errors import InputError
from castbench.records import Caveat, RunEnd, RunRecord
from castbench.report import capacity_page, capacity_view, text
from castbench.report.capacity_page import CapacityReport
from castbench.report.capacity_view import Extras, Money
from castbench.report.terminal import draw
from castbench.said import statement
from tests.cost.builder import CAST, MIX, MIXING, NAIVE, SDPA, run_of, times
from tests.rehearsal.builder import rehearsal

GOLDEN = Path(__file__).parents[1] / "golden" / "report"
SECONDS = {"sdpa": 0.05, "naive": 0.09, "cast-32": 0.03, MIXING.label: 0.02}
EIGHT = Price(
    20.0, "p5.48xlarge", "on_demand", 8, "2026-01-01", "a catalogue", flags=("it is old",), caveats=(Caveat.PRICE_OLD,)
)
TOP = [
    "schema", "kind", "run", "warnings", "objective", "traffic", "notes", "price", "money_missing", "mechanisms",
    "asked_replicas", "day_lines", "caveats",
]  # fmt: skip


def bursts(tokens: int = 2048) -> Traffic:
    """20 minutes of a request a second, and one minute at ten times that."""
    rng = np.random.default_rng(0)
    at_s = np.sort(np.concatenate((rng.uniform(0, 1200, 1200), rng.uniform(600, 660, 600))))
    return Traffic.of(at_s, rng.choice((512, tokens), at_s.size))


def finished(**changes: Any) -> RunRecord:
    """A whole run of three mechanisms and a ceiling."""
    record = run_of(times(SECONDS), arms=(SDPA, NAIVE, CAST, MIXING), **changes)
    return replace(record, ended=RunEnd(len(record.rounds), len(record.groups), True))


def built(
    *, price: Price | None = None, source: str | None = "trace week.csv", limit_s: float = 0.3, resamples: int = 20,
    extras: Extras | None = None, traffic: Traffic | None = None, record: RunRecord | None = None, **asked: Any,
) -> CapacityReport:  # fmt: skip
    """A report of that run."""
    objective = Objective((Limit(0.99, limit_s),), **asked)
    question = Asked(bursts() if traffic is None else traffic, objective, resamples=resamples)
    money = Money(price, None if price else statement("no_money.price"))
    return capacity_view.build(record or finished(), question, source, money, extras or Extras())


def rich() -> CapacityReport:
    """Servers of eight devices with a doubtful price, a spare, what four replicas bear, and fleets over the day."""
    extras = Extras(replicas=4, day=True, truncate=True)
    return built(price=EIGHT, extras=extras, traffic=bursts(4096).faster(12.0), spare=1, zones=2)


def poor() -> CapacityReport:
    """No price, made-up traffic, no range, an objective that naive cannot keep."""
    return built(source=None, limit_s=0.08, resamples=0)


def impossible() -> CapacityReport:
    """Nothing can be sized; the rate is asked for all the same."""
    return built(limit_s=0.01, extras=Extras(replicas=1, day=True))


def hostile() -> CapacityReport:
    """A label that tries to steer the terminal, and a trace of that kind."""
    record = run_of(
        times({"sdpa": 0.05, "\x1b[31mred\u202e" * 9: 0.03}), arms=(SDPA, replace(CAST, label="\x1b[31mred\u202e" * 9))
    )
    return built(record=record, source="trace \x1b[2J[bold]{x}.csv", extras=Extras(replicas=2, day=True))


SITUATIONS = {"rich": rich, "poor": poor, "impossible": impossible, "hostile": hostile}


def page(report: CapacityReport, width: int = 80) -> str:
    """What a terminal shows."""
    return draw(capacity_page.page(report), width=width).decode()


def unwrapped(report: CapacityReport) -> str:
    """The same on one line."""
    return " ".join(page(report).split())


@pytest.mark.parametrize("name", ["rich", "poor", "impossible"])
def test_what_is_printed_is_what_was_looked_at(name: str) -> None:
    """Every byte is known; CASTBENCH_UPDATE_GOLDEN=1 writes them anew, to be read in the diff."""
    made, path = page(SITUATIONS[name]()), GOLDEN / f"capacity-{name}.txt"
    if os.environ.get("CASTBENCH_UPDATE_GOLDEN") == "1":
        path.write_text(made, encoding="utf-8")
    assert made == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SITUATIONS)
def test_no_line_is_wider_than_the_terminal_and_nothing_steers_it(name: str) -> None:
    """Tables and sentences fit into 80 cells, without a control character, a placeholder or a None."""
    drawn = page(SITUATIONS[name]())
    assert max(map(len, drawn.splitlines())) <= 80
    assert not any(unicodedata.category(c) in ("Cc", "Cf") for c in drawn.replace("\n", ""))
    assert "None" not in drawn


@pytest.mark.parametrize("name", SITUATIONS)
def test_the_json_has_the_same_keys_whatever_is_known(name: str) -> None:
    """Keys stand in one order, numbers are finite, and every note comes with its sentence."""
    data = json.loads(capacity_page.as_json(SITUATIONS[name]()), parse_constant=pytest.fail)
    assert list(data) == TOP
    assert (data["schema"], data["kind"]) == (1, "capacity")
    assert {tuple(arm) for arm in data["mechanisms"]} == {
        (
            "label", "reason", "way", "policy", "policies_tried", "sizing", "proof", "units", "cost_usd_per_hour",
            "interval", "bought_range", "formula", "utilization", "load", "mean_batch_size", "latency_s", "wait_s",
            "sustained_per_s",
        )
    }  # fmt: skip
    assert all(note["says"] in text.SENTENCES and note["text"] for note in data["notes"])


def test_the_json_is_at_full_precision_and_says_what_the_page_says() -> None:
    """Cost is whole servers times their price, spares and zones included; the range holds what is bought."""
    report = rich()
    data = json.loads(capacity_page.as_json(report))
    for plain, arm in zip(data["mechanisms"], report.arms, strict=True):
        assert arm.plan is not None
        assert arm.plan.units is not None
        assert arm.plan.outcome is not None
        assert plain["cost_usd_per_hour"] == arm.plan.units.whole * 20.0
        assert plain["latency_s"]["p99"] == arm.plan.outcome.seconds_at(0.99)
        assert plain["units"]["whole"] * 8 >= plain["sizing"]["needed"] + 1
        assert plain["bought_range"][0] <= arm.plan.units.replicas <= plain["bought_range"][1]
        assert plain["sustained_per_s"]["value"] > 0
        assert [trial["policy"] for trial in plain["policies_tried"]] == [plain["policy"]]
    assert data["traffic"]["cut"] == int((bursts(4096).tokens > 2048).sum())
    assert set(data["day_lines"]["sdpa"]) == {"fixed", "autoscaled", "ideal", "hours"}
    assert data["asked_replicas"] == 4


def test_a_server_of_several_devices_is_told_from_its_replicas() -> None:
    """Servers are what is paid, replicas what serves; with one device each there is one column."""
    report = rich()
    assert "A server has 8 devices, each of them a replica" in unwrapped(report)
    assert "servers  range  replicas" in page(report)
    assert "replicas  " not in page(poor()).partition("mechanism")[2].partition("\n")[0]


def test_the_price_is_named_with_source_date_and_doubt_or_its_lack_explained() -> None:
    """A figure without a source is no figure; a column without any is not filled in."""
    assert "Price: 20 USD per hour for p5.48xlarge (on_demand); a catalogue, 2026-01-01." in unwrapped(rich())
    assert "Doubt about the price: it is old." in unwrapped(rich())
    assert "No cost can be given: no price is known; give one with --price." in unwrapped(poor())
    assert json.loads(capacity_page.as_json(poor()))["mechanisms"][0]["cost_usd_per_hour"] is None


def test_a_mechanism_of_another_quality_is_marked_and_an_exact_one_is_not() -> None:
    """Fewer servers of an untrained model are no saving yet."""
    assert "cast-32: Quality was not measured" in unwrapped(rich())
    assert "naive: Quality" not in unwrapped(rich())
    caveats = {note.caveat: note.labels for note in rich().caveats}
    assert caveats[Caveat.QUALITY_NOT_MEASURED] == ("cast-32",)
    assert Caveat.INTERPOLATED not in caveats


def test_lengths_between_the_measured_ones_are_said_to_be_interpolated() -> None:
    """One request of 700 tokens is enough."""
    odd = bursts()
    odd = Traffic.of(odd.arrival_s, np.where(np.arange(odd.requests) == 3, 700, odd.tokens))
    assert "Times between measured lengths are interpolated." in unwrapped(built(traffic=odd, resamples=0))


def test_a_fake_or_unfinished_run_says_so_before_any_number() -> None:
    """Warnings of a report stand here too."""
    unfinished = unwrapped(built(record=replace(finished(), ended=None), resamples=0))
    assert unfinished.startswith("castbench capacity FAKE DEVICE:")
    assert "UNFINISHED" in unfinished


def test_a_range_without_an_upper_end_is_open() -> None:
    """Resamples that no number serves are more than any number."""
    report = built()
    plan = report.arms[0].plan
    assert plan is not None
    assert plan.interval is not None
    opened = replace(report.arms[0], plan=replace(plan, interval=replace(plan.interval, low=1, high=None)))
    assert "1 or more" in page(replace(report, arms=(opened,)))


def test_a_rehearsal_is_said_beside_the_figures_it_is_of() -> None:
    """Without one the page says that nobody looked; one of a mechanism that is not asked for is not spoken of."""
    assert "a rehearsal on your device (castbench rehearse) measures how far that is off" in unwrapped(poor())
    question = Asked(bursts(), Objective((Limit(0.99, 0.3),)), resamples=0)
    money = Money(None, None)
    signed = capacity_view.build(
        finished(), question, None, money, Extras(("sdpa",)), rehearsals=(rehearsal(label="cast-32"), rehearsal())
    )
    words = unwrapped(signed)
    assert words.count("Rehearsed on 2026-06-02: sdpa (batches of up to 8) at a load of 70 %") == 1
    assert "the replay's p99 is off by -5.0 %, inside its band" in words
    assert "cast-32" not in words
    assert "castbench rehearse" not in words


@pytest.mark.parametrize(
    ("extras", "words"),
    [
        (Extras(("sdpa", "lstm")), "--only: no mechanism is labelled lstm; labels are sdpa, naive, cast-32"),
        (Extras((MIXING.label,)), f"no mechanism is labelled {MIXING.label}"),
        (Extras(replicas=0), "--replicas: expected 1 or more, got 0"),
    ],
)
def test_questions_about_nothing_are_refused(extras: Extras, words: str) -> None:
    """The error names the option and what there is."""
    with pytest.raises(InputError) as caught:
        built(extras=extras)
    assert words in str(caught.value)


def test_nothing_is_sized_where_the_objective_is_impossible() -> None:
    """No table, no fleets, but the reason for every mechanism."""
    report = impossible()
    assert report.lines == {}
    drawn = unwrapped(report)
    assert "Servers (" not in drawn
    for label in ("sdpa", "naive", "cast-32"):
        assert f"{label}: no number of replicas keeps the objective: even with one for every request" in drawn
        assert f"{label}: none, as no number of replicas keeps the objective at any rate." in drawn


def test_lengths_of_the_mix_are_those_measured() -> None:
    """The fixture's requests lie on measured lengths, so that nothing above is interpolated by accident."""
    assert set(bursts().tokens.tolist()) == set(MIX.tokens)
