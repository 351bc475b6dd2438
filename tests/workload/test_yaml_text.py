from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from castbench.errors import InputError
from castbench.workload.yaml_text import MAX_BYTES, parse_yaml, read_text, resolve, shown


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1), ("-7", -7), ("0", 0), ("1.5", 1.5), (".5", 0.5), ("1e-2", 0.01), ("1E3", 1000.0), ("2.", 2.0),
        ("true", True), ("False", False), ("null", None), ("~", None), ("", None), (".inf", math.inf),
        ("1e999", math.inf),
        ("no", "no"), ("on", "on"), ("yes", "yes"), ("1:30", "1:30"), ("010", "010"), ("0x10", "0x10"),
        ("1_000", "1_000"), ("2026-01-01", "2026-01-01"), ("2k", "2k"),
        ("9" * 30, int("9" * 30)), ("9" * 400, math.inf), ("-.inf", -math.inf),
    ],
)  # fmt: skip
def test_scalars_mean_what_a_person_expects(text: str, value: object) -> None:
    """Only null, true, false and decimal numbers are resolved; YAML 1.1's traps stay text."""
    found = resolve(text)
    assert found == value
    assert type(found) is type(value)


def test_keys_are_text_and_quotes_make_text() -> None:
    """`on: "1"` has the key "on", not true, and a text as its value."""
    assert parse_yaml('on: "1"\n2: [a, 3]\n', "p") == {"on": "1", "2": ["a", 3]}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "already given on line 1"),
        ("a: !!python/object/apply:os.system [ls]\n", 1, "tags such as"),
        ("a: 1\nb: !!str 5\n", 2, "tags such as"),
        ("a: &x 1\nb: 2\n", 1, "anchors and aliases"),
        ("a: 1\nb: *x\n", 2, "anchors and aliases"),
        ("a: &a [1,1]\nb: &b [*a,*a]\nc: [*b,*b]\n", 1, "anchors and aliases"),
        ("a:\n " + "[" * 30 + "]" * 30, 2, "nested more than"),
        ("[" * 50_000, 1, "nested more than"),
        ("a: 1\n---\nb: 2\n", 2, "second document"),
        ("a: [1, 2\n", 2, "not valid YAML"),
        ("a: 1\n\tb: 2\n", 2, "not valid YAML"),
        ("{[1, 2]: 3}\n", 1, "plain word as a key"),
        ("? {a: b}\n: 3\n", 1, "plain word as a key"),
        ("a: 1\nb: \x00\n", 2, "binary file"),
        ('a: "\\uD800"\n', 1, "half a character"),
        ('a: "\\UFFFFFFFF"\n', 1, "not valid YAML"),
        ("%YAML " + "9" * 5000 + ".1\n---\na: 1\n", 1, "not valid YAML"),
    ],
)
def test_what_is_not_plain_yaml_is_refused_with_its_line(text: str, line: int, words: str) -> None:
    """Tags, aliases, repeated keys, depth, broken syntax and binary text each end in a sentence with the line."""
    with pytest.raises(InputError, match=words) as caught:
        parse_yaml(text, "p.yaml")
    assert str(caught.value).startswith(f"p.yaml: line {line}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "  \n", "# only a comment\n", "---\n", "null\n"])
def test_an_empty_file_is_called_empty(text: str) -> None:
    """A text without a value is refused as empty."""
    with pytest.raises(InputError, match="the file is empty"):
        parse_yaml(text, "p")


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    """Missing, a folder, binary, too large or an impossible name: each has its sentence."""
    (tmp_path / "binary").write_bytes(b"name: x\n\xff\xfe\x00")
    (tmp_path / "large").write_bytes(b"#" * (MAX_BYTES + 1))
    for name, words in [
        ("missing", "no such file"),
        (".", "folder"),
        ("binary", "line 2: not text in UTF-8"),
        ("large", "larger than 1 MiB"),
        ("a\0b", "not a usable file name"),
        ("x" * 5000, "cannot be read"),
    ]:
        with pytest.raises(InputError, match=words):
            read_text(tmp_path / name)


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    """Files from editors that write a BOM are read as any other."""
    (tmp_path / "bom").write_bytes(b"\xef\xbb\xbfname: x\n")
    assert parse_yaml(read_text(tmp_path / "bom"), "p") == {"name": "x"}


@given(st.text(st.characters(), max_size=60) | st.text("[]{}:,-?&*!|>'\"%@`#ab1 \n\t\\", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever the text, the reader gives plain values or an InputError, nothing else."""
    with suppress(InputError):
        parse_yaml(text, "p")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
    )
)
def test_values_are_shown_on_one_short_printable_line(value: object) -> None:
    """What an error message quotes cannot break the line, flood the screen or control the terminal."""
    text = shown(value)
    assert text.isprintable()
    assert 0 < len(text) <= 61
