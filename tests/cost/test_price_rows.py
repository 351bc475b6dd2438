from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.cost import price_rows
from castbench.cost.price_rows import COLUMNS, MAY_BE_EMPTY, OPTIONAL, read_rows
from castbench.errors import InputError

SOUND = {
    "cloud": "ours", "instance": "big", "region": "here", "accelerator": "H100-SXM", "gpus": "8", "vcpus": "96",
    "memory_gib": "1024", "host_included": "yes", "on_demand_usd_per_hour": "20.5", "spot_usd_per_hour": "7",
    "as_of": "2026-10-01", "source": "offer 17", "note": "", "doubt": "",
}  # fmt: skip
HEADER = ",".join(COLUMNS)


def line(**cells: str) -> str:
    """A sound row with some cells replaced."""
    return ",".join({**SOUND, **cells}.values())


def listed(*lines: str) -> str:
    """A price list of these rows."""
    return "\n".join([HEADER, *lines]) + "\n"


def told(text: str) -> str:
    """What is said of a list that is none."""
    with pytest.raises(InputError) as error:
        read_rows(text, "p.csv")
    return str(error.value)


def test_every_cell_reaches_the_price() -> None:
    """Columns become the fields of the noun; an empty cell is not known, and a stated doubt is its first flag."""
    one, cpu = read_rows(
        listed(
            line(note="a note", doubt="too good"),
            line(instance="cpu", accelerator="", gpus="0", vcpus="", memory_gib="", spot_usd_per_hour="", region=""),
        ),
        "p.csv",
    )
    assert (one.cloud, one.instance, one.region, one.accelerator, one.gpus) == ("ours", "big", "here", "H100-SXM", 8)
    assert (one.vcpus, one.memory_gib, one.host_included) == (96, 1024.0, True)
    assert (one.usd_per_hour, one.spot_usd_per_hour, one.plan) == (20.5, 7.0, "on_demand")
    assert (one.as_of, one.source, one.note, one.flags) == ("2026-10-01", "offer 17", "a note", ("too good",))
    assert one.name == "ours big (here)"
    assert (cpu.name, cpu.gpus, cpu.accelerator, cpu.region) == ("ours cpu", 0, None, None)
    assert (cpu.vcpus, cpu.memory_gib, cpu.spot_usd_per_hour, cpu.note, cpu.flags) == (None, None, None, None, ())


def test_columns_may_be_left_out_and_in_any_order() -> None:
    """Only what a price needs must be there; names stand in the header, so that order is no matter."""
    kept = [name for name in reversed(COLUMNS) if name not in OPTIONAL]
    text = f"{','.join(kept)}\n{','.join(SOUND[name] for name in kept)}"
    assert read_rows(text, "p.csv")[0].usd_per_hour == 20.5


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"on_demand_usd_per_hour": "-3"}, "line 2: on_demand_usd_per_hour: expected USD per hour as a plain number"),
        ({"on_demand_usd_per_hour": "nan"}, "got 'nan'"),
        ({"on_demand_usd_per_hour": "inf"}, "got 'inf'"),
        ({"on_demand_usd_per_hour": "$3.67"}, "got '$3.67'; leave out signs of currency"),
        ({"on_demand_usd_per_hour": "3.67 €"}, "leave out signs of currency"),
        ({"on_demand_usd_per_hour": "1_000"}, "got '1_000'"),
        ({"on_demand_usd_per_hour": "2e6"}, "got '2e6'"),
        ({"on_demand_usd_per_hour": "٣"}, "got '٣'"),
        ({"on_demand_usd_per_hour": ""}, "such as 3.673, got nothing"),
        ({"spot_usd_per_hour": "-1"}, "spot_usd_per_hour: expected USD"),
        ({"gpus": "20.5"}, "gpus: expected a whole number of GPUs, 0 for a CPU server, got '20.5'"),
        ({"gpus": "-8"}, "gpus: expected a whole number"),
        ({"gpus": "99999"}, "gpus: expected a whole number"),
        ({"gpus": "0"}, "gpus: expected how many 'H100-SXM' there are, got 0"),
        ({"accelerator": ""}, "accelerator: expected the name of the 8 GPUs"),
        ({"vcpus": "0"}, "vcpus: expected a whole number of vCPUs above 0"),
        ({"memory_gib": "0"}, "memory_gib: expected a number of GiB above 0"),
        ({"memory_gib": "yes"}, "memory_gib: expected a number of GiB"),
        ({"host_included": "20.5"}, "host_included: expected yes or no, got '20.5'"),
        ({"host_included": "true"}, "host_included: expected yes or no"),
        ({"region": "20.5"}, "region: expected a region's name, or nothing, got '20.5'"),
        ({"cloud": "7"}, "cloud: expected the provider's name, got '7'"),
        ({"cloud": ""}, "cloud: expected the provider's name, got nothing"),
        ({"instance": "a\x1b[31m"}, "instance: expected the name of the billing unit"),
        ({"as_of": "01.10.2026"}, "as_of: expected a day such as 2026-05-20, got '01.10.2026'"),
        ({"as_of": "2026-02-30"}, "as_of: expected a day"),
        ({"as_of": "20.5"}, "as_of: expected a day"),
        ({"as_of": ""}, "as_of: expected a day"),
        ({"source": ""}, "source: expected where the price is from, got nothing"),
        ({"note": "x" * 501}, "note: expected a text of one line"),
    ],
)
def test_a_cell_that_does_not_fit_its_column_is_refused(cells: dict[str, str], said: str) -> None:
    """A broken price is never repaired: the sentence has line, column, what was expected and what was got."""
    answer = told(listed(line(**cells)))
    assert said in answer
    assert answer.startswith("p.csv: line 2: ")
    assert "\x1b" not in answer


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: expected a header with the columns cloud, instance"),
        (line() + "\n", "line 1: expected a header with the columns cloud, instance"),
        (HEADER.replace(",", ";") + "\n" + line().replace(",", ";"), "separate the columns by commas"),
        ("<!doctype html>\n<html></html>\n", "expected a header"),
        (HEADER.replace("gpus", "gpu") + "\n" + line(), "unknown column 'gpu'. Did you mean gpus?"),
        (HEADER.replace("gpus", "gpu") + "\n" + line(), "line 1: the header lacks gpus"),
        (HEADER + ",zzz\n" + line() + ",red\n", "unknown column 'zzz'; there are cloud"),
        (HEADER + ",gpus\n" + line() + ",8\n", "the column gpus is there 2 times"),
        (HEADER + "\n\n", "there is no price in it, only the header"),
        (listed(line() + ",extra"), f"line 2: expected {len(COLUMNS)} cells, got {len(COLUMNS) + 1}"),
        (listed(line(on_demand_usd_per_hour="20,5")), f"expected {len(COLUMNS)} cells"),
        (HEADER + '\nours,"big', "not readable as CSV"),
        (listed(line(), line(on_demand_usd_per_hour="1")), "line 3: 'ours big here' is on line 2 already"),
    ],
)
def test_a_file_of_another_layout_is_refused(text: str, said: str) -> None:
    """Header, number of cells, and one row per cloud, instance and region."""
    assert said in told(text)


def test_the_same_instance_in_another_region_is_another_price() -> None:
    """Only cloud, instance and region together name a row."""
    assert len(read_rows(listed(line(), line(region="there"), line(region="")), "p.csv")) == 3


def test_all_problems_are_told_at_once_and_a_hopeless_file_does_not_fill_the_screen() -> None:
    """A line each, and after 50 only how many more."""
    answer = told(listed(line(gpus="x", vcpus="y"), *(line(gpus="x", instance=f"i{n}") for n in range(60))))
    assert answer.startswith("p.csv: line 2: gpus: ")
    assert "p.csv: line 2: vcpus: " in answer
    assert len(answer.splitlines()) == 51
    assert answer.endswith("and 12 more problems")


def test_a_list_of_too_many_rows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says how many are read at most."""
    monkeypatch.setattr(price_rows, "MOST_ROWS", 1)
    assert "expected at most 1 prices, got 2" in told(listed(line(), line(region="x")))


def test_what_may_be_empty_is_what_may_be_missing_and_the_gpu_of_a_cpu_server() -> None:
    """No required column may be left empty in a row, but the GPU."""
    assert {"accelerator"} == MAY_BE_EMPTY - OPTIONAL


def test_the_docs_name_every_column_and_no_other() -> None:
    """The table of docs/prices.md has the columns in their order, and says which may be empty."""
    docs = (Path(__file__).parents[2] / "docs" / "prices.md").read_text()
    table = docs.partition("## The file")[2].partition("##")[0]
    rows = [row.split("|")[1:3] for row in table.splitlines() if row.startswith("| `")]
    assert [name.strip(" `") for name, _ in rows] == list(COLUMNS)
    assert {name.strip(" `") for name, needed in rows if needed.strip() != "yes"} == MAY_BE_EMPTY


@given(st.text(max_size=300) | st.lists(st.sampled_from([HEADER, line(), ",", '"', "\n", "8", "x"])).map("".join))
def test_any_text_is_read_or_refused_in_sentences(text: str) -> None:
    """No text ends in anything but prices or an InputError without control characters."""
    said = ""
    try:
        assert read_rows(text, "p.csv")
    except InputError as error:
        said = str(error)
    assert all(part.isprintable() for part in said.split("\n"))


@given(
    usd=st.floats(0, 1e5).filter(lambda x: x == 0 or x > 1e-9), gpus=st.integers(1, 1024), vcpus=st.integers(1, 4096)
)
def test_numbers_come_back_as_they_were_written(usd: float, gpus: int, vcpus: int) -> None:
    """What is in the file is what is priced with, to the last digit."""
    (price,) = read_rows(listed(line(on_demand_usd_per_hour=f"{usd:.15f}", gpus=str(gpus), vcpus=str(vcpus))), "p.csv")
    assert (price.usd_per_hour, price.gpus, price.vcpus) == (pytest.approx(usd, abs=1e-14), gpus, vcpus)
