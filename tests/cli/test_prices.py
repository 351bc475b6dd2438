from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from castbench.cli.app import app
from castbench.cost.price_rows import COLUMNS
from castbench.cost.prices import load_catalogue
from castbench.errors import InputError
from castbench.store import read_run

SMALL = """
name: small
model: {{layers: 1, embed_dim: 32, num_heads: 2, vocab_size: 100}}
lengths: [{{tokens: 64, share: 0.5}}, {{tokens: 128, share: 0.5}}]
mechanisms: [sdpa, {{cast: {{num_clusters: 4}}, label: cast}}]
demand: {{requests_per_second: 1000}}
price: {price}
"""
SUSPECT = "{cloud: azure, instance: Standard_ND96isr_H200_v5}"
OURS = "{cloud: ours, instance: box}"
HEADER = "cloud,instance,accelerator,gpus,host_included,on_demand_usd_per_hour,as_of,source\n"
LIST = HEADER + "ours,box,H100-SXM,8,yes,16,2026-01-01,offer 17\n"


def run(*words: str, env: dict[str, str] | None = None) -> Result:
    """The program in this process."""
    return CliRunner().invoke(app, list(words), env={"COLUMNS": "80", "CASTBENCH_PRICES": "", **(env or {})})


def shown(*words: str, env: dict[str, str] | None = None) -> str:
    """What a command prints, which must succeed."""
    done = run(*words, env=env)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def refused(*words: str, env: dict[str, str] | None = None) -> str:
    """The sentence a command is refused with, as bad input."""
    done = run(*words, env=env)
    assert isinstance(done.exception, InputError), (done.output, done.exception)
    return str(done.exception)


@pytest.fixture
def priced(in_tmp: Path) -> Path:
    """A folder with a list of one's own and three profiles: of a suspect row, of that list, and of a contract."""
    (in_tmp / "ours.csv").write_text(LIST)
    for name, price in (("suspect", SUSPECT), ("ours", OURS), ("contract", "{usd_per_hour: 2.5, gpus: 8}")):
        (in_tmp / f"{name}.yaml").write_text(SMALL.format(price=price))
    return in_tmp


def cost_of(report: str) -> tuple[float, str]:
    """Price per hour and its source in a report as CSV."""
    row = next(csv.DictReader(io.StringIO(report)))
    return float(row["price_usd_per_hour"]), row["price_source"]


def test_the_list_is_shown_within_80_columns_cheapest_first() -> None:
    """Every row of the list is there, per GPU from below, CPU servers at the end."""
    lines = shown("prices").splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["$/GPU-h", "$/h", "server", "cloud", "instance", "region"]
    each = [float(line.split()[0]) for line in lines if " x " in line]
    assert len(each) == sum(p.gpus > 0 for p in load_catalogue())
    assert each == sorted(each)
    assert "CPU, 2 vCPUs" in " ".join(lines[-12:])
    assert f"{len(load_catalogue())} of the {len(load_catalogue())} prices in the catalogue" in lines[-4] + lines[-3]


def found(*words: str) -> list[str]:
    """The instances that a search finds, in its order."""
    return [row["instance"] for row in json.loads(shown("prices", "--json", *words))]


def test_every_filter_narrows_the_search() -> None:
    """Words, cloud, GPU, region and price are all of them conditions, whatever the case they are written in."""
    assert set(found("--cloud", "AWS", "--gpu", "h100")) == {"p5.4xlarge", "p5.48xlarge"}
    assert set(found("h100", "aws")) == {"p5.4xlarge", "p5.48xlarge"}
    assert found("--gpu", "h100", "--region", "ap-south") == ["p5.48xlarge"]
    assert found("--gpu", "cpu", "--cloud", "aws", "--max", "0.11") == ["m7i.large"]
    assert all("nd96" in name.lower() for name in found("nd96"))
    assert len(found()) == len(load_catalogue())


def test_the_most_is_per_gpu() -> None:
    """Eight GPUs for 53.52 are 6.69 each."""
    assert "gpu_8x_b200_sxm6" in found("b200", "--max", "6.7")
    assert "gpu_8x_b200_sxm6" not in found("b200", "--max", "6.6")


def test_spot_shows_and_sorts_by_the_spot_price() -> None:
    """Units without a spot price are left out."""
    rows = json.loads(shown("prices", "--spot", "--gpu", "h100", "--json"))
    assert all(row["spot_usd_per_hour"] is not None and row["plan"] == "spot" for row in rows)
    assert [row["usd_per_gpu_hour"] for row in rows] == [row["spot_usd_per_hour"] / row["gpus"] for row in rows]
    assert rows[0]["instance"] == "a3-highgpu-1g"
    assert "USD per hour spot" in shown("prices", "--spot", "--gpu", "h100").replace("\n  ", " ")


def test_json_has_every_column_and_the_doubts() -> None:
    """What -v says to people, JSON says to machines; not known is null."""
    (row,) = json.loads(shown("prices", "--json", "Standard_ND96isr_H200_v5"))
    assert set(COLUMNS) - {"doubt"} <= set(row)
    assert row["doubts"] == ["84.8 on demand is hardly above 84.8 spot"]
    assert row["note"] is None


def test_what_looks_wrong_is_marked_and_explained_under_v() -> None:
    """A mark at the price and its meaning below; -v before or after the command gives host, day, source and reason."""
    short = shown("prices", "nd96isr_h200")
    assert "84.800!" in short
    assert "used only with --accept-suspect; -v says why" in short.replace("\n  ", " ")
    for words in (("prices", "nd96isr_h200", "-v"), ("-v", "prices", "nd96isr_h200")):
        full = shown(*words)
        assert "! 84.8 on demand is hardly above 84.8 spot" in full
        assert "2026-05-20, anycloud-sh/catalog@62ff0a9:azure/vms.csv" in full
        assert "96 vCPUs, 1850 GiB, host included" in full
        assert max(map(len, full.splitlines())) <= 80


def test_a_search_that_finds_nothing_says_so() -> None:
    """A sentence with a way out, an empty list for machines, and no error."""
    assert shown("prices", "abacus") == (
        f"None of the {len(load_catalogue())} prices in the catalogue is like that; leave out a word or an option.\n"
    )
    assert json.loads(shown("prices", "abacus", "--json")) == []


def test_names_of_a_foreign_list_are_no_markup(in_tmp: Path) -> None:
    """What looks like a style or an emoji is printed as it is."""
    (in_tmp / "odd.csv").write_text(LIST.replace("box", "[red]:box:[/red]"))
    assert "[red]:box:[/red]" in shown("prices", "--prices", "odd.csv")


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
def test_a_most_that_is_no_price_is_refused(value: str) -> None:
    """The option is named."""
    assert refused("prices", "--max", value).startswith("--max: expected a number above zero")


def test_check_says_that_a_list_is_sound_or_what_is_doubtful(priced: Path) -> None:
    """A sound list, one with a suspect row, and the same for machines."""
    assert shown("prices", "--check", "ours.csv") == (
        "ours.csv: 1 price, every cell as it should be.\nNone of them looks wrong.\n"
    )
    (priced / "zero.csv").write_text(LIST + "ours,gift,H100-SXM,8,yes,0,2026-01-01,offer 18\n")
    assert "1 of them looks wrong beside the others:\nours gift: the price is 0;" in shown(
        "prices", "--check", "zero.csv"
    )
    facts = json.loads(shown("prices", "--check", "zero.csv", "--json"))
    assert (facts["source"], facts["prices"], facts["doubtful"][0]["instance"]) == ("zero.csv", 2, "gift")


def test_check_refuses_a_broken_list_with_every_problem(priced: Path) -> None:
    """All problems at once, each with file, line and column; filters make no sense beside it."""
    (priced / "broken.csv").write_text(HEADER + "ours,a,H100,8,yes,$3,2026-01-01,x\nours,b,H100,x,yes,3,2026-01-01,x\n")
    first, second = refused("prices", "--check", "broken.csv").splitlines()
    assert first.startswith("broken.csv: line 2: on_demand_usd_per_hour: ")
    assert second.startswith("broken.csv: line 3: gpus: ")
    assert "leave out" in refused("prices", "--check", "ours.csv", "--gpu", "L4")


def test_a_suspect_price_is_refused_before_measuring_and_used_when_accepted(priced: Path) -> None:
    """profile, check, report, compare and verify ask for --accept-suspect, or for another price."""
    asked = ("profile", "suspect.yaml", "--device", "fake", "--out", "run.jsonl")
    assert "--accept-suspect" in refused(*asked)
    assert "84.8 on demand is hardly above 84.8 spot" in refused("workload", "check", "suspect.yaml")
    assert not (priced / "run.jsonl").exists()
    shown("workload", "check", "suspect.yaml", "--accept-suspect")
    assert "looks wrong" in shown(*asked, "--accept-suspect").replace("\n", " ")
    report = ("report", "run.jsonl", "--format", "csv")
    again = ("compare", "run.jsonl", "other.jsonl", "--format", "csv")
    shown("profile", "suspect.yaml", "--device", "fake", "--seed", "1", "--out", "other.jsonl", "--accept-suspect")
    for command in (report, ("verify", "run.jsonl"), (*again, "--force")):
        assert "--accept-suspect" in refused(*command)
        shown(*command, "--accept-suspect")
    assert cost_of(shown(*report, "--accept-suspect"))[0] == 84.8
    assert cost_of(shown(*report, "--price", "60"))[0] == 60.0


def test_a_list_of_ones_own_prices_a_run(priced: Path) -> None:
    """--prices or CASTBENCH_PRICES replaces the catalogue as a whole; without it the row is not found."""
    assert "the catalogue has no ours box" in refused("profile", "ours.yaml", "--device", "fake")
    shown("profile", "ours.yaml", "--device", "fake", "--out", "run.jsonl", "--prices", "ours.csv")
    report = ("report", "run.jsonl", "--format", "csv")
    assert cost_of(shown(*report, "--prices", "ours.csv")) == (16.0, "offer 17")
    assert cost_of(shown(*report, env={"CASTBENCH_PRICES": "ours.csv"})) == (16.0, "offer 17")
    assert cost_of(shown(*report, "--prices", "ours.csv", env={"CASTBENCH_PRICES": "none.csv"}))[0] == 16.0
    assert "the catalogue has no ours box" in refused(*report)
    assert "none.csv: there is no such file" in refused(*report, env={"CASTBENCH_PRICES": "none.csv"})
    assert "ours.csv has no gcp g2-standard-4" in refused("workload", "check", "quickstart", "--prices", "ours.csv")
    shown("verify", "run.jsonl", "--prices", "ours.csv")


def test_a_list_of_ones_own_is_left_out_of_redacted_reports(priced: Path) -> None:
    """Amounts of money of a private list go, as those of a contract do."""
    shown("profile", "ours.yaml", "--device", "fake", "--out", "run.jsonl", "--prices", "ours.csv")
    text = shown("report", "run.jsonl", "--prices", "ours.csv", "--redact", "--format", "md")
    assert "offer 17" not in text
    assert "16 USD" not in text


def test_a_contract_price_wins_over_any_list(priced: Path) -> None:
    """No list changes what a contract costs, and none is needed for it."""
    shown("profile", "contract.yaml", "--device", "fake", "--out", "run.jsonl", "--prices", "ours.csv")
    for options in ((), ("--prices", "ours.csv"), ("--accept-suspect",)):
        found = cost_of(shown("report", "run.jsonl", "--format", "csv", *options))
        assert found == (2.5, "stated by you")


def test_a_run_is_resumed_only_with_its_price_list(priced: Path) -> None:
    """Without it the refusal comes before anything is measured, with it the run goes on to its end."""
    asked = ("profile", "ours.yaml", "--device", "fake", "--out", "run.jsonl", "--prices", "ours.csv")
    assert "budget ended" in run(*asked, "--budget", "1ms").output
    before = (priced / "run.jsonl").read_bytes()
    assert "the catalogue has no ours box" in refused("profile", "--resume", "run.jsonl")
    assert (priced / "run.jsonl").read_bytes() == before
    shown("profile", "--resume", "run.jsonl", "--prices", "ours.csv")
    ended = read_run(priced / "run.jsonl").ended
    assert ended is not None
    assert ended.complete


def test_a_reservation_and_a_server_of_ones_own_are_priced_from_the_profile(priced: Path) -> None:
    """The report's price is the discounted one, or what the purchase comes to per hour, with how it came about."""
    terms = {
        "{cloud: azure, instance: Standard_NC24ads_A100_v4, plan: reserved, discount_percent: 40, term_years: 1}": (
            2.2038, "3.673 USD per hour on demand less 40 % for 1 year",
        ),
        "{owned: {purchase_usd: 280320, years: 4, utilization: 0.5}, gpus: 8}": (16.0, "stated by you: 280320 USD"),
    }  # fmt: skip
    for number, (price, (usd, said)) in enumerate(terms.items()):
        (priced / "terms.yaml").write_text(SMALL.format(price=price))
        shown("profile", "terms.yaml", "--device", "fake", "--out", f"{number}.jsonl")
        amount, source = cost_of(shown("report", f"{number}.jsonl", "--format", "csv"))
        assert amount == pytest.approx(usd)
        assert said in source


@pytest.mark.parametrize("name", ["arxiv-documents", "code-assist", "long-context", "lra-text", "quickstart"])
def test_shipped_profiles_name_no_suspect_price(name: str) -> None:
    """They are valid without --accept-suspect."""
    assert "the profile is valid" in shown("workload", "check", name)
