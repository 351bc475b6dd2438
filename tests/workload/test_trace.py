from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from castbench.errors import InputError
from castbench.plain import from_plain, to_plain
from castbench.workload.profile import json_schema, parse_profile
from castbench.workload.spec import Demand, TraceReference
from castbench.workload.trace import load_trace
from castbench.workload.trace_reader import SORT_WITHIN_S, file_sha256
from tests.workload.traces import requests, vidur, written

SHA = "0" * 64
PROFILE = """
name: replayed
model: {{layers: 1, embed_dim: 32, num_heads: 2}}
lengths: [{{tokens: 128, share: 1}}]
mechanisms: [sdpa]
demand: {{requests_per_second: 2, trace: {trace}}}
"""


def referred(file: Path, **changes: object) -> TraceReference:
    """A reference to a file of 200 requests."""
    return replace(TraceReference(file.name, file_sha256(file), 200), **changes)  # type: ignore[arg-type]


@pytest.fixture
def trace_file(tmp_path: Path) -> Path:
    """200 requests."""
    return written(tmp_path, "trace.csv", vidur(requests()))


def test_the_trace_is_what_the_file_says(trace_file: Path) -> None:
    """Times from 0 in ascending float64, lengths beside them, and where they come from."""
    trace = load_trace(referred(trace_file), trace_file.parent)
    assert (trace.arrival_s.dtype, trace.tokens.dtype) == (np.float64, np.int32)
    assert trace.arrival_s[0] == 0
    assert bool(np.all(np.diff(trace.arrival_s) >= 0))
    assert trace.tokens.tolist() == [tokens for _, tokens, _ in requests()]
    assert trace.source == f"trace trace.csv (200 requests, sha256 {file_sha256(trace_file)[:16]})"
    assert trace.requests_per_second == pytest.approx(199 / requests()[-1][0])


def test_the_time_scale_stretches_all_times(trace_file: Path) -> None:
    """At a time scale of 0.5 the same requests come in half the time, at twice the rate, and the source says so."""
    once = load_trace(referred(trace_file), trace_file.parent)
    twice = load_trace(referred(trace_file, time_scale=0.5), trace_file.parent)
    assert twice.arrival_s.tolist() == (once.arrival_s / 2).tolist()
    assert twice.requests_per_second == pytest.approx(2 * once.requests_per_second)
    assert twice.source.endswith(", times × 0.5)")


def test_another_file_is_refused(trace_file: Path) -> None:
    """One more byte, and the file is not the trace any more: told by both hashes, whatever else is wrong with it."""
    reference = referred(trace_file)
    trace_file.write_bytes(trace_file.read_bytes() + b"\n")
    with pytest.raises(InputError, match=r"not the trace that the profile was written from: its sha256 is .*expected"):
        load_trace(reference, trace_file.parent)
    trace_file.write_text("something,else\n")
    with pytest.raises(InputError, match="not the trace that the profile was written from"):
        load_trace(reference, trace_file.parent)


def test_what_cannot_be_replayed_is_refused(trace_file: Path) -> None:
    """No file, another number of requests, a file without times: a sentence each."""
    folder = trace_file.parent
    lengths = written(folder, "lengths.csv", "tokens\n" + "5\n" * 200)
    for reference, words in (
        (referred(trace_file, path="gone.csv"), "the trace that demand.trace names is not there"),
        (referred(trace_file, path="x" * 5000), "is not there"),
        (referred(trace_file, rows=7), "200 requests were read where demand.trace.rows says 7"),
        (referred(lengths), "the trace has no times, so it cannot be replayed"),
        (referred(trace_file, tokens_column="x"), "no column is named 'x'"),
    ):
        with pytest.raises(InputError, match=words):
            load_trace(reference, folder)


def test_a_profile_loads_without_its_trace(tmp_path: Path) -> None:
    """Rate and lengths stand in the profile, so the file is not needed to load it; defaults are those of the noun."""
    text = PROFILE.format(trace=f"{{file: ../gone.csv, sha256: {'ab' * 32}, rows: 12}}")
    result = parse_profile(text, "p.yaml", tmp_path)
    assert result.problems == ()
    assert result.profile is not None
    assert result.profile.demand == Demand(2, trace=TraceReference("../gone.csv", "ab" * 32, 12))
    assert TraceReference("", "", 2).sort_within_s == SORT_WITHIN_S


def test_every_key_reaches_the_noun(tmp_path: Path) -> None:
    """All keys of `demand.trace` are read, and survive the way through a run file."""
    keys = {
        "file": "t.csv", "sha256": "1a" * 32, "rows": 9, "time_scale": 2.5, "time_column": "at", "time_unit": "iso",
        "tokens_column": "n", "sort_within_s": 7.5, "skip_unusable": True,
    }  # fmt: skip
    spelled = ", ".join(f"{key}: {str(value).lower() if value is True else value}" for key, value in keys.items())
    result = parse_profile(PROFILE.format(trace=f"{{{spelled}}}"), "p.yaml", tmp_path)
    assert result.profile is not None
    demand = result.profile.demand
    assert demand is not None
    assert demand.trace is not None
    assert asdict(demand.trace) == {"path" if key == "file" else key: value for key, value in keys.items()}
    assert from_plain(Demand, to_plain(demand)) == demand
    assert set(json_schema()["$defs"]["TraceKeys"]["properties"]) == set(keys)


@pytest.mark.parametrize(
    ("trace", "where", "what"),
    [
        ("t.csv", "demand.trace", "expected a mapping of keys, got 't.csv'"),
        ("{}", "demand.trace.file", "this key is required, but missing"),
        (f"{{file: t, sha256: {SHA[:63]}g, rows: 5}}", "demand.trace.sha256", "the 64 hexadecimal digits that"),
        (f"{{file: t, sha256: '{'AB' * 32}', rows: 5}}", "demand.trace.sha256", f"Did you mean {'ab' * 32}?"),
        (f"{{file: t, sha256: {SHA[:10]}, rows: 5}}", "demand.trace.sha256", "got '0000000000'"),
        (f"{{file: t, sha256: '{SHA}', rows: 1}}", "demand.trace.rows", "expected a whole number of at least 2, got 1"),
        (f"{{file: t, sha256: '{SHA}', rows: 10k}}", "demand.trace.rows", "Did you mean 10240?"),
        (f"{{file: t, sha256: '{SHA}', rows: 5, time_scale: 0}}", "demand.trace.time_scale", "a number above 0, got 0"),
        (f"{{file: t, sha256: '{SHA}', rows: 5, time_unit: sec}}", "demand.trace.time_unit", "expected s or ms or us"),
        (f"{{file: t, sha256: '{SHA}', rows: 5, path: t}}", "demand.trace.path", "unknown key; there are file, sha256"),
        (f"{{file: t, sha256: '{SHA}', rows: 5, sort_within_s: 1m}}", "demand.trace.sort_within_s", "Did you mean 60?"),
        (f"{{file: t, sha256: '{SHA}', rows: 5, skip_unusable: yes}}", "demand.trace.skip_unusable", "mean true?"),
        (f'{{file: "a\\nb", sha256: \'{SHA}\', rows: 5}}', "demand.trace.file", "expected a text of one line"),
    ],
)  # fmt: skip
def test_a_broken_reference_is_named_with_its_place(tmp_path: Path, trace: str, where: str, what: str) -> None:
    """Each key of `demand.trace` is checked as every other key of a profile."""
    problems = parse_profile(PROFILE.format(trace=trace), "p.yaml", tmp_path).problems
    assert any(problem.where == where and what in problem.what for problem in problems), problems
