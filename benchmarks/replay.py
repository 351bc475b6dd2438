"""How fast a million requests are replayed: one at a time, and with every kind of dynamic batching.

traffic (Poisson, lognormal lengths) ─▶ made ready ─▶ replay ─▶ percentiles      seconds of each, of 1,000,000 requests
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

from castbench.cost.replay import BatchingPolicy, ReplayBench
from castbench.cost.replay_checks import broken_laws
from castbench.cost.service import MeasuredTime, Service
from castbench.cost.traffic import Traffic

ALONE_S, BATCHED_S = 5.0, 15.0
"""What is promised of 1,000,000 requests: at batch 1, and with dynamic batching."""
SURFACE = MeasuredTime(
    (1, 8, 32), (128, 512, 2048, 8192),
    ((0.004, 0.006, 0.02, 0.11), (0.005, 0.012, 0.08, 0.6), (0.008, 0.04, 0.3, 2.4)),
)  # fmt: skip
CASES = {
    "one at a time": BatchingPolicy(),
    "up to 32": BatchingPolicy(32),
    "up to 32, window 10 ms": BatchingPolicy(32, 0.01),
    "up to 32, by length": BatchingPolicy(32, 0.0, (256, 1024, 4096)),
    "up to 32, window 10 ms, by length": BatchingPolicy(32, 0.01, (256, 1024, 4096)),
}
LOAD = 0.8
REPLICAS = 8


@dataclass(frozen=True)
class Row:
    """One policy: wall seconds to make ready, to replay and to take percentiles, CPU seconds of it all."""

    case: str
    requests: int
    batches: int
    p99_ms: float
    ready_s: float
    replay_s: float
    percentiles_s: float
    cpu_s: float
    promised_s: float
    laws_hold: bool

    @property
    def total_s(self) -> float:
        """Wall seconds from traffic to p50, p95 and p99."""
        return self.ready_s + self.replay_s + self.percentiles_s

    @property
    def good(self) -> bool:
        """Whether the promise, scaled to the number of requests, is kept, and the replay breaks no law."""
        return self.total_s <= self.promised_s * max(1.0, self.requests / 1e6) and self.laws_hold


def made_traffic(requests: int, seed: int) -> Traffic:
    """Arrivals that load the replicas to LOAD at batch 1; lengths of median 512 tokens."""
    rng = np.random.default_rng(seed)
    tokens = np.clip(np.exp(rng.normal(np.log(512), 0.4, requests)), 16, 8192).astype(np.int64)
    mean_s = float(SURFACE.seconds(1, tokens).mean())
    gaps = rng.exponential(mean_s / (LOAD * REPLICAS), requests)
    return Traffic.of(np.cumsum(gaps), tokens)


def measured(case: str, policy: BatchingPolicy, traffic: Traffic, seed: int) -> Row:
    """One replay from traffic to percentiles, service times drawn from rounds."""
    service = Service(SURFACE, overhead_s=0.001, factors=(0.97, 0.99, 1.0, 1.0, 1.01, 1.03))
    cpu, began = process_time(), perf_counter()
    bench = ReplayBench(traffic, service, policy, seed)
    ready = perf_counter()
    replay = bench.run(REPLICAS)
    replayed = perf_counter()
    _, _, p99_s = (replay.seconds_at(share) or 0.0 for share in (0.5, 0.95, 0.99))
    ended, cpu_s = perf_counter(), process_time() - cpu
    return Row(
        case, traffic.requests, int(replay.batch_start_s.size), p99_s * 1e3, ready - began, replayed - ready,
        ended - replayed, cpu_s, ALONE_S if policy.max_batch == 1 else BATCHED_S, not list(broken_laws(replay)),
    )  # fmt: skip


def show(rows: list[Row]) -> None:
    """A line per policy."""
    for row in rows:
        print(
            f"{row.case:34} {row.requests:9,} requests {row.batches:9,} batches  {row.total_s:5.2f} s"
            f" (ready {row.ready_s:.2f}, replay {row.replay_s:.2f}, percentiles {row.percentiles_s:.2f};"
            f" CPU {row.cpu_s:.2f})  promised {row.promised_s:g} s  {'good' if row.good else 'MISSED'}"
        )


def main() -> None:
    """Print seconds; exit code 1 where the promise is missed or a replay breaks a law."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    asked = parser.parse_args()
    traffic = made_traffic(asked.requests, asked.seed)
    rows = [measured(case, policy, traffic, asked.seed) for case, policy in CASES.items()]
    result = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "numpy": np.__version__},
        "seed": asked.seed,
        "good": all(row.good for row in rows),
        "rows": [{**asdict(row), "total_s": row.total_s, "good": row.good} for row in rows],
    }
    if asked.json:
        print(json.dumps(result, indent=1))
    else:
        show(rows)
    if asked.out:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(0 if result["good"] else 1)


if __name__ == "__main__":
    main()
