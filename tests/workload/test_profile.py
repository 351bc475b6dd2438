from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.errors import InputError, Problem
from castbench.workload.profile import ReadResult, json_schema, parse_profile, read_profile
from castbench.workload.spec import (
    Demand,
    MechanismChoice,
    ModelSpec,
    PriceChoice,
    SamplingPolicy,
    ServiceObjective,
    WorkloadProfile,
)

SOUND = {
    "name": "sound",
    "model": "{layers: 2, embed_dim: 64, num_heads: 4}",
    "lengths": "[{tokens: 512, share: 0.5}, {tokens: 2048, share: 0.5}]",
    "mechanisms": "[sdpa, cast]",
}


def written(**keys: str | None) -> str:
    """A sound profile with some keys replaced, added, or left out (None)."""
    return "\n".join(f"{key}: {value}" for key, value in {**SOUND, **keys}.items() if value is not None)


def parse(text: str, folder: Path = Path()) -> ReadResult:
    """The profile of a text."""
    return parse_profile(text, "p.yaml", folder)


def sound(**keys: str | None) -> WorkloadProfile:
    """The profile of a text that must be sound."""
    result = parse(written(**keys))
    assert result.problems == ()
    assert result.profile is not None
    return result.profile


BROKEN = [
    (
        "name",
        "Big Docs",
        "name",
        "expected a name of at most 80 letters, digits, '-', '_' and '.', got 'Big Docs'. Did you mean Big-Docs?",
    ),
    ("name", "../../etc/passwd", "name", "expected a name"),
    ("name", '"a\\e[31m"', "name", r"got 'a\x1b[31m'"),
    ("name", "12", "name", 'got 12. Did you mean "12"?'),
    ("name", None, "name", "this key is required, but missing"),
    ("model", None, "model", "this key is required, but missing"),
    ("lengths", None, "lengths", "this key is required, but missing"),
    ("mechanisms", None, "mechanisms", "this key is required, but missing"),
    ("model", "big", "model", "expected a mapping of keys, got 'big'"),
    ("model", "[1, 2]", "model", "expected a mapping of keys, got a list"),
    ("model", "{layers: 2, embed_dim: 64}", "model.num_heads", "this key is required, but missing"),
    (
        "model",
        "{layers: 2, embed_dim: 64, num_heads: 5}",
        "model.num_heads",
        "expected a divisor of embed_dim 64, got 5. Did you mean 4?",
    ),
    ("model", "{layers: -2, embed_dim: 64, num_heads: 4}", "model.layers", "expected a positive integer, got -2"),
    ("model", "{layers: 5000, embed_dim: 64, num_heads: 4}", "model.layers", "expected at most 1000, got 5000"),
    ("model", "{layers: true, embed_dim: 64, num_heads: 4}", "model.layers", "expected a positive integer, got true"),
    ("model", "{layers: 2.0, embed_dim: 64, num_heads: 4}", "model.layers", "got 2.0. Did you mean 2?"),
    ("model", "{layers: 2, embed_dim: 64, num_heads: 4, ffn: 64}", "model.ffn", "Did you mean 'ffn_dim'?"),
    (
        "model",
        "{layers: 2, embed_dim: [64], num_heads: 4}",
        "model.embed_dim",
        "expected a positive integer, got a list",
    ),
    (
        "model",
        "{layers: 2, embed_dim: 64, num_heads: 4, vocab_size: 1}",
        "model.vocab_size",
        "expected a whole number of at least 2, got 1",
    ),
    ("lengths", "512", "lengths", "expected a list of {tokens, share}, {quantiles: …} or {file: …}, got 512"),
    ("lengths", "{tokens: 512}", "lengths", "expected a list of {tokens, share}"),
    ("lengths", "[]", "lengths", "expected at least one entry, got none"),
    ("lengths", "[{tokens: 512, share: 1}, 2048]", "lengths[1]", "expected a mapping of keys, got 2048"),
    (
        "lengths",
        "[{tokens: 2k, share: 1}]",
        "lengths[0].tokens",
        "expected a positive integer, got '2k'. Did you mean 2048?",
    ),
    ("lengths", "[{tokens: 4Ki, share: 1}]", "lengths[0].tokens", "got '4Ki'. Did you mean 4096?"),
    ("lengths", "[{tokens: 0, share: 1}]", "lengths[0].tokens", "expected a positive integer, got 0"),
    ("lengths", "[{tokens: 010, share: 1}]", "lengths[0].tokens", "got '010'. Did you mean 10?"),
    ("lengths", "[{tokens: 0x200, share: 1}]", "lengths[0].tokens", "got '0x200'. Did you mean 512?"),
    ("lengths", "[{tokens: 1_000, share: 1}]", "lengths[0].tokens", "got '1_000'. Did you mean 1000?"),
    ("lengths", "[{tokens: 99000000, share: 1}]", "lengths[0].tokens", "expected at most 10000000, got 99000000"),
    (
        "lengths",
        '[{tokens: 5, share: "0.5"}]',
        "lengths[0].share",
        "got '0.5'. Did you mean 0.5? Write it without quotes.",
    ),
    ("lengths", "[{tokens: 5, share: 50%}]", "lengths[0].share", "got '50%'. Did you mean 0.5?"),
    ("lengths", "[{tokens: 5, share: .nan}]", "lengths[0].share", "expected a share above 0 and at most 1, got .nan"),
    ("lengths", "[{tokens: 5, share: .inf}]", "lengths[0].share", "expected a share above 0 and at most 1, got .inf"),
    ("lengths", "[{tokens: 5, share: -1}]", "lengths[0].share", "expected a share above 0 and at most 1, got -1"),
    (
        "lengths",
        "[{tokens: 5, share: 0.5}, {tokens: 6, share: 0.4}]",
        "lengths",
        "expected shares that add up to 1, got 0.9",
    ),
    ("lengths", "[{tokens: 5, share: 0.5}, {tokens: 5, share: 0.5}]", "lengths", "5 tokens is listed twice"),
    ("lengths", "[{tokens: 5, share: 1, shares: 1}]", "lengths[0].shares", "Did you mean 'share'?"),
    ("lengths", "{quantiles: {p0: 1, p50: 9}}", "lengths.quantiles", "p100 (the longest document) is missing"),
    (
        "lengths",
        "{quantiles: {p0: 9, p50: 5, p100: 20}}",
        "lengths.quantiles.p50",
        "expected at least the 9 tokens of p0, got 5",
    ),
    ("lengths", "{quantiles: {p0: 9, p101: 20}}", "lengths.quantiles.p101", "expected a percentile from p0 to p100"),
    ("lengths", "{quantiles: {p0: 1, p5: 2, p5.0: 2, p100: 9}}", "lengths.quantiles", "are the same percentile"),
    ("lengths", "{quantiles: 5}", "lengths.quantiles", "expected a mapping of keys, got 5"),
    ("lengths", "{quantiles: {p0: 1, p100: 4k}}", "lengths.quantiles.p100", "Did you mean 4096?"),
    ("lengths", "{file: missing.csv}", "lengths.file", "there is no such file"),
    ("lengths", "{file: .}", "lengths.file", "expected a file, but this is a folder"),
    ("lengths", "{file: 3}", "lengths.file", "expected a text of one line"),
    ("quantiles", "{p0: 1, p100: 2}", "quantiles", "Did you mean lengths: {quantiles: …}?"),
    ("measure_lengths", "[512]", "measure_lengths", "lengths given as shares are all measured"),
    ("batch_sizes", "8", "batch_sizes", "expected a list, got 8"),
    ("batch_sizes", "[]", "batch_sizes", "expected at least one entry"),
    ("batch_sizes", "[1, 1]", "batch_sizes", "1 is listed twice"),
    ("batch_sizes", "[1, 100000]", "batch_sizes[1]", "expected at most 65536, got 100000"),
    ("batching", "[bucket]", "batching[0]", "expected bucketed or padded, got 'bucket'. Did you mean 'bucketed'?"),
    ("phase", "train", "phase", "expected inference or training, got 'train'. Did you mean training?"),
    ("scope", "layer", "scope", "expected encoder or attention, got 'layer'"),
    ("dtype", "float16", "dtype", "Did you mean fp16?"),
    ("dtype", "16", "dtype", "expected fp32 or bf16 or fp16, got 16"),
    ("seed", "-1", "seed", "expected a whole number of at least 0, got -1"),
    ("seed", "yes", "seed", "expected a whole number of at least 0, got 'yes'"),
    ("attention_share", "0.4", "attention_share", "only used with scope: attention"),
    ("gpu", "[A100]", "gpu", "expected a text of one line"),
    ("baseline", "1", "baseline", 'got 1. Did you mean "1"?'),
    ("mechanisms", "[]", "mechanisms", "expected a list such as [sdpa, naive, cast], or preset:article, got a list"),
    ("mechanisms", "sdpa", "mechanisms", "got 'sdpa'"),
    ("mechanisms", "[sdpa, 4]", "mechanisms[1]", "expected a mechanism's name or {name: {parameter: value}}, got 4"),
    ("mechanisms", "[{name: cast}]", "mechanisms[0]", "Did you mean `- cast`?"),
    ("mechanisms", "[{label: x}]", "mechanisms[0]", "a mapping without a mechanism's name"),
    (
        "mechanisms",
        "[{cast: {}, lable: x}]",
        "mechanisms[0]",
        "unknown key 'lable' beside 'cast'. Did you mean 'label'?",
    ),
    (
        "mechanisms",
        "[{cast: , num_clusters: 4}]",
        "mechanisms[0]",
        "parameters stand one level deeper, as in {cast: {num_clusters: …}}",
    ),
    ("mechanisms", "[{cast: 32}]", "mechanisms[0].cast", "expected a mapping of parameters, got 32"),
    (
        "mechanisms",
        "[{cast: {num_clusters: [32]}}]",
        "mechanisms[0].cast.num_clusters",
        "expected a single value, got a list",
    ),
    ("mechanisms", "[{cast: {num_clusters: .nan}}]", "mechanisms[0].cast.num_clusters", "expected a finite number"),
    ("mechanisms", "[{cast: {}, label: 3}]", "mechanisms[0].label", 'got 3. Did you mean "3"?'),
    ("mechanisms", '[{cast: {}, label: "a\\nb"}]', "mechanisms[0].label", r"got 'a\nb'"),
    ("mechanisms", f"[{', '.join(['sdpa'] * 40)}]", "mechanisms", "expected at most 32 mechanisms, got 40"),
    ("demand", "40", "demand", "expected a mapping of keys, got 40"),
    ("demand", "{requests_per_second: 2k}", "demand.requests_per_second", "Did you mean 2000?"),
    ("demand", "{requests_per_second: 0}", "demand.requests_per_second", "expected a number above 0, got 0"),
    ("demand", "{requests_per_second: .nan}", "demand.requests_per_second", "expected a number above 0, got .nan"),
    (
        "demand",
        "{requests_per_second: 4, max_utilization: 1.2}",
        "demand.max_utilization",
        "expected at most 1, got 1.2",
    ),
    (
        "demand",
        "{requests_per_second: 4, objective: {}}",
        "demand.objective",
        "expected at least one of p50_ms, p95_ms, p99_ms",
    ),
    (
        "demand",
        "{requests_per_second: 4, objective: {p99_ms: 250ms}}",
        "demand.objective.p99_ms",
        "in milliseconds, got '250ms'. Did you mean 250?",
    ),
    ("demand", "{requests_per_second: 4, objective: {p99_ms: 1.5s}}", "demand.objective.p99_ms", "Did you mean 1500?"),
    (
        "demand",
        "{requests_per_second: 4, objective: {p50_ms: 9, p99_ms: 5}}",
        "demand.objective.p99_ms",
        "expected at least the 9 of p50_ms, got 5",
    ),
    ("price", "{}", "price", "expected usd_per_hour, or cloud and instance"),
    ("price", "{usd_per_hour: $3.67}", "price.usd_per_hour", "Did you mean 3.67?"),
    ("price", "{usd_per_hour: 3, cloud: aws}", "price", "give one of them"),
    ("price", "{cloud: aws}", "price", "expected usd_per_hour, or cloud and instance"),
    ("price", "{cloud: aws, instance: x, gpus: 2}", "price.gpus", "the catalogue knows the GPUs"),
    ("price", "{usd_per_hour: 3, plan: ondemand}", "price.plan", "Did you mean 'on_demand'?"),
    ("price_cpu", "{usd_per_hour: free}", "price_cpu.usd_per_hour", "expected a price in USD above 0, got 'free'"),
    ("price_cpu", "{usd_per_hour: 1, vcpus: 0}", "price_cpu.vcpus", "expected a positive integer, got 0"),
    ("price_cpu", "{usd_per_hour: 1, vcpus: 2.5}", "price_cpu.vcpus", "expected a positive integer, got 2.5"),
    ("price_cpu", "{cloud: aws, instance: x, vcpus: 2}", "price_cpu.vcpus", "the catalogue knows the vCPUs"),
    ("price_cpu", "{usd_per_hour: 1, vcpu: 2}", "price_cpu.vcpu", "Did you mean 'vcpus'?"),
    ("price", "{usd_per_hour: 1, vcpus: 2}", "price.vcpus", "unknown key"),
    ("sampling", "{target_ci: 2%}", "sampling.target_ci", "Did you mean 0.02?"),
    ("sampling", "{max_seconds_per_case: 5m}", "sampling.max_seconds_per_case", "Did you mean 300?"),
    ("sampling", "{min_window_ms: -1}", "sampling.min_window_ms", "expected a number above 0 in milliseconds, got -1"),
    ("sampling", "[]", "sampling", "expected a mapping of keys, got a list"),
    ("batchsizes", "[1]", "batchsizes", "unknown key; there are name, model"),
    ("batchsizes", "[1]", "batchsizes", "Did you mean 'batch_sizes'?"),
    ('"odd key\\e[2J"', "1", r"'odd key\x1b[2J'", "unknown key"),
]


@pytest.mark.parametrize(("key", "value", "where", "words"), BROKEN)
def test_broken_profiles_name_the_place_and_the_fix(key: str, value: str | None, where: str, words: str) -> None:
    """Each broken profile has one problem, at the place the user must change, saying what was expected there."""
    result = parse(written(**{key: value}))
    assert result.profile is None
    assert [problem.where for problem in result.problems] == [where]
    what = result.problems[0].what
    assert words in what
    assert what.isprintable()


@pytest.mark.parametrize("text", ["- a\n- b\n", "just a text", "42", "[]"])
def test_a_file_that_is_no_mapping_is_refused(text: str) -> None:
    """A list or a single value at the top is told what a profile looks like."""
    result = parse(text)
    assert result.profile is None
    assert "expected keys such as name, model, lengths and mechanisms" in str(result.problems[0])


def test_all_problems_are_told_at_once() -> None:
    """Problems of every part stand together, and mechanisms and baseline are given for make_plan's own checks."""
    text = written(model="{layers: 0, embed_dim: 64, num_heads: 4}", dtype="fp8", mechanisms="[sdpa, {cats: {}}, 7]")
    result = parse(text)
    assert [problem.where for problem in result.problems] == ["model.layers", "dtype", "mechanisms[2]"]
    assert result.choices == (MechanismChoice("sdpa"), MechanismChoice("cats"))
    assert result.baseline is None  # it may be the label of the entry that cannot be read


def test_choices_are_read_from_an_otherwise_broken_profile() -> None:
    """A broken model does not hide the mechanisms asked for; a broken entry keeps its place under its own label."""
    result = parse(written(model="3", mechanisms="[{cast: {}, lable: x}, cast]"))
    assert [choice.name for choice in result.choices] == ["cast", "cast"]
    assert result.choices[0].label == "mechanisms[0]"
    assert parse(written(model="3", baseline="cast")).baseline == "cast"
    assert parse(written(model="3")).baseline == "sdpa"


def test_choices_keep_their_places() -> None:
    """Entries after one without a name are left out, so that a place told by make_plan is the place in the file."""
    result = parse(written(mechanisms="[sdpa, 7, {cats: {}}]"))
    assert result.choices == (MechanismChoice("sdpa"),)


def test_a_hopeless_file_does_not_fill_the_screen() -> None:
    """After 50 problems only their number is told."""
    result = parse(written() + "\n" + "\n".join(f"k{i}: 1" for i in range(70)))
    assert len(result.problems) == 51
    assert result.problems[-1] == Problem("", "and 20 more problems")


def test_defaults_are_those_of_the_docs() -> None:
    """A profile of the required keys gets every documented default."""
    profile = sound()
    assert profile.model == ModelSpec(2, 64, 4, 256, 30522)
    assert profile.batch_sizes == (1,)
    assert profile.batching == ("bucketed", "padded")
    assert (profile.phase, profile.scope, profile.dtype, profile.seed) == ("inference", "encoder", "fp32", 0)
    assert profile.baseline == "sdpa"
    assert profile.sampling == SamplingPolicy()
    assert (profile.demand, profile.price, profile.price_cpu, profile.gpu, profile.attention_share) == (None,) * 5
    assert profile.lengths.exact
    assert profile.text == written()


def test_every_key_reaches_the_profile() -> None:
    """What is written in each part is what the profile says."""
    profile = sound(
        demand="{requests_per_second: 40, objective: {p99_ms: 250}, max_utilization: 0.5}",
        price="{usd_per_hour: 3.673, plan: spot, gpus: 8}",
        price_cpu="{cloud: aws, instance: m7i.large, region: us-east-1}",
        mechanisms="[{cast: {num_clusters: 32, clustering: top_k}, label: c}, {cast: {num_clusters: auto}}]",
        sampling="{target_ci: 0.1, max_seconds_per_case: 1e-1, same_within: 0.2, min_window_ms: 5}",
        scope="attention", attention_share="0.4", batch_sizes="[8, 1]", batching="[padded]", gpu="H100",
    )  # fmt: skip
    assert profile.demand == Demand(40, ServiceObjective(p99_ms=250), 0.5)
    assert profile.price == PriceChoice(3.673, "spot", 8)
    assert profile.price_cpu == PriceChoice(None, "on_demand", 0, "aws", "m7i.large", "us-east-1")
    assert sound(price_cpu="{usd_per_hour: 0.2, vcpus: 4}").price_cpu == PriceChoice(0.2, "on_demand", 0, vcpus=4)
    assert profile.mechanisms == (
        MechanismChoice("cast", (("num_clusters", 32), ("clustering", "top_k")), "c"),
        MechanismChoice("cast", (("num_clusters", "auto"),)),
    )
    assert profile.sampling == SamplingPolicy(0.1, 0.1, 0.2, 5)
    assert (profile.attention_share, profile.batch_sizes, profile.batching) == (0.4, (8, 1), ("padded",))


def test_scope_attention_needs_no_share() -> None:
    """An attention module alone can be timed without saying what share of the service it is."""
    assert sound(scope="attention").attention_share is None


def test_shares_may_miss_one_by_rounding_only() -> None:
    """Shares within 1e-6 of 1 are accepted and scaled; thirds written with three digits are not."""
    third = "[{tokens: 1, share: %s}, {tokens: 2, share: %s}, {tokens: 3, share: %s}]"
    assert sum(sound(lengths=third % (("0.3333333",) * 3)).lengths.shares) == pytest.approx(1, abs=1e-15)
    assert parse(written(lengths=third % (("0.333",) * 3))).problems[0].where == "lengths"


def test_measure_lengths_must_reach_the_longest_document() -> None:
    """A grid below the longest document would extrapolate, so it is refused; one that covers it is kept, sorted."""
    quantiles = "{quantiles: {p0: 1, p100: 4000}}"
    refused = parse(written(lengths=quantiles, measure_lengths="[512, 2048]"))
    assert refused.problems[0].where == "measure_lengths"
    assert "at least 4000" in refused.problems[0].what
    assert sound(lengths=quantiles, measure_lengths="[4096, 512]").measure_lengths == (512, 4096)


@pytest.mark.parametrize("content", ["10\n20\n30\n", "﻿10\n20\n30", "10\r\n20\r\n30\r\n\r\n"])
def test_a_file_with_one_length_per_line(tmp_path: Path, content: str) -> None:
    """Lengths are read relative to the profile, whatever the line ends; name and hash of the file are recorded."""
    (tmp_path / "lengths.txt").write_bytes(content.encode())
    result = parse(written(lengths="{file: lengths.txt}"), tmp_path)
    assert result.profile is not None
    mix = result.profile.lengths
    assert mix.tokens == (10, 20, 30)
    assert mix.source == f"file lengths.txt (3 lengths, sha256 {hashlib.sha256(content.encode()).hexdigest()[:16]})"


def test_a_column_of_a_csv_file(tmp_path: Path) -> None:
    """The column named in the profile is read, quoted cells and spaces included."""
    (tmp_path / "trace.csv").write_text('time,tokens\n"1,5",10\n2, 30 \n')
    result = parse(written(lengths="{file: trace.csv, column: tokens}"), tmp_path)
    assert result.profile is not None
    assert result.profile.lengths.tokens == (10, 30)


@pytest.mark.parametrize(
    ("content", "column", "words"),
    [
        (b"10\n\n30\n", None, "1 of 3 lines have no usable length; the first is line 2"),
        (b"10\n-5\nabc\n", None, "2 of 3 lines have no usable length; the first is line 2"),
        (b"10\n99000000\n", None, "expected a whole number from 1 to 10000000, got '99000000'"),
        (b"10\n1.5\n", None, "got '1.5'"),
        ("10\n٣\n".encode(), None, "line 2"),
        (b"tokens\n10\n", None, "the first is line 1"),
        (b"a,tokens\n1,5\n2\n", "tokens", "line 3: expected a whole number from 1 to 10000000, got nothing"),
        (b"a,tokens\n1,5\n", "token", "no column is named 'token'; there are 'a, tokens'. Did you mean 'tokens'?"),
        (b"tokens\n", "tokens", "there is no length in it"),
        (b"", None, "there is no length in it"),
        (b"\xff\xfe1\x000\x00", None, "binary file"),
        (b'tokens\n"' + b"1" * 200_000, "tokens", "not readable as CSV"),
    ],
)
def test_length_files_with_holes_are_refused(tmp_path: Path, content: bytes, column: str | None, words: str) -> None:
    """Missing, absurd and unreadable lengths are counted and refused with the first line, never repaired."""
    (tmp_path / "x.csv").write_bytes(content)
    lengths = "{file: x.csv}" if column is None else f"{{file: x.csv, column: {column}}}"
    problem = parse(written(lengths=lengths), tmp_path).problems[0]
    assert problem.where == "lengths.file"
    assert words in problem.what


@given(st.binary(max_size=200))
def test_any_file_is_a_profile_or_an_input_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Whatever bytes a file holds, reading it ends in problems or an InputError."""
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(data)
    with suppress(InputError):
        assert read_profile(path).problems


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=8), v, max_size=3))


@given(st.sampled_from([*json_schema()["properties"], "extra"]), VALUES)
def test_any_value_under_any_key_is_read_or_refused(key: str, value: object) -> None:
    """No value of any key raises: it is accepted, or told as problems of one printable line each."""
    flow = json.dumps(value, ensure_ascii=False).replace("NaN", ".nan").replace("Infinity", ".inf")
    with suppress(InputError):  # characters that YAML does not have
        result = parse(written(**{key: flow}))
        assert (result.profile is None) == bool(result.problems)
        assert all(str(problem).isprintable() for problem in result.problems)


def test_the_json_schema_knows_limits_and_forms() -> None:
    """Editors get the bounds, the words and the forms that reading a profile enforces."""
    schema = json_schema()
    assert schema["required"] == ["name", "model", "lengths", "mechanisms"]
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["ModelKeys"]["properties"]["layers"]["maximum"] == 1000
    assert schema["properties"]["dtype"]["enum"] == ["fp32", "bf16", "fp16"]
    assert len(schema["properties"]["lengths"]["oneOf"]) == 3
    listed, preset = schema["properties"]["mechanisms"]["anyOf"]
    assert len(listed["items"]["anyOf"]) == 2
    assert preset["pattern"] == "^preset:"
