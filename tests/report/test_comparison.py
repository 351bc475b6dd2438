from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from castbench.cost.spec import Projection
from castbench.errors import InputError
from castbench.plan import Group
from castbench.records import BatchSearch, Caveat, Outcome, RunRecord, Status
from castbench.report import comparison, exporters, text
from castbench.report.comparison import ComparedRow, Comparison
from castbench.stats import Estimate
from castbench.workload.spec import Demand, Shape
from tests.report import builder

CHEAP = replace(builder.PRICE, usd_per_hour=0.71, name="L4")


def _projection(price: object = CHEAP, **changes: object) -> Projection:
    arms = (
        builder.projected(builder.SDPA, 12, price=CHEAP, saving=builder.NO_SAVING),
        builder.projected(builder.CAST, 6, price=CHEAP, saving=(4.26, 3.55, 4.26), word="PILOT"),
    )
    return builder.projection(*arms, price=price, **changes)


def _runs(slow: RunRecord | None = None, other: Projection | None = None) -> list[tuple[RunRecord, Projection]]:
    first = builder.projection(builder.sdpa(), builder.naive(), builder.winning_cast())
    return [
        (builder.record(), first),
        (slow or builder.record(device_name="NVIDIA L4", scale=3.2, run_id="run-b"), other or _projection()),
    ]


def _built(runs: Sequence[tuple[RunRecord, Projection]], *, forced: bool = False) -> Comparison:
    return comparison.build(runs, comparison.labels_for([record for record, _ in runs]), forced=forced)


def _row(made: Comparison, metric: str, label: str, group: Group | None = None) -> ComparedRow:
    return next(r for r in made.rows if (r.metric, r.label, r.group) == (metric, label, group))


def _unlike() -> list[tuple[RunRecord, Projection]]:
    plan = builder.plan()
    other = replace(plan, served=replace(plan.served, dtype="fp32", seed=7), groups=plan.groups[:2])
    return _runs(builder.record(other, device_name="NVIDIA L4", comparable="bad", run_id="run-b"))


def test_values_stand_under_their_run_and_the_best_is_marked() -> None:
    """Latency: the fast machine; cost: the cheap one; throughput has no range, so no star."""
    made = _built(_runs())
    group = builder.GROUPS[0]
    assert _row(made, "latency_p50_ms", "sdpa", group).best == (0,)
    assert _row(made, "throughput_tokens_per_s", "sdpa", group).best == ()
    assert _row(made, "cost_usd_per_hour", "sdpa").best == (1,)
    costs = [value.value for value in _row(made, "cost_usd_per_hour", "sdpa").values if value]
    assert costs == [4 * 3.673, 12 * 0.71]


def test_equal_or_single_values_have_no_best() -> None:
    """Where there is nothing to choose, nothing is marked."""
    made = _built(_runs())
    assert _row(made, "peak_memory_mib", "sdpa").best == ()
    alone = _row(made, "cost_usd_per_hour", "naive")
    assert alone.values[1] is None
    assert alone.best == ()


def test_the_cheapest_overall_is_named() -> None:
    """Over all runs and mechanisms, ceilings left out."""
    cheapest = _built(_runs()).cheapest
    assert cheapest is not None
    assert (cheapest.run, cheapest.configuration.label) == ("NVIDIA L4", "cast-32")
    assert cheapest.cost.value == pytest.approx(6 * 0.71)
    assert all(not row.label.startswith("ceiling:") for row in _built(_runs()).rows)


def test_servers_and_costs_under_another_demand_are_left_out() -> None:
    """Only what answers the first run's traffic is put beside it."""
    made = _built(_runs(other=_projection(demand=Demand(1.0))))
    assert _row(made, "replicas", "sdpa").values[1] is None
    assert _row(made, "cost_usd_per_million_tokens", "sdpa").values[1] is not None
    assert made.cheapest is not None
    assert made.cheapest.run == "NVIDIA A100-PCIE-80GB"


def test_unlike_runs_are_refused_with_the_difference_named() -> None:
    """The sentence has the field and both values, and says what to do."""
    with pytest.raises(InputError, match="dtype: bf16 against fp32") as caught:
        _built(_unlike())
    assert "seed: 0 against 7" in str(caught.value)
    assert "groups: b8-n4096-padded against none" in str(caught.value)
    assert "--force" in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_long_difference_is_told_in_few_words() -> None:
    """Only what the other has not is listed, three of it, and how many more; an order alone is called that."""
    one = builder.plan(groups=tuple(Group(Shape(1, 64 * n), "bucketed") for n in range(1, 9)))
    other = replace(one, groups=one.groups[:1], arms=one.arms[::-1])
    assert tuple(map(text.say, comparison.differences(one, other))) == (
        "groups: b1-n128-bucketed, b1-n192-bucketed, b1-n256-bucketed and 4 more against none",
        "mechanisms: the same in another order",
    )


@pytest.mark.parametrize("fmt", ["terminal", "md", "csv", "json"])
def test_forced_comparisons_are_marked_in_every_format(fmt: str) -> None:
    """Nobody can mistake unlike runs for like ones; like ones are not marked."""
    marks = {"json": '"unlike_runs": true'}
    forced = exporters.render_comparison(_built(_unlike(), forced=True), fmt).decode()
    alike = exporters.render_comparison(_built(_runs(), forced=True), fmt).decode()
    assert marks.get(fmt, "UNLIKE RUNS") in forced
    assert marks.get(fmt, "UNLIKE RUNS") not in alike


def test_the_unlike_mark_is_in_every_csv_row() -> None:
    """A row that is copied elsewhere takes the mark along."""
    rows = list(
        csv.DictReader(io.StringIO(exporters.render_comparison(_built(_unlike(), forced=True), "csv").decode()))
    )
    assert {row["comparable"] for row in rows} == {"UNLIKE RUNS"}


def test_the_hash_decides_and_not_the_price_or_the_machine() -> None:
    """Runs with equal hashes are comparable whatever else differs."""
    assert not _built(_runs()).unlike


def test_one_run_is_nothing_to_compare() -> None:
    """A sentence asks for a second run."""
    with pytest.raises(InputError, match="two runs or more"):
        _built(_runs()[:1])


def test_labels_are_device_names_told_apart() -> None:
    """Equal devices are numbered, and a device that is named like a numbered one does not collide."""
    names = ["A", "B", "A", "A #2"]
    labels = comparison.labels_for([builder.record(device_name=name) for name in names])
    assert labels[:2] == ("A #1", "B")
    assert len(set(labels)) == 4


def test_lengths_measured_as_a_check_are_not_compared() -> None:
    """The held-out shape stays out of the rows."""
    held_out = Group(Shape(1, 1448), "bucketed", held_out=True)
    record = builder.record(builder.plan(groups=(*builder.GROUPS, held_out)))
    again = replace(record, header=replace(record.header, run_id="run-b"))
    made = _built([(record, _projection()), (again, _projection())])
    assert held_out not in {row.group for row in made.rows}


@pytest.mark.parametrize("count", [2, 3, 6])
def test_any_number_of_runs_fits_eighty_columns(count: int) -> None:
    """More runs than fit beside one another go into further tables; the machines' difference is always told."""
    runs = [
        (builder.record(device_name=f"device {i}", scale=1 + i, run_id=f"run-{i}"), _projection()) for i in range(count)
    ]
    drawn = exporters.render_comparison(_built(runs), "terminal").decode()
    assert max(map(len, drawn.splitlines())) <= 80
    assert "measured apart" in drawn
    assert drawn.count("By mechanism") == 1


def test_json_has_every_value_unrounded() -> None:
    """Values, places of the best and prices are there for machines."""
    data = json.loads(exporters.render_comparison(_built(_runs()), "json"))
    assert data["cheapest"]["cost"]["value"] == 6 * 0.71
    assert [run["letter"] for run in data["runs"]] == ["A", "B"]
    assert data["rows"][0] | {"values": None} == {
        "metric": "cost_usd_per_hour", "label": "sdpa", "group": None, "values": None, "best": [1],
    }  # fmt: skip


def test_letters_go_on_after_z() -> None:
    """A, Z, AA, AB."""
    assert [comparison.letter(i) for i in (0, 25, 26, 27)] == ["A", "Z", "AA", "AB"]


def _priced(low: float, value: float, high: float, **changes: Any) -> Projection:
    """A projection whose sdpa costs that, in the first run's demand."""
    return builder.projection(builder.sdpa(cost_usd_per_hour=Estimate(value, low, high), **changes))


def _two(first: Projection, second: Projection, **second_machine: Any) -> Comparison:
    """Two runs on one host, or with the second on another machine."""
    machine = builder.environment(**second_machine)
    return _built([(builder.record(), first), (builder.record(run_id="run-b", machine=machine), second)])


def _said(made: Comparison, key: str) -> str:
    return " ".join(text.say(note) for note in made.notes if note.key.startswith(key))


@pytest.mark.parametrize(
    ("second", "best", "words"),
    [
        (_priced(9, 10, 11), (1,), "on NVIDIA A100-PCIE-80GB #2, at 10.0 $/h (9.0–11.0)."),
        (_priced(9, 10, 13), (), "(9.0–13.0); not separable from sdpa (batch 8, bucketed, eager) on NVIDIA"),
        (_priced(9, 10, 11, caveats=(Caveat.FEW_ROUNDS,)), (), "cannot be said. The lowest cost, 10.0 $/h of sdpa"),
    ],
)
def test_only_ranges_that_are_apart_are_told_apart(second: Projection, best: tuple[int, ...], words: str) -> None:
    """No star and no plain winner where ranges overlap or rest on fewer than 8 rounds; the cheapest has its range."""
    made = _two(_priced(12, 14, 16), second)
    assert _row(made, "cost_usd_per_hour", "sdpa").best == best
    assert words in _said(made, "compare.cheapest")


def test_cells_of_cost_and_latency_have_their_ranges() -> None:
    """A figure with a range is shown by it, one on fewer than 8 rounds as a point."""
    drawn = exporters.render_comparison(_two(_priced(12, 14, 16), _priced(9, 10, 11)), "terminal").decode()
    assert "12.0–16.0" in drawn
    assert "1.021–1.032" in drawn
    rough = (Caveat.FEW_ROUNDS,)
    few = _two(_priced(12, 14, 16, caveats=rough), _priced(9, 10, 11, caveats=rough))
    assert "12.0–16.0" not in exporters.render_comparison(few, "terminal").decode()


def test_each_run_shows_its_size_and_its_doubts() -> None:
    """Date, threads, cores, rounds from fewest to most, and the caveats of its mechanisms and cases."""
    slow = builder.record(rounds=5, run_id="run-b", machine=builder.environment(threads=4))
    shown = exporters.render_comparison(_built(_runs(slow)), "terminal", width=400).decode()
    assert "2026-11-23T09:00:00+00:00" in shown
    doubts = "energy-unmeasured, quality-not-measured, objective-not-tested"
    assert f"Threads 2, cores 8; 16 rounds per shape; caveats: {doubts}." in shown
    assert "Threads 4, cores 8; 5 rounds per shape; caveats: few-rounds, few-epochs, energy-unmeasured." in shown


def test_one_machine_measured_twice_is_not_called_two_machines() -> None:
    """Equal device and host are one machine; another host is another machine."""
    same, other = _two(_priced(1, 2, 3), _priced(1, 2, 3)), _two(_priced(1, 2, 3), _priced(1, 2, 3), host="host-8")
    assert "A and B are the same machine measured twice" in _said(same, "compare.")
    assert "The machines" not in _said(same, "compare.")
    assert "The machines were measured apart" in _said(other, "compare.")
    assert "same machine" not in _said(other, "compare.")


def test_a_run_is_not_compared_with_itself() -> None:
    """The same run id twice is refused, even when forced."""
    with pytest.raises(InputError, match=r"#2 is the same run as .* #1"):
        _built([(builder.record(), _projection()), (builder.record(), _projection())], forced=True)


def test_simulations_are_told_apart_by_what_they_simulated() -> None:
    """The fake device draws its run id from the seed alone: other rounds are another run, equal ones the same."""
    records = [builder.record(device="fake", rounds=rounds) for rounds in (8, 16)]
    comparison.require_several(records, ("one", "other"))
    with pytest.raises(InputError, match="other is the same run as one"):
        comparison.require_several([records[0], records[0]], ("one", "other"))


@pytest.mark.parametrize(("device", "said"), [("cpu", True), ("cuda:0", False)])
def test_other_threads_on_a_cpu_are_named_and_still_comparable(device: str, said: bool) -> None:
    """A note names both numbers for CPUs; on a GPU they do not matter."""
    records = [
        builder.record(run_id=f"run-{threads}", machine=builder.environment(device, threads=threads))
        for threads in (2, 8)
    ]
    made = _built([(record, _projection()) for record in records])
    assert ("threads differs: A has 2, B has 8" in _said(made, "compare.")) is said
    assert not made.unlike


def test_energy_batches_and_regimes_are_compared_per_case() -> None:
    """Joules per sequence (less is better), the largest batch (more is) and reserved memory have rows where known,
    and a shape in another regime is another shape.
    """
    groups = (Group(Shape(1, 512), "bucketed"), Group(Shape(1, 512), "bucketed", regime="compiled"))
    key, plan = groups[0].key, builder.plan(groups=groups)

    def run(name: str, step_j: float, fits: int) -> RunRecord:
        outcome = Outcome("sdpa", Status.OK, peak_bytes=1 << 20, reserved_bytes=fits << 20,
                          energy=builder.joules(step_j), largest_batch=BatchSearch(fits, None))  # fmt: skip
        return builder.record(plan, outcomes={(key, "sdpa"): outcome}, device_name=name, run_id=name)

    first = builder.projection(builder.sdpa(), builder.winning_cast())
    made = _built([(run("A", 6.0, 96), first), (run("B", 4.0, 64), first)])
    best = {
        metric: _row(made, metric, "sdpa", groups[0]).best
        for metric in ("energy_j_per_seq", "largest_batch", "reserved_memory_mib")
    }
    assert best == {"energy_j_per_seq": (1,), "largest_batch": (0,), "reserved_memory_mib": (1,)}
    assert not any(row.metric == "energy_j_per_seq" and row.group == groups[1] for row in made.rows)
    cells = list(csv.DictReader(io.StringIO(exporters.render_comparison(made, "csv").decode())))
    assert {row["regime"] for row in cells} == {"", "eager", "compiled"}
    assert {row["regime"] for row in cells if row["batch_size"] == ""} == {""}
    assert "1 × 512 bucketed compiled" in exporters.render_comparison(made, "terminal", width=120).decode()
