from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from castbench.cli.app import app
from castbench.errors import InputError
from castbench.report.catalogue import spoken

PROFILE = """
name: small
model: {layers: 1, embed_dim: 32, num_heads: 2, vocab_size: 100}
lengths: [{tokens: 32, share: 0.5}, {tokens: 64, share: 0.5}]
batch_sizes: [1, 4]
batching: [padded]
mechanisms: [sdpa, {cast: {num_clusters: 4}, label: cast}]
demand: {requests_per_second: 100, objective: {p99_ms: 50}}
sampling: {energy: false, confirm: false, min_window_ms: 5, max_seconds_per_case: 2, target_ci: 0.5}
"""
COMMANDS = {
    "report": ("report", "run.jsonl"),
    "compare": ("compare", "run.jsonl", "other.jsonl"),
    "capacity": ("capacity", "run.jsonl", "--resamples", "0", "--replicas", "2", "--day"),
    "rehearse": ("rehearse", "run.jsonl", "--rate", "300", "--seconds", "2"),
}
MACHINE = {
    "report": ("--format", "json"), "compare": ("--format", "csv"), "capacity": ("--json",), "rehearse": ("--json",),
}  # fmt: skip
JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")


def run(*words: str, lang: str | None = None) -> Result:
    """The program in this process, with CASTBENCH_LANG as given."""
    return CliRunner().invoke(app, list(words), env={"COLUMNS": "80", "CASTBENCH_PRICES": "", "CASTBENCH_LANG": lang})


def shown(*words: str, lang: str | None = None) -> str:
    """What a command prints, which must succeed."""
    done = run(*words, lang=lang)
    assert done.exit_code == 0, (done.output, done.exception)
    return str(done.stdout)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs of the fake device."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "small.yaml").write_text(PROFILE)
    for name, seed in (("run", "1"), ("other", "2")):
        shown(
            "-q", "profile", str(folder / "small.yaml"), "--device", "fake", "--seed", seed, "--out",
            str(folder / f"{name}.jsonl"),
        )  # fmt: skip
    return folder


@pytest.fixture
def fake(runs: Path, in_tmp: Path) -> Path:
    """A working directory with them."""
    shutil.copytree(runs, in_tmp, dirs_exist_ok=True)
    return in_tmp


@pytest.mark.parametrize("name", COMMANDS)
def test_every_report_speaks_japanese_when_asked(fake: Path, name: str) -> None:
    """--lang ja, or CASTBENCH_LANG, changes what people read; the option wins, and English is the default."""
    words = (*COMMANDS[name], "--force") if name == "compare" else COMMANDS[name]
    assert JAPANESE.search(shown(*words)) is None
    assert "擬似デバイス" in shown(*words, "--lang", "ja") or name == "compare"
    assert len(JAPANESE.findall(shown(*words, lang="ja"))) > 100
    assert JAPANESE.search(shown(*words, "--lang", "en", lang="ja")) is None
    assert spoken() == "en"


@pytest.mark.parametrize("name", COMMANDS)
def test_formats_for_machines_stay_english(fake: Path, name: str) -> None:
    """JSON and CSV have not one Japanese letter, whatever the language."""
    words = (*COMMANDS[name], "--force") if name == "compare" else COMMANDS[name]
    assert JAPANESE.search(shown(*words, *MACHINE[name], "--lang", "ja")) is None


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_language_is_refused_in_a_sentence(fake: Path, name: str) -> None:
    """The sentence names the option, the variable and the languages."""
    words = (*COMMANDS[name], "--force") if name == "compare" else COMMANDS[name]
    done = run(*words, "--lang", "fr")
    assert isinstance(done.exception, InputError)
    assert str(done.exception) == "--lang (or CASTBENCH_LANG): expected one of en, ja, got 'fr'"


def test_the_option_is_explained_with_an_example() -> None:
    """--help says which languages there are, and shows one."""
    for name in COMMANDS:
        told = " ".join(run(name, "--help").output.split())
        assert "--lang ja" in told
        assert "CASTBENCH_LANG" in told
