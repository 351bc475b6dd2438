from __future__ import annotations

import csv
from pathlib import Path

import pytest

from castbench.errors import InputError
from castbench.plan import make_plan
from castbench.workload import shipped
from castbench.workload.profile import read_profile
from castbench.workload.shipped import find_profile, shipped_profiles
from castbench.workload.spec import WorkloadProfile

NAMES = ["arxiv-documents", "code-assist", "long-context", "lra-text", "quickstart"]


def load(name: str) -> WorkloadProfile:
    """A shipped profile, which must be sound."""
    result = read_profile(find_profile(name))
    assert result.problems == ()
    assert result.profile is not None
    return result.profile


def test_the_shipped_profiles_are_these() -> None:
    """No profile ships without a test, and each file is named after its profile."""
    assert list(shipped_profiles()) == NAMES
    assert [load(name).name for name in NAMES] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_shipped_profiles_make_a_plan(name: str) -> None:
    """Every shipped profile is accepted by make_plan, has cast among its arms and an exact baseline to compare with."""
    plan = make_plan(load(name))
    assert "cast" in {arm.mechanism for arm in plan.arms}
    assert plan.arm(plan.baseline).exact
    assert not plan.unsupported


@pytest.mark.parametrize("name", NAMES)
def test_shipped_profiles_state_where_their_numbers_come_from(name: str) -> None:
    """The comments of a shipped profile name the source of its numbers."""
    assert "# Where the numbers come from" in shipped_profiles()[name].read_text(encoding="utf-8")


def test_lra_text_is_the_published_setting() -> None:
    """Bytes of 1K to 4K, batch 32, training, against attention with its scores in memory."""
    profile = load("lra-text")
    assert profile.lengths.tokens == (1024, 2048, 3072, 4096)
    assert (profile.batch_sizes, profile.phase, profile.model.vocab_size) == ((32,), "training", 256)
    assert profile.baseline == "naive"


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "file", "column"),
    [
        ("arxiv-documents", "arxiv_summarization_lengths.csv", "num_prefill_tokens"),
        ("code-assist", "azure_llm_code_2023.csv", "ContextTokens"),
    ],
)
def test_quantiles_are_those_of_the_data(data_dir: Path, name: str, file: str, column: str) -> None:
    """The mix a shipped profile gives has the mean, the range and the median of the trace it cites."""
    with (data_dir / "traces" / file).open(newline="") as lines:
        lengths = sorted(int(row[column]) for row in csv.DictReader(lines))
    mix = load(name).lengths
    assert mix.mean_tokens == pytest.approx(sum(lengths) / len(lengths), rel=0.02)
    assert mix.tokens[-1] == lengths[-1]
    median = lengths[len(lengths) // 2]
    assert mix.share_up_to(median) == pytest.approx(0.5, abs=1 / 63)


def test_a_path_wins_over_a_name(in_tmp: Path) -> None:
    """A file of that very name is taken before a shipped profile; a folder is not in the way."""
    (in_tmp / "lra-text").mkdir()
    (in_tmp / "quickstart").write_text("name: mine\n")
    assert find_profile("quickstart") == Path("quickstart")
    assert find_profile("lra-text").name == "lra-text.yaml"
    assert find_profile(str(in_tmp)) == in_tmp


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("quikstart", "Did you mean the shipped profile quickstart?"),
        ("profiles/lra-text.yaml", "Did you mean the shipped profile lra-text?"),
        ("conttracts.yaml", "Did you mean contracts.yaml?"),
        ("zzz", "Shipped profiles are arxiv-documents, code-assist, long-context, lra-text, quickstart."),
        ("", "this is a folder"),
        ("a\0b", r"^'a.x00b': there is no such file"),
        ("x" * 5000, r"^'x{59}…: "),
    ],
)
def test_a_profile_that_is_not_there_gets_a_suggestion(in_tmp: Path, asked: str, words: str) -> None:
    """A name or path without a file ends in a sentence with what was probably meant."""
    (in_tmp / "contracts.yaml").write_text("name: c\n")
    with pytest.raises(InputError, match=words) as caught:
        read_profile(find_profile(asked))
    assert caught.value.exit_code == 2


def test_installed_profiles_are_found_beside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed, the profiles lie inside the package; an unrelated folder beside site-packages is not read."""
    package = tmp_path / "castbench"
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "stranger.yaml").write_text("x: 1\n")
    package.mkdir()
    monkeypatch.setattr(shipped, "_PACKAGE", package)
    assert shipped_profiles() == {}
    (package / "profiles").mkdir()
    (package / "profiles" / "quickstart.yaml").write_text("x: 1\n")
    assert list(shipped_profiles()) == ["quickstart"]
