from __future__ import annotations

import math

import pytest

from castbench.findings import confirmations
from castbench.records import Outcome, RunRecord, Status
from castbench.report.nouns import CaseRow
from castbench.report.rows import confirmed_rows, group_tables
from castbench.stats import Verdict
from tests.report import builder
from tests.report.builder import APPEARED, GROUPS, confirmed, discarding, joules, record

PADDED = GROUPS[2]


def _row(run: RunRecord, label: str) -> CaseRow:
    """The case of a label at the padded batch of 8."""
    table = next(table for table in group_tables(run) if table.group == PADDED)
    return next(row for row in table.rows if row.arm.label == label)


def _with_energy(source: str = "nvml-counter") -> CaseRow:
    outcome = Outcome("sdpa", Status.OK, energy=joules(6.0, source=source))
    return _row(record(outcomes={(PADDED.key, "sdpa"): outcome}), "sdpa")


def test_energy_is_per_sequence_and_per_token_of_the_batch() -> None:
    """Six joules a step over 8 rows, of which 4096 tokens and seven times the mean of the lengths are real."""
    found = _with_energy().energy
    assert found is not None
    assert found.gross_j_per_step.value == pytest.approx(6.0)
    assert found.gross_j_per_sequence.value == pytest.approx(6.0 / 8)
    tokens = 4096 + 7 * (512 * 0.5 + 2048 * 0.3 + 4096 * 0.2)
    assert found.gross_j_per_1k_tokens.value == pytest.approx(6000 / tokens)
    assert found.net_j_per_step is not None
    assert found.net_j_per_step.value == pytest.approx(6.0 - 60.0 * 0.02)
    assert (found.idle_w, found.mean_power_w) == (pytest.approx(60.0), pytest.approx(300.0))
    assert found.disagreement == pytest.approx(-0.1)


def test_what_was_not_measured_is_none() -> None:
    """Without an energy pass, an allocator or a search there is no number, not 0."""
    row = _row(record(), "sdpa")
    assert (row.energy, row.reserved_memory_mib, row.largest_batch, row.energy_reason) == (None,) * 4


def test_discarded_rounds_are_counted_by_purpose_and_reason() -> None:
    """Two reasons among the rounds that compare, one among the fresh ones; other groups have none."""
    run = discarding(confirmed(record(), discarded=APPEARED), PADDED, APPEARED, "a power brake", APPEARED)
    tables = {table.group: table.discards for table in group_tables(run)}
    compare, fresh = tables[PADDED]
    assert (compare.purpose, compare.attempts, compare.count) == ("compare", 16 + 3, 3)
    assert compare.reasons == ((APPEARED, 2), ("a power brake", 1))
    assert (fresh.purpose, fresh.attempts, fresh.count) == ("confirm", 9, 1)
    assert tables[GROUPS[0]] == ()


def test_a_confirmation_is_told_in_speed_ups() -> None:
    """The logarithm of a time ratio turns into the inverse ratio, its ends change places."""
    run = confirmed(record())
    (said,), (found,) = confirmed_rows(run), confirmations(run)
    assert said.speedup_fresh is not None
    assert found.fresh is not None
    assert said.speedup_fresh.value == pytest.approx(math.exp(-found.fresh.value))
    assert said.speedup_fresh.low is not None
    assert said.speedup_fresh.high is not None
    assert said.speedup_fresh.low < said.speedup_fresh.value < said.speedup_fresh.high
    assert (said.claim, said.holds, said.rounds, said.wanted) == (Verdict.FASTER, True, 8, 8)


@pytest.mark.parametrize(
    ("slower", "rounds", "first", "outcome"),
    [(1.0, 8, 16, "confirmed"), (1.9, 8, 16, "refuted"), (1.0, 7, 16, "incomplete"), (1.0, 8, 5, "nothing-claimed")],
)
def test_a_claim_has_one_of_four_ends(slower: float, rounds: int, first: int, outcome: str) -> None:
    """Borne out, not borne out, not measured in full, or no claim to begin with."""
    (said,) = confirmed_rows(confirmed(record(rounds=first), slower=slower, rounds=rounds))
    assert said.outcome == outcome


def test_a_shape_without_any_number_is_known_as_such() -> None:
    """Every mechanism unsupported: not measured; one with a number: measured."""
    tables = {table.group.regime: table for table in builder.on_a_gpu().groups}
    assert not tables["graph"].is_measured
    assert tables["compiled"].is_measured
