"""Puts the report of the last run into README.md between its markers, shortened by whole sections: `make readme`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BEGIN, END = "<!-- demo:begin -->\n", "<!-- demo:end -->"
KEPT = (
    "castbench report", "Summary", "How each would run", "Ceilings and crossover", "Measured: batch 1, 4,096 tokens",
    "Caveats",
)  # fmt: skip
"""Sections of the report that the README shows, by how they begin."""


def main() -> None:
    """Replace the sample by the real output of `castbench report latest`."""
    report = subprocess.run(
        [sys.executable, "-m", "castbench", "report", "latest"], capture_output=True, text=True, check=True
    ).stdout
    sections = [s for s in report.split("\n\n") if s.lstrip().startswith(KEPT)]
    readme = Path("README.md")
    head, _, rest = readme.read_text().partition(BEGIN)
    tail = rest.partition(END)[2]
    sample = "\n\n".join(sections).rstrip()
    readme.write_text(f"{head}{BEGIN}```text\n{sample}\n```\n{END}{tail}")


if __name__ == "__main__":
    main()
