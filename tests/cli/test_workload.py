from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click.testing
import pytest
from typer.testing import CliRunner

from castbench.cli import plan_text, workload
from castbench.errors import InputError
from castbench.hardware.rates import FAKE_RATES
from castbench.measure.estimate import GroupEstimate, PlanEstimate
from castbench.plan import Group, Plan, make_plan
from castbench.workload.profile import read_profile
from castbench.workload.spec import LengthDistribution, WorkloadProfile

PROFILE = """
name: docs
model: {layers: 2, embed_dim: 64, num_heads: 4}
lengths: [{tokens: 128, share: 0.5}, {tokens: 256, share: 0.5}]
batch_sizes: [1, 2]
mechanisms: [sdpa, naive]
"""


SLOW = {"b1-n256-bucketed", *(f"b{batch}-n256-padded" for batch in (2, 4, 8, 16))}


@pytest.fixture(autouse=True)
def _estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """How long a plan takes is not this command's business: 3 s a group, and naive too slow for the longest."""

    def describe_plan(plan: Plan, device: str) -> PlanEstimate:
        def estimate(group: Group) -> GroupEstimate:
            cap_s = plan.sampling.max_seconds_per_case * len(plan.arms_of(group))
            return GroupEstimate(group, 3.0, cap_s, ("naive",) if group.key in SLOW else ())

        rates = replace(FAKE_RATES, name=f"rates of {device}")
        return PlanEstimate(tuple(map(estimate, plan.groups)), rates)

    monkeypatch.setattr(plan_text, "describe_plan", describe_plan)


def run(*arguments: str) -> click.testing.Result:
    """`castbench workload` with these arguments; an error that main would translate is raised."""
    result = CliRunner().invoke(workload.app, list(arguments))
    if isinstance(result.exception, Exception) and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def check(text: str) -> str:
    """What `check` prints of a profile in the working directory."""
    Path("p.yaml").write_text(text)
    return run("check", "p.yaml").output


def profile_of(path: str) -> WorkloadProfile:
    """The profile in a file, which must be sound."""
    result = read_profile(Path(path))
    assert result.problems == ()
    assert result.profile is not None
    return result.profile


def test_check_adds_up_the_plan(in_tmp: Path) -> None:
    """Two lengths at batch 1, and bucketed and padded at batch 2, are 6 groups; with 4 arms 24 cases of 60 s."""
    output = check(PROFILE)
    assert "p.yaml: the profile is valid" in output
    assert "6 groups, 24 cases: about 18 s (rates of cpu), at most 24 min of rounds" in output
    for line in (
        "b1-n128-bucketed",
        "b2-n256-padded",
        "baseline    sdpa",
        "candidate   naive",
        "ceiling     ceiling:mixing",
    ):
        assert line in output
    assert max(len(line) for line in output.splitlines() if not line.startswith("warning")) <= 80


def test_check_prints_the_same_as_json(in_tmp: Path) -> None:
    """--json has the groups, cases, times and warnings as values."""
    Path("p.yaml").write_text(PROFILE)
    shown = json.loads(run("check", "p.yaml", "--json").output)
    assert (len(shown["groups"]), shown["cases"], shown["expected_s"], shown["at_most_s"]) == (6, 24, 18.0, 1440.0)
    assert shown["groups"][0] == {
        "group": "b1-n128-bucketed", "batch_size": 1, "seq_len": 128, "batching": "bucketed", "held_out": False,
        "labels": ["sdpa", "naive", "ceiling:mixing", "ceiling:module"], "expected_s": 3.0, "at_most_s": 240.0,
    }  # fmt: skip
    assert any(warning.startswith("demand is missing") for warning in shown["warnings"])


def test_check_warns_where_too_few_rounds_fit(in_tmp: Path) -> None:
    """A limit that cannot hold the 8 rounds of an interval is pointed out, with the groups and mechanisms."""
    words = "warning: 8 rounds will probably not fit into max_seconds_per_case (60), so there would be no interval, in "
    assert words + "b1-n256-bucketed (naive), b2-n256-padded (naive)\n" in check(PROFILE)
    many = check(PROFILE.replace("[1, 2]", "[1, 2, 4, 8, 16]"))
    assert (
        words + "b1-n256-bucketed (naive), b2-n256-padded (naive), b4-n256-padded (naive) and 2 more groups\n" in many
    )


def test_check_estimates_for_the_device_of_the_profile(in_tmp: Path) -> None:
    """A workload that names a GPU and no CPU price is estimated for a GPU, another for the CPU; --device wins."""
    assert "(rates of cpu)" in check(PROFILE)
    assert "(rates of cuda)" in check(PROFILE + "gpu: L4")
    assert "(rates of cpu)" in check(PROFILE + "gpu: L4\nprice_cpu: {usd_per_hour: 1}")
    assert "(rates of cuda:1)" in run("check", "p.yaml", "--device", "cuda:1").output
    with pytest.raises(InputError, match="--device"):
        run("check", "p.yaml", "--device", "tpu")


def test_check_tells_problems_of_structure_and_mechanisms_together(in_tmp: Path) -> None:
    """A broken model and an unknown mechanism are both named, each in a line with the file, with exit code 2."""
    Path("p.yaml").write_text(PROFILE.replace("layers: 2", "layers: x").replace("naive", "niave"))
    with pytest.raises(InputError) as caught:
        run("check", "p.yaml")
    lines = str(caught.value).splitlines()
    assert lines[0] == "p.yaml: model.layers: expected a positive integer, got 'x'"
    assert lines[1].startswith("p.yaml: mechanisms[1]: no mechanism is named 'niave'")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("extra", "warning"),
    [
        ("", "demand is missing: times and memory are reported, but no servers and no cost per hour"),
        ("demand: {requests_per_second: 4}", "price and price_cpu are missing"),
        ("price: {usd_per_hour: 1}\ndemand: {requests_per_second: 4}", "price_cpu is missing: a run on the CPU"),
        ("price_cpu: {usd_per_hour: 1}\ndemand: {requests_per_second: 4}", "price is missing: a run on a GPU"),
        ("price: {usd_per_hour: 1}", "gpu is missing"),
        ("scope: attention", "attention_share is missing"),
        ("dtype: fp16", "dtype fp16 is refused on CPUs"),
    ],
)
def test_check_warns_of_what_will_be_missing(in_tmp: Path, extra: str, warning: str) -> None:
    """Each thing that leaves cells of the report empty is said before anything is measured."""
    assert f"warning: {warning}" in check(PROFILE + extra)


def test_check_warns_of_a_baseline_that_is_not_exact(in_tmp: Path) -> None:
    """With CAST as the baseline the reader learns what savings are counted against; alone, that there is nothing."""
    text = PROFILE + "baseline: cast\n"
    assert "savings are counted against the cheapest of sdpa" in check(text.replace("naive", "cast"))
    lonely = check(text.replace("sdpa, naive", "cast"))
    assert "counted against nothing, because no mechanism here is" in lonely
    assert "there is only one" in lonely


def test_a_complete_profile_has_no_warning(in_tmp: Path) -> None:
    """Where nothing is missing, nothing is warned of."""
    complete = "demand: {requests_per_second: 4}\ngpu: L4\nprice: {usd_per_hour: 1}\nprice_cpu: {usd_per_hour: 1}\n"
    assert check(PROFILE.replace("256", "192") + complete).count("warning") == 0


def test_init_writes_a_profile_of_its_defaults(in_tmp: Path) -> None:
    """Without a terminal and without options a sound, commented profile is written."""
    assert "castbench workload check workload.yaml" in run("init").output
    profile = profile_of("workload.yaml")
    assert make_plan(profile).baseline == "sdpa"
    assert (profile.name, profile.dtype, profile.demand, profile.gpu) == ("my-workload", "fp32", None, None)
    assert Path("workload.yaml").read_text().count("#") > 10


def test_init_writes_what_its_options_say(in_tmp: Path) -> None:
    """Every option reaches the profile."""
    run(
        "init", "mine.yaml", "--name", "on", "--layers", "6", "--embed-dim", "512", "--heads", "8",
        "--lengths", "512:0.25,2048:0.75", "--rate", "40", "--gpu", 'A100 "80GB"',
        "--price", "3.673", "--price-cpu", "0.2",
    )  # fmt: skip
    profile = profile_of("mine.yaml")
    assert profile.name == "on"
    assert (profile.model.layers, profile.model.embed_dim, profile.model.num_heads) == (6, 512, 8)
    assert profile.lengths == LengthDistribution((512, 2048), (0.25, 0.75), exact=True, source="shares")
    assert profile.demand is not None
    assert profile.demand.requests_per_second == 40
    assert (profile.gpu, profile.dtype) == ('A100 "80GB"', "bf16")
    assert profile.price is not None
    assert profile.price_cpu is not None
    assert (profile.price.usd_per_hour, profile.price_cpu.usd_per_hour) == (3.673, 0.2)


def test_init_never_overwrites_unasked(in_tmp: Path) -> None:
    """An existing file stays as it is unless --force is given."""
    Path("workload.yaml").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        run("init")
    assert Path("workload.yaml").read_text() == "mine"
    run("init", "--force")
    assert profile_of("workload.yaml").name == "my-workload"


def test_init_asks_nothing_where_it_cannot_write(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers nine questions to be told that the file was there all along."""
    Path("workload.yaml").write_text("mine")
    monkeypatch.setattr(workload, "_is_terminal", lambda: True)
    monkeypatch.setattr(workload.typer, "prompt", lambda *_, **__: pytest.fail("a question was asked"))
    with pytest.raises(InputError, match="exists already"):
        run("init")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--heads", "5"], "model.num_heads: expected a divisor of embed_dim 256, got 5. Did you mean 4?"),
        (["--lengths", "2k"], "expected tokens:share pairs such as 512:0.5,2048:0.5, got '2k'"),
        (["--lengths", "512:0.5"], "expected shares that add up to 1, got 0.5"),
        (["--rate", "0"], "demand.requests_per_second: expected a number above 0, got 0"),
        (["--price", "nan"], "price.usd_per_hour"),
        (["--name", "a b"], "Did you mean a-b?"),
        (["--name", "x\nseed: 3"], "name: expected a name"),
    ],
)
def test_init_refuses_answers_that_make_no_profile(in_tmp: Path, options: list[str], words: str) -> None:
    """A bad answer is named and nothing is written."""
    with pytest.raises(InputError) as caught:
        run("init", *options)
    assert words in str(caught.value)
    assert not list(in_tmp.iterdir())


def test_init_asks_for_what_no_option_says(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal every missing answer is asked for once; an empty one keeps the default."""
    asked: list[str] = []
    replies = {"Layers": 3, "Requests per second (empty: not known)": "12.5"}

    def prompt(question: str, default: object, **_: object) -> object:
        asked.append(question)
        return replies.get(question, default)

    monkeypatch.setattr(workload.typer, "prompt", prompt)
    monkeypatch.setattr(workload, "_is_terminal", lambda: True)
    run("init", "--name", "told", "--gpu", "L4")
    assert len(asked) == len(set(asked)) == 7
    profile = profile_of("workload.yaml")
    assert (profile.name, profile.gpu, profile.model.layers, profile.model.embed_dim) == ("told", "L4", 3, 256)
    assert profile.demand is not None
    assert profile.demand.requests_per_second == 12.5
    assert profile.price is None


def test_init_refuses_a_reply_that_is_no_number(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A price typed with words is refused with the question's key."""
    monkeypatch.setattr(
        workload.typer, "prompt", lambda question, default, **_: "cheap" if "GPU server" in question else default
    )
    monkeypatch.setattr(workload, "_is_terminal", lambda: True)
    with pytest.raises(InputError, match="usd_per_hour: expected a number, got 'cheap'"):
        run("init")


def test_schema_is_json_schema() -> None:
    """`schema` prints the JSON Schema of a profile."""
    schema = json.loads(run("schema").output)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert "mechanisms" in schema["required"]
