from __future__ import annotations

from pathlib import Path

import pytest

from castbench.workload.profile import parse_profile
from castbench.workload.spec import WorkloadProfile
from castbench.workload.trace import load_trace
from castbench.workload.trace_profile import NAIVE_UP_TO, reference_to, render_profile
from castbench.workload.trace_reader import Reading, read_trace
from castbench.workload.trace_stats import lengths, traffic
from tests.workload.traces import LAYOUTS, requests, table, vidur, written


def rendered(path: Path, reading: Reading | None = None, name: str = "mine") -> str:
    """The profile of a trace that lies beside it."""
    read = read_trace(path, reading)
    reference = reference_to(read, path.name, (reading or Reading()).sort_within_s)
    arrivals = None if read.arrival_s is None else traffic(read.arrival_s)
    return render_profile(name, read, lengths(read.tokens), arrivals, reference)


def loaded(text: str, folder: Path) -> WorkloadProfile:
    """The profile of a text, which must be sound."""
    result = parse_profile(text, "made.yaml", folder)
    assert result.problems == ()
    assert result.profile is not None
    return result.profile


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_profile_replays_the_trace_it_came_from(tmp_path: Path, layout: str) -> None:
    """The profile is sound, has the trace's mean length and rate, and leads back to the very same requests."""
    path = written(tmp_path, "trace.gz", LAYOUTS[layout](requests(600)))
    profile = loaded(rendered(path), tmp_path)
    read = read_trace(path)
    assert read.arrival_s is not None
    assert profile.lengths.mean_tokens == pytest.approx(read.tokens.mean(), rel=0.01)
    assert profile.lengths.tokens[-1] == read.tokens.max()
    assert profile.demand is not None
    assert profile.demand.trace is not None
    trace = load_trace(profile.demand.trace, tmp_path)
    assert profile.demand.requests_per_second == pytest.approx(trace.requests_per_second, rel=1e-5)
    assert trace.arrival_s.tolist() == read.arrival_s.tolist()
    assert trace.tokens.tolist() == read.tokens.tolist()


def test_what_was_asked_for_reading_is_kept(tmp_path: Path) -> None:
    """Rows that were left out and times that were sorted are so again when the profile's trace is read."""
    path = written(
        tmp_path, "t.csv", "at_ms,n,time_s,tokens\n5,0,0,10\n6,0,500,20\n7,0,100,30\n8,0,600,x\n9,0,700,40\n"
    )
    text = rendered(path, Reading(sort_within_s=3600, skip_unusable=True))
    reference = getattr(loaded(text, tmp_path).demand, "trace", None)
    assert reference is not None
    assert (reference.rows, reference.sort_within_s, reference.skip_unusable) == (4, 3600, True)
    assert (reference.time_column, reference.time_unit, reference.tokens_column) == ("time_s", "s", "tokens")
    assert load_trace(reference, tmp_path).tokens.tolist() == [10, 30, 20, 40]
    assert "1 of 5 rows: 'tokens' not a number in 1 row (first: line 5," in text.replace("\n#             ", " ")


def test_without_times_there_is_no_demand(tmp_path: Path) -> None:
    """A trace of lengths gives a sound profile that has no demand and says why."""
    text = rendered(written(tmp_path, "t.csv", "tokens\n" + "\n".join(str(n) for n in range(1, 500)) + "\n"))
    assert loaded(text, tmp_path).demand is None
    assert "#   demand    none: no column of times was read" in text


def test_the_profile_says_where_its_numbers_come_from(tmp_path: Path) -> None:
    """File, layout, means, burstiness, what is assumed and what is not modelled stand in its comments."""
    rows = requests(3000)
    text = rendered(written(tmp_path, "t.csv", vidur(rows))).replace("\n#             ", " ")
    for words in (
        "# Where the numbers come from", "of 3,000 requests in 't.csv' (vidur layout). Mean 2,", "requests/s on",
        "squared coefficient of variation of their gaps is", "model     assumed",
        f"the {sum(out for _, _, out in rows):,} tokens", "are not modelled",
    ):  # fmt: skip
        assert words in text
    assert max(map(len, rendered(tmp_path / "t.csv").splitlines())) < 400


@pytest.mark.parametrize(("longest", "listed"), [(NAIVE_UP_TO, True), (NAIVE_UP_TO + 1, False)])
def test_naive_attention_is_left_out_where_its_scores_do_not_fit(tmp_path: Path, longest: int, listed: bool) -> None:
    """Beyond 16,384 tokens naive is not among the mechanisms, and a comment says so."""
    text = rendered(written(tmp_path, "t.csv", f"time_s,tokens\n0,5\n1,{longest}\n"))
    profile = loaded(text, tmp_path)
    assert ("naive" in [choice.name for choice in profile.mechanisms]) is listed
    assert ("naive is left out" in text) is not listed


@pytest.mark.parametrize(
    "name", ['a "quoted" name.csv', "# no comment.csv", "newline\nin it.csv", "ключ: значение.csv", "x" * 150 + ".csv"]
)
def test_a_strange_file_name_does_no_harm(tmp_path: Path, name: str) -> None:
    """Whatever a file is called, the profile is sound and leads to it, or the name is refused: nothing leaks out."""
    path = written(tmp_path, name, table(("time: s", "#n"), [(0, 1), (1, 2)]))
    header = Reading(columns=_asked("time: s", "#n"))
    result = parse_profile(rendered(path, header), "made.yaml", tmp_path)
    if "\n" in name:
        assert [problem.where for problem in result.problems] == ["demand.trace.file"]
        return
    assert result.problems == ()
    demand = getattr(result.profile, "demand", None)
    assert demand.trace.path == name
    assert load_trace(demand.trace, tmp_path).tokens.tolist() == [1, 2]


def _asked(time: str, tokens: str) -> object:
    """Columns of strange names, in seconds."""
    from castbench.workload.trace_layouts import AskedColumns

    return AskedColumns(time, "s", tokens)


@pytest.mark.data
@pytest.mark.parametrize(
    ("shipped", "file", "rate"),
    [
        ("code-assist", "azure_llm_code_2023.csv", 2.57),
        ("long-context", "mooncake_conversation.jsonl", 3.4),
        ("arxiv-documents", "arxiv_summarization_lengths.csv", None),
    ],
)
def test_the_shipped_profiles_follow_from_their_traces(
    data_dir: Path, shipped: str, file: str, rate: float | None
) -> None:
    """Every quantile of a shipped profile is the one that from-trace finds, and so is its rate."""
    import yaml

    read = read_trace(data_dir / "traces" / file)
    given = yaml.safe_load((Path(__file__).parents[2] / "profiles" / f"{shipped}.yaml").read_text(encoding="utf-8"))
    found = {f"p{percent:g}": tokens for percent, tokens in lengths(read.tokens).quantiles}
    assert {key: found[key] for key in given["lengths"]["quantiles"]} == given["lengths"]["quantiles"]
    if rate is None:
        assert read.arrival_s is None
        return
    assert read.arrival_s is not None
    assert given["demand"]["requests_per_second"] == rate
    assert traffic(read.arrival_s).requests_per_second == pytest.approx(rate, abs=0.005)
