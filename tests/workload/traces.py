"""Small traces in every layout and format, made for tests of their readers."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from datetime import datetime, timedelta
from pathlib import Path

Rows = list[tuple[float, int, int]]
"""(seconds after the first, tokens, output tokens) of each request."""


def requests(count: int = 200, seed: int = 0) -> Rows:
    """Requests at random times to the millisecond, the first at 0, of random lengths."""
    rng = random.Random(seed)
    now, rows = 0.0, []
    for _ in range(count):
        rows.append((round(now, 3), rng.randint(1, 5000), rng.randint(0, 300)))
        now += rng.expovariate(2.0)
    return rows


def table(header: tuple[str, ...], rows: list[tuple[object, ...]]) -> bytes:
    """A CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue().encode()


def azure(rows: Rows) -> bytes:
    """The layout of the Azure LLM traces: dates with seven digits behind the point."""
    start = datetime(2023, 11, 16, 18, 17, 3)
    dates = [(start + timedelta(seconds=at)).isoformat(" ", "microseconds") + "0" for at, _, _ in rows]
    cells = [(date, tokens, output) for date, (_, tokens, output) in zip(dates, rows, strict=True)]
    return table(("TIMESTAMP", "ContextTokens", "GeneratedTokens"), cells)


def mooncake(rows: Rows) -> bytes:
    """The layout of the Mooncake traces: JSON lines, milliseconds."""
    lines = [
        json.dumps({"timestamp": round(at * 1000), "input_length": n, "output_length": out, "hash_ids": [0, 1]})
        for at, n, out in rows
    ]
    return ("\n".join(lines) + "\n").encode()


def burstgpt(rows: Rows) -> bytes:
    """The layout of the BurstGPT traces: seconds since midnight."""
    header = ("Timestamp", "Model", "Request tokens", "Response tokens", "Total tokens", "Log Type")
    return table(header, [(5 + at, "GPT-4", n, out, n + out, "API log") for at, n, out in rows])


def vidur(rows: Rows) -> bytes:
    """The layout of vidur's traces: seconds."""
    return table(("arrived_at", "num_prefill_tokens", "num_decode_tokens"), list(rows))


def generic(rows: Rows) -> bytes:
    """A layout whose names tell what they are."""
    return table(("id", "Arrival_us", "prompt tokens"), [(i, round(at * 1e6), n) for i, (at, n, _) in enumerate(rows)])


LAYOUTS = {"azure": azure, "mooncake": mooncake, "burstgpt": burstgpt, "vidur": vidur, "generic": generic}


def written(folder: Path, name: str, data: bytes | str) -> Path:
    """A file with these contents; gzipped if its name says so."""
    path = folder / name
    raw = data.encode() if isinstance(data, str) else data
    path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return path
