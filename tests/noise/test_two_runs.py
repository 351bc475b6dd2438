from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.trials import Series, read_noise, upper_bound
from castbench.cost.change import Known, change_of, process_variance
from castbench.plan import AnalysisPlan
from castbench.stats import final_error, signed_rank_estimate

NOISE = read_noise(Path(__file__).parent / "windows.json")
RULES = AnalysisPlan()
TRIALS = 60


@pytest.mark.parametrize("by_process", [False, True], ids=["by round", "by process"])
def test_two_sessions_of_one_module_are_rarely_called_changed(by_process: bool) -> None:
    """Windows recorded on real hardware of a module beside itself: the worker processes of a series are dealt to two
    sessions and the names drawn anew, by round or by process. At margin 0 the interval of the change misses 0 in at
    most 5 %, upper 95 % bound included.
    """
    rng = random.Random(4)
    missed = trials = 0
    for series in NOISE:
        for _ in range(TRIALS):
            ends = change_of(*_sessions(series, rng, by_process=by_process)).estimate
            assert ends.low is not None
            assert ends.high is not None
            missed += not ends.low <= 0 <= ends.high
            trials += 1
    assert upper_bound(missed, trials) <= 0.05


def _sessions(series: Series, rng: random.Random, *, by_process: bool) -> tuple[Known, Known]:
    """Two sessions, at least eight rounds each, of other processes of one series."""
    processes = sorted(set(series.process))
    while True:
        rng.shuffle(processes)
        sign = {p: rng.choice((-1, 1)) for p in processes}
        logs = [
            ((one - other) * (sign[p] if by_process else rng.choice((-1, 1))), p)
            for (one, other), p in zip(series.log_s, series.process, strict=True)
        ]
        halves = [[(log, p) for log, p in logs if p in dealt] for dealt in (processes[:4], processes[4:])]
        if min(map(len, halves)) >= RULES.looks[0]:
            first, second = (_known([log for log, _ in half], [p for _, p in half]) for half in halves)
            return first, second


def _known(logs: list[float], processes: list[int]) -> Known:
    """What such a session knows."""
    error = final_error(len(logs), RULES.looks, RULES.look_errors)
    assert error is not None
    return Known(signed_rank_estimate(logs, error), len(logs) - 1, error, process_variance(logs, processes))
