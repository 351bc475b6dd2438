"""Whether the replay is borne out by a real server: ten rehearsals on this CPU, at several rates, batches and bursts.

a run measured here ─▶ for each setting: the replay with its band, then a real server fed in time ─▶ inside the band?
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from castbench.cost.rehearsed import Rehearsal
from castbench.cost.traffic import Traffic
from castbench.measure.runner import Silent
from castbench.measure.threads import usable_cores
from castbench.pipeline import load_plan, measure, open_rig, read_run
from castbench.records import RunRecord
from castbench.rehearsal.choice import RehearsalChoice
from castbench.rehearsal.machine import open_stage
from castbench.rehearsal.stage import rehearse
from castbench.traffic_source import SourcedTraffic
from castbench.workload.trace_reader import read_trace

PROFILE = """
name: rehearsed
model: {{layers: 4, embed_dim: 256, num_heads: 4, vocab_size: 5000}}
lengths:
  - {{tokens: 64, share: 0.4}}
  - {{tokens: 128, share: 0.3}}
  - {{tokens: 256, share: 0.2}}
  - {{tokens: 512, share: 0.1}}
batch_sizes: {sizes}
batching: [padded]
mechanisms: [sdpa, {{cast: {{num_clusters: 8}}, label: cast}}]
sampling: {{energy: false, confirm: false, target_ci: 0.001, same_within: 0.0001, max_seconds_per_case: {seconds}}}
"""
PROMISED = 8
"""Of the ten settings, those in which both p50 and p99 shall lie in the band."""
BUSY_SHARE, BUSY_FACTOR, BUSY_S = 0.2, 3.0, 2.0
"""Made-up bursts: a fifth of the time at three times the mean rate, for two seconds at a time on average."""


@dataclass(frozen=True)
class Setting:
    """One rehearsal: how requests come, and how they are batched."""

    label: str
    load: float
    max_batch: int
    window_ms: float
    bursty: bool

    def __str__(self) -> str:
        window = f", window {self.window_ms:g} ms" if self.window_ms else ""
        arrivals = "bursty" if self.bursty else "smooth"
        return f"{self.label}, {arrivals}, load {self.load:g}, up to {self.max_batch}{window}"


SETTINGS = (
    Setting("sdpa", 0.3, 1, 0.0, False),
    Setting("sdpa", 0.7, 1, 0.0, False),
    Setting("sdpa", 0.5, 8, 0.0, False),
    Setting("sdpa", 0.8, 8, 0.0, False),
    Setting("sdpa", 0.5, 8, 10.0, False),
    Setting("sdpa", 0.4, 1, 0.0, True),
    Setting("sdpa", 0.5, 8, 0.0, True),
    Setting("sdpa", 0.7, 8, 5.0, True),
    Setting("cast", 0.7, 4, 0.0, False),
    Setting("cast", 0.6, 8, 0.0, True),
)


def measured_run(folder: Path, seconds: float, sizes: Sequence[int]) -> RunRecord:
    """A run of both mechanisms on this CPU, without ceilings."""
    file = folder / "rehearsed.yaml"
    file.write_text(PROFILE.format(seconds=seconds, sizes=list(sizes)))
    profile, full = load_plan(str(file))
    plan = replace(full, arms=tuple(arm for arm in full.arms if arm.role != "ceiling"))
    # A core is left to who sends: else the server's threads stand behind it, and wait for one another.
    threads = max(1, len(usable_cores() or (0,)) - 1)
    with closing(open_rig("cpu", profile.dtype, profile.seed, threads)) as rig:
        return measure(profile, plan, rig, Silent(), out=folder / "rehearsed.jsonl").record


def bursts(record: RunRecord, trace: Path | None, seed: int) -> SourcedTraffic:
    """Arrivals of a trace, or made-up bursts, with lengths of the run's mix: only the times are lent."""
    rng = np.random.default_rng(seed)
    if trace is not None:
        at_s, source = read_trace(trace).arrival_s, f"arrivals of {trace.name}"
        if at_s is None:
            raise SystemExit(f"{trace} has no times")
    else:
        at_s, source = made_up(rng), "made-up bursts"
    mix = record.header.plan.mix
    return SourcedTraffic(Traffic.of(at_s, rng.choice(mix.tokens, at_s.size, p=mix.shares)), source)


def made_up(rng: np.random.Generator, requests: int = 50_000) -> np.ndarray:
    """Arrivals at two rates in turn, one request per second on average."""
    calm = (1 - BUSY_SHARE * BUSY_FACTOR) / (1 - BUSY_SHARE)
    calm_s = BUSY_S * (1 - BUSY_SHARE) / BUSY_SHARE
    # Rehearsals speed the trace up to tens of requests a second: phases are long here, to be of BUSY_S there.
    times, now = [], 0.0
    while len(times) < requests:
        for rate, mean_s in ((calm, calm_s * 40), (BUSY_FACTOR, BUSY_S * 40)):
            length = rng.exponential(mean_s)
            times.extend((now + length * np.sort(rng.random(rng.poisson(rate * length)))).tolist())
            now += length
    return np.array(times[:requests])


def rehearsed(record: RunRecord, setting: Setting, trace: Path | None, seconds: float, seed: int) -> Rehearsal:
    """One setting, served and compared."""
    traced = bursts(record, trace, seed) if setting.bursty else None
    choice = RehearsalChoice(
        setting.label, load=setting.load, seconds=seconds, max_batch=setting.max_batch,
        window_s=setting.window_ms / 1e3, seed=seed,
    )  # fmt: skip
    with open_stage(record.header) as stage:
        return rehearse(record, traced, choice, stage)


def row(setting: Setting, found: Rehearsal) -> dict[str, object]:
    """What is kept of one rehearsal."""
    return {
        "setting": asdict(setting), "p50_inside": found.at(0.5).is_inside, "p99_inside": found.at(0.99).is_inside,
        "borne_out": found.is_borne_out, "p50_error": found.at(0.5).error, "p99_error": found.at(0.99).error,
        "rehearsal": asdict(found),
    }  # fmt: skip


def show(setting: Setting, found: Rehearsal) -> None:
    """A line per setting."""
    cells = []
    for share in (0.5, 0.99):
        one = found.at(share)
        observed, predicted, low, high = (
            f"{1e3 * s:.1f}" for s in (one.observed_s, one.predicted_s, one.low_s, one.high_s)
        )
        cells.append(
            f"p{share * 100:g} {observed:>6} ({predicted:>6}; {low}–{high}) {'in ' if one.is_inside else 'OUT'}"
        )
    print(
        f"{setting!s:45} {found.requests:5} requests  {'  '.join(cells)}  batches took {found.service_ratio:.3f}×,"
        f" sent within {1e3 * found.session.late_p99_s:.1f} ms, waited {found.session.waited_share or 0:.1%}",
        flush=True,
    )


def main() -> None:
    """Print the table; exit code 1 where fewer settings than promised lie inside their bands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="of every rehearsal")
    parser.add_argument("--measure", type=float, default=20.0, help="seconds per shape of the run before them")
    parser.add_argument("--run", help="a run to rehearse instead: of sdpa and cast, padded batches of 1 to 8")
    parser.add_argument("--trace", type=Path, help="lend the arrivals of bursts from this trace")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="three settings of a few seconds: does it run at all?")
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    asked = parser.parse_args()
    settings = SETTINGS[1:9:3] if asked.quick else SETTINGS
    seconds, measure_s = (5.0, 2.0) if asked.quick else (asked.seconds, asked.measure)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        record = read_run(asked.run) if asked.run else measured_run(Path(folder), measure_s, (1, 2, 4, 8))
        for number, setting in enumerate(settings):
            found = rehearsed(record, setting, asked.trace, seconds, asked.seed + number)
            rows.append(row(setting, found))
            if not asked.json:
                show(setting, found)
    inside = sum(bool(one["p50_inside"]) and bool(one["p99_inside"]) for one in rows)
    borne_out = sum(bool(one["borne_out"]) for one in rows)
    needed = round(PROMISED / 10 * len(settings))
    result = {
        "machine": asdict(record.header.environment), "seconds": seconds, "seed": asked.seed, "settings": len(settings),
        "inside": inside, "borne_out": borne_out, "promised": needed, "good": inside >= needed, "rows": rows,
    }  # fmt: skip
    told = f"both percentiles inside the band in {inside} of {len(settings)} settings"
    told += f", in {borne_out} of them with bands narrow enough to say something"
    print(json.dumps(result, indent=1) if asked.json else told)
    if asked.out:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(0 if result["good"] else 1)


if __name__ == "__main__":
    main()
