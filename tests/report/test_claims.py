from __future__ import annotations

from dataclasses import replace

import pytest

from castbench.plan import Arm
from castbench.records import Status
from castbench.report import claims_page, exporters, text, view
from castbench.report.blocks import Paragraph, Table
from castbench.report.claims_view import claims_check, memory_claim, speed_claim
from castbench.stats import Estimate
from castbench.workload.spec import SamplingPolicy
from tests.cost.builder import CAST, NAIVE, SDPA, Seconds, projected, run_of
from tests.report import builder

TIMES = {"sdpa": 1.0, "naive": 4.0, "cast-32": 0.5}


def seconds(table: dict[str, float] = TIMES) -> Seconds:
    """A time per token for each label."""
    return lambda label, batch, length, how: table[label] * length * batch


def test_cast_stands_against_both_at_every_length_of_batch_one() -> None:
    """Eight times as fast as naive, twice as fast as sdpa, by construction; other batches are left out."""
    found = claims_check(run_of(seconds(), arms=(SDPA, NAIVE, CAST), batch_sizes=(1, 4)))
    assert [(row.group.shape.batch_size, row.group.shape.seq_len) for row in found] == [(1, 512), (1, 2048)]
    for row in found:
        assert row.original.speedup is not None
        assert row.fused.speedup is not None
        assert row.original.speedup.value == pytest.approx(8)
        assert row.fused.speedup.value == pytest.approx(2)
        assert (row.original.speed, row.fused.speed) == ("confirmed", "not_confirmed")
        assert row.original.memory_share == 1
        assert row.original.memory == "not_confirmed"


@pytest.mark.parametrize(
    ("speed", "said"),
    [
        (Estimate(7, 6, 8), "confirmed"), (Estimate(7, 5.9, 8), "unclear"), (Estimate(5, 4, 6), "unclear"),
        (Estimate(5, 4, 5.9), "not_confirmed"), (Estimate(7), "unclear"), (None, "not_measured"),
    ],
)  # fmt: skip
def test_a_speed_is_confirmed_by_its_whole_interval(speed: Estimate | None, said: str) -> None:
    """6 times: reached by the lower end, not reached by the upper one, or nobody knows."""
    assert speed_claim(speed) == said


@pytest.mark.parametrize(("share", "said"), [(0.1, "confirmed"), (0.11, "not_confirmed"), (None, "not_measured")])
def test_memory_is_counted(share: float | None, said: str) -> None:
    """10 % of the other's peak is confirmed, more is not."""
    assert memory_claim(share) == said


def test_what_was_not_measured_is_called_so() -> None:
    """No naive in the run, or out of memory at one length: not measured there, the rest stays."""
    alone = claims_check(run_of(seconds(), arms=(SDPA, CAST)))
    assert {(row.original.speed, row.original.label) for row in alone} == {("not_measured", None)}
    broken = run_of(seconds(), arms=(SDPA, NAIVE, CAST), failed={("b1-n2048-bucketed", "naive"): Status.OOM})
    assert [row.original.speed for row in claims_check(broken)] == ["confirmed", "not_measured"]
    assert [row.fused.speed for row in claims_check(broken)] == ["not_confirmed"] * 2


def test_without_cast_there_is_no_claim_to_check() -> None:
    """No section, whatever else was measured."""
    record = run_of(seconds(), arms=(SDPA, NAIVE))
    assert claims_check(record) == ()
    assert tuple(claims_page.claims(view.build(record, projected(record)))) == ()


def test_the_section_names_phase_and_device_and_both_rivals() -> None:
    """A line against the original and one against the fused attention; the note says inference or training."""
    record = run_of(seconds(), arms=(SDPA, NAIVE, CAST))
    blocks = tuple(claims_page.claims(view.build(record, projected(record))))
    table = next(block for block in blocks if isinstance(block, Table))
    assert [row[2] for row in table.rows] == ["naive (original)", "sdpa (fused)"] * 2
    assert [row[4] for row in table.rows] == ["yes", "no"] * 2
    notes = " ".join(block.words for block in blocks if isinstance(block, Paragraph))
    assert "here it was inference in fp32 on no device" in notes
    plan = record.header.plan
    trained = replace(
        record, header=replace(record.header, plan=replace(plan, served=replace(plan.served, phase="training")))
    )
    told = claims_page.circumstances(view.build(trained, projected(record)))
    assert "here it was training" in text.say(told)


def test_arms_are_found_by_mechanism_and_not_by_label() -> None:
    """A naive called original and a CAST called ours are what they are."""
    arms = (SDPA, Arm("original", "naive", (), "candidate", True), Arm("ours", "cast", (), "candidate", False))
    found = claims_check(run_of(seconds({"sdpa": 1.0, "original": 4.0, "ours": 0.5}), arms=arms))
    assert {(row.label, row.original.label, row.original.speed) for row in found} == {("ours", "original", "confirmed")}


def test_few_rounds_leave_the_claim_unclear() -> None:
    """Three rounds have no interval, so they neither confirm nor refute."""
    assert {row.original.speed for row in claims_check(run_of(seconds(), arms=(SDPA, NAIVE, CAST), rounds=3))} == {
        "unclear"
    }
    assert SamplingPolicy().same_within == 0.01


def test_a_report_has_the_claims_in_json() -> None:
    """Machines get the same rows, unrounded."""
    report = builder.win()
    assert '"claims": [' in exporters.render(report, "json").decode()
    assert len(report.claims) == 2
