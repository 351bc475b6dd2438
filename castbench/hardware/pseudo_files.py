"""Reading the kernel's text files under /proc and /sys, which may be absent, forbidden or gone while being read."""

from __future__ import annotations

from pathlib import Path


def text_of(path: Path) -> str | None:
    """The file's text, or None where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
