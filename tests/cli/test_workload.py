from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import click.testing
import pytest
from typer.testing import CliRunner

from castbench.cli import plan_text, workload
from castbench.errors import InputError
from castbench.hardware.rates import FAKE_RATES
from castbench.measure.estimate import GroupEstimate, PlanEstimate
from castbench.plan import Group, Plan, make_plan
from castbench.report import terminal
from castbench.workload.interview import QUESTIONS
from castbench.workload.profile import read_profile
from castbench.workload.spec import LengthDistribution, WorkloadProfile
from castbench.workload.template import Answers

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
            too_slow = ("naive",) if group.key in SLOW else ()
            return GroupEstimate(group, expected_s=3.0, cap_s=cap_s, passes_s=1.0, too_slow=too_slow)

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


def unwrapped(output: str) -> str:
    """The output as if the terminal were wide enough: a line that follows a break is indented."""
    return output.replace("\n  ", " ")


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
    assert "6 groups, 24 cases: about 18 s (rates of cpu), at most 24 min of rounds" in unwrapped(output)
    for line in (
        "b1-n128-bucketed",
        "b2-n256-padded",
        "baseline    sdpa",
        "candidate   naive",
        "ceiling     ceiling:mixing",
    ):
        assert line in output
    assert max(map(len, output.splitlines())) <= 80


def test_check_prints_the_same_as_json(in_tmp: Path) -> None:
    """--json has the groups, cases, times and warnings as values."""
    Path("p.yaml").write_text(PROFILE)
    shown = json.loads(run("check", "p.yaml", "--json").output)
    assert (len(shown["groups"]), shown["cases"], shown["expected_s"], shown["at_most_s"]) == (6, 24, 18.0, 1440.0)
    assert shown["groups"][0] == {
        "group": "b1-n128-bucketed", "batch_size": 1, "seq_len": 128, "batching": "bucketed",
        "regime": "eager", "held_out": False,
        "labels": ["sdpa", "naive", "ceiling:mixing", "ceiling:module"], "expected_s": 3.0, "at_most_s": 240.0,
    }  # fmt: skip
    assert any(warning.startswith("demand is missing") for warning in shown["warnings"])


def test_check_warns_where_too_few_rounds_fit(in_tmp: Path) -> None:
    """A limit that cannot hold the 8 rounds of an interval is pointed out, with the groups and mechanisms."""
    words = "warning: 8 rounds will probably not fit into max_seconds_per_case (60), so there would be no interval, in "
    assert words + "b1-n256-bucketed (naive), b2-n256-padded (naive)\n" in unwrapped(check(PROFILE))
    many = unwrapped(check(PROFILE.replace("[1, 2]", "[1, 2, 4, 8, 16]")))
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
    assert f"warning: {warning}" in unwrapped(check(PROFILE + extra))


def test_check_warns_of_a_baseline_that_is_not_exact(in_tmp: Path) -> None:
    """With CAST as the baseline the reader learns what savings are counted against; alone, that there is nothing."""
    text = PROFILE + "baseline: cast\n"
    assert "savings are counted against the cheapest of sdpa" in unwrapped(check(text.replace("naive", "cast")))
    lonely = unwrapped(check(text.replace("sdpa, naive", "cast")))
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
        "--price", "3.673", "--price-cpu", "0.2", "--vcpus", "4",
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
    assert profile.price_cpu.vcpus == 4


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
        (["--price-cpu", "1", "--vcpus", "0"], "price_cpu.vcpus: expected a positive integer, got 0"),
        (["--vcpus", "2"], "price_cpu: expected usd_per_hour"),
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


def asked(monkeypatch: pytest.MonkeyPatch, *options: str, replies: str) -> str:
    """What `init` says on a terminal to a person who types these lines; "" takes the default, "|" is Enter."""
    monkeypatch.setattr(workload, "_is_terminal", lambda: True)
    result = CliRunner().invoke(workload.app, ["init", *options], input=replies.replace("|", "\n") + "\n")
    if isinstance(result.exception, InputError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_init_asks_for_what_no_option_says(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal every missing answer is asked for once; an empty one keeps the default."""
    output = asked(monkeypatch, "--name", "told", "--gpu", "L4", replies="3||||12.5||")
    questions = [line for line in output.splitlines() if ": " in line and "Wrote" not in line]
    assert [question.split(" (")[0] for question in questions] == [
        "Layers", "Width of the model", "Attention heads", "Document lengths", "Traffic", "Price of a GPU server",
    ]  # fmt: skip
    profile = profile_of("workload.yaml")
    assert (profile.name, profile.gpu, profile.model.layers, profile.model.embed_dim) == ("told", "L4", 3, 256)
    assert profile.demand is not None
    assert profile.demand.requests_per_second == 12.5
    assert profile.price is None


def test_init_asks_at_once_again_and_loses_no_answer(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer that cannot be used is refused where it was given, and the answers around it are kept."""
    output = asked(
        monkeypatch,
        replies="big docs|docs|two|2|250|4|5|500-2000|500:0.5,2000:0.4|500:0.5,2000:0.5|twenty|20|GPU|25|t4|"
        "0,35|free|null|0.35",
    )
    refusals = [line for line in unwrapped(output).splitlines() if line.startswith("Error: ")]
    expected = (
        "got 'big docs'", "got 'two'", "got 4", "got '500-2000'", "got 0.9", "got 'twenty'",
        "no GPU is named '25' in the catalogue", "got '0,35'", "got 'free'", "got 'null'",
    )  # fmt: skip
    assert [words in refusal for words, refusal in zip(expected, refusals, strict=True)] == [True] * len(expected)
    profile = profile_of("workload.yaml")
    assert (profile.name, profile.model.layers, profile.model.embed_dim, profile.model.num_heads) == ("docs", 2, 250, 5)
    assert profile.lengths.tokens == (500, 2000)
    assert profile.demand is not None
    assert profile.demand.requests_per_second == 20
    assert profile.gpu == "T4"
    assert profile.price is not None
    assert profile.price.usd_per_hour == 0.35


def test_init_offers_no_default_that_does_not_fit(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Enter is never answered with a refusal: 4 heads are not offered for a width of 250."""
    output = asked(monkeypatch, "--embed-dim", "250", replies="|||5|||||")
    assert output.count("Attention heads (a divisor of the width): ") == 2
    assert "Error" not in output


@pytest.mark.parametrize(
    ("options", "replies", "price", "price_cpu", "vcpus"),
    [
        ([], "cpu|0.2|4", None, 0.2, 4),
        ([], "|0.2|", None, 0.2, None),
        ([], "||", None, None, None),
        ([], "gpu|L4|0.2", 0.2, None, None),
        ([], "gpu||", None, None, None),
        (["--price", "3"], "L4", 3, None, None),
        (["--price-cpu", "0.2"], "4", None, 0.2, 4),
        (["--price-cpu", "0.2", "--vcpus", "8"], "", None, 0.2, 8),
        (["--price-cpu", "0.2", "--gpu", "L4"], "3|4", 3, 0.2, 4),
    ],
)
def test_init_asks_for_the_price_of_the_device_alone(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], replies: str,
    price: float | None, price_cpu: float | None, vcpus: int | None,
) -> None:  # fmt: skip
    """Whoever runs on a CPU is not asked for a GPU's price, and the other way round; options settle the device."""
    output = asked(monkeypatch, *options, replies="||||||" + replies)
    profile = profile_of("workload.yaml")
    assert (profile.price and profile.price.usd_per_hour) == price
    assert (profile.price_cpu and profile.price_cpu.usd_per_hour) == price_cpu
    assert (profile.price_cpu and profile.price_cpu.vcpus) == vcpus
    if not options:
        assert ("Price of a GPU server" in output) == ("gpu|" in replies)
        assert ("Price of a CPU server" in output) == ("gpu|" not in replies)


def test_init_refuses_a_bad_option_before_it_asks(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An option that makes no profile ends init before the first question, not after the last."""
    monkeypatch.setattr(workload.typer, "prompt", lambda *_, **__: pytest.fail("a question was asked"))
    for options, words in (
        (["--rate", "0"], "demand.requests_per_second"),
        (["--lengths", "2k"], "--lengths: expected"),
    ):
        with pytest.raises(InputError, match=words):
            asked(monkeypatch, *options, replies="")


def test_every_question_says_its_unit_or_its_form() -> None:
    """No question leaves open what its number counts: the unit or the form stands in brackets."""
    assert [question.words for question in QUESTIONS if "(" not in question.words] == []
    for key, unit in (("requests_per_second", "requests per second"), ("usd_per_hour", "USD per hour"),
                      ("cpu_usd_per_hour", "USD per hour"), ("lengths", "tokens")):  # fmt: skip
        assert any(unit in question.words for question in QUESTIONS if question.key == key)


def test_the_questions_are_the_answers_a_profile_needs() -> None:
    """Each field of Answers is asked for once; only the device is asked beyond them."""
    keys = [question.key for question in QUESTIONS]
    assert sorted(keys) == sorted([*(field.name for field in fields(Answers)), "device"])


@pytest.mark.parametrize(
    ("price", "words"),
    [
        ("price: {cloud: aws, instance: no-such}", "price: "),
        ("price_cpu: {cloud: aws, instance: m7i.larg}", "m7i.large"),
    ],
)
def test_check_refuses_a_price_the_catalogue_does_not_have(in_tmp: Path, price: str, words: str) -> None:
    """A price that could not be looked up after the run is refused before it, with exit code 2."""
    with pytest.raises(InputError, match=words) as caught:
        check(PROFILE + price)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("width", [50, 80, 120])
def test_check_wraps_at_the_terminals_width(in_tmp: Path, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """No line but the table's is wider than the terminal, whether it is a parameter, a warning or a reason."""
    monkeypatch.setattr(terminal, "shown_on", lambda _stream: (width, False))
    few = "{cast: {num_clusters: 2, cluster_size: 4, clustering: single_assignment}, label: few-places}"
    output = check(PROFILE.replace("naive]", f"naive, {few}]"))
    text: list[str] = []
    table: list[str] = []
    for line in output.splitlines():
        (table if line.startswith(("group  ", "b1-", "b2-")) else text).append(line)
    assert "not run: few-places on" in output
    assert len(table) == 7
    assert max(map(len, text)) <= width
    assert max(map(len, text)) > width - 15


def test_schema_is_json_schema() -> None:
    """`schema` prints the JSON Schema of a profile."""
    schema = json.loads(run("schema").output)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert "mechanisms" in schema["required"]
