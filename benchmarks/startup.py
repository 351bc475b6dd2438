"""What castbench's own start-up costs: commands in fresh processes against a bare interpreter, interleaved."""

from __future__ import annotations

import subprocess
import sys
from statistics import median
from time import perf_counter

COMMANDS = {
    "bare interpreter": ["-c", "pass"],
    "castbench --help": ["-m", "castbench", "--help"],
    "castbench profile --help": ["-m", "castbench", "profile", "--help"],
    "castbench mechanisms": ["-m", "castbench", "mechanisms"],
}
ROUNDS = 9


def seconds(arguments: list[str]) -> float:
    """Wall time of one process."""
    began = perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return perf_counter() - began


def main() -> None:
    """Print medians and their ratio to the bare interpreter."""
    rounds = [{name: seconds(arguments) for name, arguments in COMMANDS.items()} for _ in range(ROUNDS)]
    for name in COMMANDS:
        ratio = median(r[name] / r["bare interpreter"] for r in rounds)
        print(f"{name}: {median(r[name] for r in rounds) * 1e3:.0f} ms, {ratio:.1f} times a bare interpreter")


if __name__ == "__main__":
    main()
