"""What docs/capacity.md says of two real traces, recomputed from them."""

from __future__ import annotations

import csv
import json
from dataclasses import replace as with_
from pathlib import Path

import numpy as np
import pytest

from castbench.cost.capacity_plan import formula_servers, replica_interval
from castbench.cost.objective import Limit, Objective
from castbench.cost.replay_checks import broken_laws
from castbench.cost.service import LinearTime, Service
from castbench.cost.sizing import Setting, size_fleet
from castbench.cost.traffic import Traffic, poisson_traffic
from castbench.report import text
from castbench.workload.spec import LengthDistribution

SERVICE = Service(LinearTime(0.020, 0.00025))
OBJECTIVE = Objective((Limit(0.99, 0.5, "wait"),))


def azure(folder: Path) -> Setting:
    """Arrivals and prompt lengths of the Azure code trace."""
    with (folder / "traces" / "azure_llm_code_2023.csv").open(newline="") as lines:
        rows = [(row["TIMESTAMP"], int(row["ContextTokens"])) for row in csv.DictReader(lines)]
    times = np.array([stamp for stamp, _ in rows], dtype="datetime64[ns]").astype(np.int64) / 1e9
    return Setting(Traffic.of(times, [tokens for _, tokens in rows]), SERVICE, OBJECTIVE)


def mooncake(folder: Path) -> Setting:
    """Arrivals and prompt lengths of the Mooncake conversation trace."""
    lines = (folder / "traces" / "mooncake_conversation.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    times = [row["timestamp"] / 1e3 for row in rows]
    return Setting(Traffic.of(times, [row["input_length"] for row in rows]), SERVICE, OBJECTIVE)


@pytest.mark.data
def test_on_azures_code_trace_the_formula_says_4_and_the_replay_27(data_dir: Path) -> None:
    """26 miss, every law holds, and blocks of five minutes give 15 to 28 in the middle 90 %."""
    setting = azure(data_dir)
    found = size_fleet(setting)
    assert (formula_servers(setting), found.needed) == (4, 27)
    assert "with 26 the p99 wait is 585.7 ms" in (text.in_english(found.proof) or "")
    assert list(broken_laws(setting.outcome(27))) == []
    interval = replica_interval(setting, resamples=100, guess=27)
    assert (interval.low, interval.high) == (15, 28)


@pytest.mark.data
def test_on_mooncakes_conversations_the_formula_says_18_and_the_replay_22(data_dir: Path) -> None:
    """21 miss; the trace is smoother, and so are its blocks."""
    setting = mooncake(data_dir)
    found = size_fleet(setting)
    assert (formula_servers(setting), found.needed) == (18, 22)
    assert list(broken_laws(setting.outcome(22))) == []
    interval = replica_interval(setting, resamples=100, guess=22)
    assert (interval.low, interval.high) == (21, 23)


@pytest.mark.data
def test_the_same_requests_arriving_at_random_need_what_the_formula_says(data_dir: Path) -> None:
    """Poisson arrivals at the same rate and lengths: it is the bursts that the formula does not see."""
    for made, formula in ((azure, 4), (mooncake, 18)):
        setting = made(data_dir)
        values, counts = np.unique(setting.traffic.tokens, return_counts=True)
        mix = LengthDistribution(
            tuple(values.tolist()), tuple((counts / counts.sum()).tolist()), False, "trace"
        )  # fmt: skip
        smooth = poisson_traffic(setting.traffic.rate_per_s or 0.0, setting.traffic.span_s, mix, seed=0)
        assert abs((size_fleet(with_(setting, traffic=smooth)).needed or 0) - formula) <= 1


@pytest.mark.data
def test_a_faster_model_saves_replicas_where_the_formula_sees_no_difference(data_dir: Path) -> None:
    """At 1.25 times the speed the Azure trace needs 22 instead of 27; the formula says 4 both times."""
    faster = with_(azure(data_dir), service=SERVICE.slower(0.8))
    assert (formula_servers(faster), size_fleet(faster).needed) == (4, 22)
    softer = with_(azure(data_dir), objective=Objective((Limit(0.95, 0.5, "wait"),)))
    assert (formula_servers(softer), size_fleet(softer).needed) == (3, 17)


@pytest.mark.data
def test_mooncakes_stamps_come_in_steps_and_spread_over_them_the_replay_says_19(data_dir: Path) -> None:
    """Stamps are 3 s apart, up to 28 requests on one: most of what lies between 18 and 22 is that rounding."""
    setting = mooncake(data_dir)
    stamps, together = np.unique(setting.traffic.arrival_s, return_counts=True)
    assert np.diff(stamps) == pytest.approx(3.0, abs=0.0031)
    assert together.max() == 28
    spread = [with_(setting, traffic=setting.traffic.spread(3.0, seed)) for seed in range(5)]
    assert {size_fleet(one).needed for one in spread} <= {18, 19}


@pytest.mark.data
def test_one_burst_of_three_seconds_decides_on_azures_code_trace(data_dir: Path) -> None:
    """With 26 replicas all late requests arrive within 3.3 s of the hour; without their block 17 are enough."""
    setting = azure(data_dir)
    arrivals = setting.traffic.arrival_s
    late = arrivals[setting.outcome(26).wait_s > 0.5] - arrivals[0]
    assert late.size == 161
    assert late.max() - late.min() < 3.31
    before, after = setting.traffic.between(0, arrivals[0] + 600), setting.traffic.between(arrivals[0] + 900, np.inf)
    rest = Traffic.of(
        np.concatenate((before.arrival_s, after.arrival_s - 300)), np.concatenate((before.tokens, after.tokens))
    )
    assert size_fleet(with_(setting, traffic=rest)).needed == 17
