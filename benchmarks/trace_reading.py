"""What reading a long trace takes: seconds, processor time and peak memory of `workload from-trace`, by layout.

Each file is made here (dates as in the Azure LLM traces, or JSON lines as in Mooncake's), read once in a process of its
own, and deleted. The peak is the resident memory of that process, beside that of one that only prints its help.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

CHUNK = 100_000
START = datetime(2024, 5, 10)


def chunks(rows: int) -> Iterator[list[tuple[float, int, int]]]:
    """Random arrivals at 16.7 requests/s with lengths up to 8,000 tokens: (seconds, tokens, output tokens)."""
    rng = np.random.default_rng(0)
    now = 0.0
    for start in range(0, rows, CHUNK):
        count = min(CHUNK, rows - start)
        at = now + rng.exponential(0.06, count).cumsum()
        now = float(at[-1])
        tokens = np.minimum(rng.lognormal(7, 1, count).astype(int) + 1, 8000)
        yield list(zip(at.tolist(), tokens.tolist(), rng.integers(1, 500, count).tolist(), strict=True))


def azure(rows: int) -> Iterator[str]:
    """CSV with dates."""
    yield "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    for part in chunks(rows):
        yield "".join(f"{START + timedelta(seconds=at)},{tokens},{out}\n" for at, tokens, out in part)


def mooncake(rows: int) -> Iterator[str]:
    """JSON lines with milliseconds."""
    for part in chunks(rows):
        yield "".join(
            f'{{"timestamp": {at * 1000:.0f}, "input_length": {tokens}, "output_length": {out}}}\n'
            for at, tokens, out in part
        )


LAYOUTS = {"azure.csv": azure, "azure.csv.gz": azure, "mooncake.jsonl": mooncake}


def write(path: Path, rows: int) -> None:
    """The file of that name."""
    packed = path.suffix == ".gz"
    with gzip.open(path, "wt", compresslevel=1) if packed else path.open("w") as file:
        file.writelines(LAYOUTS[path.name](rows))


def taken(*arguments: str) -> dict[str, float]:
    """Wall seconds, processor seconds and peak memory of one castbench process."""
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(used.ru_utime + used.ru_stime, used.ru_maxrss)\n"
    )
    began = time.perf_counter()
    command = [
        sys.executable,
        "-c",
        code,
        sys.executable,
        "-m",
        "castbench",
        "-q",
        "workload",
        "from-trace",
        *arguments,
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    cpu_s, peak = map(float, done.stdout.split())
    unit = 1 if sys.platform == "darwin" else 1024
    return {"wall_s": time.perf_counter() - began, "cpu_s": cpu_s, "peak_mb": peak * unit / 1e6}


def main() -> None:
    """Print a line per file, or all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=10_000_000, help="requests per file (default: 10 million)")
    parser.add_argument("--files", nargs="*", default=list(LAYOUTS), choices=list(LAYOUTS), help="which files")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--out", type=Path, help="write the JSON to this file")
    asked = parser.parse_args()
    found: dict[str, dict[str, float]] = {"help": taken("--help")}
    with TemporaryDirectory() as folder:
        for name in asked.files:
            path = Path(folder) / name
            write(path, asked.rows)
            found[name] = {**taken(str(path)), "file_mb": path.stat().st_size / 1e6}
            path.unlink()
    result = json.dumps({"rows": asked.rows, "files": found}, indent=2)
    if asked.out is not None:
        asked.out.write_text(result + "\n", encoding="utf-8")
    if asked.json:
        print(result)
        return
    for name, took in found.items():
        print(
            f"{name}: {took['wall_s']:.1f} s, {took['cpu_s']:.1f} s of processor, {took['peak_mb']:.0f} MB at the peak"
        )


if __name__ == "__main__":
    main()
