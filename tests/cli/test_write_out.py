"""Writing what a command prints to a file: a disk that is full, and what is left behind."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from castbench.errors import CastbenchError
from castbench.pipeline import write_out


def test_a_full_disk_is_one_sentence_and_no_bad_input() -> None:
    """Exit code 1, as where standard output is full: nothing was wrong with what was given."""
    with pytest.raises(CastbenchError, match="cannot write /dev/full: No space left on device; make room") as told:
        write_out(b"x" * 100_000, Path("/dev/full"), force=True)
    assert told.value.exit_code == 1


def test_half_a_file_is_not_left_behind(tmp_path: Path) -> None:
    """Where a document does not fit, no cut one is left that looks whole."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    done = subprocess.run(
        [sys.executable, "-m", "castbench", "report", "--json-schema", "--out", "schema.json"], cwd=tmp_path,
        capture_output=True, text=True, check=False, preexec_fn=limited,
    )  # fmt: skip
    assert (done.returncode, list(tmp_path.iterdir())) == (1, [])
    assert done.stderr == "castbench: cannot write schema.json: File too large; make room, or name another place\n"
