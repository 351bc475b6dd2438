from __future__ import annotations

import pytest

from castbench.errors import InputError
from castbench.workload.trace_layouts import AskedColumns, choose_columns, unit_needed


@pytest.mark.parametrize(
    ("header", "layout", "found"),
    [
        ("TIMESTAMP,ContextTokens,GeneratedTokens", "Azure LLM layout", "TIMESTAMP,iso,ContextTokens,GeneratedTokens"),
        (
            "timestamp,input_length,output_length,hash_ids", "Mooncake layout",
            "timestamp,ms,input_length,output_length",
        ),
        ("timestamp,input_length,output_length", "Mooncake layout", "timestamp,ms,input_length,output_length"),
        (
            "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type", "BurstGPT layout",
            "Timestamp,s,Request tokens,Response tokens",
        ),
        (
            "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens", "BurstGPT layout",
            "Timestamp,s,Request tokens,Response tokens",
        ),
        (
            "arrived_at,num_prefill_tokens,num_decode_tokens,request_id", "vidur layout",
            "arrived_at,s,num_prefill_tokens,num_decode_tokens",
        ),
        ("arrival_s,tokens", "columns by their names", "arrival_s,s,tokens,None"),
        (
            "Timestamp-MS,Prompt Tokens,completion_tokens", "columns by their names",
            "Timestamp-MS,ms,Prompt Tokens,completion_tokens",
        ),
        ("time,length", "columns by their names", "time,None,length,None"),
        (
            "num_prefill_tokens,num_decode_tokens,pd_ratio", "columns by their names",
            "None,None,num_prefill_tokens,num_decode_tokens",
        ),
    ],
)  # fmt: skip
def test_published_layouts_and_telling_names_are_recognised(header: str, layout: str, found: str) -> None:
    """Which column is which is known of the published layouts, and of names that say it."""
    columns = choose_columns(tuple(header.split(",")), AskedColumns())
    assert columns.layout == layout
    assert ",".join(map(str, (columns.time, columns.unit, columns.tokens, columns.output))) == found


def test_mooncake_names_in_another_trace_are_not_taken_for_milliseconds() -> None:
    """Another service's traces use the names of Mooncake's for seconds: beside strange columns no unit is assumed."""
    found = choose_columns(("chat_id", "timestamp", "input_length", "output_length"), AskedColumns())
    assert (found.time, found.unit) == ("timestamp", None)


def test_what_the_user_says_wins() -> None:
    """Options replace what a layout says, each on its own; a unit given for a layout's column is believed."""
    header = ("TIMESTAMP", "ContextTokens", "GeneratedTokens", "when_ms", "n")
    asked = choose_columns(header, AskedColumns(time="when_ms", tokens="n"))
    assert (asked.layout, asked.time, asked.unit, asked.tokens) == ("columns as given", "when_ms", "ms", "n")
    assert asked.output == "GeneratedTokens"
    assert choose_columns(header, AskedColumns(unit="s")).unit == "s"


@pytest.mark.parametrize(
    ("header", "asked", "words"),
    [
        ("a,b", {}, "no column is recognised as the lengths; there are 'a', 'b'. Name it with --tokens-column"),
        ("when,tokens", {"time": "wen"}, "no column is named 'wen'; there are 'when', 'tokens'. Did you mean 'when'?"),
        ("when,tokens", {"tokens": "x"}, "no column is named 'x'; there are 'when', 'tokens'."),
        ("tokens,length", {}, "could be the lengths: 'tokens', 'length'; say which with --tokens-column"),
        ("time,ts,length", {}, "could be the times: 'time', 'ts'; say which with --time-column"),
        ("tokens,tokens", {}, "2 columns are named 'tokens'; give each its own name"),
        ("a,a,tokens", {"time": "a"}, "2 columns are named 'a'"),
        ("a,tokens", {"unit": "s"}, "--time-unit is given, but no column is recognised as the times"),
        (",".join(f"c{i}" for i in range(40)), {}, "'c29' and 10 more"),
    ],
)  # fmt: skip
def test_columns_that_cannot_be_told_are_refused(header: str, asked: dict[str, str], words: str) -> None:
    """A column that is missing, twice there or one of several is refused with those there are and what to do."""
    with pytest.raises(InputError) as caught:
        choose_columns(tuple(header.split(",")), AskedColumns(**asked))  # type: ignore[arg-type]
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("number", "guess"),
    [(1.7e9, "be s)"), (1.7e12, "would be ms)"), (1.7e15, "be us)"), (1.7e18, "be ns)"), (12.0, "unit;")],
)  # fmt: skip
def test_a_number_is_not_given_a_unit_but_a_hint(number: float, guess: str) -> None:
    """Numbers as large as the time since 1970 are not read as such unasked, but the likely unit is named."""
    assert guess in unit_needed("t", number)
