"""What a report of a very large run costs: seconds and peak memory per format, each in a process of its own.

run file of 10,000 cases ─▶ castbench report --format F (fresh process) ─▶ seconds, peak MiB, size of the output
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from castbench.report import exporters
from castbench.store import SCHEMA, RunWriter
from tests.report.builder import many_cases

MOST_SECONDS, MOST_MIB, MOST_HTML_MIB = 10.0, 500.0, 2.0
CASES = 10_000
CONVERTED = ("pdf",)
"""Formats whose converter (typst) works within the process: its memory is shown and not judged."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one format took; CPU seconds are what of the time was work, and not waiting for a busy machine."""

    fmt: str
    seconds: float
    cpu_s: float
    peak_mib: float
    size_mib: float

    @property
    def is_within(self) -> bool:
        """Whether it keeps all limits."""
        is_small = self.size_mib <= MOST_HTML_MIB or self.fmt != "html"
        is_lean = self.peak_mib <= MOST_MIB or self.fmt in CONVERTED
        return self.cpu_s <= MOST_SECONDS and is_lean and is_small


def run_file(folder: Path) -> Path:
    """The run as a file."""
    record, path = many_cases(), folder / "large.jsonl"
    with RunWriter.create(path, replace(record.header, schema=SCHEMA)) as writer:
        for one in record.rounds:
            writer.append_round(one)
        for group in record.groups:
            writer.append_group(group)
        if record.ended is not None:
            writer.append_end(record.ended)
    return path


def cost_of(run: Path, fmt: str, options: Sequence[str], out: Path) -> Cost:
    """Seconds from start to end of `castbench report`, and the most memory that its process held."""
    asked = ["report", str(run), "--format", fmt, "--price", "3.67", "--rate", "40", "--out", str(out), *options]
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "castbench", *asked])
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"castbench {' '.join(asked)} failed")
    cpu_s = used.ru_utime + used.ru_stime
    return Cost(fmt + (" cases" if options else ""), seconds, cpu_s, used.ru_maxrss / 1024, out.stat().st_size / 2**20)


def costs(formats: Sequence[str]) -> Iterator[Cost]:
    """Every format's cost, one after the other."""
    with TemporaryDirectory() as name:
        run = run_file(Path(name))
        for fmt in formats:
            yield cost_of(run, fmt, (), Path(name) / f"report.{fmt}")
            if fmt == "csv":
                yield cost_of(run, fmt, ("--table", "cases"), Path(name) / "cases.csv")


def main() -> int:
    """Measure and print; exit code 1 where a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--format", action="append", help="a format to measure (repeatable); all if none is given")
    found = list(costs(parser.parse_args().format or list(exporters.SHIPPED)))
    table = Table(title=f"{CASES:,} cases; at most {MOST_SECONDS:.0f} s and {MOST_MIB:.0f} MiB")
    for heading in ("format", "seconds", "of CPU", "peak MiB", "output MiB", "within"):
        table.add_column(heading, justify="left" if heading == "format" else "right")
    for cost in found:
        numbers = (f"{cost.seconds:.1f}", f"{cost.cpu_s:.1f}", f"{cost.peak_mib:.0f}", f"{cost.size_mib:.2f}")
        table.add_row(cost.fmt, *numbers, "yes" if cost.is_within else "NO")
    Console().print(table)
    return 0 if all(cost.is_within for cost in found) else 1


if __name__ == "__main__":
    sys.exit(main())
