from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.records import Caveat, Status
from castbench.report import comparison_page, csv_table, diff_page, exporters, text
from castbench.report.nouns import Report
from tests.report import builder

GUIDE = Path(__file__).parents[2] / "docs" / "csv.md"
FIXED_SUMMARY = [
    "label", "mechanism", "parameters", "recommendation", "quality_status", "baseline_config", "regime",
    "batch_size_used", "replicas", "replicas_fractional", "utilization", "cost_usd_per_hour", "saving_usd_per_hour",
    "saving_low_usd_per_hour", "saving_high_usd_per_hour", "saving_percent", "probability_saving_positive",
    "cash_saving_usd_per_hour", "cost_usd_per_million_tokens", "speedup_vs_baseline", "peak_memory_mib",
    "crossover_tokens", "verdict", "caveats",
]  # fmt: skip
FIXED_CASES = [
    "label", "mechanism", "parameters", "phase", "dtype", "regime", "batch_size", "seq_len", "status", "reason",
    "latency_p50_ms", "latency_low_ms", "latency_high_ms", "latency_mean_ms", "step_p95_ms", "step_p99_ms",
    "throughput_seq_per_s", "throughput_tokens_per_s", "peak_memory_mib", "energy_j_per_seq", "speedup_vs_baseline",
    "speedup_low", "speedup_high", "verdict", "rounds", "stopped_by", "caveats",
]  # fmt: skip


def _rows(report: Report, table: str = "summary") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(exporters.render(report, "csv", table=table).decode("utf-8"), newline="")))


def test_the_fixed_columns_stand_first_and_in_their_order() -> None:
    """Whatever is appended, spreadsheets that rely on the published columns keep working."""
    assert list(csv_table.SUMMARY)[: len(FIXED_SUMMARY)] == FIXED_SUMMARY
    assert list(csv_table.CASES)[: len(FIXED_CASES)] == FIXED_CASES


@pytest.mark.parametrize(
    ("heading", "columns"),
    [
        ("## Summary", tuple(csv_table.SUMMARY)),
        ("## Cases", tuple(csv_table.CASES)),
        ("## Comparison", comparison_page.CSV_COLUMNS),
        ("## Diff", diff_page.CSV_COLUMNS),
    ],
)
def test_the_guide_explains_every_column_in_order(heading: str, columns: tuple[str, ...]) -> None:
    """docs/csv.md has exactly the columns that are written."""
    section = GUIDE.read_text(encoding="utf-8").partition(heading)[2].partition("\n## ")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \| \S", section, re.MULTILINE)) == columns


@pytest.mark.parametrize(
    ("heading", "sentences"),
    [
        ("## Caveats", {caveat.value: text.CAVEATS[caveat] for caveat in Caveat}),
        ("## Statuses", dict.fromkeys(Status, "")),
        ("## What ended a group", text.STOPPED_BY),
    ],
)
def test_the_guide_explains_every_code(heading: str, sentences: dict[str, str]) -> None:
    """docs/csv.md names every caveat, status and end of a group, in the words of the report."""
    section = GUIDE.read_text(encoding="utf-8").partition(heading)[2].partition("\n## ")[0]
    told = dict(re.findall(r"^\| `([\w-]+)` \| (\S.*) \|$", section, re.MULTILINE))
    assert list(told) == [str(code) for code in sentences]
    assert all(sentence in told[code] for code, sentence in sentences.items())


def test_a_summary_row_says_what_the_projection_says() -> None:
    """Numbers arrive unrounded, in the units of their names."""
    row = _rows(builder.win())[2]
    arm = builder.winning_cast()
    assert arm.saving_usd_per_hour is not None
    assert row["label"] == "cast-32"
    assert row["parameters"] == '{"num_clusters":32,"cluster_size":null,"clustering":"top_k"}'
    assert float(row["saving_low_usd_per_hour"]) == arm.saving_usd_per_hour.low
    assert float(row["saving_usd_per_month"]) == arm.saving_usd_per_hour.value * 730
    assert row["crossover_tokens"] == "4096"
    assert row["crossover_above_tokens"] == "512"
    assert float(row["peak_memory_mib"]) == 512
    assert row["baseline_config"] == "sdpa (batch 8, bucketed, eager)"
    assert row["caveats"] == "quality-not-measured; objective-not-tested"


def test_cases_hold_every_case_and_their_latencies_in_milliseconds() -> None:
    """Ceilings are rows too; times are those of the finding times a thousand."""
    report = builder.win()
    rows = _rows(report, "cases")
    assert len(rows) == len(builder.GROUPS) * len(builder.ARMS)
    first = report.groups[0].rows[0]
    assert first.latency_ms is not None
    assert float(rows[0]["latency_p50_ms"]) == first.latency_ms.value
    assert {row["label"] for row in rows} >= {"ceiling:mixing", "ceiling:module"}
    assert {row["label"] for row in _rows(report)} == {"sdpa", "naive", "cast-32"}


def test_what_is_not_known_is_an_empty_cell() -> None:
    """Missing money, speed-ups of the baseline and numbers of failed cases are empty, never 0."""
    for row in _rows(builder.no_price()):
        assert [row[name] for name in csv_table.SUMMARY if "usd" in name] == [""] * sum(
            "usd" in c for c in csv_table.SUMMARY
        )
        assert "no price is known" in row["reason"]
    failed = next(row for row in _rows(builder.failures(), "cases") if row["status"] == "oom")
    assert failed["latency_p50_ms"] == failed["peak_memory_mib"] == failed["speedup_vs_baseline"] == ""
    assert failed["reason"].startswith("tried to allocate")


def test_energy_and_memory_columns_hold_what_the_report_holds() -> None:
    """Joules per sequence with their ends, net, powers, source; what was not measured is empty, not 0."""
    report = builder.on_a_gpu()
    rows = {(row["label"], row["regime"]): row for row in _rows(report, "cases")}
    found = report.groups[0].rows[0].energy
    assert found is not None
    row = rows["sdpa", "eager"]
    told = [row[f"energy_{end}j_per_seq"] for end in ("", "low_", "high_")]
    energy = found.gross_j_per_sequence
    assert [float(cell) for cell in told] == [energy.value, energy.low, energy.high]
    assert float(row["energy_j_per_1k_tokens"]) == found.gross_j_per_1k_tokens.value
    assert found.net_j_per_sequence is not None
    assert float(row["energy_net_j_per_seq"]) == found.net_j_per_sequence.value
    assert (float(row["mean_power_w"]), float(row["idle_power_w"])) == (found.mean_power_w, found.idle_w)
    assert (row["energy_source"], row["energy_scope"]) == ("nvml-counter", "gpu")
    assert float(row["energy_disagreement"]) == found.disagreement
    assert (row["reserved_memory_mib"], row["largest_batch"], row["largest_batch_fails"]) == ("320.0", "96", "97")
    assert (row["discarded_rounds"], rows["sdpa", "compiled"]["discarded_rounds"]) == ("2", "0")
    assert rows["cast-32", "eager"]["largest_batch_fails"] == ""
    without = rows["naive", "compiled"]
    assert {cell for name, cell in without.items() if "energy" in name and name != "energy_reason"} == {""}
    assert (without["mean_power_w"], without["reserved_memory_mib"], without["largest_batch"]) == ("", "", "")
    assert without["energy_reason"] == "the counter stood still for 2 s"


def test_a_summary_row_says_what_fresh_rounds_said() -> None:
    """Outcome, shape, rival and speed-up of the confirmed arm; empty for the others."""
    report = builder.win()
    (fresh,) = report.confirmations
    sdpa, _, cast = _rows(report)
    assert fresh.speedup_fresh is not None
    assert (cast["confirmation"], cast["confirmed_at"], cast["confirmed_against"]) == (
        "confirmed", "b8-n4096-padded", "sdpa",
    )  # fmt: skip
    assert [float(cast[f"confirmed_speedup{end}"]) for end in ("", "_low", "_high")] == [
        fresh.speedup_fresh.value, fresh.speedup_fresh.low, fresh.speedup_fresh.high,
    ]  # fmt: skip
    assert (sdpa["confirmation"], sdpa["confirmed_speedup"]) == ("", "")
    assert cast["crossover_regime"] == "eager"


@given(st.text(max_size=30))
def test_no_text_cell_is_a_formula(words: str) -> None:
    """Whatever a label is, the cell does not begin with what starts a formula, and the text is still all there."""
    cell = next(
        csv.reader(io.StringIO(csv_table.write(["x"], [[words]]).decode("utf-8").partition("\n")[2], newline="")), [""]
    )
    shown = cell[0] if cell else ""
    assert not shown.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert shown.removeprefix("'") == words.removeprefix("'")


@given(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(10**12), 10**12)))
def test_a_number_survives_the_round_trip(number: float) -> None:
    """Numbers are written so that reading gives them back exactly; a minus sign is no formula."""
    written = csv_table.write(["x"], [[number]]).decode().splitlines()[1]
    assert float(written) == number
    assert "'" not in written


def test_hostile_labels_keep_their_row() -> None:
    """Line breaks, quotes and separators in a label do not break the table."""
    rows = _rows(builder.hostile())
    assert len(rows) == 9
    assert rows[1]["label"] == "'=cmd|'/c calc'!A0"
    assert rows[2]["label"] == "a|b<script>alert(1)</script>\n# *x*"
    assert len(rows[4]["label"]) == 300
