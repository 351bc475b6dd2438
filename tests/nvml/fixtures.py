"""The pytest fixture `fake_nvml`: the test library, built once per session, with a place for each test's scripts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.nvml.library import FakeNvml, build


@pytest.fixture(scope="session")
def _built_nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of builds with the whole library in it; skips without a compiler or NVIDIA's header."""
    builds = tmp_path_factory.mktemp("nvml")
    try:
        build(builds / "whole")
    except LookupError as reason:
        pytest.skip(str(reason))
    except subprocess.CalledProcessError as error:
        pytest.fail(f"the test library for NVML does not compile:\n{error.stderr}")
    return builds


@pytest.fixture
def fake_nvml(_built_nvml: Path, tmp_path: Path) -> FakeNvml:
    """The library with every function a current driver has."""
    scratch = tmp_path / "nvml"
    scratch.mkdir()
    return FakeNvml(_built_nvml / "whole", _built_nvml, scratch)
