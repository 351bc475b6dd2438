"""Settings every test shares: reproducible hypothesis runs without deadlines, since the machine's speed is no claim."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ("tests.nvml.fixtures",)

settings.register_profile(
    "castbench", deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("castbench")


@pytest.fixture
def data_dir() -> Path:
    """The folder with whole traces, or a skip with the reason."""
    named = os.environ.get("CASTBENCH_DATA")
    if not named or not Path(named).is_dir():
        pytest.skip("CASTBENCH_DATA does not name the folder with whole traces")
    return Path(named)


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
