from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.errors import InputError
from castbench.workload import trace_tables
from castbench.workload.trace_layouts import AskedColumns
from castbench.workload.trace_reader import Reading, read_trace
from tests.workload.traces import LAYOUTS, azure, generic, mooncake, requests, table, vidur, written

SKIP = Reading(skip_unusable=True)
SEVERAL_FAULTS = """time_s,tokens,output_tokens
1,5,0
2,-5,1
3,0,1
4,nan,1
5,x,1
6,,1
7,1.5,1
8,10000001,1
-9,7,1
inf,7,1
12,1_000,1
,,1
13,7
14,7,1,1
time_s,tokens,output_tokens
15,9.0,many
16,7,
"""


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_requests(tmp_path: Path, layout: str, packed: str) -> None:
    """The same requests are read from every layout, plain and gzipped, whatever the file is called."""
    rows = requests()
    read = read_trace(written(tmp_path, f"trace.data{packed}", LAYOUTS[layout](rows)))
    assert read.arrival_s is not None
    np.testing.assert_allclose(read.arrival_s, [at for at, _, _ in rows], atol=1e-6)
    assert read.tokens.tolist() == [tokens for _, tokens, _ in rows]
    assert (read.rows, read.left_out, read.out_of_order, read.unusable) == (len(rows), 0, 0, ())
    assert read.kind.endswith(", gzip") == bool(packed)
    if layout == "generic":
        assert read.output is None
    else:
        assert read.output is not None
        assert (read.output.requests, read.output.total) == (len(rows), sum(out for _, _, out in rows))
        assert read.output.zero == sum(out == 0 for _, _, out in rows)


@pytest.mark.extra
@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("dates", [True, False])
def test_parquet_gives_the_same_requests(tmp_path: Path, packed: str, dates: bool) -> None:
    """Parquet is read like the others, its columns of dates as dates, gzipped too, with empty cells by their row."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = requests(500)
    micros = [round(at * 1e6) for at, _, _ in rows]
    times = arrow.array(micros, arrow.timestamp("us", "UTC")) if dates else arrow.array(micros)
    name = "timestamp" if dates else "timestamp_us"
    tokens = [None if index == 7 else n for index, (_, n, _) in enumerate(rows)]
    parquet.write_table(arrow.table({name: times, "tokens": tokens}), tmp_path / "t", row_group_size=100)
    path = written(tmp_path, f"t.parquet{packed}", (tmp_path / "t").read_bytes())
    with pytest.raises(InputError, match=r"'tokens' missing in 1 row \(first: row 8\)"):
        read_trace(path)
    read = read_trace(path, SKIP)
    assert read.arrival_s is not None
    np.testing.assert_allclose(read.arrival_s, [at for i, (at, _, _) in enumerate(rows) if i != 7], atol=1e-6)
    assert (read.kind, read.noun, read.left_out) == (f"Parquet{', gzip' if packed else ''}", "row", 1)


@pytest.mark.extra
def test_damaged_parquet_is_told_in_a_sentence(tmp_path: Path) -> None:
    """A file that only begins like Parquet is refused with pyarrow's reason in one line."""
    pytest.importorskip("pyarrow")
    with pytest.raises(InputError, match="not readable as Parquet: ") as caught:
        read_trace(written(tmp_path, "t.parquet", b"PAR1" + b"x" * 100))
    assert "\n" not in str(caught.value)


def test_parquet_without_its_reader_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pyarrow is missing, the sentence has the command that brings it."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"Parquet needs pyarrow; install it with: pip install 'castbench\[parquet\]'"):
        read_trace(written(tmp_path, "t.parquet", b"PAR1xxxx"))


def test_every_fault_is_counted_with_the_first_line(tmp_path: Path) -> None:
    """What cannot be used is refused, each kind with its count, first line and cell; skipped, the rest is kept."""
    path = written(tmp_path, "t.csv", SEVERAL_FAULTS)
    with pytest.raises(InputError) as caught:
        read_trace(path)
    assert "14 of 17 rows cannot be used" in str(caught.value)
    assert "leave these rows out with --skip-unusable" in str(caught.value)
    read = read_trace(path, SKIP)
    assert [(each.column, each.what, each.count, each.first, each.example) for each in read.unusable] == [
        ("tokens", "negative", 1, 3, "'-5'"),
        ("tokens", "zero", 1, 4, "'0'"),
        ("tokens", "NaN or infinite", 1, 5, "'nan'"),
        ("tokens", "not a number", 2, 6, "'x'"),
        ("tokens", "missing", 1, 7, ""),
        ("tokens", "not a whole number", 1, 8, "'1.5'"),
        ("tokens", "above 10,000,000", 1, 9, "'10000001'"),
        ("time_s", "negative", 1, 10, "'-9'"),
        ("time_s", "NaN or infinite", 1, 11, "'inf'"),
        ("time_s", "missing", 1, 13, ""),
        ("", "another number of cells than the header", 2, 14, ""),
        ("", "a second header", 1, 16, "'time_s'"),
    ]
    assert sum(each.count for each in read.unusable) == read.left_out == 14
    assert read.tokens.tolist() == [5, 9, 7]
    assert read.output is not None
    assert (read.output.requests, read.output.total, read.output.zero, read.output.unknown) == (1, 0, 1, 2)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"timestamp": 5, "input_length": tru', "no JSON object in 1 row (first: line 3)"),
        ("[1, 2]", "no JSON object"),
        ("[" * 100_000, "no JSON object"),
        ('{"timestamp": 5}', "'input_length' missing in 1 row (first: line 3)"),
        ('{"timestamp": 5, "input_length": null}', "'input_length' missing"),
        ('{"timestamp": 5, "input_length": true}', "'input_length' not a number"),
        ('{"timestamp": 5, "input_length": [1]}', "'input_length' not a number"),
        ('{"timestamp": 5, "input_length": NaN}', "'input_length' NaN or infinite"),
        ('{"timestamp": 5, "input_length": 1e400}', "'input_length' NaN or infinite"),
        ('{"timestamp": 5, "input_length": 1' + "0" * 400 + "}", "'input_length' above 10,000,000"),
        ('{"timestamp": "1' + "0" * 400 + '", "input_length": 1}', "'timestamp' NaN or infinite"),
        ('{"timestamp": "5s", "input_length": 1}', "'timestamp' not a number in 1 row (first: line 3, '5s')"),
        ('{"timestamp": "2024-01-01", "input_length": 1}', "'timestamp' not a number"),
    ],
)
def test_a_broken_json_line_is_counted(tmp_path: Path, line: str, what: str) -> None:
    """Whatever a line of JSON holds is named with its line, and the other requests are kept."""
    header = '{"timestamp": 0, "input_length": 1, "output_length": 1}\n\n'
    tail = '\n{"timestamp": 9, "input_length": "3"}\n'
    path = written(tmp_path, "t.jsonl", header + line + tail)
    with pytest.raises(InputError) as caught:
        read_trace(path)
    assert what in str(caught.value)
    read = read_trace(path, SKIP)
    assert (read.tokens.tolist(), read.left_out, read.blank) == ([1, 3], 1, 1)


@pytest.mark.parametrize(
    ("cells", "seconds"),
    [
        (("2024-05-10 00:00:00.0000001", "2024-05-10 00:00:01.5000009"), 1.5),
        (("2024-05-10T00:00:00Z", "2024-05-10T02:00:01+02:00"), 1),
        ((" 2024-05-10 00:00:00 ", "20240510T000001"), 1),
        (("2024-05-09", "2024-05-10"), 86400),
    ],
)
def test_dates_are_read_as_iso_8601_has_them(tmp_path: Path, cells: tuple[str, str], seconds: float) -> None:
    """Any number of digits behind the point (to the microsecond), zones, and dates alone."""
    read = read_trace(written(tmp_path, "t.csv", table(("time", "tokens"), [(cell, 1) for cell in cells])))
    assert read.unit == "iso"
    assert read.arrival_s is not None
    assert read.arrival_s.tolist() == pytest.approx([0, seconds])


@pytest.mark.parametrize(
    ("cell", "what"),
    [
        ("2024-05-10T00:00:02+00:00", "'time' with a time zone where the first has none, or the other way round"),
        ("10/05/2024 00:00:02", "'time' not a time in ISO 8601 in 1 row (first: line 3, '10/05/2024 00:00:02')"),
        ("17", "'time' not a time in ISO 8601"),
        ("", "'time' missing"),
    ],
)
def test_a_date_that_is_none_is_counted(tmp_path: Path, cell: str, what: str) -> None:
    """Among dates, what is no date or of another kind is named with its line."""
    rows = [("2024-05-10 00:00:01", 1), (cell, 2), ("2024-05-10 00:00:03", 3)]
    with pytest.raises(InputError) as caught:
        read_trace(written(tmp_path, "t.csv", table(("time", "tokens"), rows)))
    assert what in str(caught.value)


def test_numbers_without_a_unit_are_not_guessed_at(tmp_path: Path) -> None:
    """A column `timestamp` of numbers is refused with the likely unit; told the unit, it is read."""
    path = written(
        tmp_path, "t.csv", table(("timestamp", "tokens"), [(1_700_000_000_000 + 500 * i, 3) for i in range(9)])
    )
    with pytest.raises(InputError, match=r"since 1970 they would be ms\); say so with --time-unit"):
        read_trace(path)
    read = read_trace(path, Reading(AskedColumns(unit="ms")))
    assert read.arrival_s is not None
    assert read.arrival_s.tolist() == [i / 2 for i in range(9)]
    path = written(tmp_path, "u.csv", table(("timestamp", "tokens"), [(at, 1) for at in range(11)]))
    with pytest.raises(InputError, match=r"read in ns, .* give 1e[+]09 requests/s over 1e-08 s; .* --time-unit"):
        read_trace(path, Reading(AskedColumns(unit="ns")))


@pytest.mark.parametrize(("column", "per_second", "off_s"), [("ts_us", 10**6, 1e-12), ("ts_ns", 10**9, 2.6e-7)])
def test_times_since_1970_lose_no_microsecond(tmp_path: Path, column: str, per_second: int, off_s: float) -> None:
    """Counted from the first request, microseconds since 1970 are exact, and nanoseconds are to a quarter of one."""
    step = per_second // 10**6
    rows = [(1_700_000_000 * per_second + step * i, 1) for i in range(1000)]
    read = read_trace(written(tmp_path, "t.csv", table((column, "tokens"), rows)))
    assert read.arrival_s is not None
    np.testing.assert_allclose(read.arrival_s, np.arange(1000) * 1e-6, atol=off_s, rtol=0)


@pytest.mark.parametrize("cell", ["1_000", "１２", "0x10", "1,000", "1 000", "+-1", "1e", "five"])
def test_only_plain_numbers_are_numbers(tmp_path: Path, cell: str) -> None:
    """What Python would take for a number and a table would not is refused like any other text."""
    path = written(tmp_path, "t.csv", table(("time_s", "tokens"), [(0, 5), (1, cell), (2, 6)]))
    with pytest.raises(InputError, match=r"'tokens' not a number in 1 row \(first: line 3, "):
        read_trace(path)


@given(st.lists(st.tuples(st.integers(0, 59_000), st.integers(1, 9)), min_size=2, max_size=60))
def test_what_is_out_of_order_is_sorted_and_counted(rows: list[tuple[int, int]]) -> None:
    """Requests within a minute of each other come out in the order of their times, ties as in the file, none lost."""
    if len({at for at, _ in rows}) == 1:
        rows.append((rows[0][0] + 1, 1))
    with tempfile.TemporaryDirectory() as folder:  # a fixture would be shared by all examples
        read = read_trace(written(Path(folder), "t.csv", table(("time_ms", "tokens"), list(rows))))
    assert read.arrival_s is not None
    expected = sorted(rows, key=lambda row: row[0])
    first = expected[0][0]
    np.testing.assert_allclose(read.arrival_s, [(at - first) / 1000 for at, _ in expected], atol=1e-9)
    assert read.tokens.tolist() == [tokens for _, tokens in expected]
    highest = np.maximum.accumulate([at for at, _ in rows])
    back = [int(top) - at for top, (at, _) in zip(highest, rows, strict=True)]
    assert read.out_of_order == sum(step > 0 for step in back)
    assert read.furthest_back_s == pytest.approx(max(back) / 1000)
    late = [line for line, step in enumerate(back, start=2) if step > 0]
    assert read.first_out_of_order == (late[0] if late else None)


def test_time_that_goes_back_too_far_is_refused(tmp_path: Path) -> None:
    """Beyond a minute it is told by how much and where, and sorted only if asked."""
    path = written(tmp_path, "t.csv", "time_s,tokens\n0,1\n3600,2\n7200,3\n60,4\n7300,5\n")
    with pytest.raises(InputError, match=r"goes back by 7,140 s at line 5; .*Up to 60 s is sorted \(--sort-within\)"):
        read_trace(path)
    read = read_trace(path, Reading(sort_within_s=7140))
    assert (read.out_of_order, read.furthest_back_s, read.first_out_of_order) == (1, 7140, 5)
    assert read.tokens.tolist() == [1, 4, 2, 3, 5]


def test_reading_a_trace_leaves_the_csv_module_as_it_was(tmp_path: Path) -> None:
    """Cells of a trace may be long, and only theirs: the limit that other readers of CSV rely on is the same after."""
    before = csv.field_size_limit()
    read = read_trace(written(tmp_path, "t.csv", f"time_s,tokens,prompt\n0,1,{'x' * (before + 1)}\n1,2,a\n"))
    assert read.tokens.tolist() == [1, 2]
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("t.csv", b"", "the file is empty"),
        ("t.csv", b"\n \n", "the file is empty"),
        ("t.csv", b"time_s,tokens\n", "there is no request in it, only the names of columns"),
        ("t.csv", b"time_s,tokens\n1,5\n", "only one request can be used"),
        ("t.csv", b"time_s,tokens\n1,5\n1,6\n1,7\n", "all 3 requests have the same time in 'time_s'"),
        ("t.csv", b"1,2\n3,4\n", "line 1 holds values ('1', '2'), not names; add a line of names"),
        ("t.csv", b"2023-11-16 18:17:03.97,4808\n", "line 1 holds values"),
        ("t.csv", b"a,b\n1,2\n", "no column is recognised as the lengths; there are 'a', 'b'"),
        ("t.csv", b"tokens,tokens\n1,2\n", "2 columns are named 'tokens'"),
        ("t.csv", b'time_s,tokens\n1,"5\n2,6\n', "not readable as CSV: unexpected end of data"),
        ("t.csv", b"time_s,tokens,caf\xe9\n1,5,a\n", "at its beginning there is a byte (0xe9) that is not UTF-8"),
        ("t.csv", b"time_s,tokens,name\n" + b"1,5,a\n" * 5000 + b"2,6,\xe9\n", "there is a byte (0xe9) that is not"),
        ("t.csv", "time_s,tokens\n1,5\n".encode("utf-16"), "the file is UTF-16; convert it to UTF-8"),
        ("t.csv", b"\x7fELF\0\0", "expected CSV, JSON lines or Parquet, plain or gzipped; this is another binary file"),
        ("t.zip", b"PK\x03\x04rest", "packed with zip; unpack it first (unzip)"),
        ("t.zst", b"\x28\xb5\x2f\xfdrest", "packed with zstd"),
        ("t.xz", b"\xfd7zXZrest", "packed with xz"),
        ("t.json", b'[{"tokens": 1}]', "one JSON object per line, got a JSON list; convert it with jq -c '.[]'"),
        ("t.json", b'{"tokens": 1', "line 1: expected one JSON object per line, got '{\"tokens\": 1'"),
        ("t.csv", b"time_s,tokens\n0,1\n1e10,2\n", "the times in 'time_s' give 1e-10 requests/s over 1e+10 s"),
    ],
)  # fmt: skip
def test_what_is_no_trace_is_refused_in_a_sentence(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    """Each kind of broken file is named by what is wrong with it and what to do, in one line, with exit code 2."""
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_trace(path)
    assert words in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_truncated_gzip_is_refused(tmp_path: Path) -> None:
    """A file cut off in mid-stream, or damaged, is not taken for a shorter one."""
    whole = written(tmp_path, "t.csv.gz", vidur(requests(2000))).read_bytes()
    for data in (whole[: len(whole) // 2], whole[:-9] + b"\0" * 9, whole[:200] + b"\xff" * 200 + whole[400:]):
        path = tmp_path / "broken.csv.gz"
        path.write_bytes(data)
        with pytest.raises(InputError, match="its gzip data are damaged or cut off"):
            read_trace(path)


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    """No file, a folder, a device, an impossible name: a sentence each."""
    for path, words in (
        (tmp_path / "nothing.csv", "there is no such file"),
        (tmp_path, "this is a folder"),
        (Path("/dev/null"), "expected a file, because it is read more than once"),
        (Path("a\0b"), "not a usable file name"),
        (tmp_path / ("x" * 5000), "cannot be read"),
    ):
        with pytest.raises(InputError, match=words):
            read_trace(path)


def test_other_separators_quotes_and_blank_lines_are_understood(tmp_path: Path) -> None:
    """Semicolons, a mark of UTF-8, Windows line ends, line ends in quoted cells; blank lines are counted."""
    text = '\ufeff\r\ntime_s;note;tokens\r\n1;"a\r\nb";5\r\n\r\n2;"say ""c""";6\r\n3;d;x\r\n\r\n'
    path = written(tmp_path, "t.csv", text)
    read = read_trace(path, SKIP)
    assert (read.tokens.tolist(), read.blank) == ([5, 6], 3)
    assert [(each.what, each.first) for each in read.unusable] == [("not a number", 7)]


def test_lengths_alone_are_a_trace_without_times(tmp_path: Path) -> None:
    """Without a column of times the lengths are read in their order, and there are no arrivals."""
    read = read_trace(written(tmp_path, "t.csv", "num_prefill_tokens,num_decode_tokens\n5,1\n3,0\n9,2\n"))
    assert (read.arrival_s, read.unit, read.tokens.tolist()) == (None, None, [5, 3, 9])


def test_blocks_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read 7 rows at a time, faults across blocks are counted and numbered as in one."""
    rows: list[tuple[object, ...]] = [
        (at, "x" if index % 50 == 40 else n) for index, (at, n, _) in enumerate(requests())
    ]
    rows[20], rows[30] = rows[30], rows[20]
    path = written(tmp_path, "t.csv", table(("time_s", "tokens"), rows))
    whole = read_trace(path, SKIP)
    monkeypatch.setattr(trace_tables, "BLOCK_ROWS", 7)
    parts = read_trace(path, SKIP)
    assert parts.unusable == whole.unusable
    assert parts.unusable[0].count == 4
    assert parts.unusable[0].first == 42
    assert (parts.out_of_order, parts.first_out_of_order) == (whole.out_of_order, whole.first_out_of_order)
    assert parts.tokens.tolist() == whole.tokens.tolist()
    assert parts.arrival_s is not None
    assert whole.arrival_s is not None
    assert parts.arrival_s.tolist() == whole.arrival_s.tolist()


def test_progress_rises_to_the_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The share that was read never falls, ends at 1, and counts packed bytes of a packed file."""
    monkeypatch.setattr(trace_tables, "BLOCK_ROWS", 100)
    for name, layout in (("t.csv", azure), ("t.csv.gz", generic), ("t.jsonl", mooncake)):
        told: list[float] = []
        read_trace(written(tmp_path, name, layout(requests(3000))), on_progress=told.append)
        assert len(told) == 30
        assert told == sorted(told)
        assert told[-1] == 1


def test_memory_grows_by_the_arrays_alone(tmp_path: Path) -> None:
    """Read from 300,000 rows, each adds at most 40 bytes at the peak, of which 12 are kept: 10 million fit 400 MB."""
    peaks = {}
    for count in (50_000, 300_000):
        lines = "".join(f"{i / 10},{1 + i % 4000},{i % 300}\n" for i in range(count))
        path = written(tmp_path, "t.csv", "arrived_at,num_prefill_tokens,num_decode_tokens\n" + lines)
        tracemalloc.start()
        read = read_trace(path)
        kept, peaks[count] = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert kept < 14 * count + 2_000_000
        assert len(read.tokens) == count
    assert (peaks[300_000] - peaks[50_000]) / 250_000 < 40


def test_a_line_without_end_does_not_fill_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line beyond the limit is refused, in CSV and in JSON lines."""
    monkeypatch.setattr(trace_tables, "LONGEST_LINE", 1000)
    for data in ("tokens,prompt\n1," + "x" * 2000, '{"tokens": 1}\n{"prompt": "' + "x" * 2000 + '"}\n'):
        with pytest.raises(InputError, match="a line has over 1,000 characters"):
            read_trace(written(tmp_path, "t", data))


def test_a_long_prompt_beside_the_numbers_is_no_obstacle(tmp_path: Path) -> None:
    """A cell of half a million characters, such as a prompt, is passed over."""
    rows: list[tuple[object, ...]] = [(1, "x" * 500_000, 5), (2, "y", 6)]
    assert read_trace(written(tmp_path, "t.csv", table(("time_s", "prompt", "tokens"), rows))).tokens.tolist() == [5, 6]


def test_reading_needs_neither_torch_nor_pandas(tmp_path: Path) -> None:
    """A trace is read in a fresh interpreter without torch and pandas."""
    path = written(tmp_path, "t.jsonl", mooncake(requests()))
    code = (
        "import sys\nfrom pathlib import Path\nfrom castbench.workload.trace_reader import read_trace\n"
        f"read_trace(Path({json.dumps(str(path))}))\n"
        "print([m for m in ('torch', 'pandas', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
