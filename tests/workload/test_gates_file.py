from __future__ import annotations

from pathlib import Path

import pytest

from castbench.errors import InputError
from castbench.workload.gates_file import read_gates


def test_quoted_and_unquoted_gates_are_the_same(tmp_path: Path) -> None:
    """YAML reads an unquoted gate as a mapping of one key; it means the same text."""
    path = tmp_path / "gates.yaml"
    path.write_text("# kept\ngates:\n  - 'cast-32: slowdown_percent <= 3'\n  - cast-32: slowdown_percent <= 3\n")
    assert read_gates(path) == tuple((f"{path}: gates[{i}]", "cast-32: slowdown_percent <= 3") for i in (0, 1))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gates: []\n", "the list is empty"),
        ("gate: [x]\n", "expected one key, gates, with a list of gates, got the key 'gate'"),
        ("- x\n", "expected one key, gates"),
        ("gates: x\n", "expected one key, gates"),
        ("gates: [3]\n", "gates[0]: expected a text such as 'cast-32: speedup_vs_baseline >= 1.3', got 3"),
        ("gates: [{a: 1}]\n", "gates[0]: expected a text"),
        ("gates:\n  - *: slowdown_percent <= 3\n", "line 2: not valid YAML"),
        ("", "empty"),
    ],
)
def test_a_file_that_is_no_list_of_gates_is_refused(tmp_path: Path, text: str, said: str) -> None:
    """The sentence names the file, the place and what was expected."""
    path = tmp_path / "gates.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_gates(path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    """No traceback for a name that leads nowhere."""
    with pytest.raises(InputError, match="there is no such file"):
        read_gates(tmp_path / "none.yaml")
