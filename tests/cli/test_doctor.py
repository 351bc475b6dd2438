from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from castbench import pipeline
from castbench.cli.app import app
from castbench.cli.doctor import aa_sentence
from castbench.errors import CastbenchError, HardwareError, InputError
from castbench.hardware.cpu import Host
from castbench.hardware.gpu import GpuInventory
from castbench.measure import doctor
from castbench.measure.diagnosis import TorchFacts, diagnose
from castbench.measure.doctor import Examination
from castbench.measure.finding import Severity
from castbench.pipeline import AaResult
from castbench.stats import Estimate

HOST = Host(
    "a-host-with-a-rather-long-name.internal.example.org", "Ubuntu 24.04.1 LTS (Linux 6.8.0-45-generic)", "3.11.9",
    "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", logical_cores=8, affinity_cores=8, load_average=6.0,
)  # fmt: skip
NO_GPU = GpuInventory(reason="this machine has no NVIDIA driver (libnvidia-ml was not found)")
TORCH = TorchFacts(torch="2.7.0+cpu", threads=8)
EXAMINED = Examination(HOST, NO_GPU, TORCH, (), diagnose(HOST, NO_GPU, TORCH))
AA = AaResult(16, 4, 30.0, Estimate(0.001, -0.011, 0.013), "Intel Xeon")


def run(monkeypatch: pytest.MonkeyPatch, *options: str) -> tuple[str, BaseException | None]:
    """Standard output of `castbench doctor` on that machine, and the error it ended with."""
    monkeypatch.setattr(doctor, "examine", lambda: EXAMINED)
    monkeypatch.setattr(pipeline, "resolve_difference", lambda seconds: replace(AA, seconds=seconds))
    result = CliRunner().invoke(app, ["doctor", *options])
    return result.stdout, result.exception


def test_warnings_do_not_change_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with warnings is told, in lines of at most 80 columns and without colour, and the command succeeds."""
    page, error = run(monkeypatch)
    assert error is None
    assert "WARNING: no GPU" in page
    assert "WARNING: load 6.0" in page
    assert "Memory: unknown available of unknown" in page
    assert max(map(len, page.splitlines())) <= 80
    assert "\x1b" not in page


def test_every_finding_says_what_it_means_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Meaning and remedy of each finding are on the page."""
    page = re.sub(r"\s+", " ", run(monkeypatch)[0])
    for finding in EXAMINED.findings:
        assert finding.what in page
        assert f"It means: {finding.so_what}." in page
        assert finding.do is None or f"To do: {finding.do}." in page


def test_a_named_device_that_cannot_be_used_is_a_hardware_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is printed all the same, and the error names the option and the reason."""
    page, error = run(monkeypatch, "--device", "cuda:1")
    assert "This machine" in page
    assert isinstance(error, HardwareError)
    assert str(error).startswith("--device cuda:1: torch 2.7.0+cpu sees 0 GPUs")
    assert run(monkeypatch, "--device", "cpu")[1] is None


@pytest.mark.parametrize(
    "options",
    [
        ("--aa", "30"), ("--aa", "0s"), ("--aa", "soon"), ("--aa", "5s", "--device", "cpu"),
        ("--device", "gpu"), ("--device", "cuda:x"), ("--device", "fake"),
    ],
)  # fmt: skip
def test_bad_options_are_refused_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    """Durations without a unit, unknown devices, and --aa on another device than it would measure are bad input."""
    page, error = run(monkeypatch, *options)
    assert isinstance(error, InputError)
    assert isinstance(error, CastbenchError)
    assert page == ""


def test_json_holds_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """For machines: host, inventory, torch, findings and the A/A result; unknown is null."""
    values = json.loads(run(monkeypatch, "--json", "--aa", "30s")[0])
    assert set(values) == {"host", "inventory", "torch", "devices", "findings", "aa"}
    assert values["host"]["memory_total_bytes"] is None
    assert values["aa"]["log_ratio"]["high"] == 0.013
    assert len(values["findings"]) == len(EXAMINED.findings)
    assert json.loads(run(monkeypatch, "--json")[0])["aa"] is None


def test_aa_says_what_can_be_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    """--aa prints the half-width of the interval in percent, with the rounds and the time it took."""
    page = re.sub(r"\s+", " ", run(monkeypatch, "--aa", "1.5m")[0])
    assert re.search(
        r"On this machine today \(Intel Xeon\), 16 rounds in 90 s resolve a difference of ±1\.21? %\.", page
    )


def test_the_half_width_is_turned_from_a_log_into_percent() -> None:
    """A log ratio of log(1.5) is a difference of 50 %."""
    wide = replace(AA, log_ratio=Estimate(0.0, -math.log(1.5), math.log(1.5)))
    assert re.search(r"±50(\.0)? %", aa_sentence(wide))


def test_an_interval_beside_zero_is_not_passed_over() -> None:
    """Two equal things told apart: the sentence says how often that happens by chance and what to do."""
    assert "one try in twenty" in aa_sentence(replace(AA, log_ratio=Estimate(0.02, 0.01, 0.03)))
    assert "one try in twenty" not in aa_sentence(AA)


def test_too_few_rounds_promise_nothing() -> None:
    """Without an interval no difference is claimed to be resolved."""
    sentence = aa_sentence(replace(AA, rounds=1, log_ratio=Estimate(0.02)))
    assert sentence == "Only 1 round in 30 s on Intel Xeon: too few for an interval; give it more time."


def test_the_parent_never_imports_torch() -> None:
    """`castbench doctor` itself stays free of torch, numpy and pandas."""
    script = (
        "import sys\nfrom castbench.cli.app import app\n"
        "try:\n    app(['doctor'])\nexcept SystemExit as end:\n    assert not end.code\n"
        "print([m for m in ('torch', 'numpy', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_documentation_names_every_severity_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/doctor.md explains each severity, each key of the JSON, and the options."""
    text = (Path(__file__).parents[2] / "docs/doctor.md").read_text()
    keys = set(json.loads(run(monkeypatch, "--json")[0]))
    for word in (*(f"`{severity}`" for severity in Severity), *(f"`{key}`" for key in keys)):
        assert word in text
    assert {"--aa", "--device", "--json"} <= set(re.findall(r"--[a-z]+", text))
